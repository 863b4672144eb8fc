"""Programs that are made to wait, within an image of something else: wait-for-it.sh and dockerize."""

from __future__ import annotations

from collections.abc import Sequence

from sidecars.pods.recognise.finding import Finding, Step, Unclear
from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.probes.ports import target
from sidecars.pods.recognise.scope import Scope, seconds
from sidecars.pods.statements import Command, Statement

_WAIT_FOR_IT = frozenset(("wait-for-it.sh", "wait-for-it", "wait-for", "wait-for.sh"))
_SHORT = 15.0  # seconds, unless wait-for-it is told otherwise
_SHORTEST = 10.0  # dockerize
_FOUND = "a wait by {}"
_WRONG = "a shell script in the application's image, which knows no more than that a port is open"


def programs(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise wait-for-it and dockerize; a command behind them is the application."""
    if not isinstance(statement, Command):
        return None
    if statement.name in _WAIT_FOR_IT:
        return _wait_for_it(statement, scope)
    return _dockerize(statement, scope) if statement.name == "dockerize" else None


def _parted(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Part a command from what stands before `--`."""
    place = list(words).index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _wait_for_it(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    words, then = _parted(scope.texts(command)[1:])
    options = parted(words, "hpt", ("host", "port", "timeout"))
    places = [text.rpartition(":")[::2] for text in options.operands]
    if options.value("h", "host"):
        places.append((options.value("h", "host") or "", options.value("p", "port") or ""))
    if not places or not all(host and port for host, port in places):
        return None
    limit = seconds(options.value("t", "timeout") or f"{_SHORT}")
    known = options.only("h p t host port timeout q s quiet strict")
    targets = tuple(target("tcp", host, port) for host, port in places)
    return _found(command.name, targets, limit or None, "" if known else "its options", then)


def _dockerize(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    words = scope.texts(command)[1:]
    double = [f"-{word}" if word.startswith("-") and not word.startswith("--") else word for word in words]
    options = parted(double, "", ("wait", "timeout", "wait-retry-interval", "template", "stdout", "stderr"))
    targets = tuple(options.values.get("wait", ()))
    if not targets:
        return None
    limit = seconds(options.value("timeout") or f"{_SHORTEST}")
    return _found("dockerize", targets, limit, _doubt(options), options.operands)


def _doubt(options: Options) -> str:
    if options.has("template"):
        return "its templates are Go's: pod-init render TEMPLATE:FILE --vars=NAME takes ${NAME}"
    return "" if options.only("wait timeout wait-retry-interval") else "its options"


def _found(
    name: str, targets: tuple[str, ...], limit: float | None, doubt: str, then: Sequence[str]
) -> tuple[Step, ...]:
    finding = Finding(
        pattern=2,
        found=_FOUND.format(name),
        wrong=_WRONG,
        targets=targets,
        limit=limit,
        doubt=doubt,
    )
    return (finding, Unclear(then[0])) if then else (finding,)
