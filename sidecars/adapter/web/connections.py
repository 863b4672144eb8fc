"""Clients that are slow, half-open or many: what keeps them from taking memory and descriptors without end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import cast

MOST_CONNECTIONS = 512
# How long a client may take to say what it wants, be it at first or after an answer.
_PATIENCE_SECONDS = 20.0
_SWEEP_SECONDS = 2.0
# What was sent must be confirmed within this time, or the other end is gone; heartbeats see to it that something is.
_UNCONFIRMED_MILLISECONDS = 60_000
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 42\r\nRetry-After: 5\r\n"
    b'Connection: close\r\n\r\n{"error":"too many connections are open"}\n'
)


class Connection(asyncio.Protocol):
    """Passes everything on to the protocol that speaks HTTP, which by itself waits for a request without end."""

    def __init__(self, spoken: asyncio.Protocol, house: Connections) -> None:
        self._spoken = spoken
        self._house = house
        self._refused = False
        self.busy = False
        self.idle_since = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in, unless the house is full."""
        self.transport = cast(asyncio.Transport, transport)
        self._refused = not self._house.take(self)
        if self._refused:
            self.transport.write(_FULL)
            self.transport.close()
            return
        connected = self.transport.get_extra_info("socket")
        if connected is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNCONFIRMED_MILLISECONDS)
        self._spoken.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._house.leave(self)
        if not self._refused:
            self._spoken.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if not self._refused:
            self._spoken.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return None if self._refused else self._spoken.eof_received()

    def pause_writing(self) -> None:
        """Pass on."""
        if not self._refused:
            self._spoken.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        if not self._refused:
            self._spoken.resume_writing()


class Connections:
    """The open connections; those that ask for nothing for long are dropped by `sweep`."""

    def __init__(self, speak: Callable[[], asyncio.Protocol], most: int = MOST_CONNECTIONS) -> None:
        self._speak = speak
        self._most = most
        self._open: dict[asyncio.BaseTransport, Connection] = {}

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self._speak(), self)

    def take(self, connection: Connection) -> bool:
        """Take a client in; False when there are too many."""
        if connection.transport is None or len(self._open) >= self._most:
            return False
        connection.idle_since = asyncio.get_running_loop().time()
        self._open[connection.transport] = connection
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a client."""
        if connection.transport is not None:
            self._open.pop(connection.transport, None)

    @contextlib.contextmanager
    def answering(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        """Mark a client as being answered: it is not dropped for its silence."""
        connection = self._open.get(transport) if transport is not None else None
        if connection is None:
            yield
            return
        connection.busy = True
        try:
            yield
        finally:
            connection.busy = False
            connection.idle_since = asyncio.get_running_loop().time()

    async def sweep(self) -> None:
        """Drop those that ask for nothing, again and again; ends when cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            late = asyncio.get_running_loop().time() - _PATIENCE_SECONDS
            for connection in list(self._open.values()):
                if not connection.busy and connection.idle_since < late and connection.transport is not None:
                    connection.transport.abort()
