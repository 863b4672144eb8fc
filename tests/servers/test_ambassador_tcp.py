"""What ambassador promises of TCP: every byte, in its order, to whom it is for, and what is limited is limited."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tests.servers.ambassador import Ambassador, Upstream, configured, exchange, naming, received, running
from tests.unit.core.running import free_port

MIB = 2**20


def tcp(upstream: Upstream) -> str:
    return f":0=tcp://{upstream.address}"


def listener(listen: object, *upstreams: Upstream, **settings: Any) -> dict[str, Any]:
    return {"listen": str(listen), "upstreams": [{"address": each.address} for each in upstreams], **settings}


def reset(connection: socket.socket) -> None:
    """Close it so that the other side gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def refusing() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """An address that does not answer: its queue is full, and the kernel drops what comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield "{}:{}".format(*full.getsockname())


class Ended:
    """The access log of an ambassador."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flag = f"--access-log={path}"

    def records(self) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def of(self, ambassador: Ambassador, count: int = 1) -> list[dict[str, Any]]:
        """The records, once there are so many."""
        ambassador.until(lambda: len(self.records()) >= count)
        return self.records()


@pytest.fixture
def ended(tmp_path: Path) -> Ended:
    return Ended(tmp_path / "access.log")


@pytest.fixture
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


# Bytes


def test_what_is_sent_comes_back(echo):
    with running(tcp(echo)) as ambassador:
        for size in (0, 1, 65535, 65536, 65537, 3 * MIB):
            data = random.randbytes(size)
            with ambassador.connect() as client, concurrently(lambda c=client, d=data: send(c, d)):
                assert b"".join(iter(lambda c=client: c.recv(65536), b"")) == data


def send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def concurrently(what: Any) -> Iterator[None]:
    thread = threading.Thread(target=what)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_much_passes_unharmed_both_ways_at_once_past_a_reader_that_dawdles():
    seed = b"".join(number.to_bytes(4) for number in range(2**18))
    sent = 24 * seed
    digests: list[str] = []

    def serve(connection: socket.socket) -> None:
        with concurrently(lambda: send(connection, sent)):
            digest = hashlib.sha1()
            while data := connection.recv(MIB):
                digest.update(data)
            digests.append(digest.hexdigest())

    with Upstream(serve) as upstream, running(tcp(upstream)) as ambassador, ambassador.connect() as client:
        with concurrently(lambda: send(client, sent)):
            digest = hashlib.sha1()
            # Small reads at first: what was read ahead of them has to wait, in a pipe and in a buffer.
            for size in [1000] * 200 + [MIB] * 10**6:
                if not (data := client.recv(size)):
                    break
                digest.update(data)
        ambassador.until(lambda: digests)
    assert digests == [digest.hexdigest()] == [hashlib.sha1(sent).hexdigest()]


def test_the_client_may_end_first_and_be_answered_still():
    def serve(connection: socket.socket) -> None:
        data = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.sendall(b"all of " + data)

    with Upstream(serve) as upstream, running(tcp(upstream)) as ambassador, ambassador.connect() as client:
        assert exchange(client, b"the question") == b"all of the question"


def test_the_upstream_may_end_first_and_be_told_still(tmp_path):
    told: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"goodbye")
        connection.shutdown(socket.SHUT_WR)
        told.append(b"".join(iter(lambda: connection.recv(65536), b"")))

    ended = Ended(tmp_path / "access.log")
    with Upstream(serve) as upstream, running(tcp(upstream), ended.flag) as ambassador:
        with ambassador.connect() as client:
            assert client.recv(100) == b"goodbye"
            assert client.recv(100) == b""
            client.sendall(b"and one thing more")
        record = ended.of(ambassador)[0]
        ambassador.until(lambda: told)
    assert told == [b"and one thing more"]
    assert record["reason"] == "upstream"


