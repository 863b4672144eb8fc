import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecars.ambassador.allowing import Allowed
from sidecars.ambassador.connection import Connection
from sidecars.ambassador.greeting import Greeting, Ungreeted
from sidecars.ambassador.loop import READ, Loop
from sidecars.ambassador.proxyprotocol import MOST, build
from sidecars.ambassador.settings import ClientTls, Listener, ServerTls, Upstream
from tests.unit.ambassador.certificates import Files

PATIENCE = 30
CLIENT, DIALLED = ("192.0.2.1", 56324), ("198.51.100.1", 443)
V1 = build("v1", CLIENT, DIALLED)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("greeting"))


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    # A unix socket delivers at once: what was sent is there when the other side looks.
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        yield near, far


POSTGRES = ClientTls(starttls="postgres")
SSL_REQUEST, GSS_REQUEST = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)
STARTUP = struct.pack("!II", 15, 3 << 16) + b"user\0a\0"


class Greeted:
    """One connection's greeting."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        timeout: float = PATIENCE,
        allow=(),
        to: ClientTls | None = None,
        **listener,
    ) -> None:
        self.loop = loop
        self.connection = Connection(None, sock, sock.fileno(), ("127.0.0.1", 7), loop.now)
        self.over = loop.create_future()
        self.greeting = Greeting(
            loop,
            self.connection,
            Listener(listen=":1", upstreams=(Upstream(address="db:1", tls=to),), **listener),
            lambda outcome: loop.soon(self.over.set_result, outcome),
            permits=Allowed(allow).permits if allow else None,
            timeout=timeout,
        )

    def end(self) -> Ungreeted | None:
        return self.loop.run_until_complete(asyncio.wait_for(self.over, PATIENCE))

    def after(self, events: float = 0.01) -> bool:
        """Whether it is over, when what has come was looked at."""
        self.loop.run_until_complete(asyncio.sleep(events))
        return self.over.done()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_client_is_whom_the_header_names_and_what_follows_is_left(loop, pair, version) -> None:
    near, far = pair
    near.sendall(build(version, CLIENT, DIALLED) + b"first")
    greeted = Greeted(loop, far, accept_proxy=True)
    assert greeted.end() is None
    assert greeted.connection.peer == CLIENT and greeted.connection.local == DIALLED
    told = loop.create_future()
    loop.watch(far.fileno(), lambda event: event & READ and loop.soon(told.set_result, far.recv(100)))
    assert loop.run_until_complete(asyncio.wait_for(told, PATIENCE)) == b"first"
    loop.forget(far.fileno())


def test_a_header_may_come_byte_by_byte(loop, pair) -> None:
    near, far = pair
    greeted = Greeted(loop, far, accept_proxy=True)
    for byte in V1[:-1]:
        near.sendall(bytes([byte]))
        assert not greeted.after(0)
    near.sendall(V1[-1:])
    assert greeted.end() is None and greeted.connection.peer == CLIENT


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (build("v2", None, None), ("127.0.0.1", 7)),
        (b"PROXY UNKNOWN\r\n", ("127.0.0.1", 7)),
        (build("v2", "/run/a.sock", "/run/b.sock"), None),
    ],
)
def test_a_client_without_an_address_is_the_proxy_itself_or_a_unix_sockets(loop, pair, header, peer) -> None:
    pair[0].sendall(header)
    greeted = Greeted(loop, pair[1], accept_proxy=True)
    assert greeted.end() is None and greeted.connection.peer == peer


@pytest.mark.parametrize(
    ("said", "reason", "detail"),
    [
        (b"GET / HTTP/1.1\r\n", "bad_proxy_header", "begins with b'GET / HTTP/1'"),
        (b"", "client", ""),
        (V1[:-1], "bad_proxy_header", "closed within the PROXY header"),
        (build("v2", CLIENT, DIALLED)[:14] + b"\xff\xff" + bytes(MOST), "bad_proxy_header", "65551 bytes"),
    ],
)
def test_who_says_no_header_is_not_served(loop, pair, said, reason, detail) -> None:
    pair[0].sendall(said)
    pair[0].shutdown(socket.SHUT_WR)
    outcome = Greeted(loop, pair[1], accept_proxy=True).end()
    assert outcome.reason == reason and detail in outcome.detail and bool(detail) == bool(outcome.detail)


@pytest.mark.parametrize(
    ("header", "reason"), [(V1, None), (build("v1", ("203.0.113.1", 1), DIALLED), "refused_allow")]
)
def test_the_allow_list_is_asked_for_the_client_that_is_named(loop, pair, header, reason) -> None:
    pair[0].sendall(header)
    outcome = Greeted(loop, pair[1], accept_proxy=True, allow=("192.0.2.0/24",)).end()
    assert (outcome and outcome.reason) == reason


@pytest.mark.parametrize(("proxy", "what"), [(True, "no PROXY header in time"), (False, "no TLS handshake in time")])
def test_a_silent_client_is_given_up(loop, pair, files, proxy, what) -> None:
    tls = None if proxy else ServerTls(cert=files.good)
    assert Greeted(loop, pair[1], timeout=0.05, accept_proxy=proxy, tls=tls).end() == Ungreeted("timeout", what)


def test_one_timeout_is_for_the_header_and_the_handshake(loop, pair, files) -> None:
    pair[0].sendall(V1)
    greeted = Greeted(loop, pair[1], timeout=0.2, accept_proxy=True, tls=ServerTls(cert=files.good))
    assert greeted.end() == Ungreeted("timeout", "no TLS handshake in time")


def test_tls_follows_the_header(loop, pair, files) -> None:
    near, far = pair
    said: list[bytes] = []

    def speak() -> None:
        near.settimeout(PATIENCE)
        near.sendall(V1)
        context = ssl.create_default_context(cafile=files.ca)
        context.load_cert_chain(files.client)
        with context.wrap_socket(near, server_hostname="db.example") as sock:
            said.append(sock.recv(100))

    thread = threading.Thread(target=speak)
    thread.start()
    greeted = Greeted(loop, far, accept_proxy=True, tls=ServerTls(cert=files.good, client_ca=files.ca))
    assert greeted.end() is None
    connection = greeted.connection
    assert (connection.peer, connection.tls, connection.names) == (CLIENT, True, ("app.example",))
    connection.sock.send(b"welcome")
    connection.sock.shutdown(socket.SHUT_WR)
    thread.join(PATIENCE)
    assert said == [b"welcome"]


def test_files_that_are_of_no_use_fail_the_connection_and_say_it(loop, pair, tmp_path: Path) -> None:
    outcome = Greeted(loop, pair[1], tls=ServerTls(cert=str(tmp_path / "none"))).end()
    assert outcome.reason == "tls_failed" and "none cannot be read" in outcome.detail


@pytest.mark.parametrize("proxy", [True, False])
def test_a_cancelled_greeting_says_nothing(loop, pair, files, proxy) -> None:
    greeted = Greeted(loop, pair[1], accept_proxy=proxy, tls=ServerTls(cert=files.good))
    greeted.greeting.cancel()
    with contextlib.suppress(OSError):
        pair[0].sendall(b"GET / HTTP/1.1\r\n")
    assert not greeted.after()


@pytest.mark.parametrize("requests", [[], [SSL_REQUEST], [GSS_REQUEST], [GSS_REQUEST, SSL_REQUEST]])
@pytest.mark.parametrize("proxy", [True, False])
def test_a_client_of_postgres_is_told_that_there_is_no_tls_on_this_side(loop, pair, requests, proxy) -> None:
    near, far = pair
    near.settimeout(PATIENCE)
    greeted = Greeted(loop, far, accept_proxy=proxy, to=POSTGRES)
    if proxy:
        near.sendall(V1)
    for request in requests:
        near.sendall(request[:5])
        assert not greeted.after(0)
        near.sendall(request[5:])
        assert not greeted.after()
        assert near.recv(10) == b"N"
    near.sendall(STARTUP)
    assert greeted.end() is None
    assert far.recv(100) == STARTUP


@pytest.mark.parametrize(
    ("said", "reason"), [(b"", "client"), (SSL_REQUEST[:6], "client"), (SSL_REQUEST * 3, "protocol")]
)
def test_a_client_that_never_comes_to_the_point_is_let_go(loop, pair, said, reason) -> None:
    pair[0].sendall(said)
    pair[0].shutdown(socket.SHUT_WR)
    assert Greeted(loop, pair[1], to=POSTGRES).end().reason == reason


def test_a_client_of_postgres_that_says_nothing_is_given_up(loop, pair) -> None:
    assert Greeted(loop, pair[1], timeout=0.05, to=POSTGRES).end() == Ungreeted("timeout", "no first message in time")
