"""Loops that ask for something until it is there, and one look at it that fails: rows 1 to 10 of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.counting import Bound, bound, counts, turns_of
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
    Statement,
)

GOES_ON = "when its time is over it goes on as if all were well, and pod-init does not"
_COUNTS = "it counts tries, not time"


class _Form(msgspec.Struct, frozen=True):
    """A loop, taken apart.

    condition  what is asked, and whether it has to succeed
    body       what else happens in each turn
    turns      how many turns there are at most
    fails      the script fails after that
    """

    condition: Statement
    wanted: bool
    body: tuple[Statement, ...]
    turns: Bound | None = None
    fails: bool = False


def wait(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise a loop that waits, or a single look in an init container."""
    form = _form(statement, scope)
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
    if form.turns is not None:
        turns = form.turns.turns(scope)
        limit = max(1.0, turns * (sum(pauses) or 1.0)) if turns is not None else None
        fails = form.fails or any(map(idle.fails, idle.commands(scope.after)))
        doubt = doubt or ("" if fails else GOES_ON) or ("" if turns is not None else "how long it tries is not known")
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


def _form(statement: Statement, scope: Scope) -> _Form | None:
    """Take a loop apart; None when it waits for nothing."""
    match statement:
        case Group([inner], redirects) if idle.quiet(redirects) and not isinstance(inner, Command):
            return _form(inner, scope)
        case Each() if idle.endless(statement) is None:
            turns = turns_of(statement, scope)
            return _inner(statement.body, turns, scope) if turns else None
        case Each(body=body):
            return _inner(body, None, scope)
        case Loop(until, [*before, condition], body) if all(map(idle.idle, before)):
            endless = idle.endless(statement)
            if endless is not None:
                return _inner(endless, None, scope)
            return _outer(condition, not until, body, scope)
    return None


def _outer(condition: Statement, negated: bool, body: tuple[Statement, ...], scope: Scope) -> _Form | None:
    """Read `until CONDITION; do BODY; done`, in which CONDITION or BODY may count."""
    turns = bound(condition, scope)
    if turns is not None:
        return _inner(body, turns, scope)
    terms = list(_terms(condition, "&&" if negated else "||"))
    bounds = [found for term in terms if (found := bound(term, scope)) is not None]
    asked = [term for term in terms if bound(term, scope) is None]
    if len(asked) != 1 and bounds:
        return None
    exits = [found for each in body for found in _exits(each, scope)]
    bounds += [found for found, _ in exits]
    asks = asked[0] if len(asked) == 1 else condition
    return _Form(asks, not negated, body, bounds[0] if bounds else None, any(fails for _, fails in exits))


def _terms(statement: Statement, operator: str) -> Iterator[Statement]:
    match statement:
        case Chain(found, left, right) if found == operator:
            yield from _terms(left, operator)
            yield from _terms(right, operator)
        case _:
            yield statement


def _inner(body: tuple[Statement, ...], turns: Bound | None, scope: Scope) -> _Form | None:
    """Read a loop that is left from within: `nc -z db 5432 && break`, or with if, or by $?."""
    for place, each in enumerate(body):
        rest = (*body[:place], *body[place + 1 :])
        form = _left(each, rest, scope)
        if form is None and place and _asks_status(each):
            form = _Form(body[place - 1], True, (*body[: place - 1], *body[place + 1 :], each))
        if form is not None:
            exits = [found for other in rest for found in _exits(other, scope)]
            first = exits[0][0] if exits else None
            return replace(form, turns=turns or first, fails=any(fails for _, fails in exits))
    return None


def _left(statement: Statement, rest: tuple[Statement, ...], scope: Scope) -> _Form | None:
    match statement:
        case Chain("||", Chain("&&", condition, leave), other) if _leaves(leave) and not counts(condition, scope):
            return _Form(condition, True, (*rest, other))
        case Chain("&&", condition, leave) if _leaves(leave) and not counts(condition, scope):
            return _Form(condition, True, rest)
        case Chain("&&", inner, after) if idle.idle(after) and not idle.asks(after):
            return _left(inner, (*rest, after), scope)
        case Chain("||", Not(condition), leave) if _leaves(leave):
            return _Form(condition, True, rest)
        case If([([condition], then)], otherwise) if not counts(condition, scope):
            return _branched(condition, then, otherwise, rest)
    return None


def _branched(
    condition: Statement, then: tuple[Statement, ...], otherwise: tuple[Statement, ...], rest: tuple[Statement, ...]
) -> _Form | None:
    if any(map(_leaves, then)):
        return _Form(condition, True, (*rest, *then, *otherwise))
    if any(map(_leaves, otherwise)):
        return _Form(condition, False, (*rest, *then, *otherwise))
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


def _exits(statement: Statement, scope: Scope) -> Iterator[tuple[Bound, bool]]:
    """Give after how many turns a statement gives up, and whether the script fails then."""
    match statement:
        case Chain(_, condition, leave) | If([([condition], [*_, leave])]) if _gives_up(leave):
            found = bound(condition, scope)
            if found is not None:
                yield found, any(map(idle.fails, idle.commands((leave,))))


def _gives_up(statement: Statement) -> bool:
    match statement:
        case Command():
            return statement.name in ("exit", "break", "return")
        case Group([*_, last]):
            return _gives_up(last)
        case Chain(_, _, right):
            return _gives_up(right)
    return False


def waits_for_file(finding: Finding) -> bool:
    """Say whether a finding waits for files alone."""
    return bool(finding.targets) and all(each.startswith("file:") and known(each) for each in finding.targets)