class Echoing:
    """A server that sends back what comes, until it is killed with all of its connections."""

    def __init__(self) -> None:
        self.connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._server.close()
        for writer in list(self.connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        self.connections.discard(writer)


async def trickled(port: int, data: bytes, passed: asyncio.Semaphore) -> bytes:
    """Send it in pieces, each once the one before has come back: what has come back of it."""
    got = b""
    with contextlib.suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            for start in range(0, len(data), 5000):
                writer.write(data[start : start + 5000])
                while len(got) < start + 5000:
                    if not (more := await reader.read(5000)):
                        return got
                    got += more
                passed.release()
    return got


def test_no_byte_is_lost_or_mixed_up_among_500_clients_while_upstreams_are_killed():
    """Each client gets the beginning of what it has sent, and nothing of another's; all of it, unless it was cut."""
    data = [random.Random(number).randbytes(30_000) for number in range(500)]

    async def run() -> list[bytes]:
        passed = asyncio.Semaphore(0)
        async with Echoing() as one, Echoing() as two, Echoing() as three:
            with Ambassador(f":0=tcp://{one.address},{two.address},{three.address}") as ambassador:
                await asyncio.to_thread(ambassador.ready)
                port = ambassador.listens_at()
                clients = asyncio.gather(*[trickled(port, each, passed) for each in data])
                for upstream in (one, two):
                    for _ in range(len(data)):
                        await passed.acquire()
                    upstream.kill()
                return await clients

    got = asyncio.run(run())
    assert [number for number, each in enumerate(got) if not data[number].startswith(each)] == []
    assert len(data) // 3 <= sum(each == data[number] for number, each in enumerate(got)) < len(data)


def test_unix_sockets_on_either_side(tmp_path, echo):
    inner, outer = tmp_path / "in.sock", tmp_path / "out.sock"
    config = configured(
        tmp_path / "c.json",
        listener(inner, echo, mode="0600"),
        {"listen": str(outer), "upstreams": [{"address": str(inner)}]},
    )
    with running(config) as ambassador:
        assert inner.stat().st_mode & 0o777 == 0o600
        data = random.randbytes(2 * MIB)
        with ambassador.connect(str(outer)) as client, concurrently(lambda: send(client, data)):
            assert b"".join(iter(lambda: client.recv(65536), b"")) == data


def test_a_socket_file_that_was_left_behind_is_no_hindrance_and_one_in_use_is(tmp_path, echo):
    path = tmp_path / "a.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    config = configured(tmp_path / "c.json", listener(path, echo))
    with running(config) as ambassador, ambassador.connect(str(path)) as client:
        assert exchange(client, b"here") == b"here"
        with Ambassador(config) as second:
            code, events = second.ended()
        assert code == 2
        assert "another program has it" in events[-1]["reason"]


def test_a_reset_of_the_upstream_is_no_end_for_the_client(ended):
    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"the beginning")
        connection.recv(100)
        reset(connection)

    with Upstream(serve) as upstream, running(tcp(upstream), ended.flag) as ambassador:
        with ambassador.connect() as client:
            client.sendall(b"?")
            assert received(client, 13) == b"the beginning"
            client.sendall(b"go on")
            with pytest.raises(ConnectionResetError):
                client.recv(100)
        assert ended.of(ambassador)[0]["reason"] == "upstream_reset"


def test_a_reset_of_the_client_is_no_end_for_the_upstream(ended):
    how: list[object] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        try:
            how.append(connection.recv(100))
        except OSError as error:
            how.append(type(error))

    with Upstream(serve) as upstream, running(tcp(upstream), ended.flag) as ambassador:
        client = ambassador.connect()
        assert client.recv(100) == b"hello"
        reset(client)
        ambassador.until(lambda: how)
        assert ended.of(ambassador)[0]["reason"] == "client_reset"
    assert how == [ConnectionResetError]


def test_a_reader_that_has_died_costs_no_memory():
    stalled = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(0.5)
        try:
            while True:
                connection.sendall(bytes(MIB))
        except TimeoutError:
            stalled.set()
        connection.recv(1)

    with Upstream(serve) as upstream, running(tcp(upstream)) as ambassador:
        before = ambassador.memory
        clients = [ambassador.connect() for _ in range(5)]
        assert stalled.wait(30)
        assert ambassador.memory < before + 4
        for client in clients:
            client.close()


# Why a connection ended


def test_a_record_tells_all_of_a_connection(ended, echo):
    with running(tcp(echo), ended.flag) as ambassador:
        with ambassador.connect() as client:
            address = "{}:{}".format(*client.getsockname())
            assert exchange(client, b"12345") == b"12345"
        record = ended.of(ambassador)[0]
    assert record.pop("time").endswith("Z")
    assert 0 <= record.pop("connect_seconds") <= record.pop("duration_seconds") < 30
    assert record == {
        "listener": ":0", "client": address, "upstream": echo.address, "address": echo.address, "received_bytes": 5,
        "sent_bytes": 5, "reason": "client", "tls_names": [], "retries": 0,
    }  # fmt: skip


