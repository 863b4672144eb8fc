"""The listening sockets, opened before anything else is done: a taken port is found at the start."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import NoReturn

from sidecars.ambassador.settings import Listener
from sidecars.core.errors import WrongSettings

_BACKLOG = 4096  # the kernel makes it net.core.somaxconn where that is less
_LOOPBACK, _EVERYWHERE = ("127.0.0.1", "::1"), ("0.0.0.0", "::")  # noqa: S104
# A family, or its loopback address, that this machine does not have.
_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def open_sockets(listener: Listener, count: int = 1) -> list[socket.socket]:
    """Open the sockets of a listener: `count` for each of its addresses, one for each process, non-blocking.

    ":PORT" is 127.0.0.1 and ::1, and "*:PORT" all addresses of both families, of which either may be missing; port 0
    is the same port on both. The order is address by address: [v4 of process 0, v4 of process 1, v6 of process 0, v6
    of process 1]. A unix socket is one, whatever the count, since it cannot be had twice: processes share it.

    Raises WrongSettings: what cannot be listened on, and what to do.
    """
    path = listener.listen.removeprefix("unix://")
    try:
        if path.startswith("/"):
            return [_unix(path, int(listener.mode, 8))]
        host, _, port = listener.listen.rpartition(":")
        if host in ("", "localhost", "*"):
            return _both(_EVERYWHERE if host == "*" else _LOOPBACK, int(port), count)
        return _one_address(host.strip("[]"), int(port), count)
    except OSError as error:
        _refuse(listener.listen, error)


def _refuse(listen: str, error: OSError) -> NoReturn:
    advice = {
        errno.EACCES: "choose a port above 1023",
        errno.EADDRINUSE: "another program has it: choose a free one, or end that program",
        errno.EADDRNOTAVAIL: "give an address that this machine has",
        errno.ENOENT: "the directory must be there: is the volume mounted?",
    }
    number = error.errno or 0
    raise WrongSettings(
        f"cannot listen on {listen}: {os.strerror(number)}; {advice.get(number, 'choose another')}"
    ) from error


def _both(hosts: tuple[str, str], port: int, count: int) -> list[socket.socket]:
    """Listen on an address of each family, or on the one that there is."""
    opened: list[socket.socket] = []
    missing: OSError | None = None
    for attempt in range(20):
        for host in hosts:
            try:
                opened += _one_address(host, opened[0].getsockname()[1] if opened else port, count, alone=True)
            except OSError as error:
                if error.errno in _MISSING:
                    missing = error
                    continue
                _close(opened)
                # The port that the kernel has chosen for one family may be another's in the other.
                if port or error.errno != errno.EADDRINUSE or attempt == 19:
                    raise
                opened = []
                break
        if opened:
            return opened
    raise missing or OSError(errno.EADDRINUSE, "")


def _one_address(host: str, port: int, count: int, *, alone: bool = False) -> list[socket.socket]:
    """Listen on one address; :: has those of IPv4 too, unless it is to be alone."""
    names = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    family, _, _, _, address = names[0]
    opened = [_bound(family, address, shared=False, alone=alone)]
    if count > 1:
        # SO_REUSEPORT alone would share the port with whoever else of this user asks for it. The first bind has shown
        # that nobody has it.
        address = (address[0], opened[0].getsockname()[1], *address[2:])
        _close(opened)
        opened = []
        try:
            for _ in range(count):
                opened.append(_bound(family, address, shared=True, alone=alone))
        except OSError:
            _close(opened)
            raise
    return opened


def _bound(family: int, address: tuple[object, ...], *, shared: bool, alone: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone or address[0] != "::")
        # Accepted sockets inherit it, which saves a call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _close(opened: list[socket.socket]) -> None:
    for sock in opened:
        sock.close()


def _unix(path: str, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _clear(path)
        # The mode is made by the umask, so that there is no moment in which others may connect.
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except (OSError, WrongSettings):
        sock.close()
        raise
    return sock


def _clear(path: str) -> None:
    """Remove the socket file that an earlier run has left: one that nobody answers on."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise WrongSettings(f"cannot listen on {path}: there is a file that is no socket; remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # Its queue is full: somebody has it.
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
