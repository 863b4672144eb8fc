"""Containers that are kept alive, or end others: rows 34 and 36 of the catalogue."""

from __future__ import annotations

from urllib.parse import urlsplit

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Finding, Step
from sidecars.pods.recognise.options import parted
from sidecars.pods.recognise.scope import Scope, is_base, shown
from sidecars.pods.statements import Background, Command, Statement

_FOREVER = ("infinity", "inf")
_DOORS = {
    (15020, "/quitquitquit"): "istio",
    (4191, "/shutdown"): "linkerd",
    (3500, "/v1.0/shutdown"): "dapr",
    (9091, "/quitquitquit"): "cloud-sql-proxy",
}
KILLS = "a container that ends when a file says so"
_LOCAL = ("localhost", "127.0.0.1", "::1")


def keep(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise what only stays, and what ends other containers."""
    if _stays(statement, scope):
        return (_pause(scope),)
    if isinstance(statement, Command):
        return _ends(statement, scope)
    return None


def _stays(statement: Statement, scope: Scope) -> bool:
    match statement:
        case Command() if statement.name == "sleep":
            return len(statement.words) == 2 and statement.words[1].literal in _FOREVER
        case Command() if statement.name == "tail":
            return parted(scope.texts(statement)[1:], "ns", ("lines",)).operands == ["/dev/null"]
        case Background(inner):
            return _stays(inner, scope)
    turns = idle.endless(statement)
    return turns is not None and bool(idle.naps(turns)) and all(map(idle.idle, turns)) and not _speaks(turns)


def _speaks(turns: tuple[Statement, ...]) -> bool:
    """It says something in each turn, which somebody may want to see."""
    return any(each.name in ("echo", "printf", "date") for each in idle.commands(turns))


def _pause(scope: Scope) -> Finding:
    base = is_base(scope.container.image)
    return Finding(
        pattern=36,
        found="a shell that keeps the container alive",
        wrong="process 1 ignores SIGTERM, so that each end takes the whole grace period",
        args=("pause",),
        loops=True,
        doubt="" if base else "somebody may want to use the image's tools in it",
        notes=("for a look into a running pod there is kubectl debug",),
    )


def _ends(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    if command.name in ("kill", "pkill", "killall"):
        return (_kills(scope),)
    if command.name not in ("curl", "wget"):
        return None
    words = scope.texts(command)[1:]
    for word in words:
        door = _door(word)
        if door:
            return (_quits(door, scope),)
    return None


def _door(word: str) -> str:
    """Give pod-init's name for what a URL ends, or the URL."""
    text = word if "://" in word else f"http://{word}"
    try:
        url = urlsplit(text)
        port = url.port or 80
    except ValueError:
        return ""
    if url.hostname in _LOCAL and (port, url.path) in _DOORS:
        return _DOORS[port, url.path]
    return text if url.path.endswith("/quitquitquit") and url.hostname in _LOCAL else ""


def _quits(door: str, scope: Scope) -> Finding:
    return Finding(
        pattern=34,
        found="another container told to end",
        wrong="it is forgotten when the application crashes, and fails where the other is not there",
        args=("quit", door),
        instead=_native(scope, f"pod-init quit {shown(door)}, in a container of its own"),
    )


def _kills(scope: Scope) -> Finding:
    return Finding(
        kind="native" if scope.container.target >= (1, 29) else "partial",
        pattern=34,
        found=KILLS,
        wrong="the file is never made when the application crashes, and the exit code is lost",
        instead=_native(scope, "--exit-on-file of our images"),
    )


def _native(scope: Scope, otherwise: str) -> str:
    if scope.container.target >= (1, 29):
        return "make the other a native sidecar: restartPolicy: Always among the initContainers; it ends with the pod"
    return otherwise
