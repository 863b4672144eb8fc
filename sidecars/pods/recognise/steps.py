"""A script, taken apart into steps: what each statement comes to, whichever recogniser knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.calling import is_strict, script, unwrapped
from sidecars.pods.recognise.copying import copy
from sidecars.pods.recognise.counting import counts
from sidecars.pods.recognise.fetching import fetch
from sidecars.pods.recognise.files import change
from sidecars.pods.recognise.finding import Finding, Step, Unclear
from sidecars.pods.recognise.forwarding import forward
from sidecars.pods.recognise.keeping import keep
from sidecars.pods.recognise.logs import follow
from sidecars.pods.recognise.refused import refuse
from sidecars.pods.recognise.scope import Scope
from sidecars.pods.recognise.syncing import sync
from sidecars.pods.recognise.waiters import programs
from sidecars.pods.recognise.waiting import GOES_ON, wait
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
    Statement,
)

Recogniser = Callable[[Statement, Scope], tuple[Step, ...] | None]

# Who is asked first answers: to keep alive and to follow come before loops that have more in them.
RECOGNISERS: tuple[Recogniser, ...] = (follow, copy, fetch, sync, change, forward, programs, wait, refuse)
# Who makes a function of such a name means something else by it.
_PROGRAMS = frozenset((
    "nc", "nslookup", "getent", "curl", "wget", "cat", "tail", "cp", "mkdir", "chown", "chmod", "rm", "echo", "printf",
    "sleep", "date", "git", "aws", "kubectl", "test", "exit", "true", "pg_isready", "mysqladmin", "redis-cli",
))  # fmt: skip
_DEEPEST = 8
_MOST = 40  # words that a loop may go over
_LONGEST = 200  # statements in a row: what has more is a program, and is left alone


def steps(statements: Sequence[Statement], scope: Scope) -> Iterator[Step]:
    """Take statements apart, one after the other."""
    last, after = scope.last, scope.after
    if len(statements) > _LONGEST:
        yield Unclear()
        return
    for place, statement in enumerate(statements):
        scope.last = last and place == len(statements) - 1
        scope.after = (*statements[place + 1 :], *after)
        yield from _steps(statement, scope)
        if isinstance(statement, Command) and statement.name == "exit":
            break  # what follows is never reached
    scope.last, scope.after = last, after


def _steps(statement: Statement, scope: Scope) -> Iterator[Step]:
    match statement:
        case Assignment():
            scope.assign(statement)
        case Function(name, body):
            scope.functions[name] = body
            yield from [Unclear(name)] if name in _PROGRAMS else []
            return
        case _:
            scope.initial = dict(scope.values)
            scope.forget(idle.assigned(statement))
    scope.turns[0] -= 1
    if scope.depth > _DEEPEST or scope.turns[0] < 0:
        yield Unclear()
        return
    stays = keep(statement, scope)  # a loop that only sleeps is idle, and yet it is what the container is for
    if stays:
        yield from stays
    elif idle.idle(statement):
        if isinstance(statement, Command) and statement.name == "set":
            scope.strict = _strict_after(statement, scope.strict)
        yield from [Unclear()] if _decides(statement, scope) else []
    else:
        yield from _recognised(statement, scope)


def _strict_after(command: Command, before: bool) -> bool:
    words = [str(word) for word in command.words[1:]]
    lax = any(word.startswith("+") and "e" in word for word in words)
    return not lax and (before or is_strict(words))


def _decides(statement: Statement, scope: Scope) -> bool:
    """It ends the script on a condition that is no counter's."""
    match statement:
        case Chain() | If():
            commands = list(idle.commands((statement,)))
            ends = any(each.name in ("exit", "return", "false") for each in commands)
            return ends and any(idle.asks(each) and not counts(each, scope) for each in commands)
    return False


