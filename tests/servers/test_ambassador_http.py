"""What ambassador promises of HTTP: each request once, whole and to whom it is for; and what is said when not."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.servers.ambassador import Ambassador, Upstream, configured, running
from tests.servers.ambassador_http import Client, Got, Origin, chunked, request, reset, response
from tests.unit.ambassador.certificates import Files
from tests.unit.core.running import free_port

MIB = 2**20


class Services:
    """What the server behind does, by the path; events let a test hold it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.seen = threading.Event()
        self.over = threading.Event()

    def __call__(self, got: Got, connection: socket.socket) -> bytes | None:
        name = got.target.partition(b"?")[0].strip(b"/").partition(b"/")[0].decode().replace("-", "_")
        return getattr(self, name or "echo", self.echo)(got, connection)  # type: ignore[no-any-return]

    def echo(self, got: Got, _: socket.socket) -> bytes:
        said = [name + b"=" + value for name, value in got.headers + got.trailers]
        return response(200, got.body, b"X-Line: " + b" ".join(got.line), *(b"X-Got: " + each for each in said))

    def chunks(self, got: Got, _: socket.socket) -> bytes:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        return head + chunked(b"first", b"second", trailers=b"X-Sum: 7\r\nContent-Length: 3\r\n")

    def until_close(self, got: Got, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n\r\nall that there is")

    def old(self, got: Got, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold")

    def short(self, got: Got, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")

    def short_chunks(self, got: Got, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n")

    def long(self, got: Got, _: socket.socket) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlong, and longer"

    def reset(self, got: Got, connection: socket.socket) -> None:
        reset(connection)

    def reset_midway(self, got: Got, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nsome")
        self.seen.wait(30)
        reset(connection)

    def nonsense(self, got: Got, connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    def both_lengths(self, got: Got, connection: socket.socket) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"

    def leaving_soon(self, got: Got, _: socket.socket) -> bytes:
        return response(200, b"soon", b"Keep-Alive: max=3, timeout=1")

    def no_content(self, got: Got, _: socket.socket) -> bytes:
        return b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"

    def not_modified(self, got: Got, _: socket.socket) -> bytes:
        return b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: x\r\n\r\n"

    def never(self, got: Got, connection: socket.socket) -> None:
        self.seen.set()
        with contextlib.suppress(OSError):
            connection.recv(1)
        self.over.set()

    def held(self, got: Got, _: socket.socket) -> bytes:
        self.seen.set()
        assert self.go.wait(30)
        return response(200, b"held")

    def hints(self, got: Got, _: socket.socket) -> bytes:
        return b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(200, b"then")

    def events(self, got: Got, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        assert self.go.wait(30)
        connection.sendall(b"data: 2\n\n")

    def websocket(self, got: Got, connection: socket.socket) -> None:
        assert (got.get(b"upgrade"), got.get(b"connection")) == (b"websocket", b"Upgrade")
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-X: %b\r\n\r\n"
        connection.sendall(head % (got.get(b"sec-websocket-key") or b"") + b"hello")
        while data := connection.recv(65536):
            connection.sendall(data.upper())

    def big(self, got: Got, _: socket.socket) -> bytes:
        return response(200, noise(8 * MIB))

    def big_chunks(self, got: Got, _: socket.socket) -> bytes:
        data = noise(3 * MIB)
        pieces = [data[at : at + 70000] for at in range(0, len(data), 70000)]
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*pieces)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def services() -> Services:
    return Services()


@pytest.fixture(scope="module")
def origin(services: Services) -> Iterator[Origin]:
    with Origin(services) as made:
        yield made


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("http") / "access.log"


class Failing(Origin):
    """A server that fails the next requests in a way that is set; then it says what it was asked."""

    def __init__(self) -> None:
        self.times, self.failure = 0, None
        super().__init__(self._fail)

    def fail(self, times: int, failure: bytes | None = None) -> int:
        """Fail so many times; how many requests came before."""
        self.times, self.failure = times, failure
        return len(self.got)

    def _fail(self, got: Got, _: socket.socket) -> bytes | None:
        self.times -= 1
        if self.times >= 0:
            return self.failure
        return response(200, b"%b %b" % (got.line[0], got.body))

    times: int
    failure: bytes | None


@pytest.fixture(scope="module")
def failing() -> Iterator[Failing]:
    with Failing() as made:
        yield made


@pytest.fixture(scope="module")
def shared(origin: Origin, failing: Failing, log: Path) -> Iterator[Ambassador]:
    refusing = f"127.0.0.1:{free_port()}"

    def listener(name: str, *upstreams: str, listen: dict[str, Any] | None = None, **http: Any) -> dict[str, Any]:
        addresses = [
            {"address": each, "name": f"origin{n or ''}"} for n, each in enumerate(upstreams or [origin.address])
        ]
        path = str(log.parent / f"{name}.sock")
        return {"listen": path, "upstreams": addresses, "http": http, "eject": {"failures": 0}, **(listen or {})}

    at_once = {"backoff": "1ms", "floor": 100}
    listeners = [
        listener("plain", listen={"listen": ":0"}, retry={"tries": 0}),
        listener("patient", timeout="0.4s", try_timeout="0.2s", retry={"tries": 0}),
        listener("strict", head_timeout="0.2s", body_timeout="0.3s", keep_alive="0.3s", max_body=1000, max_head=2000),
        listener("streams", stream_timeout="0.3s"),
        listener("narrow", max_requests=1),
        listener("pool", upstream_keep_alive="0.3s", upstream_idle=1),
        listener("places", listen={"upstream_connections": 1, "queue_timeout": "0.3s"}),
        listener("retried", failing.address, retry={**at_once, "max_backoff": "1s"}),
        listener("counted", failing.address, retry={"backoff": "1ms"}),
        listener("buffered", failing.address, retry={**at_once, "buffer": 1000}),
        listener("budgeted", failing.address, retry={"budget": 0, "floor": 0.3, "backoff": "1ms"}),
        listener("half", refusing, origin.address, retry=at_once),
        listener("dead", refusing, retry=at_once),
    ]
    config = configured(log.parent / "config.json", *listeners)
    with running(config, f"--access-log={log}") as ambassador:
        yield ambassador


@pytest.fixture(autouse=True)
def _afresh(request: pytest.FixtureRequest) -> None:
    if "services" in request.fixturenames:
        services = request.getfixturevalue("services")
        for event in (services.go, services.seen, services.over):
            event.clear()


@pytest.fixture
def client(shared: Ambassador) -> Iterator[Client]:
    with Client(shared.connect(":0")) as made:
        yield made


def to(shared: Ambassador, log: Path, name: str) -> Client:
    return Client(shared.connect(str(log.parent / f"{name}.sock")))


def record(shared: Ambassador, log: Path, path: str) -> dict[str, Any]:
    """What the access log says of the request with this path, once it does."""

    def found() -> list[dict[str, Any]]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [each for line in lines if line.endswith("}") and (each := json.loads(line)).get("path") == path]

    shared.until(found)
    return found()[-1]


# Requests and answers


def test_requests_share_connections_on_both_sides(client, origin):
    count = origin.count
    for number in range(5):
        assert client.ask(f"/echo/{number}").get(b"x-line") == b"GET /echo/%d HTTP/1.1" % number
    assert origin.count <= count + 1


def test_a_body_goes_both_ways(client):
    for size in (0, 1, 70_000, 3 * MIB):
        body = noise(size)
        assert client.ask("/echo", "POST", body).body == body


def test_a_chunked_body_goes_both_ways_with_its_trailers(client, origin):
    raw = request("/echo/trailers", "POST", transfer_encoding="chunked", trailer="X-Sum")
    client.send(raw + chunked(b"one", b"two", trailers=b"X-Sum: 9\r\nHost: evil\r\nX-Forwarded-For: 1.2.3.4\r\n"))
    answer = client.read()
    got = origin.got[-1]
    assert answer.body == got.body == b"onetwo"
    assert got.trailers == [(b"x-sum", b"9")]
    assert got.get(b"transfer-encoding") == b"chunked"
    answer = client.ask("/chunks")
    assert (answer.body, answer.trailers) == (b"firstsecond", [(b"x-sum", b"7")])
    assert answer.get(b"trailer") == b"X-Sum"


def test_chunks_that_come_byte_by_byte_are_understood(client):
    body = request("/echo", "PUT", transfer_encoding="chunked") + chunked(b"a", b"bc" * 20, trailers=b"X-A: b\r\n")
    for at in range(len(body)):
        client.send(body[at : at + 1])
    assert client.read().body == b"a" + b"bc" * 20


def test_large_answers_pass_whole_past_a_client_that_dawdles(client):
    for path, size in (("/big", 8 * MIB), ("/big-chunks", 3 * MIB)):
        client.send(request(path))
        head = client.sock.recv(100, socket.MSG_PEEK)
        assert head.startswith(b"HTTP/1.1 200")
        assert hashlib.sha1(client.read().body).digest() == hashlib.sha1(noise(size)).digest()


def test_answers_without_a_body_have_none(client):
    assert client.ask("/echo", "HEAD").get(b"content-length") == b"0"
    answer = client.ask("/no-content")
    assert (answer.status, answer.get(b"x-a"), answer.get(b"content-length")) == (204, b"b", None)
    answer = client.ask("/not-modified")
    assert (answer.status, answer.get(b"content-length")) == (304, b"100")
    assert client.ask("/echo").status == 200


def test_an_answer_that_ends_with_its_connection_is_sent_in_chunks(client):
    answer = client.ask("/until-close")
    assert (answer.body, answer.get(b"transfer-encoding")) == (b"all that there is", b"chunked")
    assert client.ask("/old").body == b"old"


def test_a_client_of_http_1_0_is_served_by_its_rules(shared):
    with Client(shared.connect(":0")) as client:
        client.send(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = client.read()
        assert answer.get(b"connection") == b"keep-alive"
        client.send(b"GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = client.read()
        assert (answer.body, answer.get(b"transfer-encoding")) == (b"firstsecond", None)
        assert (answer.get(b"connection"), client.ended) == (b"close", True)
    with Client(shared.connect(":0")) as client:
        client.send(b"GET /echo HTTP/1.0\r\n\r\n")
        assert (client.read().get(b"connection"), client.ended) == (b"close", True)


def test_pipelined_requests_are_answered_in_their_order(client):
    post = request("/echo", "POST", b"body")
    client.send(b"".join(request(f"/echo/{n}") + post for n in range(20)))
    for number in range(20):
        assert client.read().get(b"x-line") == b"GET /echo/%d HTTP/1.1" % number
        assert client.read().body == b"body"


def test_a_client_that_says_its_last_word_is_answered_still(client):
    client.send(request("/echo/last"))
    client.sock.shutdown(socket.SHUT_WR)
    assert client.read().status == 200
    assert client.ended


def test_close_is_kept_to(client):
    assert client.ask("/echo", connection="close").get(b"connection") == b"close"
    assert client.ended


def test_what_is_for_one_connection_only_is_not_passed_on(client):
    answer = client.ask(
        "/echo",
        connection="keep-alive, X-Mine, Content-Length",
        keep_alive="timeout=5",
        x_mine="secret",
        proxy_authorization="Basic x",
        proxy_connection="keep-alive",
        te="gzip",
        x_other="stays",
    )
    got = (answer.get(b"x-got") or b"").split(b", ")
    assert b"x-other=stays" in got
    names = {each.partition(b"=")[0] for each in got}
    assert not names & {b"connection", b"keep-alive", b"x-mine", b"proxy-authorization", b"proxy-connection", b"te"}


def test_the_upstream_is_told_whom_a_request_is_from(client, origin, shared):
    client.ask("/echo", x_forwarded_for="6.6.6.6", forwarded="for=6.6.6.6", x_real_ip="6.6.6.6")
    got = origin.got[-1]
    assert got.get(b"x-forwarded-for") == b"127.0.0.1"
    assert got.get(b"x-forwarded-proto") == b"http"
    assert got.get(b"x-forwarded-host") == b"client.test"
    assert got.get(b"x-forwarded-port") == str(shared.listens_at(":0")).encode()
    assert (got.get(b"forwarded"), got.get(b"x-real-ip")) == (None, None)
    assert got.get(b"host") == origin.address.encode()


def test_a_request_has_an_id_and_traces_pass(client, origin, shared, log):
    client.ask("/echo/id", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", tracestate="a=b")
    got = origin.got[-1]
    made = got.get(b"x-request-id")
    assert made
    assert len(made) == 32
    assert (got.get(b"traceparent") or b"").startswith(b"00-4bf9")
    assert got.get(b"tracestate") == b"a=b"
    assert record(shared, log, "/echo/id")["request_id"] == made.decode()
    client.ask("/echo", x_request_id="mine-1")
    assert origin.got[-1].get(b"x-request-id") == b"mine-1"


def test_the_access_log_tells_of_each_request_without_its_query(client, shared, log, origin):
    client.ask("/echo/log?token=secret", "POST", b"12345")
    said = record(shared, log, "/echo/log")
    assert said["duration_seconds"] >= said["upstream_seconds"] > 0
    fixed = ("listener", "client", "method", "status", "received_bytes", "sent_bytes", "upstream", "address", "tries")
    assert [said[name] for name in (*fixed, "rule", "why", "user")] == [
        ":0", f"127.0.0.1:{client.sock.getsockname()[1]}", "POST", 200, 5, 5, "origin", origin.address, 1, None,
        "", None,
    ]  # fmt: skip
    assert "secret" not in log.read_text()


# Streams


def test_what_comes_is_passed_on_at_once(client, services):
    client.send(request("/events"))
    assert b"text/event-stream" in client.file.readline() + b"".join(iter(client.file.readline, b"\r\n"))
    assert client.file.readline() == b"9\r\n"
    assert client.file.read(11) == b"data: 1\n\n\r\n"
    services.go.set()
    assert client.file.readline() == b"9\r\n"
    assert client.file.read(11 + 5) == b"data: 2\n\n\r\n0\r\n\r\n"


def test_a_body_is_passed_on_before_it_is_whole():
    first = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            while file.readline() != b"\r\n":
                pass
            assert file.read(5) == b"first"
            first.set()
            rest = file.read(6)
            connection.sendall(response(200, rest))

    with (
        Upstream(serve) as upstream,
        running(f":0=http://{upstream.address}") as ambassador,
        Client(ambassador.connect()) as client,
    ):
        client.send(request("/", "POST", content_length="11") + b"first")
        assert first.wait(30)
        client.send(b"second")
        assert client.read().body == b"second"


def test_nothing_is_read_that_the_upstream_does_not_take():
    read = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            while file.readline() != b"\r\n":
                pass
            assert read.wait(30)
            size = len(file.read(20 * MIB))
            connection.sendall(response(200, b"%d" % size))

    with (
        Upstream(serve) as upstream,
        running(f":0=http://{upstream.address}") as ambassador,
        Client(ambassador.connect()) as client,
    ):
        client.sock.setblocking(False)
        data = request("/", "PUT", content_length=str(20 * MIB)) + bytes(20 * MIB)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            for _ in range(10**6):
                sent += client.sock.send(data[sent : sent + MIB])
        assert sent < 16 * MIB
        assert ambassador.memory < 60
        read.set()
        client.sock.setblocking(True)
        client.sock.settimeout(30)
        client.send(data[sent:])
        assert client.read().body == b"%d" % (20 * MIB)


def test_hints_are_passed_on(client):
    client.send(request("/hints"))
    hints = client.read()
    assert (hints.status, hints.get(b"link")) == (103, b"</a>")
    assert client.read().body == b"then"
    client.send(b"GET /hints HTTP/1.0\r\n\r\n")
    assert client.read().body == b"then"


# 100 (Continue)


def continuing(answers: list[bytes], read: bool = True) -> Any:
    """A server that says each of these once the head is there, and reads the body after the first."""

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            head = b"".join(iter(file.readline, b"\r\n"))
            assert b"100-continue" in head
            connection.sendall(answers[0])
            if read:
                assert file.read(4) == b"body"
                connection.sendall(answers[1])
            connection.recv(1)

    return Upstream(serve)


def test_an_upstream_says_continue_or_its_answer():
    said = [b"HTTP/1.1 100 Continue\r\n\r\n", response(200, b"taken")]
    with continuing(said) as upstream, running(f":0=http://{upstream.address}") as ambassador:
        with Client(ambassador.connect()) as client:
            client.send(request("/", "POST", expect="100-continue", content_length="4"))
            assert client.read().status == 100
            client.send(b"body")
            assert client.read().body == b"taken"
        assert ambassador.sum("http_in_flight") == 0


def test_an_early_answer_is_passed_on_and_the_connection_closed():
    with (
        continuing([response(401, b"no")], read=False) as upstream,
        running(f":0=http://{upstream.address}") as ambassador,
        Client(ambassador.connect()) as client,
    ):
        client.send(request("/", "POST", expect="100-continue", content_length="4"))
        answer = client.read()
        assert (answer.status, answer.get(b"connection"), answer.body) == (401, b"close", b"no")
        assert client.ended


def test_an_upstream_that_does_not_want_the_rest_of_a_body_is_heard():
    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(response(413, b"enough", b"Connection: close"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with (
        Upstream(serve) as upstream,
        running(f":0=http://{upstream.address}") as ambassador,
        Client(ambassador.connect()) as client,
    ):
        client.send(request("/", "PUT", content_length=str(100 * MIB)) + bytes(MIB))
        answer = client.read()
        assert (answer.status, answer.body, answer.get(b"connection")) == (413, b"enough", b"close")
        assert client.ended


def test_who_waits_in_vain_for_continue_is_told_it(client):
    client.send(request("/echo", "POST", expect="100-continue", content_length="4"))
    assert client.read().status == 100
    client.send(b"body")
    assert client.read().body == b"body"
    client.send(request("/echo", "POST", expect="something", content_length="4") + b"body")
    assert client.read().status == 417


# Upstreams that fail


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/reset", 502, "upstream_reset"),
        ("/nonsense", 502, "bad_response"),
        ("/both-lengths", 502, "bad_response"),
    ],
)
def test_an_upstream_that_does_not_answer_is_a_502(client, shared, log, path, status, why):
    answer = client.ask(path)
    assert answer.status == status
    assert answer.get(b"content-type") == b"text/plain; charset=utf-8"
    assert answer.get(b"x-request-id")
    assert record(shared, log, path)["why"] == why
    assert client.ask("/echo").status == 200


@pytest.mark.parametrize("path", ["/short", "/short-chunks"])
def test_an_answer_that_breaks_off_breaks_off_for_the_client(client, shared, log, path):
    client.send(request(path))
    with pytest.raises((EOFError, ValueError)):
        client.read()
    assert record(shared, log, path)["why"] == "upstream_closed"


def test_what_only_its_end_would_end_is_reset_when_it_breaks_off(shared, services):
    with Client(shared.connect(":0")) as client:
        client.send(b"GET /reset-midway HTTP/1.0\r\n\r\n")
        assert b"".join(iter(client.file.readline, b"\r\n"))
        assert client.file.read(4) == b"some"
        services.seen.set()
        with pytest.raises(ConnectionResetError):
            client.file.read(1)


def test_what_is_too_much_is_left_out_and_the_connection_closed(client, origin):
    count = origin.count
    for _ in range(3):
        assert client.ask("/long").body == b"long"
    assert client.ask("/echo").status == 200
    assert origin.count >= count + 3


def test_an_upstream_that_never_answers_is_a_504(shared, log, services):
    with to(shared, log, "patient") as client:
        answer = client.ask("/never/patient")
        assert (answer.status, services.over.wait(30)) == (504, True)
        assert record(shared, log, "/never/patient")["why"] == "try_timeout"
        assert client.ask("/echo").status == 200


def test_an_answer_that_stands_still_breaks_off(shared, log, services):
    with to(shared, log, "streams") as client:
        client.send(request("/events/still"))
        with pytest.raises((EOFError, ValueError)):
            client.read()
    services.go.set()
    assert record(shared, log, "/events/still")["why"] == "timeout"


def test_a_client_that_goes_takes_its_request_along(shared, log, services):
    client = Client(shared.connect(":0"))
    client.send(request("/never/gone"))
    assert services.seen.wait(30)
    client.file.close()
    reset(client.sock)
    assert services.over.wait(30)
    said = record(shared, log, "/never/gone")
    assert (said["status"], said["why"]) == (None, "client_gone")


# Clients that fail


@pytest.mark.parametrize(
    ("raw", "status", "rule"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version"),
        (b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "unknown"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "method"),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "malformed"),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "unknown"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400, "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400, "malformed"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "url_size"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X:\r\n" * 300 + b"\r\n", 431, "head_size"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: %b\r\n" % (b"a" * 1000) * 70 + b"\r\n", 431, "head_size"),
    ],
)
def test_what_cannot_be_understood_is_refused(client, shared, raw, status, rule):
    before = shared.sum("http_refused_total", listener=":0", rule=rule)
    client.send(raw)
    answer = client.read()
    assert answer.status == status
    assert shared.sum("http_refused_total", listener=":0", rule=rule) == before + 1
    if rule not in ("method", "url_size") or b"CONNECT" in raw:
        assert client.ended


def test_an_absolute_target_becomes_a_path(client, origin):
    client.send(b"GET http://Client.Test?a=b HTTP/1.1\r\nHost: client.test\r\n\r\n")
    assert client.read().get(b"x-line") == b"GET /?a=b HTTP/1.1"


def test_a_slow_head_is_answered_408_and_an_idle_client_let_go(shared, log):
    with to(shared, log, "strict") as client:
        client.send(b"GET / HTTP/1.1\r\nHos")
        answer = client.read()
        assert (answer.status, answer.get(b"connection"), client.ended) == (408, b"close", True)
    with to(shared, log, "strict") as client:
        assert client.ask("/echo").status == 200
        assert client.ended


def test_a_body_that_stands_still_is_answered_408(shared, log):
    with to(shared, log, "strict") as client:
        client.send(request("/echo/slow", "POST", content_length="10") + b"12345")
        answer = client.read()
        assert (answer.status, client.ended) == (408, True)
    assert record(shared, log, "/echo/slow")["why"] == "body_timeout"


def test_a_body_that_is_too_large_is_answered_413(shared, log):
    with to(shared, log, "strict") as client:
        assert client.ask("/echo", "POST", bytes(1000)).status == 200
        client.send(request("/echo", "POST", content_length="1001"))
        assert client.read().status == 413
    with to(shared, log, "strict") as client:
        client.send(request("/echo", "POST", transfer_encoding="chunked") + chunked(bytes(600), bytes(600)))
        assert (client.read().status, client.ended) == (413, True)


# Upgrades


def test_a_websocket_passes_both_ways(client, services, shared, log):
    key = base64.b64encode(os.urandom(16)).decode()

    client.send(request("/websocket", connection="Upgrade", upgrade="websocket", sec_websocket_key=key) + b"early")
    answer = client.read()
    assert (answer.status, answer.get(b"upgrade"), answer.get(b"sec-x")) == (101, b"websocket", key.encode())
    assert client.file.read(10) == b"helloEARLY"
    client.send(b"more" * 50_000)
    assert client.file.read(200_000) == b"MORE" * 50_000
    client.sock.shutdown(socket.SHUT_WR)
    assert client.ended
    said = record(shared, log, "/websocket")
    assert [said[name] for name in ("status", "received_bytes", "sent_bytes", "why")] == [101, 200_005, 200_010, ""]


def test_an_upgrade_that_is_not_wanted_is_an_answer_like_others(client, origin):
    answer = client.ask("/echo", connection="Upgrade", upgrade="websocket")
    assert answer.status == 200
    assert client.ask("/echo", connection="Upgrade, HTTP2-Settings", upgrade="h2c", http2_settings="AAMA").status == 200
    assert (origin.got[-1].get(b"upgrade"), origin.got[-1].get(b"http2-settings")) == (None, None)
    assert client.ask("/echo", "POST", b"body", connection="Upgrade, HTTP2-Settings", upgrade="h2c").body == b"body"


# Retries


@pytest.mark.parametrize("failure", [None, response(503, b"later"), response(502, b"no", b"Retry-After: 0")])
def test_what_may_be_made_twice_is_tried_again(shared, log, failing, failure):
    before = failing.fail(2, failure)
    with to(shared, log, "retried") as client:
        answer = client.ask("/", "PUT", b"body")
        assert (answer.status, answer.body) == (200, b"PUT body")
    assert len(failing.got) == before + 3


def test_retries_are_counted_and_so_is_their_budget(shared, log, failing):
    counted = {"listener": str(log.parent / "counted.sock")}
    assert shared.sum("http_retry_budget", **counted) == 30
    failing.fail(2)
    with to(shared, log, "counted") as client:
        assert client.ask("/counted").status == 200
        assert client.ask("/counted").status == 200
    assert shared.sum("http_retries_total", **counted) == 2
    assert shared.sum("http_retries_denied_total", **counted) == 0
    assert record(shared, log, "/counted")["tries"] in (1, 3)


@pytest.mark.parametrize("failure", [None, response(503, b"later")])
def test_a_post_is_never_sent_twice(shared, log, failing, failure):
    before = failing.fail(1, failure)
    with to(shared, log, "retried") as client:
        assert client.ask("/", "POST", b"body").status == (502 if failure is None else 503)
    assert len(failing.got) == before + 1


def test_another_upstream_is_tried_when_one_cannot_be_connected_to(shared, log):
    with to(shared, log, "half") as client:
        for _ in range(4):
            assert client.ask("/echo", "POST", b"").status == 200
    half = str(log.parent / "half.sock")
    assert shared.sum("http_retries_total", listener=half, reason="connect_failed") >= 1


def test_who_cannot_be_connected_to_is_a_502(shared, log):
    with to(shared, log, "dead") as client:
        assert client.ask("/dead").status == 502
    said = record(shared, log, "/dead")
    assert (said["why"], said["tries"], said["rule"]) == ("connect_failed", 3, None)


def test_a_body_that_is_not_held_any_more_is_not_sent_again(shared, log, failing):
    failing.fail(1)
    with to(shared, log, "buffered") as client:
        assert client.ask("/", "PUT", bytes(1001)).status == 502
        failing.fail(1)
        assert client.ask("/", "PUT", bytes(1000)).status == 200
    buffered = str(log.parent / "buffered.sock")
    assert shared.sum("http_retries_denied_total", listener=buffered, reason="body") == 1


def test_the_budget_ends_retries(shared, log, failing):
    before = failing.fail(10**6, response(503))
    with to(shared, log, "budgeted") as client:
        for _ in range(5):
            assert client.ask().status == 503
    assert len(failing.got) == before + 5 + 3
    budgeted = str(log.parent / "budgeted.sock")
    assert shared.sum("http_retries_denied_total", listener=budgeted, reason="budget") >= 3


def test_retry_after_is_kept_to_or_passed_on(shared, log, failing):
    with to(shared, log, "retried") as client:
        failing.fail(1, response(503, b"", b"Retry-After: 1"))
        began = time.monotonic()
        assert client.ask().status == 200
        assert time.monotonic() - began >= 1
        failing.fail(1, response(503, b"wait", b"Retry-After: 2"))
        answer = client.ask()
        assert (answer.status, answer.get(b"retry-after"), answer.body) == (503, b"2", b"wait")


def test_a_connection_that_has_ended_meanwhile_costs_nobody_a_request(tmp_path):
    """The server closes each connection after its answer, without saying so."""

    def serve(got: Got, connection: socket.socket) -> None:
        connection.sendall(response(200, b"once"))
        connection.shutdown(socket.SHUT_WR)

    with (
        Origin(serve) as server,
        running(f":0=http://{server.address}") as ambassador,
        Client(ambassador.connect()) as client,
    ):
        for number in range(20):
            assert client.ask(f"/{number}").body == b"once"


def test_an_upstream_that_answers_503_is_left_out(tmp_path):
    listener = {"listen": ":0", "http": {}, "eject": {"failures": 2, "time": "60s"}}
    with Failing() as bad, Origin() as good:
        bad.fail(10**6, response(503))
        upstreams = [{"address": bad.address}, {"address": good.address}]
        with (
            running(configured(tmp_path / "c.json", {**listener, "upstreams": upstreams})) as ambassador,
            Client(ambassador.connect()) as client,
        ):
            for _ in range(6):
                assert client.ask().status == 200
            ambassador.until(lambda: "ejected" in {each["state"] for each in ambassador.upstreams()})
            count = len(bad.got)
            for _ in range(6):
                assert client.ask().status == 200
            assert len(bad.got) == count


# Limits


def test_the_circuit_breaker_answers_503(shared, log, services):
    with to(shared, log, "narrow") as one, to(shared, log, "narrow") as two:
        one.send(request("/held"))
        assert services.seen.wait(30)
        answer = two.ask("/echo/breaker")
        assert (answer.status, answer.get(b"retry-after")) == (503, b"1")
        assert record(shared, log, "/echo/breaker")["rule"] == "overflow"
        services.go.set()
        assert one.read().body == b"held"
        assert two.ask("/echo").status == 200


def test_requests_wait_for_a_place_at_the_upstream(shared, log, services):
    with to(shared, log, "places") as one, to(shared, log, "places") as two:
        one.send(request("/held"))
        assert services.seen.wait(30)
        assert two.ask("/echo").status == 503
        two.send(request("/echo/waits"))
        services.go.set()
        assert one.read().body == b"held"
        assert two.read().get(b"x-line") == b"GET /echo/waits HTTP/1.1"


# Connections to upstreams


def idle(ambassador: Ambassador, count: int, **labels: str) -> None:
    ambassador.until(lambda: ambassador.sum("http_idle_connections", **labels) == count)


def test_connections_that_wait_are_let_go_in_time_and_no_more_are_kept_than_may_be(shared, log, services):
    pool = {"listener": str(log.parent / "pool.sock")}
    with contextlib.ExitStack() as clients:
        several = [clients.enter_context(to(shared, log, "pool")) for _ in range(3)]
        for each in several:
            each.send(request("/held"))
        shared.until(lambda: shared.sum("upstream_connections", **pool) == 3)
        services.go.set()
        for each in several:
            assert each.read().body == b"held"
        assert shared.sum("http_idle_connections", **pool) <= 1
        idle(shared, 0, **pool)
        assert shared.sum("upstream_connections", **pool) == 0


def test_a_connection_is_let_go_before_its_upstream_would_close_it(client, shared, origin):
    count = origin.count
    for number in range(3):
        assert client.ask("/leaving-soon").body == b"soon"
        assert origin.count >= count + number
    idle(shared, 0, listener=":0")


def test_a_connection_that_speaks_unasked_is_closed():
    said = threading.Event()

    def answer(got: Got, connection: socket.socket) -> None:
        connection.sendall(response(200, b"answer"))
        assert said.wait(30)
        connection.sendall(response(200, b"for somebody else"))
        connection.recv(1)

    with (
        Origin(answer) as server,
        running(f":0=http://{server.address}") as ambassador,
        Client(ambassador.connect()) as client,
    ):
        assert client.ask().body == b"answer"
        idle(ambassador, 1)
        said.set()
        idle(ambassador, 0)
        assert client.ask().body == b"answer"


def test_an_upstream_that_is_disabled_loses_its_connections(origin, services):
    with (
        running(f":0=http://{origin.address}", "--admin-post") as ambassador,
        Client(ambassador.connect()) as client,
        Client(ambassador.connect()) as other,
    ):
        assert client.ask("/echo").status == 200
        other.send(request("/held", "POST", b""))
        assert services.seen.wait(30)
        code, text = ambassador.post(f"/upstreams/disable?listener={quote(':0')}&upstream={quote(origin.address)}")
        assert code == 200, text
        assert other.read().status == 502
        assert client.ask("/echo").status == 503
        assert ambassador.sum("upstream_connections") == 0
        services.go.set()


def test_other_settings_hold_for_connections_that_stand(tmp_path, origin):
    path = tmp_path / "c.json"
    listener = {"listen": ":0", "upstreams": [{"address": origin.address}]}
    with running(configured(path, {**listener, "http": {}})) as ambassador, Client(ambassador.connect()) as client:
        assert client.ask("/echo", "DELETE").status == 200
        configured(path, {**listener, "http": {"methods": ["GET"], "host": "other.test"}})
        ambassador.until(lambda: client.ask("/echo", "DELETE").status == 405)
        client.ask("/echo")
        assert origin.got[-1].get(b"host") == b"other.test"


# Other ways to come and go


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def test_tls_and_unix_sockets_carry_the_same(tmp_path, services, files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.good)
    inner = Origin(services)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            inner._converse(secured)
            secured.unwrap()  # without a goodbye it would not be all there is

    with inner, Upstream(serve) as upstream:
        tls = {"ca": files.ca, "server_name": "db.example"}
        near = str(tmp_path / "near.sock")
        listeners = [
            {
                "listen": ":0", "tls": {"cert": files.good}, "http": {},
                "upstreams": [{"address": upstream.address, "tls": tls}],
            },
            {"listen": near, "upstreams": [{"address": inner.address}], "http": {}},
            {"listen": str(tmp_path / "far.sock"), "upstreams": [{"address": near}], "http": {}},
        ]  # fmt: skip
        with running(configured(tmp_path / "c.json", *listeners)) as ambassador:
            there = ssl.create_default_context(cafile=files.ca)
            for listen in (":0", str(tmp_path / "far.sock")):
                sock = ambassador.connect(listen)
                if listen == ":0":
                    sock = there.wrap_socket(sock, server_hostname="db.example")
                with Client(sock) as client:
                    for size in (0, 5, 16384, 100_000, 2 * MIB):
                        assert client.ask("/echo", "PUT", noise(size)).body == noise(size)
                    assert hashlib.sha1(client.ask("/big").body).digest() == hashlib.sha1(noise(8 * MIB)).digest()
                    assert client.ask("/big-chunks").body == noise(3 * MIB)
                    assert client.ask("/until-close").body == b"all that there is"
                    client.send(request("/echo/1") + request("/echo/2", "POST", b"x") + request("/echo/3"))
                    assert [client.read().get(b"x-line") for _ in range(3)] == [
                        b"GET /echo/1 HTTP/1.1", b"POST /echo/2 HTTP/1.1", b"GET /echo/3 HTTP/1.1",
                    ]  # fmt: skip
                    client.send(request("/websocket", connection="Upgrade", upgrade="websocket"))
                    assert client.read().status == 101
                    assert client.file.read(5) == b"hello"
                    for _ in range(3):
                        client.send(b"more" * 20_000)
                        assert client.file.read(80_000) == b"MORE" * 20_000
            assert inner.got[0].get(b"x-forwarded-proto") == b"https"
            assert upstream.count <= 3  # one, and one after each end of a connection


def test_a_body_that_is_signed_is_held_whole_and_not_more(tmp_path, origin):
    secret = tmp_path / "key"
    secret.write_text("secret")
    http = {"credential": {"hmac": {"key_file": str(secret), "style": "body"}}, "signed_body": 1000}
    listener = {"listen": ":0", "upstreams": [{"address": origin.address}], "http": http}
    with running(configured(tmp_path / "c.json", listener)) as ambassador:
        with Client(ambassador.connect()) as client:
            client.send(request("/echo", "POST", transfer_encoding="chunked", expect="100-continue"))
            assert client.read().status == 100
            client.send(chunked(b"hello ", b"world"))
            assert client.read().body == b"hello world"
            got = origin.got[-1]
            wanted = hmac.new(b"secret", b"hello world", "sha256").hexdigest().encode()
            assert got.get(b"x-hub-signature-256") == b"sha256=" + wanted
            assert (got.get(b"content-length"), got.get(b"expect")) == (b"11", None)
            client.send(request("/echo", "POST", content_length="1001"))
            assert client.read().status == 413
        with Client(ambassador.connect()) as client:
            client.send(request("/echo", "POST", transfer_encoding="chunked") + chunked(bytes(1001)))
            assert client.read().status == 413


def test_several_processes_serve(origin):
    with running(f":0=http://{origin.address}", "--workers=2") as ambassador:
        for number in range(8):
            with Client(ambassador.connect()) as client:
                assert client.ask(f"/echo/{number}").status == 200
        ambassador.until(lambda: ambassador.sum("http_requests_total", **{"class": "2xx"}) == 8)


# The program's end


def test_a_drain_ends_idle_connections_and_lets_requests_finish(origin, services):
    route = f":0=http://{origin.address}"
    with running(route, "--drain-close-listeners") as ambassador, contextlib.ExitStack() as clients:
        idle, busy = (clients.enter_context(Client(ambassador.connect())) for _ in range(2))
        assert idle.ask("/echo").status == 200
        busy.send(request("/held"))
        assert services.seen.wait(30)
        ambassador.process.terminate()
        assert idle.ended
        services.go.set()
        answer = busy.read()
        assert (answer.body, answer.get(b"connection"), busy.ended) == (b"held", b"close", True)
        code, _ = ambassador.ended()
        assert code == 0


def test_nothing_is_left_of_a_thousand_connections(origin):
    with running(f":0=http://{origin.address}") as ambassador:

        def batch(count: int) -> None:
            for number in range(count):
                with Client(ambassador.connect()) as client:
                    client.ask("/echo", "POST", bytes(100 * (number % 7)))
                    client.send(request("/echo")[: number % 40])

        batch(200)
        ambassador.until(lambda: ambassador.sum("connections") == 0)
        descriptors, memory = ambassador.descriptors, ambassador.memory
        batch(800)
        ambassador.until(lambda: ambassador.sum("connections") == 0)
        assert ambassador.descriptors <= descriptors + 2
        assert ambassador.memory < memory + 2
        assert ambassador.sum("http_in_flight") == 0
        assert ambassador.sum("http_requests_total", **{"class": "2xx"}) == 1000
        assert psutil.Process(ambassador.pid).num_threads() <= 3
