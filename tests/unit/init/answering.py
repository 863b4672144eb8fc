"""Servers on loopback that answer as they are told, also as no server should."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Self

from sidecars.init.checks import Result, attempt, prepared
from sidecars.init.target import parse

PATIENCE = 20.0

Handler = Callable[[socket.socket], None]


def look(text: str, patience: float = PATIENCE) -> Result:
    """What one attempt finds."""
    target = parse(text)
    return asyncio.run(attempt(prepared(target), target, patience))


class Answering:
    """A server whose connections are each handled in a thread, and closed afterwards."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None, path: str = "") -> None:
        self.asked: list[bytes] = []
        self._handler = handler
        self._tls = tls
        self._listener = socket.socket(socket.AF_UNIX) if path else socket.socket()
        self._listener.bind(path or ("127.0.0.1", 0))
        self._listener.listen()
        self.port = 0 if path else int(self._listener.getsockname()[1])
        self._ended = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        client.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            wrapped = self._tls.wrap_socket(client, server_side=True) if self._tls else client
            with wrapped:
                self._handler(wrapped)
        client.close()


def request(client: socket.socket) -> bytes:
    """Read up to the end of the headers of a request."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            break
        data += part
    return data


def saying(*parts: bytes) -> Handler:
    """Wait for a request's headers, then send these."""

    def handle(client: socket.socket) -> None:
        request(client)
        for part in parts:
            client.sendall(part)

    return handle


def for_ever(head: bytes, more: bytes) -> Handler:
    """Wait for a request's headers, then send without an end."""

    def handle(client: socket.socket) -> None:
        request(client)
        client.sendall(head)
        while more:
            client.sendall(more)
        silent(client)

    return handle


def silent(client: socket.socket) -> None:
    """Say nothing until the other end goes."""
    while client.recv(65536):
        pass


@contextlib.contextmanager
def filtered() -> Iterator[int]:
    """A port that answers no request to connect: its queue is full, so that the kernel drops what comes."""
    with contextlib.ExitStack() as open_:
        listener = open_.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        while True:
            client = open_.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(address)
            except TimeoutError:
                break
        yield address[1]


def bound() -> socket.socket:
    """A socket that has a port and refuses connections until it listens; nobody else is given the port meanwhile."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def refused() -> int:
    """A port on which nobody listens, until this process ends."""
    sock = bound()
    port = int(sock.getsockname()[1])
    sock.detach()
    return port
