"""A connection to an upstream: connect, say whom it is for, and shake hands."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sidecars.ambassador.connection import Connection, Socket
from sidecars.ambassador.loop import BOTH, GONE, WRITE, Loop
from sidecars.ambassador.plan import Endpoint
from sidecars.ambassador.settings import Upstream

if TYPE_CHECKING:
    from sidecars.ambassador.handshake import Handshake
    from sidecars.ambassador.plane import Plane
    from sidecars.ambassador.secured import Secured
    from sidecars.ambassador.tally import Tally
    from sidecars.ambassador.trust import TlsFailed

_AGAIN = 0.1  # seconds: when descriptors are looked for again, and a full unix socket
_LOOK = 0.05  # seconds: how late a timeout may be noticed
_REASONS = {
    errno.ECONNREFUSED: "refused", errno.ENOENT: "refused", errno.ETIMEDOUT: "timeout", errno.ECONNRESET: "reset",
    errno.EPIPE: "reset", errno.ENOTCONN: "reset", errno.EHOSTUNREACH: "unreachable", errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable", errno.ENETDOWN: "unreachable", errno.EADDRNOTAVAIL: "unreachable",
}  # fmt: skip
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Dialled(NamedTuple):
    """A connection that stands.

    sock     non-blocking; Secured where the upstream is spoken to by TLS
    fd       its descriptor, watched for BOTH: give it to its owner's handler by loop.hand_over()
    seconds  how long it took
    events   what has happened already besides WRITE, and will not be told again: call the handler with it, if it is
             not 0
    """

    endpoint: Endpoint
    sock: socket.socket | Secured
    fd: int
    seconds: float
    events: int


class Failed(NamedTuple):
    """None stands.

    reason  a short word: refused, timeout, reset, unreachable, tls, eof, error
    detail  for people
    """

    reason: str
    detail: str


class Dialling:
    """The dials of one process that wait for an answer, and how long they may: one timer for all of them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._until: dict[Dial, float] = {}
        self._watching = False

    def add(self, dial: Dial, until: float) -> None:
        """Give it up at that time."""
        self._until[dial] = until
        if not self._watching:
            self._watching = True
            self._loop.later(_LOOK, self._look)

    def remove(self, dial: Dial) -> None:
        """It waits no longer."""
        self._until.pop(dial, None)

    def _look(self) -> None:
        now = self._loop.now
        for dial in [dial for dial, until in self._until.items() if until <= now]:
            dial.late()
        self._watching = bool(self._until)
        if self._until:
            self._loop.later(_LOOK, self._look)


