"""HTTP/1.1 on the service's own event loop, for a handful of clients: probes, Prometheus, a browser, a git host."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
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
    body: bytes | bytearray = b""
    query: str = ""


class Response(NamedTuple):
    """What it is told."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Answer = Callable[[Request], Response]
LateAnswer = Callable[[Request], Response | Awaitable[Response]]


class Limits(NamedTuple):
    """What clients may ask of a door.

    patience      seconds to send a request, or to read its answer
    longest_body  bytes of one request's body
    bodies        bytes of the bodies of all requests together, but for the first `small` ones of each: what is large
                  cannot keep out what is small
    """

    patience: float = _PATIENCE
    longest_body: int = _LONGEST_BODY
    bodies: int = _MOST_CONNECTIONS * _LONGEST_BODY
    small: int = 0


def text(status: int, line: str) -> Response:
    """An answer of one line."""
    return Response(status, line.encode(errors="backslashreplace") + b"\n")


_LIMITS = Limits()


class Connection(asyncio.Protocol):
    """One client's connection: one request after another, each answered when it is whole."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._held = 0
        self._late: asyncio.Future[Response] | None = None
        self._unread = False
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in; when the house is full, the one that came first leaves: a probe must always get in."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._door.connections) >= _MOST_CONNECTIONS:
            next(iter(self._door.connections)).abort()
        self._door.connections[self] = None
        self._peer = _peer(self._transport)
        self._allow()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._patience.cancel()
        if self._late:
            self._late.cancel()
        self._free()
        self._door.connections.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole now."""
        if not self._refused:
            self._http.receive_data(data)
            self._advance()

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is answered."""
        if not (self._refused or self._transport.is_closing()):
            self._http.receive_data(b"")
            self._advance()
        return self._late is not None

    def pause_writing(self) -> None:
        """The client does not read its answers: it gets no more of them until it does."""
        self._unread = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread = False
        if not self._late:
            self._transport.resume_reading()
            self._advance()

    def abort(self) -> None:
        """Drop the client."""
        self._door.connections.pop(self, None)
        self._transport.abort()

    def _advance(self) -> None:
        try:
            while not (self._unread or self._refused or self._late or self._transport.is_closing()) and self._next():
                pass
        except h11.RemoteProtocolError as error:
            self._refuse(text(error.error_status_hint, str(error)))

    def _next(self) -> bool:
        """Take one event; False when there is none until more data comes."""
        match self._http.next_event():
            case h11.Request() as request:
                self._begin(request)
            case h11.Data(data=data):
                self._take(data)
            case h11.EndOfMessage():
                self._respond()
            case h11.ConnectionClosed():
                self._transport.close()
                return False
            case _:
                return False
        return True

    def _begin(self, request: h11.Request) -> None:
        self._request = request
        if _length(request) > _LONGEST_HEAD:  # h11 looks at the length of what comes in pieces only.
            self._refuse(text(431, f"the head of the request is longer than {_LONGEST_HEAD} bytes"))
            return
        if request.method == b"CONNECT":
            self._refuse(text(405, "this is no proxy"))
            return
        refusal = self._door.look(self._asked())
        if refusal:
            self._turn_away(refusal)
        elif self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _take(self, data: bytes) -> None:
        limits = self._door.limits
        self._body += data
        large = max(0, len(self._body) - limits.small)
        self._door.held += large - self._held
        self._held = large
        if len(self._body) > limits.longest_body:
            self._refuse(text(413, f"the body is longer than {limits.longest_body} bytes"))
        elif large and self._door.held > limits.bodies:
            self._refuse(text(503, "too much is being sent at once; try again"))

    def _free(self) -> None:
        """Let go of the body."""
        self._door.held -= self._held
        self._held, self._body = 0, bytearray()

    def _asked(self) -> Request:
        assert self._request is not None  # noqa: S101  (nothing is asked before a request has begun)
        head = self._request.method == b"HEAD"
        headers = {name.decode(): value.decode("latin-1") for name, value in self._request.headers}
        path, _, query = self._request.target.decode("ascii", "replace").partition("?")
        return Request("GET" if head else self._request.method.decode(), path, headers, self._peer, self._body, query)

    def _respond(self) -> None:
        answer = self._door.answer(self._asked())
        if isinstance(answer, Response):
            self._finish(answer)
            return
        # Nothing is read meanwhile, or a client that goes on sending would fill the memory.
        self._patience.cancel()
        self._transport.pause_reading()
        self._late = asyncio.ensure_future(answer)
        self._late.add_done_callback(self._come)

    def _come(self, late: asyncio.Future[Response]) -> None:
        """The answer that was waited for is there."""
        self._late = None
        if late.cancelled() or self._transport.is_closing():
            return
        try:
            self._finish(late.result())
        except BaseException:
            self.abort()
            raise
        if not self._unread:
            self._transport.resume_reading()
            self._advance()

    def _finish(self, response: Response) -> None:
        assert self._request is not None  # noqa: S101  (h11 ends no message that it has not begun)
        self._free()
        self._write(response, self._request.method == b"HEAD")
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._http.start_next_cycle()
        self._patience.cancel()
        self._allow()

    def _allow(self) -> None:
        self._patience = asyncio.get_running_loop().call_later(self._door.limits.patience, self._expire)

    def _refuse(self, response: Response) -> None:
        self._door.refused(self._asked() if self._request else None, response.status)
        self._turn_away(response)

    def _turn_away(self, response: Response) -> None:
        self._free()
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = self._request is not None and self._request.method == b"HEAD"
            self._write(response._replace(headers=(*response.headers, ("Connection", "close"))), head)
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
            self._refuse(text(408, f"the request did not come within {self._door.limits.patience:g} s"))
        self._transport.abort()


class Door:
    """A listening address and its connections.

    "" as the host means every interface, by IPv6 and IPv4; by IPv4 alone where the kernel has no IPv6.

    answer   gives a response at once, or what to await for one
    look     may refuse a request by its head alone, before its body is read
    refused  is told of each request that the door itself refuses, by its head if that has come, and the status
    """

    def __init__(self, answer: LateAnswer, limits: Limits = _LIMITS) -> None:
        self.answer = answer
        self.limits = limits
        self.look: Callable[[Request], Response | None] = lambda _: None
        self.refused: Callable[[Request | None, int], None] = lambda _request, _status: None
        self.connections: dict[Connection, None] = {}
        self.held = 0
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> list[str]:
        """Listen, and return the addresses; port 0 lets the kernel choose. Raises OSError."""
        loop = asyncio.get_running_loop()
        if host in ("", "*"):
            self._server = await loop.create_server(lambda: Connection(self), sock=everywhere(port))
        else:
            self._server = await loop.create_server(lambda: Connection(self), host, port)
        return [shown(*each.getsockname()[:2]) for each in self._server.sockets]

    def close(self) -> None:
        """Stop listening and drop every client."""
        if self._server:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()


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
