"""HTTP/1.1 on the service's own event loop, for a handful of clients: probes, Prometheus, a person's browser."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast

import h11

_LONGEST_HEAD = 8 * 1024
_LONGEST_BODY = 64 * 1024
_MOST_CONNECTIONS = 64
_PATIENCE = 10.0  # seconds for a client to send its request, or to read the answer
_STANDARD = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))


class Request(NamedTuple):
    """What a client asks; the names of headers are in lower case, and of a repeated header the last one counts."""

    method: str
    path: str
    headers: Mapping[str, str]
    peer: ipaddress.IPv4Address | ipaddress.IPv6Address
    body: bytes = b""


class Response(NamedTuple):
    """What it is told."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Answer = Callable[[Request], Response]


def text(status: int, line: str) -> Response:
    """An answer of one line."""
    return Response(status, line.encode(errors="backslashreplace") + b"\n")


class Connection(asyncio.Protocol):
    """One client's connection: one request after another, each answered when it is whole."""

    def __init__(self, answer: Answer, open_connections: dict[Connection, None], patience: float) -> None:
        self._answer = answer
        self._allowed = patience
        self._open = open_connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._unread = False
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in; when the house is full, the one that came first leaves: a probe must always get in."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._open) >= _MOST_CONNECTIONS:
            next(iter(self._open)).abort()
        self._open[self] = None
        self._peer = _peer(self._transport)
        self._patience = asyncio.get_running_loop().call_later(self._allowed, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._patience.cancel()
        self._open.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole now."""
        if not self._refused:
            self._http.receive_data(data)
            self._advance()

    def eof_received(self) -> None:
        """The client sends no more; what it has sent is answered."""
        if not (self._refused or self._transport.is_closing()):
            self._http.receive_data(b"")
            self._advance()

    def pause_writing(self) -> None:
        """The client does not read its answers: it gets no more of them until it does."""
        self._unread = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread = False
        self._transport.resume_reading()
        self._advance()

    def abort(self) -> None:
        """Drop the client."""
        self._open.pop(self, None)
        self._transport.abort()

    def _advance(self) -> None:
        try:
            while not (self._unread or self._refused or self._transport.is_closing()) and self._next():
                pass
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def _next(self) -> bool:
        """Take one event; False when there is none until more data comes."""
        match self._http.next_event():
            case h11.Request() as request:
                self._request = request
                if _length(request) > _LONGEST_HEAD:  # h11 looks at the length of what comes in pieces only.
                    self._refuse(431, f"the head of the request is longer than {_LONGEST_HEAD} bytes")
                self._body.clear()
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
            case h11.Data(data=data):
                self._body += data
                if len(self._body) > _LONGEST_BODY:
                    self._refuse(413, f"the body is longer than {_LONGEST_BODY} bytes")
            case h11.EndOfMessage():
                self._respond()
            case h11.ConnectionClosed():
                self._transport.close()
                return False
            case _:
                return False
        return True

    def _respond(self) -> None:
        assert self._request is not None  # noqa: S101  (h11 ends no message that it has not begun)
        head = self._request.method == b"HEAD"
        headers = {name.decode(): value.decode("latin-1") for name, value in self._request.headers}
        method = "GET" if head else self._request.method.decode()
        path = self._request.target.decode("ascii", "replace").partition("?")[0]
        self._write(self._answer(Request(method, path, headers, self._peer, bytes(self._body))), head)
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._http.start_next_cycle()
        self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(self._allowed, self._expire)

    def _refuse(self, status: int, reason: str) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = text(status, reason)
            self._write(response._replace(headers=(("Connection", "close"),)), head=False)
        # To close while the client still sends would reset the connection, and lose the answer: what it sends is
        # read, to no end, until it has understood or its time is up.
        self._refused = True
        self._transport.write_eof()

    def _write(self, response: Response, head: bool) -> None:
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *_STANDARD,
            *response.headers,
        ]
        phrase = HTTPStatus(response.status).phrase.encode()
        body = b"" if head else response.body
        self._send(
            h11.Response(status_code=response.status, headers=headers, reason=phrase),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )

    def _send(self, *events: h11.Event) -> None:
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))

    def _expire(self) -> None:
        if self._http.their_state is h11.SEND_BODY and not self._refused:
            self._refuse(408, f"the request did not come within {self._allowed:g} s")
        self._transport.abort()


class Door:
    """A listening address and its connections.

    "" as the host means every interface, by IPv6 and IPv4; by IPv4 alone where the kernel has no IPv6.
    """

    def __init__(self, answer: Answer, patience: float = _PATIENCE) -> None:
        self._answer = answer
        self._patience = patience
        self._connections: dict[Connection, None] = {}
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> list[str]:
        """Listen, and return the addresses; port 0 lets the kernel choose. Raises OSError."""
        loop = asyncio.get_running_loop()
        if host in ("", "*"):
            self._server = await loop.create_server(self._connection, sock=everywhere(port))
        else:
            self._server = await loop.create_server(self._connection, host, port)
        return [shown(*each.getsockname()[:2]) for each in self._server.sockets]

    def close(self) -> None:
        """Stop listening and drop every client."""
        if self._server:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    def _connection(self) -> Connection:
        return Connection(self._answer, self._connections, self._patience)


def everywhere(port: int) -> socket.socket:
    """One socket for IPv6 and IPv4; asyncio's own choice, two sockets, cannot give both the same free port."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
    return socket.create_server(("0.0.0.0", port), backlog=128)  # noqa: S104  (every interface is what was asked for)


def _length(request: h11.Request) -> int:
    return len(request.target) + sum(len(name) + len(value) for name, value in request.headers)


def _peer(transport: asyncio.Transport) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(transport.get_extra_info("peername")[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def shown(host: str, port: int) -> str:
    """Write an address as it is given: host:port, [::1]:port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
