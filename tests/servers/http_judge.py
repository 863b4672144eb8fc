"""Another parser's word on what goes over the wire: h11 reads what upstreams and clients get of ambassador."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import h11

from tests.servers.ambassador import Upstream

Pairs = list[tuple[bytes, bytes]]


class Seen(NamedTuple):
    """A whole message; `what` is "GET /path", or the status.

    headers   with names in small letters; trailers are in `trailers`
    """

    what: str
    headers: Pairs
    body: bytes
    trailers: Pairs

    def get(self, name: bytes) -> list[bytes]:
        """A header's values."""
        return [value for each, value in self.headers if each == name]


class Verdict(NamedTuple):
    """What h11 makes of a stream.

    whole   the messages that are whole, interim responses left out
    begun   what the messages are, with those that are not whole
    error   why it is no HTTP from there on; empty when it is
    rest    bytes after the last whole message that begin no other
    """

    whole: list[Seen]
    begun: list[str]
    error: str
    rest: bytes


class Reader:
    """Reads a stream of messages as it comes; `methods` are those of the requests, where it is one of responses.

    lines  empty lines before a request are left out
    """

    def __init__(self, methods: Iterable[str] | None = None, *, lines: bool = False) -> None:
        self._lines = lines
        self._methods = list(methods) if methods is not None else None
        self.whole: list[Seen] = []
        self.begun: list[str] = []
        self.error = ""
        self._head: h11.Request | h11.Response | None = None
        self._body = b""
        self._connection = self._next(b"")

    def _next(self, rest: bytes) -> h11.Connection:
        role = h11.SERVER if self._methods is None else h11.CLIENT
        connection = h11.Connection(role, max_incomplete_event_size=1 << 20)
        if self._methods is not None:
            method = self._methods.pop(0) if self._methods else "GET"
            connection.send(h11.Request(method=method, target="/", headers=[("Host", "judge")]))
            connection.send(h11.EndOfMessage())
        while self._lines and rest.startswith(b"\r\n"):
            rest = rest[2:]
        if rest:
            connection.receive_data(rest)
        return connection

    def feed(self, data: bytes) -> list[Seen]:
        """Take what comes (b"": the end); the messages that are whole now and were not before."""
        before = len(self.whole)
        between = not data and self._head is None and not self._connection.trailing_data[0]
        if not self.error and not between:
            try:
                self._connection.receive_data(data)
                while self._take(self._connection.next_event()):
                    pass
            except h11.RemoteProtocolError as error:
                self.error = str(error)
        return self.whole[before:]

    def _take(self, event: Any) -> bool:
        if isinstance(event, h11.Request | h11.Response):
            self._head, self._body = event, b""
            self.begun.append(_what(event))
        elif isinstance(event, h11.Data):
            self._body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert self._head is not None
            self.whole.append(_seen(self._head, self._body, list(event.headers)))
            self._head = None
            self._connection = self._next(self._connection.trailing_data[0])
        elif not isinstance(event, h11.InformationalResponse):
            return False
        return True

    def verdict(self) -> Verdict:
        return Verdict(self.whole, self.begun, self.error, self._connection.trailing_data[0])


def _seen(head: h11.Request | h11.Response, body: bytes, trailers: Pairs) -> Seen:
    return Seen(_what(head), list(head.headers), body, trailers)


def _what(head: h11.Request | h11.Response) -> str:
    if isinstance(head, h11.Request):
        return f"{head.method.decode()} {head.target.decode('latin-1')}"
    return str(head.status_code)


def requests(data: bytes) -> Verdict:
    """What a server reads in this, that leaves out empty lines before a request."""
    reader = Reader(lines=True)
    while data.startswith(b"\r\n"):
        data = data[2:]
    if data:
        reader.feed(data)
    return reader.verdict()


def responses(data: bytes, methods: Iterable[str] = (), *, ended: bool = True) -> Verdict:
    """What a client reads in this, which has sent requests of these methods (GET when there are more)."""
    reader = Reader(methods)
    if data:
        reader.feed(data)
    if ended:
        reader.feed(b"")
    return reader.verdict()


class Recorder(Upstream):
    """A server that keeps every byte, and answers each request that h11 finds whole in them.

    answer  gives the bytes of the answer, or pieces that are sent by themselves
    ends    whether the connection ends after it
    """

    def __init__(
        self,
        answer: Callable[[Seen], bytes | list[bytes]] | None = None,
        ends: Callable[[Seen], bool] = lambda _: False,
    ) -> None:
        self.answer = answer or (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.ends = ends
        self._lock = threading.Lock()
        self._raw: list[bytearray] = []
        self._seen: list[Seen] = []
        self._errors: list[str] = []
        super().__init__(self._record)

    def _record(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = Reader()
        raw = bytearray()
        with self._lock:
            self._raw.append(raw)
        while data := connection.recv(65536):
            raw += data
            come = reader.feed(data)
            with self._lock:
                self._seen += come
                if reader.error:
                    self._errors.append(f"{reader.error}: {bytes(raw[-300:])!r}")
            if reader.error:
                return
            for each in come:
                answer = self.answer(each)
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(piece)
                if self.ends(each):
                    return

    def begin(self) -> None:
        """Forget what came."""
        with self._lock:
            self._seen, self._errors = [], []
            for raw in self._raw:
                raw.clear()

    def came(self) -> tuple[list[Seen], list[str], bytes]:
        """The whole requests since then, what was no HTTP, and all bytes."""
        with self._lock:
            return self._seen, self._errors, b"|".join(bytes(each) for each in self._raw if each)


def told(client: socket.socket, data: bytes | Iterable[bytes]) -> bytes:
    """Send this, say that it is all, and give all that comes back, up to the end or a reset."""
    got = b""
    with client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) if client.family == socket.AF_INET else None
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # it was answered and is closed already
            for piece in (data,) if isinstance(data, bytes) else data:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        while more := client.recv(65536):
            got += more
    return got
