"""Several processes that carry connections, and the parent that keeps them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator

import psutil
import pytest

from tests.servers.ambassador import PATIENCE, Ambassador, Upstream, configured, exchange, received, running


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def several(upstream: Upstream) -> Iterator[Ambassador]:
    """An ambassador with two workers."""
    with running(f":0=tcp://{upstream.address}", "--workers=2", "--grace=10s") as ambassador:
        yield ambassador


def connected(ambassador: Ambassador, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """So many clients, each of which has had an answer."""
    clients = [stack.enter_context(ambassador.connect()) for _ in range(count)]
    for client in clients:
        client.sendall(b"x")
        assert received(client, 1) == b"x"
    return clients


def carriers(ambassador: Ambassador) -> set[int]:
    """The workers that carry connections now."""
    return {row["worker"] for row in ambassador.status()["tables"]["connections"]}


def test_the_connections_are_spread_over_the_workers_and_counted_together(several):
    with contextlib.ExitStack() as stack:
        connected(several, 40, stack)
        assert carriers(several) == {1, 2}
        assert several.sum("connections") == 40
        assert several.sum("connections_total") == 40
        assert several.sum("upstream_connections") == 40
        assert several.sum("received_bytes_total") == 40
        assert several.sum("workers") == 2


def test_a_worker_that_dies_is_said_counted_and_replaced(several):
    with contextlib.ExitStack() as stack:
        clients = connected(several, 20, stack)
        assert several.sum("connections_total") == 20
        victim = several.children()[0]
        os.kill(victim, signal.SIGKILL)
        died = several.wait_for("worker died; another one is started")
        assert died["pid"] == victim
        assert "killed by signal 9" in died["reason"]
        several.until(lambda: several.sum("workers") == 2)
        several.until(lambda: several.ask("/healthz")[0] == 200)
        assert several.sum("worker_deaths_total") == 1
        # What the dead one has counted stays counted; what it had open is not open any more.
        assert several.sum("connections_total") == 20
        alive = several.sum("connections")
        assert 0 < alive < 20
        assert sum(still_served(client) for client in clients) == alive


def still_served(client: socket.socket) -> bool:
    try:
        client.sendall(b"y")
        return received(client, 1) == b"y"
    except OSError:
        return False


def test_what_waits_in_the_sockets_of_a_dead_worker_is_served_by_the_next_one(several):
    """No client is refused: the parent holds the sockets."""
    for pid in several.children():
        os.kill(pid, signal.SIGKILL)
    with contextlib.ExitStack() as stack:
        connected(several, 20, stack)
        assert len(several.said("worker died; another one is started")) == 2


def test_a_worker_that_hangs_holds_up_neither_the_metrics_nor_the_others(several):
    with contextlib.ExitStack() as stack:
        connected(several, 20, stack)
        assert several.sum("connections") == 20
        hung = several.children()[0]
        os.kill(hung, signal.SIGSTOP)
        assert several.sum("connections") == 20
        status, reasons = several.ask("/healthz")
        assert status == 503
        assert "does not answer" in reasons
        assert several.ask("/livez")[0] == 200
        os.kill(hung, signal.SIGCONT)
        several.until(lambda: several.sum("workers") == 2 and several.ask("/healthz")[0] == 200)


def test_the_workers_end_when_the_parent_is_killed(several):
    workers = [psutil.Process(pid) for pid in several.children()]
    assert len(workers) == 2
    several.process.kill()
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    assert len(gone) == 2


def test_the_workers_end_with_the_program_and_none_is_left_as_a_zombie(several):
    workers = [psutil.Process(pid) for pid in several.children()]
    several.send(signal.SIGTERM)
    assert several.ended()[0] == 0
    assert not any(each.is_running() for each in workers)


def test_a_grace_that_runs_out_while_the_workers_are_ended_leaves_none_behind(upstream):
    # A worker that hangs takes the drain a second, and the end after it nearly another: the deadline falls into that.
    arguments = (f":0=tcp://{upstream.address}", "--workers=2", "--drain-close-listeners", "--grace=1500ms")
    with running(*arguments) as ambassador:
        hung = psutil.Process(ambassador.children()[0])
        hung.suspend()
        try:
            ambassador.send(signal.SIGTERM)
            _, alive = psutil.wait_procs([hung], timeout=PATIENCE)
            assert alive == []
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                hung.kill()
        assert ambassador.ended()[0] == 0


def test_workers_share_the_limit_of_connections_and_a_dead_one_gives_its_places_back(upstream, tmp_path):
    listener = {"listen": ":0", "upstreams": [{"address": upstream.address}], "max_connections": 8, "queue": 0}
    with (
        running(configured(tmp_path / "config.json", listener), "--workers=2") as ambassador,
        contextlib.ExitStack() as stack,
    ):
        connected(ambassador, 8, stack)
        with ambassador.connect() as refused:
            assert refused_or_closed(refused)
        assert ambassador.sum("ended_total", reason="refused_full") == 1
        for pid in ambassador.children():
            os.kill(pid, signal.SIGKILL)
        ambassador.until(lambda: ambassador.sum("workers") == 2 and ambassador.sum("worker_deaths_total") == 2)
        connected(ambassador, 8, stack)
        with ambassador.connect() as refused:
            assert refused_or_closed(refused)


def refused_or_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_worker_has_a_place_again_that_another_one_has_given_back(upstream, tmp_path):
    listener = {"listen": ":0", "upstreams": [{"address": upstream.address}], "max_connections": 1}
    with running(configured(tmp_path / "config.json", listener), "--workers=2") as ambassador:
        # Each of these waits until the one before has ended, wherever that was.
        for _ in range(12):
            with ambassador.connect() as client:
                assert exchange(client, b"one at a time") == b"one at a time"
        assert ambassador.sum("ended_total", reason="refused_full") == 0


def test_a_unix_socket_is_shared_by_the_workers(upstream, tmp_path):
    path = str(tmp_path / "socket")
    listener = {"listen": path, "upstreams": [{"address": upstream.address}]}
    with (
        running(configured(tmp_path / "config.json", listener), "--workers=2") as ambassador,
        contextlib.ExitStack() as stack,
    ):
        assert ambassador.address() == path
        connected(ambassador, 10, stack)
        assert ambassador.sum("connections") == 10


def test_the_access_log_has_the_lines_of_every_worker_also_the_last_ones(upstream, tmp_path):
    path = tmp_path / "access.log"
    with running(f":0=tcp://{upstream.address}", "--workers=2", f"--access-log={path}", "--grace=500ms") as ambassador:
        for _ in range(30):
            with ambassador.connect() as client:
                exchange(client, b"x")
        with contextlib.ExitStack() as stack:
            connected(ambassador, 10, stack)
            assert ambassador.sum("connections") == 10
            ambassador.send(signal.SIGTERM)
            assert ambassador.ended()[0] == 1
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 40
    assert sum(each["reason"] == "drained" for each in records) == 10


def test_an_access_log_that_cannot_be_written_is_exit_2(upstream):
    arguments = (f":0=tcp://{upstream.address}", "--workers=2", "--access-log=/nowhere/access.log")
    with Ambassador(*arguments) as ambassador:
        code, events = ambassador.ended()
    assert code == 2
    assert "/nowhere/access.log" in events[-1]["reason"]
