"""The HTTP of the probes' door under clients that are slow; over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from sidecars.core.door import Door, Limits, Request, Response, text

PATIENCE = 0.3


class Served:
    """A door with little patience, on a loop in a thread."""

    def __init__(self) -> None:
        self.answers = 0
        self.response = text(200, "ok")
        self.loop = asyncio.new_event_loop()
        self.door = Door(self.answer, Limits(PATIENCE))
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


class Late(Served):
    """A door whose answers are waited for, until they are let through."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.waiting: list[asyncio.Future[Response]] = []
        self.news = threading.Condition()
        super().__init__()
        self.door.answer = self.late
        self.door.limits = Limits(PATIENCE, longest_body=100_000, bodies=150_000, small=1000)

    def late(self, request: Request) -> asyncio.Future[Response]:
        with self.news:
            self.asked.append(request)
            self.waiting.append(self.loop.create_future())
            self.news.notify_all()
        return self.waiting[-1]

    def wait_for(self, count: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.asked) >= count, 10)

    def let_through(self, line: str) -> None:
        self.loop.call_soon_threadsafe(self.waiting[-1].set_result, text(200, line))


@pytest.fixture
def late() -> Iterator[Late]:
    late = Late()
    yield late
    late.close()


def read_until(client: socket.socket, end: bytes) -> bytes:
    read = b""
    while not read.endswith(end):
        piece = client.recv(4096)
        assert piece, read
        read += piece
    return read


def test_an_answer_may_be_waited_for_longer_than_a_client_is_and_the_next_request_waits_too(late: Late) -> None:
    with late.client() as client, late.client() as impatient:
        client.sendall(b"GET /a?seconds=1 HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        late.wait_for(1)
        assert is_let_go(impatient)
        late.let_through("first")
        read_until(client, b"first\n")
        late.wait_for(2)
        late.let_through("second")
        read_until(client, b"second\n")
    assert [(request.path, request.query) for request in late.asked] == [("/a", "seconds=1"), ("/b", "")]


def test_a_client_that_has_sent_all_still_gets_the_answer_it_waits_for(late: Late) -> None:
    with late.client() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        late.wait_for(1)
        late.let_through("done")
        read_until(client, b"done\n")
        assert client.recv(1) == b""


def test_an_answer_that_fails_drops_the_client(late: Late) -> None:
    told: list[dict[str, object]] = []
    late.loop.call_soon_threadsafe(late.loop.set_exception_handler, lambda _, context: told.append(context))
    with late.client() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        late.wait_for(1)
        late.loop.call_soon_threadsafe(late.waiting[-1].set_exception, ZeroDivisionError())
        assert is_let_go(client)
    assert isinstance(told[0]["exception"], ZeroDivisionError)


def posted(length: int, sent: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length + bytes(sent)


def test_a_body_up_to_the_limit_is_taken_and_a_longer_one_is_413(late: Late) -> None:
    refused: list[int] = []
    late.door.refused = lambda _, status: refused.append(status)
    with late.client() as client:
        client.sendall(posted(100_000, 100_000))
        late.wait_for(1)
        assert len(late.asked[0].body) == 100_000
    with late.client() as client:
        client.sendall(posted(100_001, 100_001))
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert refused == [413]


def test_all_bodies_together_have_a_limit_which_ends_with_them(late: Late) -> None:
    late.door.limits = late.door.limits._replace(patience=10)
    with late.client() as holding:
        holding.sendall(posted(100_000, 100_000))
        late.wait_for(1)
        with late.client() as client:
            client.sendall(posted(60_000, 60_000))
            assert client.recv(4096).startswith(b"HTTP/1.1 503 ")
        with late.client() as client:  # What is small is taken all the same.
            client.sendall(posted(1000, 1000))
            late.wait_for(2)
            late.let_through("small")
            read_until(client, b"small\n")
        late.loop.call_soon_threadsafe(late.waiting[0].set_result, text(200, "done"))
        read_until(holding, b"done\n")
    with late.client() as client:
        client.sendall(posted(100_000, 100_000))
        late.wait_for(3)
        late.let_through("done")
        read_until(client, b"done\n")
    assert late.door.held == 0


def test_a_request_may_be_refused_before_its_body_is_sent(served: Served) -> None:
    served.door.look = lambda request: text(401, "no secret") if request.method == "POST" else None
    with served.client() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.endswith(b"\r\n\r\nno secret\n")
    assert served.answers == 0


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"OPTIONS", b"PROPFIND"])
def test_any_method_reaches_the_answer(served: Served, method: bytes) -> None:
    with served.client() as client:
        client.sendall(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
