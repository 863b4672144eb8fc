"""HTTP as raw as tests want it: a server that does what the path says, and a client that sees every byte."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from tests.servers.ambassador import Upstream

Pairs = list[tuple[bytes, bytes]]


class Got(NamedTuple):
    """A message as it came over the wire: its first line's words, its headers in small letters, its body."""

    line: list[bytes]
    headers: Pairs
    body: bytes
    trailers: Pairs
    pieces: list[bytes]  # the chunks, if it came in chunks

    def get(self, name: bytes) -> bytes | None:
        """A header's values, joined; None where there is none."""
        values = [value for each, value in self.headers if each == name]
        return b", ".join(values) if values else None

    @property
    def status(self) -> int:
        return int(self.line[1])

    @property
    def target(self) -> bytes:
        return self.line[1]


def read_lines(file: BinaryIO) -> Pairs:
    """Headers, up to the empty line."""
    pairs: Pairs = []
    while (line := file.readline()) not in (b"\r\n", b""):
        assert line.endswith(b"\r\n"), line
        name, _, value = line.partition(b":")
        pairs.append((name.lower(), value.strip()))
    if not line:
        raise EOFError(f"the head ends after {pairs}")
    return pairs


def read_chunks(file: BinaryIO) -> tuple[list[bytes], Pairs]:
    pieces: list[bytes] = []
    while size := int(file.readline().split(b";")[0] or b"!", 16):
        pieces.append(file.read(size))
        assert file.read(2) == b"\r\n"
    return pieces, read_lines(file)


def read_message(file: BinaryIO, method: str | None = None) -> Got | None:
    """A request, or the response to a request of this method; None at the end of the connection.

    A ValueError or an EOFError says that it is not whole.
    """
    line = file.readline()
    if not line:
        return None
    words = line.rstrip(b"\r\n").split(b" ", 2)
    headers = read_lines(file)
    told = dict(headers)
    if method is not None and (method == "HEAD" or words[1][:1] == b"1" or words[1] in (b"204", b"304")):
        return Got(words, headers, b"", [], [])
    if told.get(b"transfer-encoding") == b"chunked":
        pieces, trailers = read_chunks(file)
        return Got(words, headers, b"".join(pieces), trailers, pieces)
    if b"content-length" in told:
        size = int(told[b"content-length"])
        body = file.read(size)
        if len(body) < size:
            raise EOFError(f"{len(body)} bytes of {size}")
        return Got(words, headers, body, [], [])
    return Got(words, headers, b"" if method is None else file.read(), [], [])


class Client:
    """A client's connection, raw."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, method: str = "GET") -> Got:
        """The next answer, which there must be."""
        got = read_message(self.file, method)
        assert got is not None, "the connection has ended"
        return got

    def ask(self, target: str = "/", method: str = "GET", body: bytes | None = None, **headers: str) -> Got:
        """Ask, and give the answer."""
        self.send(request(target, method, body, **headers))
        return self.read(method)

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more: it waits for that."""
        with contextlib.suppress(ConnectionResetError):
            return self.file.read(1) == b""
        return True


def request(target: str = "/", method: str = "GET", body: bytes | None = None, **headers: str) -> bytes:
    """A request; a header's name has _ for -."""
    lines = [f"{method} {target} HTTP/1.1"]
    pairs = {"host": "client.test", **headers}
    if body is not None and "transfer_encoding" not in headers:
        pairs.setdefault("content_length", str(len(body)))
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in pairs.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def reset(sock: socket.socket) -> None:
    """Close it so that the other side gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def response(status: int = 200, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d Said" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


Answer = Callable[[Got, socket.socket], bytes | None]


class Origin(Upstream):
    """A server of HTTP: `answer` gives the bytes for each request, or None for the end of the connection.

    got  every request, as it came
    """

    def __init__(self, answer: Answer | None = None, **options: Any) -> None:
        self.got: list[Got] = []
        self.answer = answer or (lambda got, _: response(200, b"%b %b" % (got.line[0], got.line[1])))
        self.changed = threading.Condition()
        super().__init__(self._converse, **options)

    def _converse(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file, contextlib.suppress(ValueError, EOFError, OSError):
            while (got := read_message(file)) is not None:
                with self.changed:
                    self.got.append(got)
                    self.changed.notify_all()
                answer = self.answer(got, connection)
                if answer is None:
                    return
                connection.sendall(answer)

    def wait(self, count: int) -> list[Got]:
        """The requests, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, 30), self.got
            return list(self.got)


@contextlib.contextmanager
def client(sock: socket.socket) -> Iterator[Client]:
    with Client(sock) as made:
        yield made
