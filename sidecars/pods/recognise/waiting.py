"""Loops that ask for something until it is there, and one look at it that fails: rows 1 to 10 of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Finding, Step, Unclear
from sidecars.pods.recognise.probes import Probe, probe
from sidecars.pods.recognise.scope import Scope, known, seconds
from sidecars.pods.statements import (
    Assignment,
    Chain,
    Command,
    Each,
    Group,
    If,
    Loop,
    Not,
    Output,
    Statement,
    Variable,
    Word,
)

GOES_ON = "when its time is over it goes on as if all were well, and pod-init does not"
_COUNTS = "it counts tries, not time"


class _Form(msgspec.Struct, frozen=True):
    """A loop, taken apart.

    condition  what is asked, and whether it has to succeed
    body       what else happens in each turn
    tries      how many turns there are at most
    fails      the script fails after that
    """

    condition: Statement
    wanted: bool
    body: tuple[Statement, ...]
    tries: int | None = None
    fails: bool = False


def wait(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise a loop that waits, or a single look in an init container."""
    form = _form(statement)
    if form is None:
        return _single(statement, scope)
    found = probe(form.condition, scope, wanted=form.wanted)
    if found is None:
        return None
    rest = [each for each in form.body if not idle.idle(each)]
    finding = _finding(found, form, scope)
    return (finding, *(Unclear(_name(each)) for each in rest))


