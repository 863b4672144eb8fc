"""Sockets to listen at, and errors that name the setting they come from."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

from sidecars.core.errors import WrongSettings
from sidecars.core.settings import Address

_KERNEL_BYTES = 8 << 20


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Let errors name the setting."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        advice = "choose a port above 1023" if isinstance(error, PermissionError) else "give a free one"
        if url.startswith("unix:"):
            advice = "give a path in a directory that this container can write, and that nothing else listens at"
        raise WrongSettings(f"cannot listen on --syslog {url}: {reason}; {advice}") from error


def inet_socket(address: Address, kind: socket.SocketKind) -> socket.socket:
    """Bind; an empty host means every interface, by IPv6 and IPv4, or by IPv4 alone where the kernel has no IPv6."""
    if address.host in ("", "*"):
        both = socket.has_dualstack_ipv6()
        return _bound(socket.AF_INET6 if both else socket.AF_INET, kind, ("::" if both else "0.0.0.0", address.port))  # noqa: S104
    flags = socket.AI_PASSIVE
    family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=kind, flags=flags)[0]
    return _bound(family, kind, where)


def _bound(family: int, kind: socket.SocketKind, where: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where[0] != "::"))
        bound.bind(where)
    except BaseException:
        bound.close()
        raise
    return bound


def unix_socket(path: str) -> socket.socket:
    """Bind; the socket of a process that has ended is replaced, that of one that lives is not. Everyone may send."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if _stale(path):
            os.unlink(path)
        bound.bind(path)
        os.chmod(path, 0o666)  # noqa: S103  (as that of /dev/log: whoever mounts the volume may log)
    except BaseException:
        bound.close()
        raise
    return bound


def _stale(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.connect(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        # EPROTOTYPE: a stream socket that somebody listens at.
        return error.errno == errno.ECONNREFUSED
    return False


def enlarge(bound: socket.socket) -> None:
    """Let the kernel hold more than net.core.rmem_default of what comes at once; more than rmem_max takes a right."""
    force = getattr(socket, "SO_RCVBUFFORCE", 33)
    for option in (force, socket.SO_RCVBUF):
        with contextlib.suppress(OSError):
            bound.setsockopt(socket.SOL_SOCKET, option, _KERNEL_BYTES)
            return


def shown(scheme: str, bound: socket.socket) -> str:
    """Give the address of a socket as --syslog has it."""
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
