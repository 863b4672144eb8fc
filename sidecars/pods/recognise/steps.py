"""A script, taken apart into steps: what each statement comes to, whichever recogniser knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.calling import script, unwrapped
from sidecars.pods.recognise.copying import copy
from sidecars.pods.recognise.fetching import fetch
from sidecars.pods.recognise.files import change
from sidecars.pods.recognise.finding import Finding, Step, Unclear
from sidecars.pods.recognise.forwarding import forward
from sidecars.pods.recognise.keeping import keep
from sidecars.pods.recognise.logs import follow
from sidecars.pods.recognise.refused import refuse
from sidecars.pods.recognise.scope import Scope
from sidecars.pods.recognise.syncing import sync
from sidecars.pods.recognise.waiting import counts, wait
from sidecars.pods.shell import parse
from sidecars.pods.statements import (
    Assignment,
    Background,
    Chain,
    Command,
    Each,
    Function,
    Group,
    If,
    Loop,
    Statement,
)

Recogniser = Callable[[Statement, Scope], tuple[Step, ...] | None]

# Who is asked first answers: to keep alive and to follow come before loops that have more in them.
RECOGNISERS: tuple[Recogniser, ...] = (keep, follow, copy, fetch, sync, change, forward, wait, refuse)
_DEEPEST = 8
_MOST = 40  # steps that a script may have: what has more is a program, and is left alone


def steps(statements: Sequence[Statement], scope: Scope) -> Iterator[Step]:
    """Take statements apart."""
    for statement in statements:
        yield from _steps(statement, scope)


def _steps(statement: Statement, scope: Scope) -> Iterator[Step]:
    match statement:
        case Assignment():
            scope.assign(statement)
        case Function(name, body):
            scope.functions[name] = body
            return
        case Loop() | Each():
            scope.forget(_changed(statement))
    if scope.depth > _DEEPEST:
        yield Unclear()
        return
    for recognise in RECOGNISERS[:1]:  # a loop that only sleeps is idle, and yet it is what the container is for
        found = recognise(statement, scope)
        if found:
            yield from found
            return
    if idle.idle(statement):
        yield from [Unclear()] if _decides(statement) else []
        return
    yield from _recognised(statement, scope)


def _changed(loop: Loop | Each) -> list[str]:
    """Give the variables that a loop sets."""
    inner = [each for each in idle.everything((loop,)) if isinstance(each, Assignment)]
    return [name for each in inner for name, _ in each.values] + ([loop.name] if isinstance(loop, Each) else [])


def _decides(statement: Statement) -> bool:
    """It ends the script with a failure on a condition that is no counter's."""
    match statement:
        case Chain() | If():
            commands = list(idle.commands((statement,)))
            fails = any(each.name in ("exit", "return", "false") and not _well(each) for each in commands)
            tests = [each for each in commands if each.name in ("[", "[[", "test", "((")]
            return fails and any(not counts(each) for each in tests)
    return False


def _well(command: Command) -> bool:
    return command.name != "false" and [word.literal for word in command.words[1:]] in ([], ["0"])


def _recognised(statement: Statement, scope: Scope) -> Iterator[Step]:
    for recognise in RECOGNISERS:
        found = recognise(statement, scope)
        if found:
            yield from found
            return
    yield from _compound(statement, scope)


def _compound(statement: Statement, scope: Scope) -> Iterator[Step]:
    """Look into a statement that no recogniser knows as a whole."""
    match statement:
        case Group(body, redirects) if idle.quiet(redirects):
            yield from steps(body, scope)
        case Chain():
            yield from _chained(statement, scope)
        case Background(inner):
            found = list(_steps(inner, scope))
            yield from found if all(isinstance(each, Finding) and each.loops for each in found) else [Unclear()]
        case Each():
            yield from _each(statement, scope)
        case If():
            yield from _conditional(statement, scope)
        case Command():
            yield from _command(statement, scope)
        case _:
            yield Unclear()


def _chained(chain: Chain, scope: Scope) -> Iterator[Step]:
    if chain.operator == "&&":
        yield from (*_steps(chain.left, scope), *_steps(chain.right, scope))
    elif idle.idle(chain.left):
        yield from _under_condition(list(_steps(chain.right, scope)))
    elif idle.idle(chain.right):
        yield from _tolerated(chain.left, chain.right, scope)
    else:
        yield Unclear()


def _each(loop: Each, scope: Scope) -> Iterator[Step]:
    """Read a loop over known words, such as the hosts to wait for, turn by turn."""
    words = [word.literal for word in loop.words]
    if loop.counting or not words or len(words) > _MOST:
        yield Unclear()
        return
    for word in words:
        yield from steps(loop.body, scope.within({loop.name: word})) if word else [Unclear()]


def _tolerated(left: Statement, right: Statement, scope: Scope) -> Iterator[Step]:
    """Read `left || echo failed`, whose failure is none, and `left || exit 1`."""
    fails = any(each.name == "exit" and not _well(each) for each in idle.commands((right,)))
    for step in _steps(left, scope):
        if isinstance(step, Finding) and not fails and step.args[:1] != ("mkdir",):
            yield replace(step, doubt=step.doubt or "its failure is no failure there")
        else:
            yield step


def _conditional(statement: If, scope: Scope) -> Iterator[Step]:
    bodies = [*(body for _, body in statement.branches), statement.otherwise]
    conditions = [each for condition, _ in statement.branches for each in condition]
    found = [step for body in bodies for step in steps(body, scope.within({}))]
    yield from _under_condition(found) if all(map(idle.idle, conditions)) else [Unclear("if"), *found]


def _under_condition(found: Sequence[Step]) -> Iterator[Step]:
    """Doubt what happens only sometimes; a directory that is there may be made once more."""
    for step in found:
        if isinstance(step, Finding) and step.args[:1] != ("mkdir",):
            yield replace(step, doubt=step.doubt or "it is done only under a condition")
        else:
            yield step


def _command(command: Command, scope: Scope) -> Iterator[Step]:
    words = scope.texts(command)
    if command.name == "cd" and len(words) == 2 and idle.quiet(command.redirects):
        scope.directory = scope.path(words[1])
        return
    if command.name in scope.functions:
        positional = {str(place): word for place, word in enumerate(words) if place}
        yield from steps(scope.functions[command.name], scope.within(positional))
        return
    inner, limit = unwrapped(words)
    nested = script(inner)
    if nested and idle.quiet(command.redirects):
        yield from limited(_nested(nested[0], scope), limit)
    elif inner and len(inner) < len(words):
        yield from limited(_steps(Command(command.words[-len(inner) :], command.redirects), scope.within({})), limit)
    else:
        yield Unclear(command.name)


def _nested(text: str, scope: Scope) -> Iterator[Step]:
    """Read what `sh -c` is given within a script."""
    read = parse(text, None)
    yield from [] if read.whole else [Unclear()]
    yield from steps(read.statements, scope.within({}))


def limited(found: Iterator[Step], limit: float | None) -> Iterator[Step]:
    """Give waits the time that the script has."""
    for step in found:
        yield replace(step, limit=limit) if limit and isinstance(step, Finding) and step.targets else step
