"""Counters that shells keep by hand, to give up after so many turns of a loop."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.scope import Scope
from sidecars.pods.statements import Chain, Command, Each, Output, Statement, Variable, Word

_COMPARES = frozenset(("-lt", "-le", "-gt", "-ge", "-eq", "-ne"))
_EQUALS = frozenset(("<", ">", "=", "==", "!="))
_NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+")
_LONGEST = 7  # digits


class Bound(msgspec.Struct, frozen=True):
    """What a counter is compared with; no number: that is not known."""

    counter: str
    number: int | None

    def turns(self, scope: Scope) -> int | None:
        """Say how many turns there are; None when that is not known. One that counts down began somewhere."""
        if self.number is None or self.number > 1:
            return self.number
        began = scope.initial.get(self.counter, "")
        return int(began) - self.number if began.isdecimal() and len(began) < _LONGEST else None


def bound(statement: Statement, scope: Scope) -> Bound | None:
    """Read `[ $i -lt 30 ]`, `(( i < 30 ))`; None when it compares no counter."""
    match statement:
        case Command([name, Word([Variable(counter)]), operator, limit, *_]) if name.literal in ("[", "[[", "test"):
            return _compared(counter, operator.literal or "", limit, scope)
        case Command([name, text]) if name.literal == "((":
            return _arithmetic(str(text), scope)
        case Chain("&&", condition, said) if idle.idle(said):
            return bound(condition, scope)
    return None


def _compared(counter: str, operator: str, limit: Word, scope: Scope) -> Bound | None:
    number = scope.number(limit)
    if counter == "?" or (operator not in _COMPARES and not (operator in _EQUALS and number is not None)):
        return None
    return Bound(counter, number)


def _arithmetic(text: str, scope: Scope) -> Bound | None:
    """Read `i < 30`, `attempts >= most`."""
    names = _NAMES.findall(text)
    if len(names) != 2 or names[0].isdecimal() or not set(text) & set("<>="):
        return None
    limit = names[1]
    word = Word((Variable(limit, f"${limit}"),))
    number = int(limit) if limit.isdecimal() and len(limit) < _LONGEST else scope.number(word)
    return Bound(names[0], number)


def counts(statement: Statement, scope: Scope) -> bool:
    """Say whether a statement compares a counter, or the exit code of what was before it."""
    if bound(statement, scope) is not None:
        return True
    return isinstance(statement, Command) and [str(word) for word in statement.words[1:2]] == ["$?"]


def turns_of(loop: Each, scope: Scope) -> Bound | None:
    """Say how often a `for` turns that counts: over $(seq 60), {1..60}, 1 2 3, or with ((...)); None: it does not."""
    if loop.counting:
        parts = loop.counting.split(";")
        found = _arithmetic(parts[1], scope) if len(parts) == 3 else None
        return found or Bound("", None)
    number = _of_one(loop.words[0], scope) if len(loop.words) == 1 else _listed(loop.words)
    return Bound(loop.name, max(2, number)) if number is not None else None


def _listed(words: Sequence[Word]) -> int | None:
    return len(words) if words and all((word.literal or "").isdecimal() for word in words) else None


def _of_one(word: Word, scope: Scope) -> int | None:
    match word.parts:
        case [Output([Command([name, *numbers])])] if name.literal == "seq" and numbers:
            values = [scope.number(number) for number in numbers]
            first, last = (values[0] if len(values) > 1 else 1), values[-1]
            return max(1, last - first + 1) if first is not None and last is not None else None
    first_text, dots, last_text = str(word).strip("{}").partition("..")
    if str(word).startswith("{") and dots and first_text.isdecimal() and last_text.isdecimal():
        return max(1, int(last_text[:_LONGEST]) - int(first_text[:_LONGEST]) + 1)
    return None
