"""The HTTP of the probes' door under clients that are slow; over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from sidecars.core.door import Door, Request, Response, text

PATIENCE = 0.3


class Served:
    """A door with little patience, on a loop in a thread."""

    def __init__(self) -> None:
        self.answers = 0
        self.response = text(200, "ok")
        self.loop = asyncio.new_event_loop()
        self.door = Door(self.answer, PATIENCE)
        [address] = self.loop.run_until_complete(self.door.open("127.0.0.1", 0))
        self.port = int(address.rpartition(":")[2])
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def answer(self, _: Request) -> Response:
        self.answers += 1
        return self.response

    def client(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.door.close)
        self.loop.call_soon_threadsafe(self.loop.call_soon, self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


def is_let_go(client: socket.socket) -> bool:
    try:
        return client.recv(4096) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_a_client_that_does_not_finish_its_request_is_let_go(served: Served, beginning: bytes) -> None:
    with served.client() as client:
        client.sendall(beginning)
        assert is_let_go(client)


def test_a_client_that_drips_its_request_is_let_go(served: Served) -> None:
    with served.client() as client:
        client.settimeout(PATIENCE / 20)  # between two bytes
        request = iter(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 2000)
        with pytest.raises(ConnectionError):
            while True:
                client.sendall(bytes([next(request)]))
                try:
                    if client.recv(1) == b"":
                        raise ConnectionError
                except TimeoutError:
                    pass
    assert served.answers == 0


def test_a_body_that_does_not_come_is_408(served: Served) -> None:
    with served.client() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        assert client.recv(4096).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_a_client_that_does_not_read_gets_few_answers_and_is_let_go(served: Served) -> None:
    served.response = Response(200, bytes(1024 * 1024))
    with served.client() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        with pytest.raises(ConnectionError):
            while True:  # The door reads no more either: it is full, until the door lets go.
                client.sendall(bytes(65536))
    assert served.answers < 20


def test_a_connection_without_a_new_request_is_let_go(served: Served) -> None:
    with served.client() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(4096).endswith(b"\r\n\r\nok\n")
        assert is_let_go(client)
