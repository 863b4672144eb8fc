"""What a hostile client does to ambassador ends that client at most: others are served meanwhile."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.servers.ambassador import Ambassador, Upstream, exchange, received, running
from tests.servers.redis_server import RedisServer, needs_redis

pytestmark = needs_redis

MIB = 2**20


def encoded(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@pytest.fixture(scope="module")
def ambassador() -> Iterator[Ambassador]:
    with (
        RedisServer() as one,
        RedisServer() as other,
        running(f":0=redis://{one.path},{other.path}?timeout=10s") as ambassador,
    ):
        yield ambassador


@pytest.fixture
def client(ambassador: Ambassador) -> Iterator[socket.socket]:
    with ambassador.connect() as client:
        yield client


def served(ambassador: Ambassador) -> bool:
    """Whether somebody else is."""
    with ambassador.connect() as other:
        other.sendall(encoded(b"PING"))
        return received(other, 7) == b"+PONG\r\n"


def test_very_many_commands_within_multi_before_the_first_key_hold_nobody_up(ambassador, client):
    # The limit of what is kept, and some more: looked at as a whole for each of them, it takes minutes.
    count = MIB // len(encoded(b"PING")) + 10
    client.sendall(encoded(b"MULTI") + encoded(b"PING") * count + encoded(b"EXEC"))
    with client.makefile("rb") as replies:
        assert replies.readline() == b"+OK\r\n"
        answers = [replies.readline() for _ in range(count)]
        assert answers[0] == b"+QUEUED\r\n"
        assert answers[-1].startswith(b"+QUEUED")
        assert any(each.startswith(b"-ERR too many commands without a key") for each in answers)
        assert replies.readline().startswith(b"-EXECABORT")
    assert served(ambassador)


def test_a_key_that_takes_long_to_place_is_refused(ambassador, client):
    key = b"k" * (MIB + 1)
    client.sendall(encoded(b"GET", key) + encoded(b"MGET", b"a", key) + encoded(b"PING"))
    too_long = b"-ERR a key is longer than 1 MiB\r\n"
    assert received(client, 2 * len(too_long) + 7) == 2 * too_long + b"+PONG\r\n"
    client.sendall(encoded(b"SET", key, b"value"))
    assert client.recv(100).startswith(b"-ERR")
    assert served(ambassador)


def test_a_key_of_1_mib_is_served(client):
    key = b"k" * MIB
    client.sendall(encoded(b"SET", key, b"value") + encoded(b"GET", key) + encoded(b"DEL", key, b"other"))
    assert received(client, 5 + 11 + 4) == b"+OK\r\n$5\r\nvalue\r\n:1\r\n"


def test_a_command_for_very_many_keys_is_refused_before_it_has_come(ambassador, client):
    before = ambassador.memory
    client.sendall(b"*1000001\r\n" + encoded(b"MGET", *[b"%018d" % number for number in range(140_000)])[9:])
    assert b"131072 words" in client.recv(200)
    assert served(ambassador)
    assert ambassador.memory - before < 80


def test_halves_of_large_commands_are_bounded_for_all_clients_together(ambassador):
    before, refused = ambassador.memory, 0
    half = b"*3\r\n$4\r\nMGET\r\n$1\r\nk\r\n$60000000\r\n" + bytes(30 * MIB)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            client = stack.enter_context(ambassador.connect())
            try:
                client.sendall(half)
            except ConnectionError:
                refused += 1
        assert refused >= 3
        assert served(ambassador)
        assert ambassador.memory - before < 120


def quoting(connection: socket.socket) -> None:
    """Answer as Redis 5 answers HELLO: it does not know it, and says with what it came."""
    while data := connection.recv(65536):
        connection.sendall(b"-ERR unknown command, with args beginning with: %b\r\n" % data.replace(b"\r\n", b" "))


@pytest.mark.parametrize("greeting", [b"", encoded(b"HELLO", b"3")])
def test_a_password_that_a_shard_quotes_is_told_to_nobody(tmp_path, greeting):
    secret = tmp_path / "password"
    secret.write_text("swordfish")
    with Upstream(quoting) as upstream:
        route = f":0=redis://{upstream.address}?password-file={secret}"
        with running(route, "--log-level=debug") as ambassador, ambassador.connect() as client:
            client.sendall(greeting + encoded(b"GET", b"key"))
            with client.makefile("rb") as replies:
                answer = next(line for line in replies if line.startswith(b"-"))
            told = [answer.decode(), *ambassador.lines, *(ambassador.ask(page)[1] for page in ("/status", "/healthz"))]
            assert not [each for each in told if "swordfish" in each]


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def test_who_takes_all_descriptors_leaves_some_to_the_probes():
    with Upstream() as upstream, contextlib.ExitStack() as stack:
        route = f":0=tcp://{upstream.address}?connect-timeout=30s"
        ambassador = stack.enter_context(running(route, preexec_fn=few_descriptors))
        clients = [stack.enter_context(ambassador.connect()) for _ in range(100)]
        ambassador.wait_for("no descriptors left")
        assert ambassador.ask("/livez")[0] == 200
        assert ambassador.ask("/metrics")[0] == 200
        # As those end that are served, the others are.
        for client in clients:
            assert exchange(client, b"here") == b"here"
            client.close()