class Dial:
    """A connection that is being made; see dial()."""

    __slots__ = (
        "_done", "_endpoint", "_fd", "_handshake", "_plane", "_since", "_sock", "_source", "_tally",
        "_timeout", "_upstream",
    )  # fmt: skip

    def __init__(
        self,
        plane: Plane,
        tally: Tally,
        endpoint: Endpoint,
        upstream: Upstream,
        timeout: float,
        done: Callable[[Dialled | Failed], None],
        source: Connection | None,
    ) -> None:
        self._plane = plane
        self._tally = tally
        self._endpoint = endpoint
        self._upstream = upstream
        self._timeout = timeout
        self._done: Callable[[Dialled | Failed], None] | None = done
        self._source = source
        self._since = plane.loop.now
        self._sock: socket.socket | None = None
        self._fd = -1
        self._handshake: Handshake | None = None

    def cancel(self) -> None:
        """Let it be: done() is not called any more, and no outcome is told."""
        self._done = None
        self._let_go()

    def _begin(self) -> None:
        if self._done is None:
            return
        try:
            error = self._connect()
        except OSError as failure:
            error = failure.errno or errno.EINVAL
        if error == 0 or error == errno.EINPROGRESS:
            self._plane.dialling.add(self, self._since + self._timeout)
        elif error in EXHAUSTED:
            # Nothing that the upstream is to blame for: there will be room when connections end.
            self._plane.exhausted()
            self._again()
        elif error == errno.EAGAIN:  # a unix socket whose queue is full
            self._again()
        else:
            self._close()
            failed = _failed(OSError(error, os.strerror(error)))
            self._plane.loop.after(lambda: self._fail(failed))

    def _connect(self) -> int:
        address = self._endpoint.address
        if isinstance(address, str):
            self._sock = sock = Socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            self._sock = sock = Socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.fileno() >= self._plane.most:
            return errno.EMFILE
        error = sock.connect_ex(address)
        if error == 0 or error == errno.EINPROGRESS:
            self._fd = sock.fileno()
            self._plane.loop.watch(self._fd, self._happened, BOTH)
        return error

    def _again(self) -> None:
        self._close()
        self._plane.dialling.add(self, self._since + self._timeout)
        self._plane.loop.later(_AGAIN, self._begin)

    def late(self) -> None:
        """It has taken too long."""
        self._fail(Failed("timeout", f"not within {self._timeout:g} s"))

    def _fail(self, failed: Failed) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._let_go()
            self._tally.failed(self._upstream, self._endpoint, failed.reason, failed.detail)
            done(failed)

    def _happened(self, event: int) -> None:
        sock = self._sock
        assert sock is not None  # noqa: S101  (it is watched)
        if event & GONE:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
            self._fail(_failed(OSError(error, os.strerror(error))))
        elif event & WRITE:
            if self._upstream.proxy_protocol and not self._introduce(sock):
                return
            if self._upstream.tls:
                self._shake_hands(sock)
            else:
                self._succeed(sock, event & ~WRITE)

    def _introduce(self, sock: socket.socket) -> bool:
        """Send the PROXY header; a new socket takes its few bytes at once."""
        from sidecars.ambassador import proxyprotocol  # few upstreams want it

        version, source = self._upstream.proxy_protocol, self._source
        assert version is not None  # noqa: S101  (it was asked for)
        try:
            peer, local = (source.peer, source.local) if source else (None, None)
            sock.send(proxyprotocol.build(version, peer, local))
        except OSError as error:
            self._fail(_failed(error))
            return False
        return True

    def _shake_hands(self, sock: socket.socket) -> None:
        from sidecars.ambassador import tls  # 2 MiB that few upstreams need
        from sidecars.core.errors import WrongSettings

        wanted = self._upstream.tls
        assert wanted is not None  # noqa: S101  (it was asked for)
        host = tls.upstream_host(self._upstream.address)
        self._plane.loop.forget(self._fd)
        try:
            self._handshake = tls.originate(self._plane.loop, sock, wanted, host, timeout=None, done=self._shaken)
        except WrongSettings as error:
            self._fail(Failed("tls", str(error)))

    def _shaken(self, outcome: Secured | TlsFailed) -> None:
        self._handshake = None
        if isinstance(outcome, Exception):
            self._fail(Failed("tls", str(outcome)))
        else:
            self._plane.loop.watch(self._fd, self._happened, BOTH)
            self._succeed(outcome, 0)

    def _succeed(self, sock: socket.socket | Secured, events: int) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        self._plane.dialling.remove(self)
        seconds = self._plane.loop.now - self._since
        self._tally.made(self._upstream, self._endpoint, seconds)
        done(Dialled(self._endpoint, sock, self._fd, seconds, events))

    def _let_go(self) -> None:
        self._plane.dialling.remove(self)
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
        self._close()

    def _close(self) -> None:
        if self._sock is not None:
            if self._fd >= 0:
                self._plane.loop.forget(self._fd)
                self._fd = -1
            self._sock.close()
            self._sock = None


def dial(
    plane: Plane,
    endpoint: Endpoint,
    upstream: Upstream,
    timeout: float,
    done: Callable[[Dialled | Failed], None],
    source: Connection | None,
    *,
    route: str,
) -> Dial:
    """Connect to an endpoint of the route (its id); done() is called once, later, never from within this.

    It counts the connection or the failure, and tells the outcome where one is to be told. The timeout is for all of
    it, TLS included.

    source  whom the connection is for, where the upstream is told by the PROXY protocol
    """
    made = Dial(plane, plane.tally(route), endpoint, upstream, timeout, done, source)
    made._begin()
    return made


def _failed(error: OSError) -> Failed:
    return Failed(_REASONS.get(error.errno or 0, "error"), error.strerror or "")
