"""What ambassador promises of every Redis command: its answer, in its place, whatever becomes of shards and others."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from sidecars.ambassador.redis.reading import encoded
from sidecars.ambassador.redis.ring import Node, Ring
from tests.servers.ambassador import Ambassador, Upstream, configured
from tests.servers.redis_server import RedisServer, needs_redis

pytestmark = needs_redis

MIB = 2**20
PATIENCE = 30.0


class Shards:
    """Two shards, an ambassador before them, and which key is on which."""

    def __init__(self, path: Path, one: RedisServer, other: RedisServer, upstream: Any = None, **settings: Any) -> None:
        self.servers = (one, other)
        self.names = ("one", "other")
        upstreams = [{"address": each.path, "name": name} for each, name in zip(self.servers, self.names, strict=True)]
        listener = {"listen": ":0", "upstreams": upstreams, "redis": {}, **settings}
        self.ambassador = Ambassador(configured(path / "ambassador.json", listener))
        self._ring = Ring([Node(name.encode()) for name in self.names], "fnv1a_64", "ketama", None, [True, True])

    def key(self, shard: int, number: int = 0) -> str:
        """A key of a shard."""
        found = (f"key{count}" for count in range(100_000) if self._ring.shard(b"key%d" % count) == shard)
        return next(each for at, each in enumerate(found) if at == number)

    def connect(self) -> socket.socket:
        return self.ambassador.connect()

    def client(self, **options: Any) -> redis.Redis:
        options = {"socket_timeout": PATIENCE, "retry": None, **options}
        return redis.Redis(port=self.ambassador.listens_at(), **options)


@contextlib.contextmanager
def sharded(path: Path, one: RedisServer, other: RedisServer, **settings: Any) -> Iterator[Shards]:
    shards = Shards(path, one, other, **settings)
    with shards.ambassador.ready():
        yield shards


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    with RedisServer() as one, RedisServer() as other:
        yield one, other


@pytest.fixture(scope="module")
def shards(servers: tuple[RedisServer, RedisServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    with sharded(tmp_path_factory.mktemp("ambassador"), *servers) as made:
        yield made


def said(client: socket.socket, data: bytes, size: int) -> bytes:
    """Send something, and give so many bytes of the answer."""
    client.sendall(data)
    return take(client, size)


def take(client: socket.socket, size: int) -> bytes:
    answer = b""
    while len(answer) < size and (piece := client.recv(size - len(answer))):
        answer += piece
    return answer


def line(client: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"\r\n") and (piece := client.recv(1)):
        answer += piece
    return answer


def test_answers_are_the_same_whatever_pieces_the_commands_come_in(shards: Shards) -> None:
    words = [
        [b"SET", b"a", b"1"], [b"get", b"a"], [b"INCR", b"a"], [b"SET", b"b", b"x" * 300], [b"GET", b"b"],
        [b"MSET", b"k1", b"v1", b"k2", b"v2", b"k3", b""], [b"MGET", b"k3", b"none", b"k2", b"k1", b"b"],
        [b"LPUSH", b"a", b"1"], [b"DEL", b"k1", b"k2", b"k3", b"a"], [b"EXISTS", b"k1", b"b", b"b"], [b"PING"],
        [b"NOSUCH"], [b"GET"], [b"ECHO", b"done"],
    ]  # fmt: skip
    data = b"".join(map(encoded, words))
    with shards.connect() as client:
        client.sendall(data)
        answer = b""
        while not answer.endswith(b"$4\r\ndone\r\n"):
            answer += client.recv(65536)
    assert answer.startswith(
        b"+OK\r\n$1\r\n1\r\n:2\r\n+OK\r\n$300\r\n" + b"x" * 300 + b"\r\n+OK\r\n*5\r\n$0\r\n\r\n$-1\r\n"
    )
    assert b"\r\n-WRONGTYPE " in answer and b"\r\n:4\r\n:2\r\n+PONG\r\n-ERR unknown" in answer
    with shards.connect() as client:
        for at in range(len(data)):
            client.sendall(data[at : at + 1])
        assert take(client, len(answer)) == answer


def conversation(number: int) -> tuple[bytes, bytes]:
    """What a client says, with values of all sizes, and the answer it must get."""
    source = random.Random(number)
    values = {b"c%d:%d" % (number, at): source.randbytes(source.choice((0, 3, 99, 100, 101, 3000))) for at in range(10)}
    commands, answers = [], []
    for key, value in values.items():
        commands += [[b"SET", key, value], [b"GET", key]]
        answers += [b"+OK\r\n", b"$%d\r\n%b\r\n" % (len(value), value)]
    commands += [[b"MGET", *values], [b"ECHO", b"%d" % number], [b"UNLINK", *values], [b"GET", next(iter(values))]]
    answers += [b"*10\r\n", *answers[1::2], encoded([b"%d" % number])[4:], b":10\r\n", b"$-1\r\n"]
    return b"".join(map(encoded, commands)), b"".join(answers)


def test_each_of_500_clients_gets_its_own_answers_in_its_order(shards: Shards) -> None:
    wrong, together = [], threading.Barrier(20)

    def some(first: int) -> None:
        with contextlib.ExitStack() as stack:
            clients = [(stack.enter_context(shards.connect()), *conversation(first + at)) for at in range(25)]
            together.wait(PATIENCE)
            for _ in range(2):
                for client, said, _ in clients:
                    client.sendall(said)
                wrong.extend(client for client, _, answer in clients if take(client, len(answer)) != answer)

    threads = [threading.Thread(target=some, args=(first,)) for first in range(0, 500, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken and not wrong


def test_what_is_not_the_protocol_ends_that_client_only(shards: Shards) -> None:
    with shards.connect() as good, shards.connect() as bad:
        assert said(good, b"*1\r\n$4\r\nPING\r\n", 7) == b"+PONG\r\n"
        bad.sendall(encoded([b"SET", b"p", b"1"]) + b"*2\r\n$3\r\nGET\r\n:1\r\n" + encoded([b"SET", b"p", b"2"]))
        answer = b""
        while piece := bad.recv(65536):
            answer += piece
        assert answer == b"+OK\r\n-ERR Protocol error: expected '$', got ':'\r\n"
        assert said(good, encoded([b"GET", b"p"]), 7) == b"$1\r\n1\r\n"


def test_keys_of_several_shards_are_refused_where_one_must_answer(shards: Shards) -> None:
    with shards.client() as client, pytest.raises(redis.ResponseError, match=r"several shards; .* set hash_tag"):
        client.sunion(shards.key(0), shards.key(1))


def test_a_value_larger_than_memory_should_be_passes_through(shards: Shards) -> None:
    size, piece = 120 * MIB, bytes(range(256)) * 4096
    with shards.connect() as client:
        said(client, b"PING\r\n", 7)
        client.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n" % size)
        for _ in range(size // MIB):
            client.sendall(piece)
        client.sendall(b"\r\n" + encoded([b"STRLEN", b"large"]) + encoded([b"GET", b"large"]))
        assert line(client) == b"+OK\r\n"
        assert line(client) == b":%d\r\n" % size
        assert line(client) == b"$%d\r\n" % size
        digest, left = hashlib.sha256(), size
        while left and (data := client.recv(min(left, MIB))):
            digest.update(data)
            left -= len(data)
        assert line(client) == b"\r\n"
        assert said(client, encoded([b"DEL", b"large"]), 4) == b":1\r\n"
    assert digest.digest() == hashlib.sha256(piece * (size // MIB)).digest()
    assert shards.ambassador.memory < 90


def test_large_answers_of_several_shards_come_in_order_and_are_not_held_whole(shards: Shards) -> None:
    keys = [shards.key(0).encode(), shards.key(1).encode()]
    values = [bytes([65 + at]) * 20 * MIB for at in range(2)]
    order = (1, 0, 0, 1)
    with shards.connect() as client:
        for key, value in zip(keys, values, strict=True):
            client.sendall(encoded([b"SET", key, value]))
            assert line(client) == b"+OK\r\n"
        client.sendall(b"".join(encoded([b"GET", keys[at]]) for at in order))
        for at in order:
            assert line(client) == b"$%d\r\n" % len(values[at])
            received = bytearray()
            while len(received) < len(values[at]):
                received += client.recv(min(MIB, len(values[at]) - len(received)))
            assert received == values[at]
            assert line(client) == b"\r\n"
        client.sendall(encoded([b"DEL", *keys]))
        assert line(client) == b":2\r\n"
    assert shards.ambassador.memory < 120


def test_a_client_that_does_not_read_costs_little_and_keeps_nobody_waiting(shards: Shards) -> None:
    key = shards.key(0)
    with shards.client(protocol=2) as client, shards.connect() as deaf:
        client.set(key, b"x" * MIB)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        deaf.settimeout(0.2)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(30):
                deaf.sendall(encoded([b"GET", key.encode()]) * 10)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and shards.ambassador.sum("ended_total", reason="timeout") == 0:
            assert client.get(key) == b"x" * MIB
        assert shards.ambassador.sum("ended_total", reason="timeout") == 1
        client.delete(key)
    assert shards.ambassador.memory < 150


def test_clients_that_come_and_go_leave_nothing_open(shards: Shards) -> None:
    def round_trips(count: int) -> None:
        for number in range(count):
            with shards.connect() as client:
                client.sendall(
                    encoded([b"SET", b"leak%d" % (number % 9), b"1"]) + (b"*3\r\n$3\r\nSET" if number % 2 else b"")
                )
                if number % 3:
                    assert client.recv(100) == b"+OK\r\n"

    def descriptors() -> int:
        shards.ambassador.until(lambda: shards.ambassador.sum("connections") == 0)
        return shards.ambassador.descriptors

    round_trips(20)
    before = descriptors()
    round_trips(1000)
    assert descriptors() <= before + 1


def test_a_shard_that_stalls_fails_its_commands_in_time_and_no_others(tmp_path: Path) -> None:
    with RedisServer() as one, RedisServer() as other:
        settings = {"redis": {"timeout": "0.3s", "on_failure": "fail"}, "eject": {"failures": 0}}
        with sharded(tmp_path, one, other, **settings) as shards, shards.client() as client, shards.client() as beside:
            stalls, answers = shards.key(0), shards.key(1)
            client.set(stalls, 1)
            os.kill(one.process.pid, signal.SIGSTOP)
            pipeline = client.pipeline(transaction=False)
            pipeline.incr(stalls)
            pipeline.set(answers, "2")
            assert beside.get(answers) is None
            late, well = pipeline.execute(raise_on_error=False)
            assert (str(late), well) == ("Connection timed out", True)
            os.kill(one.process.pid, signal.SIGCONT)
            assert shards.ambassador.sum("upstream_failures_total", upstream="one", reason="timeout") >= 1
            assert client.get(stalls) in (b"1", b"2")


def test_a_shard_killed_under_load_takes_no_other_s_keys_along_and_returns(tmp_path: Path) -> None:
    with RedisServer() as one, RedisServer() as other:
        settings = {
            "redis": {"timeout": "5s", "on_failure": "fail"},
            "eject": {"failures": 1, "time": "0.2s", "max_time": "0.3s", "max_share": 100},
        }
        with sharded(tmp_path, one, other, **settings) as shards:
            doomed, safe = shards.key(0), shards.key(1)
            stop, wrong, errors, done = threading.Event(), [], [], []

            def load(number: int) -> None:
                with shards.client() as client:
                    count = 0
                    while not stop.is_set():
                        count += 1
                        pipeline = client.pipeline(transaction=False)
                        pipeline.set(doomed, "x")
                        pipeline.set(safe, f"{number}:{count}")
                        pipeline.get(doomed)
                        pipeline.getset(safe, f"{number}:{count}")
                        answers = pipeline.execute(raise_on_error=False)
                        errors.extend(
                            str(answer) for answer in (answers[0], answers[2]) if isinstance(answer, Exception)
                        )
                        if answers[1] is not True or not isinstance(answers[3], bytes):
                            wrong.append(answers)
                    done.append(count)

            threads = [threading.Thread(target=load, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            try:
                shards.ambassador.until(
                    lambda: shards.ambassador.sum("redis_upstream_responses_total", upstream="one") > 50
                )
                one.kill()
                shards.ambassador.until(lambda: shards.ambassador.sum("ejections_total", upstream="one") > 0)
                shards.ambassador.until(lambda: len(errors) > 20)
                one.restart()
                with shards.client() as client:
                    shards.ambassador.until(lambda: answered(client, doomed))
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            assert not wrong and len(done) == 8
            assert set(errors) <= {"Connection refused", "Connection reset by peer", "Host is down"}


def answered(client: redis.Redis, key: str) -> bool:
    with contextlib.suppress(redis.ResponseError):
        return client.set(key, "back") is True
    return False


def test_the_keys_of_a_shard_that_is_left_out_go_to_the_others_where_that_is_wanted(tmp_path: Path) -> None:
    with RedisServer() as one, RedisServer() as other:
        eject = {"failures": 1, "time": "0.2s", "max_time": "0.2s", "max_share": 100}
        with sharded(tmp_path, one, other, eject=eject) as shards, shards.client() as client:
            key = shards.key(0)
            one.kill()
            shards.ambassador.until(lambda: answered(client, key))
            assert other.client().get(key) == "back"
            one.restart()
            shards.ambassador.until(lambda: answered(client, key) and one.client().get(key) == "back")


def test_a_command_that_was_written_is_never_sent_again() -> None:
    got: list[bytes] = []

    def closes(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            got.append(data)
            if data.count(b"INCR") >= 1:
                return

    with Upstream(closes) as upstream, Ambassador(f":0=redis://{upstream.address}").ready() as ambassador:
        with ambassador.connect() as client:
            command = encoded([b"INCR", b"n"])
            for _ in range(3):
                client.sendall(command)
                assert line(client) == b"-ERR Connection reset by peer\r\n"
        assert b"".join(got) == command * 3


def test_shards_are_logged_in_to_with_what_the_secret_s_file_holds_now(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    account = ["--user", "app", "on", ">first", ">second", "~*", "&*", "+@all", "--user", "default", "off"]
    with RedisServer(*account) as one, RedisServer(*account) as other:
        settings = {"redis": {"user": "app", "password_file": str(secret), "database": 3}, "eject": {"failures": 0}}
        with sharded(tmp_path, one, other, **settings) as shards:
            for protocol in (2, 3):
                with shards.client(protocol=protocol) as client:
                    assert client.set(shards.key(0), protocol)
                    assert one.client(username="app", password="first", db=3).get(shards.key(0)) == str(protocol)
            direct = one.client(username="app", password="second")
            direct.execute_command("ACL", "SETUSER", "app", "<first")
            secret.write_text("second\n")
            direct.client_kill_filter(_type="normal", skipme=True)
            with shards.client() as client:
                shards.ambassador.until(lambda: answered(client, shards.key(0)))
            assert direct.client_list() and direct.ping()


def test_news_of_a_shard_on_a_shared_connection_is_no_reply() -> None:
    def pushes(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            if data.startswith(b"*2\r\n$5\r\nHELLO"):
                connection.sendall(b"%1\r\n+proto\r\n:3\r\n")
            else:
                connection.sendall(b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n$5\r\nvalue\r\n>1\r\n+news\r\n")

    with (
        Upstream(pushes) as upstream,
        Ambassador(f":0=redis://{upstream.address}").ready() as ambassador,
        redis.Redis(port=ambassador.listens_at(), protocol=3, socket_timeout=PATIENCE) as client,
    ):
        assert [client.get("k"), client.get("k")] == [b"value", b"value"]


def test_a_shard_that_does_not_speak_the_protocol_is_let_go() -> None:
    def garbage(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(65536)

    with Upstream(garbage) as upstream, Ambassador(f":0=redis://{upstream.address}").ready() as ambassador:
        with ambassador.connect() as client:
            assert said(client, encoded([b"GET", b"k"]), 4) == b"-ERR"
        ambassador.until(lambda: not psutil_connections(ambassador, upstream))


def psutil_connections(ambassador: Ambassador, upstream: Upstream) -> list[Any]:
    connections = psutil.Process(ambassador.pid).net_connections("tcp")
    return [each for each in connections if each.raddr and each.raddr.port == upstream.port]


def test_a_client_that_has_said_all_gets_all_its_answers(shards: Shards) -> None:
    key = shards.key(1).encode()
    with shards.connect() as client:
        client.sendall(b"SET %b 'two words'\r\nGET %b\r\nPING\r\n" % (key, key) + encoded([b"DEL", key]))
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer == b"+OK\r\n$9\r\ntwo words\r\n+PONG\r\n:1\r\n"


def test_a_shard_in_no_state_to_serve_is_left_out(tmp_path: Path) -> None:
    def loading(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")

    with Upstream(loading) as upstream:
        listener = {
            "listen": ":0", "upstreams": [{"address": upstream.address}], "redis": {"on_failure": "fail"},
            "eject": {"failures": 2, "time": "60s"},
        }  # fmt: skip
        path = configured(tmp_path / "ambassador.json", listener)
        with Ambassador(path).ready() as ambassador, ambassador.connect() as client:
            answers = []
            while not answers or answers[-1].startswith(b"-LOADING"):
                client.sendall(encoded([b"GET", b"k"]))
                answers.append(line(client))
            assert answers[:2] == [b"-LOADING Redis is loading the dataset in memory\r\n"] * 2
            assert answers[-1] == b"-ERR Host is down\r\n"


def test_a_shard_whose_name_has_no_address_is_waited_for_and_then_left_out(
    tmp_path: Path, servers: tuple[RedisServer, RedisServer]
) -> None:
    upstreams = [{"address": servers[0].path}, {"address": "nowhere.invalid:6379"}]
    listener = {"listen": ":0", "upstreams": upstreams, "redis": {}, "connect_timeout": "0.3s"}
    path = configured(tmp_path / "ambassador.json", listener)
    with Ambassador(path).ready() as ambassador, ambassador.connect() as client:
        keys = [b"name%d" % number for number in range(50)]
        client.sendall(b"".join(encoded([b"SET", key, b"1"]) for key in keys))
        assert {line(client) for _ in keys} <= {b"+OK\r\n", b"-ERR Host is down\r\n"}
        client.sendall(b"".join(encoded([b"DEL", key]) for key in keys))
        assert not [answer for answer in (line(client) for _ in keys) if not answer.startswith(b":")]