@pytest.fixture
def unanswering() -> Iterator[str]:
    with silent() as address:
        yield address


def test_each_end_has_its_reason(tmp_path, ended, echo, unanswering):
    config = configured(
        tmp_path / "c.json",
        listener(tmp_path / "idle", echo, idle_timeout="200ms"),
        listener(tmp_path / "age", echo, max_age="300ms"),
        {"listen": str(tmp_path / "refused"), "upstreams": [{"address": refusing()}]},
        {"listen": str(tmp_path / "retried"), "upstreams": [{"address": refusing()}, {"address": refusing()}]},
        {"listen": str(tmp_path / "silent"), "upstreams": [{"address": unanswering}], "connect_timeout": "100ms"},
    )
    expected = {
        "idle": ("idle", 0),
        "age": ("max_age", 0),
        "refused": ("connect_failed", 0),
        "retried": ("connect_failed", 1),
        "silent": ("connect_failed", 0),
    }
    with running(config, ended.flag) as ambassador:
        for name in expected:
            with ambassador.connect(str(tmp_path / name)) as client:
                assert client.recv(100) == b""
        records = {Path(each["listener"]).name: each for each in ended.of(ambassador, 5)}
        assert {name: (each["reason"], each["retries"]) for name, each in records.items()} == expected
        assert ambassador.sum("ended_total", reason="idle") == 1
        assert ambassador.sum("upstream_failures_total", reason="refused") == 3
        assert ambassador.sum("retries_total") == 1


def test_what_passes_something_is_not_idle(tmp_path, echo):
    path = tmp_path / "a.sock"
    config = configured(tmp_path / "c.json", listener(path, echo, idle_timeout="300ms"))
    with running(config) as ambassador, ambassador.connect(str(path)) as client, ambassador.connect(str(path)) as idle:
        done = threading.Event()

        def talk() -> None:
            while not done.wait(0.02):
                client.sendall(b".")
                assert client.recv(10)

        with concurrently(talk):
            assert idle.recv(1) == b""
            done.set()
        client.sendall(b"here still")
        assert received(client, 10) == b"here still"


# Which upstream


def test_another_upstream_is_tried_when_one_does_not_accept(ended, echo):
    with running(f":0=tcp://{refusing()},{echo.address}", ended.flag) as ambassador:
        for _ in range(4):
            with ambassador.connect() as client:
                assert exchange(client, b"well") == b"well"
        assert {each["reason"] for each in ended.of(ambassador, 4)} == {"client"}
        assert sum(each["retries"] for each in ended.records()) >= 1


def test_upstreams_take_turns():
    names = b""
    with (
        Upstream(naming(b"a")) as a,
        Upstream(naming(b"b")) as b,
        running(f":0=tcp://{a.address},{b.address}") as ambassador,
    ):
        for _ in range(6):
            with ambassador.connect() as client:
                names += exchange(client, b"")
    assert sorted(names) == sorted(b"aaabbb")
    assert names[:2] in (b"ab", b"ba")


# Limits


