"""What a client has to say before its first byte counts: the PROXY protocol's header, and a TLS handshake."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NamedTuple

from sidecars.ambassador import proxyprotocol
from sidecars.ambassador.connection import Connection, Reason
from sidecars.ambassador.loop import BOTH, GONE, HALF_CLOSED, Loop
from sidecars.ambassador.settings import Listener
from sidecars.core.errors import WrongSettings

# PostgreSQL, Message Formats: SSLRequest and GSSENCRequest. N says no, and the client goes on without, unless it must.
_POSTGRES = (bytes([0, 0, 0, 8, 4, 210, 22, 47]), bytes([0, 0, 0, 8, 4, 210, 22, 48]))

TIMEOUT = 10.0  # seconds for all of it: a silent client costs a descriptor, and not for long


class Ungreeted(NamedTuple):
    """Why there is nobody to serve; the detail is for people, and empty where nothing is wrong."""

    reason: Reason
    detail: str = ""


class Greeting:
    """A connection whose listener speaks the PROXY protocol, TLS, or first one and then the other.

    Where PostgreSQL is spoken to by TLS and the client is not, a client that asks for TLS, as libpq does by default, is
    told that there is none on this side.

    done is called once, never from within the making of this: with None when connection.peer, local, sock, tls and
    names are what they shall be, or with what went wrong; the socket is watched until then, not after it, and closed
    by the caller. Only the header's bytes are taken, and the handshake's: what follows, the kernel tells of.

    permits  the listener's allow list, asked for the client that the PROXY header names: without accept_proxy the
             caller has asked already. Whoever reaches such a listener can claim to be anybody.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_done",
        "_handshake",
        "_listener",
        "_loop",
        "_passed",
        "_permits",
        "_refused",
    )

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        listener: Listener,
        done: Callable[[Ungreeted | None], None],
        *,
        permits: Callable[[str | None], bool] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._listener = listener
        self._done = done
        self._permits = permits
        self._passed = False  # it is beyond the PROXY header
        self._refused = 0  # requests of PostgreSQL's client
        self._deadline = loop.later(timeout, self._late)
        if listener.accept_proxy:
            loop.watch(connection.fd, self._header, BOTH)
        else:
            self._next()

    def cancel(self) -> None:
        """Give up; done is not called."""
        self._deadline.cancel()
        self._loop.forget(self._connection.fd)

    def _late(self) -> None:
        what = "TLS handshake" if self._listener.tls else "first message"
        if self._listener.accept_proxy and not self._passed:
            what = "PROXY header"
        self._end(Ungreeted("timeout", f"no {what} in time"))

    def _end(self, outcome: Ungreeted | None) -> None:
        self.cancel()
        self._done(outcome)

    def _header(self, event: int) -> None:
        try:
            # Looked at rather than read: what follows the header is not ours.
            data = self._connection.sock.recv(proxyprotocol.MOST, socket.MSG_PEEK)  # type: ignore[call-arg]
            parsed = proxyprotocol.parse(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(Ungreeted("client_reset", error.strerror or ""))
            return
        except proxyprotocol.Malformed as error:
            self._end(Ungreeted("bad_proxy_header", str(error)))
            return
        if parsed:
            self._connection.sock.recv(parsed.length)
            self._named(parsed)
        elif not data:
            self._end(Ungreeted("client"))
        elif event & (HALF_CLOSED | GONE):
            self._end(Ungreeted("bad_proxy_header", "the connection was closed within the PROXY header"))

    def _named(self, parsed: proxyprotocol.Parsed) -> None:
        connection = self._connection
        if parsed.source is not None:
            connection.peer = parsed.source if isinstance(parsed.source, tuple) else None
            connection.local = parsed.destination if isinstance(parsed.destination, tuple) else None
        if self._permits and not self._permits(connection.peer[0] if connection.peer else None):
            self._end(Ungreeted("refused_allow"))
        else:
            self._loop.forget(connection.fd)
            self._next()

    def _next(self) -> None:
        self._passed = True
        if self._listener.tls:
            self._shake_hands()
        elif any(each.tls and each.tls.starttls for each in self._listener.upstreams):
            self._loop.watch(self._connection.fd, self._postgres, BOTH)
        else:
            self._end(None)

    def _postgres(self, event: int) -> None:
        sock = self._connection.sock
        try:
            while (data := sock.recv(8, socket.MSG_PEEK)) in _POSTGRES:  # type: ignore[call-arg]
                if self._refused == len(_POSTGRES):
                    self._end(Ungreeted("protocol", "it asks for TLS again and again"))
                    return
                self._refused += 1
                sock.recv(8)
                sock.send(b"N")
        except BlockingIOError:
            return
        except OSError as error:
            self._end(Ungreeted("client_reset", error.strerror or ""))
            return
        if len(data) == len(_POSTGRES[0]) or not any(each.startswith(data) for each in _POSTGRES):
            self._end(None)
        elif not data or event & (HALF_CLOSED | GONE):
            self._end(Ungreeted("client"))

    def _shake_hands(self) -> None:
        from sidecars.ambassador import tls  # 2 MiB that few listeners need

        assert self._listener.tls and isinstance(self._connection.sock, socket.SocketType)  # noqa: S101  (for mypy)
        try:
            tls.terminate(self._loop, self._connection.sock, self._listener.tls, timeout=None, done=self._shaken)
        except WrongSettings as error:
            self._loop.soon(self._end, Ungreeted("tls_failed", str(error)))

    def _shaken(self, outcome: object) -> None:
        from sidecars.ambassador.tls import Secured, TlsFailed

        connection = self._connection
        if isinstance(outcome, Secured):
            connection.sock, connection.tls, connection.names = outcome, True, outcome.names
            self._end(None)
        elif isinstance(outcome, TlsFailed):
            self._end(Ungreeted("client") if outcome.ended else Ungreeted("tls_failed", str(outcome)))
