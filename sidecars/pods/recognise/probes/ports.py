"""Looks at ports: nc, telnet, and bash's /dev/tcp."""

from __future__ import annotations

from collections.abc import Callable

from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.probes.names import short
from sidecars.pods.recognise.probes.probe import Probe
from sidecars.pods.recognise.scope import UNSURE, Scope, references
from sidecars.pods.statements import Command

DEVICE = "/dev/tcp/"
_OPENERS = frozenset(("", "echo", ":", "true", "cat", "exec", "printf"))


def target(scheme: str, host: str, port: str) -> str:
    """Write one target; a port that is none makes it unsure."""
    numeric = ":" in host and not host.startswith("[") and UNSURE not in host
    host = f"[{host}]" if numeric else short(host)
    proper = port.isdecimal() or bool(references(port))
    return f"{scheme}://{host}:{port if proper else UNSURE + port}"


def _probe(name: str, targets: tuple[str, ...], doubt: str = "") -> Probe:
    return Probe(
        pattern=2,
        found=f"a wait for a port by {name}",
        wrong="a dropped packet holds a look for minutes, an nc without -z loops for ever, and nothing ends the wait",
        targets=targets,
        doubt=doubt,
    )


def _nc(command: Command, scope: Scope) -> Probe | None:
    options = parted(scope.texts(command)[1:], "wiIgGpsTXxeqmMOPVWoc", ("wait", "timeout", "idle-timeout"))
    if options.has("l", "listen", "e", "k") or len(options.operands) < 2:
        return None
    doubt = "" if options.only("z v n d N w q i 4 6 t wait timeout idle-timeout") else "its options"
    doubt = "it asks by UDP" if options.has("u") else doubt
    host, *ports = options.operands
    return _probe("nc", tuple(target("tcp", host, port) for port in ports), doubt)


def _telnet(command: Command, scope: Scope) -> Probe | None:
    options = parted(scope.texts(command)[1:])
    return _probe("telnet", (target("tcp", *options.operands),)) if len(options.operands) == 2 else None


def opened(command: Command, scope: Scope) -> Probe | None:
    """Read `echo > /dev/tcp/db/5432`, `exec 3<>/dev/tcp/db/5432`."""
    if command.name not in _OPENERS:
        return None
    for redirect in command.redirects:
        text = scope.text(redirect.word)
        if text.startswith(DEVICE):
            host, _, port = text.removeprefix(DEVICE).partition("/")
            return _probe("/dev/tcp", (target("tcp", host, port),)) if host and port else None
    return None


def told(command: Command, scope: Scope) -> Probe | None:
    """Read `echo ruok | nc zookeeper 2181`, of which the port is what is looked at."""
    found = _LISTENERS[command.name](command, scope) if command.name in _LISTENERS else None
    return found


def _grpc(command: Command, scope: Scope) -> Probe | None:
    options = parted(_double(scope.texts(command)[1:]), "", ("addr", "service", "connect-timeout", "rpc-timeout"))
    address = options.value("addr")
    if not address:
        return None
    scheme = "grpcs" if options.has("tls") else "grpc"
    host, _, port = address.rpartition(":")
    doubt = "" if options.only("addr service connect-timeout rpc-timeout tls v") else "its options"
    return Probe(
        pattern=2,
        found="a wait for a gRPC service",
        wrong="nothing ends the wait",
        targets=(target(scheme, host, port) + _service(options),),
        doubt=doubt,
    )


def _double(words: list[str]) -> list[str]:
    """Write Go's flags, which may have one dash, with two."""
    return [f"-{word}" if word.startswith("-") and not word.startswith("--") else word for word in words]


def _service(options: Options) -> str:
    service = options.value("service")
    return f"/{service}" if service else ""


LOOKS: dict[str, Callable[[Command, Scope], Probe | None]] = {
    "nc": _nc,
    "ncat": _nc,
    "netcat": _nc,
    "nmap-ncat": _nc,
    "telnet": _telnet,
    "grpc_health_probe": _grpc,
    "grpc-health-probe": _grpc,
}
_LISTENERS = {name: LOOKS[name] for name in ("nc", "ncat", "netcat", "telnet")}
