"""How ambassador starts, goes on with new settings, and ends: no connection is dropped that need not be."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.ambassador import Ambassador, Upstream, configured, exchange, naming, received, running
from tests.unit.core.running import free_port


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


class Load:
    """Threads that connect, send something, and want all of it back; `failed` is what did not go so."""

    def __init__(self, ambassador: Ambassador, listener: str | None = None, threads: int = 6) -> None:
        self.address = ambassador.address(listener)
        self.done = 0
        self.failed: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for each in self._threads:
            each.start()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join(30)

    def _run(self, number: int) -> None:
        payload = b"%d " % number * 5000
        while not self._over.is_set():
            try:
                with socket.create_connection(self.address, 30) as client:
                    if exchange(client, payload) != payload:
                        self.failed.append("not all came back")
            except OSError as error:
                self.failed.append(repr(error))
            self.done += 1


def until_refused(ambassador: Ambassador, listener: str | None = None) -> None:
    """Connect until that is refused: the last process to close its socket does so a moment later."""
    deadline = time.monotonic() + 30
    with contextlib.suppress(ConnectionRefusedError):
        while time.monotonic() < deadline:
            ambassador.connect(listener).close()
        raise AssertionError("connections are taken still")


def test_what_listens_is_logged_with_its_port_on_both_families(upstream):
    with running(f":0=tcp://{upstream.address}") as ambassador:
        said = [each["address"].rpartition(":") for each in ambassador.said("listening")]
    assert {host for host, _, _ in said} == {"127.0.0.1", "[::1]"}
    assert len({port for _, _, port in said}) == 1


def test_a_taken_port_is_exit_2_before_anything_is_carried(upstream):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Ambassador(f":{port}=tcp://{upstream.address}") as ambassador:
            code, events = ambassador.ended()
    assert code == 2
    assert f":{port}" in events[-1]["reason"]


def test_its_healthcheck_asks_the_door(upstream):
    with running(f":0=tcp://{upstream.address}") as ambassador:
        command = [*ambassador.command, "healthcheck", "readyz"]
        environ = {**os.environ, "AMBASSADOR_ADMIN": f"127.0.0.1:{ambassador.port}"}
        assert subprocess.run(command, env=environ, timeout=30).returncode == 0
        environ["AMBASSADOR_ADMIN"] = f"127.0.0.1:{free_port()}"
        assert subprocess.run(command, env=environ, timeout=30, capture_output=True).returncode != 0


def test_plain_tcp_loads_nothing_that_only_others_need(upstream):
    with running(f":0=tcp://{upstream.address}") as ambassador:
        with ambassador.connect() as client:
            exchange(client, b"x")
        with open(f"/proc/{ambassador.pid}/maps") as maps:
            loaded = maps.read()
        libraries = {"cares", "yaml", "multidict", "aiohttp", "hiredis"}
        assert {each for each in libraries if each in loaded} == set()


def test_an_open_connection_runs_to_its_end_after_sigterm(upstream):
    with running(f":0=tcp://{upstream.address}") as ambassador, ambassador.connect() as client:
        client.sendall(b"before")
        assert received(client, 6) == b"before"
        ambassador.send(signal.SIGTERM)
        ambassador.wait_for("draining")
        assert exchange(client, b"sent after SIGTERM") == b"sent after SIGTERM"
        assert ambassador.ended()[0] == 0


def test_connections_are_taken_while_it_drains(upstream):
    """The application may dial while it shuts down."""
    with running(f":0=tcp://{upstream.address}") as ambassador, ambassador.connect() as first:
        ambassador.send(signal.SIGTERM)
        ambassador.wait_for("draining")
        with ambassador.connect() as client:
            assert exchange(client, b"a late one") == b"a late one"
        first.close()
        assert ambassador.ended()[0] == 0


def test_while_it_drains_it_is_live_and_not_ready(upstream):
    with running(f":0=tcp://{upstream.address}") as ambassador, ambassador.connect():
        ambassador.send(signal.SIGTERM)
        ambassador.wait_for("draining")
        assert ambassador.ask("/readyz")[0] == 503
        assert ambassador.ask("/livez")[0] == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_close_its_listeners_it_takes_no_connection_after_sigterm(upstream, workers):
    with (
        running(f":0=tcp://{upstream.address}", "--drain-close-listeners", f"--workers={workers}") as ambassador,
        ambassador.connect() as client,
    ):
        client.sendall(b"taken")
        assert received(client, 5) == b"taken"
        ambassador.send(signal.SIGTERM)
        until_refused(ambassador)
        assert exchange(client, b"the rest") == b"the rest"
        assert ambassador.ended()[0] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_at_the_end_of_the_grace_what_is_open_is_cut_and_counted(upstream, workers, tmp_path):
    message = tmp_path / "termination"
    message.touch()
    arguments = (f":0=tcp://{upstream.address}", "--grace=500ms", f"--workers={workers}")
    with running(*arguments, termination_log=str(message)) as ambassador:
        clients = [ambassador.connect() for _ in range(3)]
        for each in clients:
            each.sendall(b"x")
            assert received(each, 1) == b"x"
        assert ambassador.sum("connections") == 3
        ambassador.send(signal.SIGTERM)
        code, events = ambassador.ended()
        assert code == 1
        assert events[-1]["reason"] == "3 open connections were cut"
        assert message.read_text() == events[-1]["reason"]
        for each in clients:
            each.close()


def test_a_second_signal_stops_at_once_and_counts_what_is_cut(upstream):
    with running(f":0=tcp://{upstream.address}", "--grace=1h") as ambassador, ambassador.connect() as client:
        client.sendall(b"x")
        assert received(client, 1) == b"x"
        ambassador.send(signal.SIGTERM)
        ambassador.wait_for("draining")
        ambassador.send(signal.SIGTERM)
        code, events = ambassador.ended()
        assert code == 1
        assert events[-1]["reason"] == "1 open connection was cut"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_redis_client_between_two_commands_is_served_to_the_last_and_then_let_go(upstream, workers):
    """A pool of connections that is kept open for ever is no reason to fail."""
    arguments = (f":0=redis://{upstream.address}", "--grace=1s", f"--workers={workers}")
    with running(*arguments) as ambassador, ambassador.connect() as client:
        ambassador.send(signal.SIGTERM)
        ambassador.wait_for("draining")
        client.sendall(b"PING\r\n")
        assert received(client, 7) == b"+PONG\r\n"
        assert received(client, 1) == b""
        assert ambassador.ended()[0] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_under_load_drops_nothing(upstream, workers):
    with running(f":0=tcp://{upstream.address}", f"--workers={workers}") as ambassador:
        with Load(ambassador) as load:
            ambassador.until(lambda: load.done > 100)
            ambassador.send(signal.SIGTERM)
            ambassador.wait_for("draining")
            before = load.done
            ambassador.until(lambda: load.done > before + 200)
        print(f"{load.done} connections, {load.done - before} of them after SIGTERM, {len(load.failed)} failed")
        assert load.failed == []
        assert ambassador.ended()[0] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_reloads_under_load_drop_nothing(upstream, workers, tmp_path):
    config = tmp_path / "config.json"
    staying = {"listen": ":0", "upstreams": [{"address": upstream.address}]}
    other = {"listen": f":{free_port()}", "upstreams": [{"address": upstream.address}]}
    with running(configured(config, staying), f"--workers={workers}") as ambassador:
        with Load(ambassador, ":0") as load:
            for round in range(10):
                ambassador.until(lambda target=load.done + 30: load.done > target)
                changed = {**staying, "idle_timeout": f"{round + 100}s"}
                configured(config, changed, *([other] if round % 2 == 0 else []))
                ambassador.send(signal.SIGHUP)
                ambassador.until(lambda count=round + 1: len(ambassador.said("settings reloaded")) >= count)
        print(f"{load.done} connections through 10 reloads, {len(load.failed)} failed")
        assert load.failed == []
        assert {each["listener"] for each in ambassador.said("listening no more")} == {other["listen"]}


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_of_a_listener_that_is_taken_away_run_to_their_end(workers, tmp_path):
    config = tmp_path / "config.json"
    with Upstream(naming(b"old")) as old, Upstream(naming(b"new")) as new:
        first = {"listen": ":0", "upstreams": [{"address": old.address}]}
        second = {"listen": "127.0.0.1:0", "upstreams": [{"address": new.address}]}
        flags = (configured(config, first), f"--workers={workers}")
        with running(*flags) as ambassador, ambassador.connect(":0") as client:
            assert received(client, 3) == b"old"
            configured(config, second)
            ambassador.send(signal.SIGHUP)
            ambassador.wait_for("settings reloaded")
            with ambassador.connect("127.0.0.1:0") as another:
                assert received(another, 3) == b"new"
            until_refused(ambassador, ":0")
            assert exchange(client, b"goes on") == b"goes on"


def test_a_listener_that_cannot_be_opened_refuses_the_reload_and_the_old_ones_stay(upstream, tmp_path):
    config = tmp_path / "config.json"
    staying = {"listen": ":0", "upstreams": [{"address": upstream.address}]}
    with running(configured(config, staying)) as ambassador, socket.create_server(("127.0.0.1", 0)) as taken:
        added = {"listen": f":{free_port()}", "upstreams": [{"address": upstream.address}]}
        impossible = {"listen": f":{taken.getsockname()[1]}", "upstreams": [{"address": upstream.address}]}
        configured(config, added, impossible)
        ambassador.send(signal.SIGHUP)
        refused = ambassador.wait_for("new settings refused")
        assert impossible["listen"] in refused["error"]
        with ambassador.connect(":0") as client:
            assert exchange(client, b"as before") == b"as before"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(added["listen"][1:])))
        assert ambassador.sum("reloads_total", result="refused") == 1
        configured(config, staying, added)
        ambassador.send(signal.SIGHUP)
        ambassador.wait_for("settings reloaded")
        assert ambassador.sum("reloads_total", result="accepted") == 1


def test_nothing_is_left_of_a_thousand_connections(upstream):
    with running(f":0=tcp://{upstream.address}") as ambassador:

        def rounds(count: int) -> None:
            for _ in range(count):
                with ambassador.connect() as client:
                    exchange(client, b"x" * 1000)
            ambassador.until(lambda: ambassador.sum("connections") == 0)

        rounds(100)
        descriptors, memory = ambassador.descriptors, ambassador.memory
        rounds(1000)
        ambassador.until(lambda: ambassador.descriptors <= descriptors)
        assert ambassador.memory < memory + 2
