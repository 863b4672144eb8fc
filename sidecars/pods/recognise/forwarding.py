"""Ports that are passed on or served by a shell: rows 15 and 30 of the catalogue."""

from __future__ import annotations

from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Finding, Step
from sidecars.pods.recognise.logs import effects
from sidecars.pods.recognise.options import parted
from sidecars.pods.recognise.scope import Scope, references
from sidecars.pods.statements import Command, Pipeline, Statement

_FIRST_FREE = 1024
_LISTEN = ("tcp-listen", "tcp4-listen", "tcp-l", "tcp4-l", "tcp6-listen")
_CONNECT = ("tcp", "tcp4", "tcp-connect", "tcp4-connect", "tcp6")
# What socat is told of its sockets, and ambassador does by itself.
_USUAL = frozenset((
    "fork", "reuseaddr", "keepalive", "nodelay", "retry", "interval", "reuseport", "pf", "backlog", "max-children",
    "su", "connect-timeout", "tcp-nodelay", "forever", "keepidle", "keepintvl", "keepcnt",
))  # fmt: skip


def forward(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise socat, and servers of nc and httpd."""
    turns = idle.endless(statement)
    if turns is not None:
        does = [each for turn in turns for each in effects(turn)]
        found = [each for statement in does if (each := _one(statement, scope))]
        return tuple(found) if found and len(found) == len(does) else None
    single = _one(statement, scope)
    return (single,) if single else None


def _one(statement: Statement, scope: Scope) -> Finding | None:
    match statement:
        case Command() if statement.name == "socat":
            return socat(scope.texts(statement)[1:])
        case Command() if statement.name in ("nc", "ncat", "netcat"):
            return _served(statement, scope)
        case Pipeline([_, Command() as last]) if last.name in ("nc", "ncat", "netcat"):
            return _served(last, scope)
        case Command() if statement.name in ("httpd", "darkhttpd", "thttpd"):
            return _serves(f"{statement.name} beside the application", "nothing of ours serves plain files")
    return None


def socat(words: list[str]) -> Finding | None:
    """Read socat's words behind its name; None when it does something else than pass TCP on.

    ["TCP-LISTEN:5432,fork,reuseaddr", "TCP:db:5432"] -> *:5432=tcp://db:5432
    """
    options = parted(words, "bltTx", ())
    if len(options.operands) != 2:
        return None
    listen, connect = (_address(text) for text in options.operands)
    address = _listening(*listen)
    upstream = _upstream(*connect)
    if not address or not upstream:
        return None
    given = listen[2].keys() | connect[2].keys()
    unusual = given - _USUAL - {"bind", "verify", "cafile", "mode", "unlink-early", "unlink-close"}
    return Finding(
        pattern=30,
        found="a port passed on by socat",
        wrong="a process for each connection, no drain and no health, and a name is asked for once",
        image="ambassador",
        args=(f"{address}={upstream}",),
        loops=True,
        doubt=f"socat's {', '.join(sorted(unusual))}" if unusual else _low(address),
        notes=("without the * it listens for this pod alone",) if address.startswith("*") else (),
    )


def _low(address: str) -> str:
    port = address.rpartition(":")[2]
    low = port.isdecimal() and int(port) < _FIRST_FREE
    return "a port below 1024 needs a right that our images do not ask for" if low else ""


def _address(text: str) -> tuple[str, str, dict[str, str]]:
    """Part TYPE:REST,option=value,option."""
    whole, *given = text.split(",")
    kind, _, rest = whole.partition(":")
    return kind.lower(), rest, dict(each.partition("=")[::2] for each in given if each)


def _listening(kind: str, rest: str, given: dict[str, str]) -> str | None:
    if kind in ("unix-listen", "unix-l"):
        return f"unix://{rest}"
    if kind not in _LISTEN or not (rest.isdecimal() or references(rest)):
        return None
    bind = given.get("bind", "*")
    if bind in ("127.0.0.1", "localhost", "::1", "[::1]"):
        return f":{rest}"
    return f"{'*' if bind in ('0.0.0.0', '::', '[::]') else bind}:{rest}"  # noqa: S104  (socat's, which is kept)


def _upstream(kind: str, rest: str, given: dict[str, str]) -> str | None:
    if kind in ("unix-connect", "unix-client", "unix"):
        return f"unix://{rest}"
    host, _, port = rest.rpartition(":")
    if not host or not (port.isdecimal() or references(port)):
        return None
    if kind in _CONNECT:
        return f"tcp://{rest}"
    if kind not in ("openssl", "openssl-connect", "ssl", "ssl-connect"):
        return None
    more = [word for word in ("verify=off" if given.get("verify") == "0" else "", _ca(given)) if word]
    return f"tls://{rest}" + ("?" if more else "") + "&".join(more)


def _ca(given: dict[str, str]) -> str:
    return f"ca={given['cafile']}" if "cafile" in given else ""


def _served(command: Command, scope: Scope) -> Finding | None:
    options = parted(scope.texts(command)[1:], "pewsqic", ("exec", "sh-exec"))
    if not options.has("l", "listen"):
        return None
    runs = options.value("e", "c", "exec", "sh-exec") or ""
    if "nc " in runs or runs.startswith("nc"):
        found = _serves("a port passed on by nc", "ambassador LISTEN=tcp://HOST:PORT passes a port on")
        return replace(found, kind="partial", pattern=30)
    return _serves("a server made of nc", "for a log, log-adapter FILE serves it as JSON at GET /logs on port 3080")


def _serves(found: str, instead: str) -> Finding:
    partial = "log-adapter" in instead
    return Finding(
        kind="partial" if partial else "refuse",
        pattern=15,
        loops=True,
        found=found,
        wrong="one client at a time, answers that are no proper HTTP, and none at all between two turns"
        if partial
        else "no health, no limits, and process 1 ignores SIGTERM",
        instead=instead,
    )
