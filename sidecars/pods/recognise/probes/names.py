"""Looks at names: nslookup and the like."""

from __future__ import annotations

from collections.abc import Callable

from sidecars.pods.recognise.options import parted
from sidecars.pods.recognise.probes.probe import Probe
from sidecars.pods.recognise.scope import NAMESPACE, Scope
from sidecars.pods.statements import Command, Output

_NOTE = ("a name is there before anything answers: tcp://NAME:PORT, or what is spoken there, is the stronger target",)


def _probe(name: str, host: str, doubt: str = "") -> Probe:
    return Probe(
        pattern=1,
        found=f"a wait for a name by {name}",
        wrong="the name of a Service is there before anything answers behind it, and nothing ends the wait",
        targets=(f"dns://{short(host)}",),
        doubt=doubt,
        notes=_NOTE,
    )


def short(host: str) -> str:
    """Leave out the pod's own namespace, and the cluster's domain, which the resolver's search path has.

    mydb.NAMESPACE.svc.cluster.local -> mydb      mydb.shop.svc.cluster.local -> mydb.shop.svc
    """
    name = host.removesuffix(".") if NAMESPACE in host else host
    for end in (".svc.cluster.local", ".svc", ""):
        if name.endswith(f".{NAMESPACE}{end}"):
            return name.removesuffix(f".{NAMESPACE}{end}")
    return name


def _one(command: Command, scope: Scope, valued: str = "") -> str | None:
    """Give the only operand; None when there is another number of them."""
    operands = parted(scope.texts(command)[1:], valued).operands
    return operands[0] if len(operands) == 1 else None


def _nslookup(command: Command, scope: Scope) -> Probe | None:
    options = parted(scope.texts(command)[1:])
    if not options.operands:
        return None
    doubt = "it asks another name server" if len(options.operands) > 1 else ""
    plain = all(name.startswith(("type", "timeout", "query", "debug")) for name in options.flags)
    return _probe("nslookup", options.operands[0], doubt or ("" if _letters(command) or plain else "its options"))


def _letters(command: Command) -> bool:
    """Nslookup's options are words behind one dash: -type=a, -timeout=2."""
    given = [str(word) for word in command.words[1:] if str(word).startswith("-")]
    return all(word.startswith(("-type=a", "-type=A", "-query=a", "-q=a", "-timeout=", "-retry=")) for word in given)


def _getent(command: Command, scope: Scope) -> Probe | None:
    match scope.texts(command)[1:]:
        case ["hosts" | "ahosts" | "ahostsv4", host]:
            return _probe("getent", host)
    return None


def _host(command: Command, scope: Scope) -> Probe | None:
    host = _one(command, scope, "tWR")
    return _probe("host", host) if host else None


def _ping(command: Command, scope: Scope) -> Probe | None:
    host = _one(command, scope, "cWwiIstq")
    if host is None:
        return None
    return _probe("ping", host, "pod-init does not ping; ask the port that is to answer, by tcp://HOST:PORT")


def tested(command: Command, scope: Scope) -> Probe | None:
    """Read `[ -n "$(dig +short db)" ]`."""
    match command.words[1:]:
        case [operator, word, *_] if operator.literal == "-n" and len(word.parts) == 1:
            part = word.parts[0]
            if isinstance(part, Output) and len(part.statements) == 1:
                return _printed(part, scope)
    return None


def _printed(output: Output, scope: Scope) -> Probe | None:
    match output.statements:
        case [Command() as asked] if asked.name == "dig":
            names = [text for text in scope.texts(asked)[1:] if not text.startswith(("+", "-", "@"))]
            return _probe("dig", names[0]) if len(names) == 1 else None
        case [Command() as asked] if asked.name in ("getent", "host", "nslookup"):
            return LOOKS[asked.name](asked, scope)
    return None


LOOKS: dict[str, Callable[[Command, Scope], Probe | None]] = {
    "nslookup": _nslookup,
    "getent": _getent,
    "host": _host,
    "ping": _ping,
}