def _single(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise a look that is not repeated: the kubelet does that, by starting the init container again."""
    if not scope.container.init or isinstance(statement, (Assignment, If)):
        return None
    found = probe(statement, scope, wanted=True)
    if found is None or not found.alone:
        return None
    finding = _finding(found, _Form(statement, True, ()), scope)
    if found.calls:
        finding = replace(finding, doubt=finding.doubt or "it calls once, and may mean to do something by it")
    if not scope.last and not scope.strict:
        finding = replace(finding, doubt=finding.doubt or "its failure is no failure there")
    return (finding,)


def _finding(found: Probe, form: _Form, scope: Scope) -> Finding:
    pauses = [length for text in idle.naps(form.body) if (length := seconds(text)) is not None]
    limit, doubt = found.limit, found.doubt
    pattern, wrong = found.pattern, found.wrong
    if form.tries is not None:
        fails = form.fails or any(map(idle.fails, idle.commands(scope.after)))
        doubt = doubt or ("" if fails else GOES_ON)
        limit = max(1.0, form.tries * (sum(pauses) or 1.0))
        pattern, wrong = 9, f"{_COUNTS}; {found.wrong}"
    return Finding(
        pattern=pattern,
        found=found.found,
        wrong=wrong,
        image=found.image,
        targets=found.targets,
        some=found.some,
        limit=limit,
        doubt=doubt,
        notes=found.notes,
        instead=found.instead,
    )


def _name(statement: Statement) -> str:
    return statement.name if isinstance(statement, Command) else ""


def _form(statement: Statement) -> _Form | None:
    """Take a loop apart; None when it waits for nothing."""
    match statement:
        case Group([inner], redirects) if idle.quiet(redirects) and not isinstance(inner, Command):
            return _form(inner)
        case Each(_, words, body, counting):
            tries = _counted(counting) if counting else _times(words)
            return _inner(body, tries) if tries is not None or counting else None
        case Loop(until, [*before, condition], body) if all(map(idle.idle, before)):
            turns = idle.endless(statement)
            if turns is not None:
                return _inner(turns, None)
            return _outer(condition, not until, body)
    return None


def _outer(condition: Statement, negated: bool, body: tuple[Statement, ...]) -> _Form | None:
    """Read `until CONDITION; do BODY; done`, in which CONDITION or BODY may count."""
    bound = _bound_of(condition)
    if bound is not None:
        return _inner(body, bound)
    terms = list(_terms(condition, "&&" if negated else "||"))
    bounds = [number for term in terms if (number := _bound_of(term)) is not None]
    asked = [term for term in terms if _bound_of(term) is None]
    if len(asked) != 1 and bounds:
        return None
    asks = asked[0] if bounds else condition
    exits = [found for each in body for found in _exits(each)]
    bounds += [number for number, _ in exits]
    return _Form(asks, not negated, body, bounds[0] if bounds else None, any(fails for _, fails in exits))


def _terms(statement: Statement, operator: str) -> Iterator[Statement]:
    match statement:
        case Chain(found, left, right) if found == operator:
            yield from _terms(left, operator)
            yield from _terms(right, operator)
        case _:
            yield statement


def _inner(body: tuple[Statement, ...], tries: int | None) -> _Form | None:
    """Read a loop that is left from within: `nc -z db 5432 && break`, or with if, or by $?."""
    for place, each in enumerate(body):
        rest = (*body[:place], *body[place + 1 :])
        form = _left(each, rest, tries)
        if form is None and place and _asks_status(each):
            form = _Form(body[place - 1], True, (*body[: place - 1], *body[place + 1 :], each), tries)
        if form is not None:
            exits = [found for other in rest for found in _exits(other)]
            bound = tries if tries is not None or not exits else exits[0][0]
            return replace(form, tries=bound, fails=any(fails for _, fails in exits))
    return None


def _left(statement: Statement, rest: tuple[Statement, ...], tries: int | None) -> _Form | None:
    match statement:
        case Chain("||", Chain("&&", condition, leave), other) if _leaves(leave) and not counts(condition):
            return _Form(condition, True, (*rest, other), tries)
        case Chain("&&", condition, leave) if _leaves(leave) and not counts(condition):
            return _Form(condition, True, rest, tries)
        case Chain("||", Not(condition), leave) if _leaves(leave):
            return _Form(condition, True, rest, tries)
        case If([([condition], then)], otherwise) if not counts(condition):
            return _branched(condition, then, otherwise, rest, tries)
    return None


def _branched(
    condition: Statement,
    then: tuple[Statement, ...],
    otherwise: tuple[Statement, ...],
    rest: tuple[Statement, ...],
    tries: int | None,
) -> _Form | None:
    if any(map(_leaves, then)):
        return _Form(condition, True, (*rest, *then, *otherwise), tries)
    if any(map(_leaves, otherwise)):
        return _Form(condition, False, (*rest, *then, *otherwise), tries)
    return None


def _leaves(statement: Statement) -> bool:
    """It ends the loop because all is well."""
    match statement:
        case Command():
            words = [word.literal for word in statement.words]
            return words in (["break"], ["exit"], ["exit", "0"], ["return"], ["return", "0"])
        case Group(body) if body:
            return all(map(idle.idle, body)) and _leaves(body[-1])
        case Chain("&&", left, right):
            return idle.idle(left) and _leaves(right)
    return False


def _asks_status(statement: Statement) -> bool:
    """It leaves when `$?` is 0."""
    match statement:
        case Chain("&&", Command() as asked, leave) | If([([Command() as asked], [*_, leave])]):
            return _leaves(leave) and [str(word) for word in asked.words[1:4]] in (
                ["$?", "-eq", "0"],
                ["$?", "=", "0"],
                ["$?", "==", "0"],
            )
    return False


def _exits(statement: Statement) -> Iterator[tuple[int, bool]]:
    """Give the number of turns after which a statement gives up, and whether the script fails then."""
    match statement:
        case Chain(_, condition, leave) | If([([condition], [*_, leave])]) if _gives_up(leave):
            number = _bound_of(condition)
            if number is not None:
                yield number, any(map(idle.fails, idle.commands((leave,))))


def _gives_up(statement: Statement) -> bool:
    match statement:
        case Command():
            return statement.name in ("exit", "break", "return")
        case Group([*_, last]):
            return _gives_up(last)
        case Chain(_, _, right):
            return _gives_up(right)
    return False


def counts(statement: Statement) -> bool:
    """Say whether a statement compares a counter, or the exit code of what was before it."""
    return _bound_of(statement) is not None or (
        isinstance(statement, Command) and [str(word) for word in statement.words[1:2]] == ["$?"]
    )


def _bound_of(statement: Statement) -> int | None:
    """Give the number that a counter is compared with: `[ $i -lt 30 ]`, `(( i < 30 ))`."""
    match statement:
        case Command([name, counter, operator, number, *_]) if name.literal in ("[", "[[", "test"):
            if (operator.literal or "") in ("-lt", "-le", "-gt", "-ge", "-eq", "-ne", "<", ">", "=", "=="):
                return _number(number) if _is_variable(counter) else None
        case Chain("&&", condition, said) if idle.idle(said):
            return _bound_of(condition)
        case Command([name, text]) if name.literal == "((":
            return _counted(";" + str(text).strip("() ") + ";")
    return None


def _is_variable(word: Word) -> bool:
    match word.parts:
        case [Variable(name)]:
            return name != "?"
    return False


def _number(word: Word) -> int | None:
    text = word.literal or ""
    return int(text) if text.isdecimal() and len(text) < 7 else None


def _counted(counting: str) -> int | None:
    """Give how often `i=1;i<=60;i++` turns."""
    parts = counting.split(";")
    digits = "".join(char if char.isdecimal() else " " for char in parts[1]).split() if len(parts) == 3 else []
    return int(digits[-1]) if digits and len(digits[-1]) < 7 else None


def _times(words: Sequence[Word]) -> int | None:
    """Give how often a for turns that counts: over $(seq 60), {1..60} or 1 2 3."""
    literals = [word.literal for word in words]
    if len(words) == 1:
        return _of_one(words[0])
    numbers = [text for text in literals if text and text.isdecimal()]
    return len(numbers) if len(numbers) == len(words) and words else None


def _of_one(word: Word) -> int | None:
    match word.parts:
        case [Output([Command([name, *numbers])])] if name.literal == "seq" and numbers:
            values = [_number(number) for number in numbers]
            first, last = (values[0] if len(values) > 1 else 1), values[-1]
            return max(1, last - first + 1) if first is not None and last is not None else None
    first_text, dots, last_text = str(word).strip("{}").partition("..")
    if str(word).startswith("{") and dots and first_text.isdecimal() and last_text.isdecimal() and len(last_text) < 7:
        return max(1, int(last_text) - int(first_text) + 1)
    return None


def waits_for_file(finding: Finding) -> bool:
    """Say whether a finding waits for files alone."""
    return bool(finding.targets) and all(each.startswith("file:") and known(each) for each in finding.targets)
