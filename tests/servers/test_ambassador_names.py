"""Names that change and vanish under a running ambassador; upstreams that are checked, left out, and come back."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.servers.ambassador import Ambassador, Upstream, configured, naming, received, running
from tests.servers.name_server import NameServer

needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="NOT PROVEN HERE: needs redis-server")


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@pytest.fixture
def pair() -> Iterator[tuple[Upstream, Upstream]]:
    """Two upstreams with one port at two addresses, as pods of one Service have it, which name themselves."""
    with contextlib.ExitStack() as stack:
        while True:
            one = stack.enter_context(Upstream(naming(b"2"), "127.0.0.2"))
            with contextlib.suppress(OSError):
                yield one, stack.enter_context(Upstream(naming(b"3"), "127.0.0.3", one.port))
                return


def who(ambassador: Ambassador) -> bytes:
    """Who answers; nobody is empty."""
    with ambassador.connect() as client:
        try:
            return received(client, 1)
        except ConnectionResetError:
            return b""


def served(ambassador: Ambassador, name: bytes) -> socket.socket:
    """A client that this one answers. A worker may hear of it later than another."""
    clients: list[socket.socket] = []

    def answered() -> bool:
        clients.append(ambassador.connect())
        if received(clients[-1], 1) == name:
            return True
        clients.pop().close()
        return False

    ambassador.until(answered)
    return clients[0]


def closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_name_that_is_not_there_yet_is_not_waited_for(server, pair):
    with running(f":0=tcp://db.test:{pair[0].port}", f"--nameserver={server.address}") as ambassador:
        assert who(ambassador) == b""
        ambassador.wait_for("name does not resolve")
        code, text = ambassador.ask("/healthz")
        assert code == 503
        assert "db.test: no such name (asked for db.test." in text
        assert ambassador.ask("/readyz")[0] == 200
        server.set("db.test", "A", "127.0.0.2")
        ambassador.until(lambda: who(ambassador) == b"2")
        assert ambassador.ask("/healthz")[0] == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_to_an_address_that_left_are_closed_and_new_ones_go_to_the_new(server, pair, workers):
    server.set("db.test", "A", "127.0.0.2")
    listen = f":0=tcp://db.test:{pair[0].port}"
    with running(listen, f"--workers={workers}", f"--nameserver={server.address}") as ambassador:
        with served(ambassador, b"2") as client:
            # The upstream has been started again elsewhere, but the old one was not told to end.
            server.set("db.test", "A", "127.0.0.3")
            assert closed(client)
        ambassador.until(lambda: who(ambassador) == b"3")
        assert ambassador.wait_for("upstream draining")["reason"] == "its name has it no more"


def test_connections_stay_where_the_policy_says_so(server, pair, tmp_path):
    server.set("db.test", "A", "127.0.0.2")
    upstreams = [{"address": f"db.test:{pair[0].port}"}]
    config = configured(tmp_path / "c.json", {"listen": ":0", "upstreams": upstreams, "close_removed": False})
    with running(config, f"--nameserver={server.address}") as ambassador, served(ambassador, b"2") as client:
        server.set("db.test", "A", "127.0.0.3")
        ambassador.until(lambda: who(ambassador) == b"3")
        client.sendall(b"still there")
        assert received(client, 11) == b"still there"


def test_a_name_that_vanishes_keeps_its_addresses(server, pair):
    server.set("db.test", "A", "127.0.0.2")
    with running(f":0=tcp://db.test:{pair[0].port}", f"--nameserver={server.address}") as ambassador:
        with served(ambassador, b"2") as client:
            server.remove("db.test")
            assert ambassador.wait_for("name does not resolve")["kept"] == 1
            assert ambassador.sum("resolve_failures_total") >= 1
            client.sendall(b"still there")
            assert received(client, 11) == b"still there"
        assert who(ambassador) == b"2"


def test_an_srv_name_says_the_ports(server, pair):
    server.set("_db._tcp.test", "SRV", f"0 1 {pair[0].port} a.test", f"0 1 {pair[1].port} b.test")
    server.set("a.test", "A", "127.0.0.2")
    server.set("b.test", "A", "127.0.0.3")
    with running(":0=srv://_db._tcp.test", f"--nameserver={server.address}") as ambassador:
        ambassador.until(lambda: ambassador.sum("upstream_up") == 2)
        assert {who(ambassador) for _ in range(2)} == {b"2", b"3"}


def test_a_check_that_fails_closes_connections_and_one_that_succeeds_brings_it_back(pair, tmp_path):
    a, _ = pair
    check = {"tcp": {"expect": "2"}, "interval": "100ms", "fall": 1}
    config = configured(tmp_path / "c.json", {"listen": ":0", "upstreams": [{"address": a.address}], "check": check})
    with running(config) as ambassador, ambassador.connect() as client:
        assert received(client, 1) == b"2"
        a._serve = lambda connection: connection.sendall(b"x")
        assert closed(client)
        assert ambassador.wait_for("upstream down")["reason"] == "did not say what is expected in 1 bytes"
        assert ambassador.ask("/healthz")[0] == 503
        # With no other, it gets the connections nevertheless.
        assert who(ambassador) == b"x"
        a._serve = naming(b"2")
        ambassador.wait_for("upstream up")
        assert ambassador.ask("/healthz")[0] == 200


def test_what_refuses_is_left_out_and_returns(tmp_path, pair):
    _, b = pair
    eject = {"failures": 2, "time": "500ms", "max_time": "500ms"}
    upstreams = [{"address": each.address} for each in pair]
    with running(
        configured(tmp_path / "c.json", {"listen": ":0", "upstreams": upstreams, "eject": eject})
    ) as ambassador:
        assert {who(ambassador) for _ in range(2)} == {b"2", b"3"}
        port = b.port
        b.close()
        # Each client is served by the other one, whatever happens to this.
        while not ambassador.find("upstream ejected"):
            assert who(ambassador) == b"2"
        assert "refused" in ambassador.wait_for("upstream ejected")["reason"]
        assert ambassador.sum("ejections_total", upstream=b.address) >= 1
        with Upstream(naming(b"3"), "127.0.0.3", port):
            ambassador.wait_for("upstream returned")
            ambassador.until(lambda: who(ambassador) == b"3")


def answers(port: int) -> bool:
    import redis

    with redis.Redis(port=port) as client, contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


@needs_redis
def test_a_shard_that_was_killed_returns_once_it_answers(tmp_path):
    import redis

    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        *ports, port = [each.getsockname()[1] for each in found]

    with contextlib.ExitStack() as stack:

        def started(port: int) -> subprocess.Popen[bytes]:
            words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            while not answers(port):
                assert process.poll() is None, "redis-server has ended"
            return process

        shards = [started(port) for port in ports]
        environ = {
            "REDIS_SERVERS": ",".join(f"127.0.0.1:{port}:1" for port in ports), "LISTEN_PORT": str(port),
            "SERVER_RETRY_TIMEOUT": "200", "AMBASSADOR_STATS": "off",
        }  # fmt: skip
        ambassador = stack.enter_context(Ambassador(environ=environ)).ready()
        client = redis.Redis(port=ambassador.listens_at(), socket_timeout=30)
        stack.callback(client.close)
        # fnv1a_64 would give all of key:1, key:2, ... to one shard.
        keys = [hashlib.md5(b"%d" % number).hexdigest() for number in range(50)]

        def all_are_set() -> bool:
            try:
                return all(client.set(key, key) for key in keys)
            except redis.RedisError:
                return False

        ambassador.until(all_are_set)
        shards[0].send_signal(signal.SIGKILL)
        shards[0].wait()
        # What is not answered is answered with an error, and then the other shard has all keys.
        ambassador.until(all_are_set)
        ambassador.wait_for("upstream ejected")
        assert not ambassador.find("upstream returned")
        started(ports[0])
        ambassador.wait_for("upstream returned")
        with redis.Redis(port=ports[0]) as direct:
            ambassador.until(lambda: all_are_set() and direct.dbsize() > 0)