def _recognised(statement: Statement, scope: Scope) -> Iterator[Step]:
    for recognise in RECOGNISERS:
        found = recognise(statement, scope)
        if found is not None:
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
        yield from steps((chain.left,), scope)
        right = steps((chain.right,), scope)
        yield from _under_condition(list(right)) if _is_condition(chain.left) else right
    elif idle.idle(chain.left):
        yield from _under_condition(list(_steps(chain.right, scope)))
    elif idle.idle(chain.right):
        yield from _tolerated(chain.left, chain.right, scope)
    else:
        yield Unclear()


def _is_condition(statement: Statement) -> bool:
    return idle.idle(statement) and idle.asks(statement)


def _each(loop: Each, scope: Scope) -> Iterator[Step]:
    """Read a loop over known words, such as the hosts to wait for, turn by turn."""
    words = [word.literal for word in loop.words]
    if loop.counting or not words or len(words) > _MOST:
        yield Unclear()
        return
    for place, word in enumerate(words):
        inner = scope.within({loop.name: word or ""})
        inner.last = scope.last and place == len(words) - 1
        yield from steps(loop.body, inner) if word else [Unclear()]


def _tolerated(left: Statement, right: Statement, scope: Scope) -> Iterator[Step]:
    """Read `left || echo failed`, whose failure is none, and `left || exit 1`."""
    fails = any(map(idle.fails, idle.commands((right,))))
    scope.after = (right, *scope.after)
    scope.last = scope.last or fails
    for step in _steps(left, scope):
        harmless = fails or not isinstance(step, Finding) or step.args[:1] == ("mkdir",) or step.image == "log-tailer"
        if isinstance(step, Finding) and not harmless:
            yield replace(step, doubt=step.doubt or "its failure is no failure there")
        else:
            yield step


def _conditional(statement: If, scope: Scope) -> Iterator[Step]:
    bodies = [*(body for _, body in statement.branches), statement.otherwise]
    conditions = [each for condition, _ in statement.branches for each in condition]
    found = [step for body in bodies for step in steps(body, scope.within({}))]
    yield from _under_condition(found) if all(map(idle.idle, conditions)) else [Unclear("if"), *found]


def _under_condition(found: Sequence[Step]) -> Iterator[Step]:
    """Doubt what happens only sometimes; a directory may be made once more, and a log is waited for."""
    for step in found:
        if isinstance(step, Finding) and step.args[:1] != ("mkdir",) and step.image != "log-tailer":
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
        scope.forget([name for each in scope.functions[command.name] for name in idle.assigned(each)])
        return
    inner, limit = unwrapped(words)
    nested = script(inner)
    if nested and idle.quiet(command.redirects):
        found = _nested(nested, inner[1 : len(inner) - len(nested)], scope)
        yield from limited(found, limit if not limit or _matters(scope) else -1)
    elif inner and len(inner) < len(words):
        yield from limited(_steps(Command(command.words[-len(inner) :], command.redirects), scope.within({})), limit)
    else:
        yield Unclear(command.name)


def _matters(scope: Scope) -> bool:
    """Say whether the script ends when the statement fails."""
    return scope.last or scope.strict


def _nested(call: Sequence[str], flags: Sequence[str], scope: Scope) -> Iterator[Step]:
    """Read what `sh -c` is given within a script."""
    read = parse(call[0], None)
    inner = scope.within({str(place): word for place, word in enumerate(call[1:])})
    inner.strict, inner.functions = is_strict(flags), {}
    yield from [] if read.whole else [Unclear()]
    yield from steps(read.statements, inner)


def limited(found: Iterator[Step], limit: float | None) -> Iterator[Step]:
    """Give waits the time that the script has; below zero: a limit after which it goes on all the same."""
    for step in found:
        if not limit or not isinstance(step, Finding):
            yield step
        elif not step.targets:
            yield replace(step, doubt=step.doubt or "it is ended when its time is over")
        elif limit < 0:
            yield replace(step, doubt=step.doubt or GOES_ON)
        else:
            yield replace(step, limit=limit)