def test_connections_beyond_the_limit_wait_their_turn_and_cost_no_upstream(tmp_path, echo):
    path = tmp_path / "a.sock"
    config = configured(tmp_path / "c.json", listener(path, echo, max_connections=2, queue_timeout="30s"))
    with running(config) as ambassador:
        clients = [ambassador.connect(str(path)) for _ in range(4)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        assert (clients[0].recv(1), clients[1].recv(1)) == (b"0", b"1")
        ambassador.until(lambda: ambassador.sum("waiting") == 2)
        assert echo.count == 2
        assert ambassador.sum("connections") == 4
        clients[0].close()
        assert clients[2].recv(1) == b"2"
        clients[1].close()
        assert clients[3].recv(1) == b"3"
        clients[2].close()
        clients[3].close()


def test_who_waits_in_vain_is_closed(tmp_path, ended, echo):
    path, other = tmp_path / "a.sock", tmp_path / "b.sock"
    config = configured(
        tmp_path / "c.json",
        listener(path, echo, max_connections=1, queue=1, queue_timeout="200ms"),
        listener(other, echo, rate=0.01, burst=1, queue_timeout="200ms"),
    )
    with running(config, ended.flag) as ambassador:
        with ambassador.connect(str(path)) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            with ambassador.connect(str(path)) as waiting, ambassador.connect(str(path)) as refused:
                assert refused.recv(1) == b""
                assert waiting.recv(1) == b""
        with ambassador.connect(str(other)) as first, ambassador.connect(str(other)) as second:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            assert second.recv(1) == b""
        reasons = [each["reason"] for each in ended.of(ambassador, 5)]
    assert sorted(reasons) == ["client", "client", "refused_full", "refused_full", "refused_rate"]


def test_one_address_gets_no_more_connections_than_it_may_have(tmp_path):
    with Upstream(naming(b"a")) as a, Upstream(naming(b"b")) as b:
        path = tmp_path / "a.sock"
        config = configured(
            tmp_path / "c.json",
            listener(path, a, b, upstream_connections=1, queue_timeout="30s", balance="source-hash"),
        )
        with running(config) as ambassador:
            clients = [ambassador.connect(str(path)) for _ in range(3)]
            names = [client.recv(1) for client in clients[:2]]
            assert sorted(names) == [b"a", b"b"]
            ambassador.until(lambda: ambassador.sum("waiting") == 1)
            clients[0].close()
            assert clients[2].recv(1) == names[0]
            for client in clients:
                client.close()


def test_the_circuit_breaker_refuses_what_would_only_pile_up(tmp_path, ended, unanswering):
    path = tmp_path / "a.sock"
    silent = {"listen": str(path), "upstreams": [{"address": unanswering}], "max_pending": 1, "retries": 0}
    with (
        running(configured(tmp_path / "c.json", silent), ended.flag) as ambassador,
        ambassador.connect(str(path)) as _pending,
        ambassador.connect(str(path)) as refused,
    ):
        assert refused.recv(1) == b""
        assert [each["reason"] for each in ended.of(ambassador)] == ["refused_full"]


def test_no_descriptor_left_is_waited_for(echo):
    with running(tcp(echo)) as ambassador:
        limit = ambassador.descriptors + 20
        process = psutil.Process(ambassador.pid)
        process.rlimit(resource.RLIMIT_NOFILE, (limit, limit))
        clients = [ambassador.connect() for _ in range(40)]
        for client in clients:
            client.sendall(b"x")
        # Those that were let in give way to those that wait.
        for client in clients:
            assert client.recv(1) == b"x"
            client.close()
        with ambassador.connect() as client:
            assert exchange(client, b"again") == b"again"


def test_a_thousand_connections_leave_nothing_behind(echo):
    with running(tcp(echo)) as ambassador:

        def round_of(count: int) -> None:
            for number in range(count):
                client = ambassador.connect()
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                reset(client) if number % 3 == 0 else client.close()
            ambassador.until(lambda: ambassador.sum("connections") == 0)

        round_of(200)
        descriptors, memory = ambassador.descriptors, ambassador.memory
        round_of(1000)
        ambassador.until(lambda: ambassador.descriptors <= descriptors + 1)
        assert ambassador.memory < memory + 2


# The end


def test_a_drain_lets_connections_run_to_their_end(ended, echo):
    with running(tcp(echo), ended.flag) as ambassador, ambassador.connect() as client:
        client.sendall(b"before")
        assert received(client, 6) == b"before"
        ambassador.process.terminate()
        ambassador.wait_for("draining")
        with ambassador.connect() as late:
            assert exchange(late, b"let in still") == b"let in still"
        assert exchange(client, b"after") == b"after"
        client.close()
        assert ambassador.wait() == 0
        assert [each["reason"] for each in ended.records()] == ["client", "client"]


def test_what_is_cut_at_the_end_of_the_grace_is_said(ended, echo):
    with running(tcp(echo), ended.flag, "--grace=300ms") as ambassador, ambassador.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        ambassador.process.terminate()
        assert client.recv(1) == b""
        assert ambassador.wait() == 1
        assert [each["reason"] for each in ended.records()] == ["drained"]


def test_an_upstream_that_is_disabled_loses_its_connections(ended, echo):
    with running(tcp(echo), ended.flag, "--admin-post") as ambassador, ambassador.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        code, text = ambassador.post(f"/upstreams/disable?listener=:0&upstream={echo.address}")
        assert code == 200, text
        assert client.recv(1) == b""
        assert ended.of(ambassador)[0]["reason"] == "operator"
