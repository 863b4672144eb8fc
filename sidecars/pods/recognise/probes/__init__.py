"""Looks at something that may be there or not, which shells take by a command's exit code: what is looked at, and how.

One module for each kind of thing. What they all give is a Probe, in pod-init's words.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.calling import script, unwrapped
from sidecars.pods.recognise.options import parted
from sidecars.pods.recognise.probes import databases, files, http, kube, names, ports
from sidecars.pods.recognise.probes.probe import Probe
from sidecars.pods.recognise.scope import UNSURE, Scope, shown
from sidecars.pods.shell import parse
from sidecars.pods.statements import Chain, Command, Group, Not, Pipeline, Statement

__all__ = ["Probe", "probe"]

_LOOKS: dict[str, Callable[[Command, Scope], Probe | None]] = {
    **names.LOOKS,
    **ports.LOOKS,
    **http.LOOKS,
    **databases.LOOKS,
    **kube.LOOKS,
}


# What a client is told by these is no part of the question.
_SECRET = frozenset(("PGPASSWORD", "MYSQL_PWD", "REDISCLI_AUTH", "LANG", "LC_ALL"))

# What clients say when all is well: redis-cli, zookeeper, mysqladmin, pg_isready, nslookup, host, nc, telnet.
_SUCCESS = frozenset(
    (
        "pong",
        "imok",
        "alive",
        "is alive",
        "mysqld is alive",
        "accepting",
        "accepting connections",
        "address",
        "name",
        "has address",
        "succeeded",
        "open",
        "connected",
    )
)


def probe(statement: Statement, scope: Scope, *, wanted: bool) -> Probe | None:
    """Say what a statement looks at that succeeds once something is there; `wanted` False: that fails once it is."""
    match statement:
        case Not(inner):
            return probe(inner, scope, wanted=not wanted)
        case Command():
            return _turned(_kept(_command(statement, scope), statement, scope), wanted)
        case Group([*before, last], redirects) if idle.quiet(redirects) and all(map(idle.idle, before)):
            return probe(last, scope, wanted=wanted)
        case Pipeline(commands):
            return _turned(_kept(_piped(commands, scope), commands[-1], scope), wanted)
        case Chain("&&", left, right) if idle.idle(right) and not idle.asks(right):
            return probe(left, scope, wanted=wanted)
        case Chain(operator, left, right):
            return _both(operator, probe(left, scope, wanted=True), probe(right, scope, wanted=True), wanted)
    return None


def _kept(found: Probe | None, statement: Statement, scope: Scope) -> Probe | None:
    """Doubt a look of which a file stays: `until curl -f URL > /config/app.json` fetches it."""
    if found is None or found.doubt or not isinstance(statement, Command):
        return found
    for redirect in statement.redirects:
        path = scope.path(scope.text(redirect.word))
        if not idle.quiet((redirect,)) and not path.startswith(ports.DEVICE):
            return replace(found, doubt=f"what it says goes to {shown(path)}") if _stays(path, scope) else found
    return found


def _stays(path: str, scope: Scope) -> bool:
    return UNSURE in path or scope.writable(path)


def _turned(found: Probe | None, wanted: bool) -> Probe | None:
    """Give the probe of the opposite: what is waited for is then that it is gone."""
    if found is None or wanted:
        return found
    targets = [text.removeprefix("not:") if text.startswith("not:") else f"not:{text}" for text in found.targets]
    return replace(found, targets=tuple(targets), some=not found.some and len(targets) > 1)


def _both(operator: str, left: Probe | None, right: Probe | None, wanted: bool) -> Probe | None:
    if left is None or right is None or not wanted or left.image != right.image:
        return None
    some = operator == "||"
    if (len(left.targets) > 1 and left.some is not some) or (len(right.targets) > 1 and right.some is not some):
        return None
    targets = tuple(dict.fromkeys(left.targets + right.targets))
    notes = tuple(dict.fromkeys(left.notes + right.notes))
    return replace(left, targets=targets, some=some, doubt=left.doubt or right.doubt, notes=notes)


def _command(command: Command, scope: Scope) -> Probe | None:
    if not command.words:
        return ports.opened(command, scope)
    texts, limit = unwrapped(scope.texts(command))
    inner = script(texts)
    if inner:
        return _nested(inner[0], scope)
    if not texts:
        return ports.opened(command, scope)
    rest = Command(command.words[len(command.words) - len(texts) :], command.redirects, command.assignments)
    if rest.name in ("[", "[[", "test"):
        return (
            files.tested(rest, scope)
            or http.tested(rest, scope)
            or databases.tested(rest, scope)
            or names.tested(rest, scope)
        )
    look = _LOOKS.get(rest.name)
    if look and {name for name, _ in rest.assignments} - _SECRET:
        return None
    return look(rest, scope) if look and limit != 0 else ports.opened(rest, scope) or files.listed(rest, scope)


def _nested(text: str, scope: Scope) -> Probe | None:
    """Look into `bash -c '...'`."""
    read = parse(text, None)
    if not read.whole or not read.statements or scope.depth > 8:
        return None
    return probe(Group(read.statements), scope.within({}), wanted=True)


def _piped(commands: tuple[Statement, ...], scope: Scope) -> Probe | None:
    """Read a pipeline: a look and a grep for what it says, or something to say and where to say it."""
    match commands:
        case [Command() as first, Command() as last] if last.name in ("grep", "egrep", "fgrep"):
            return http.searched(first, last, scope) or _searched(_command(first, scope), last, scope)
        case [said, Command() as last] if idle.idle(said):
            return ports.told(last, scope)
        case [said, Command() as middle, Command() as last] if idle.idle(said) and last.name == "grep":
            return _searched(ports.told(middle, scope), last, scope)
    return None


def _searched(found: Probe | None, last: Command, scope: Scope) -> Probe | None:
    """Read `redis-cli ping | grep PONG`: a word that says no more than success is no question of its own."""
    if found is None:
        return None
    options = parted(scope.texts(last)[1:], "e")
    words = [*options.operands, *options.values.get("e", [])]
    plain = len(words) == 1 and words[0].strip(":!").lower() in _SUCCESS and options.only("q s i w c o E e")
    named = found.image == "pod-init" and plain
    return found if named else replace(found, doubt=found.doubt or "it looks for a word in what is said")
