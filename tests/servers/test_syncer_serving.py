"""git-sync's HTTP endpoint, over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from sidecars.syncer.metrics import Metrics
from sidecars.syncer.serving import CannotListen, Serving
from sidecars.syncer.settings import Settings


class Served:
    """An endpoint on a loop in a thread."""

    def __init__(self, **given: object) -> None:
        self.metrics = Metrics()
        settings = Settings(http_bind="127.0.0.1:0", **given)  # type: ignore[arg-type]
        self.serving = Serving(settings, self.metrics, ["--repo=https://***@git.example/app"])
        self.loop = asyncio.new_event_loop()
        [address] = self.loop.run_until_complete(self.serving.open())
        self.port = int(address.rpartition(":")[2])
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.serving.close)
        self.loop.call_soon_threadsafe(self.loop.call_soon, self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    all_served: list[Served] = []

    def serve(**given: object) -> Served:
        all_served.append(Served(**given))
        return all_served[-1]

    yield serve
    for served in all_served:
        served.close()


def test_every_path_is_503_until_the_first_good_pass_and_empty_after_it(serve: Callable[..., Served]) -> None:
    served = serve()
    for path in ("/", "/metrics", "/debug/pprof/", "/any/thing?x=1"):
        assert served.ask(path) == (503, b"repo is not ready\n")
    served.loop.call_soon_threadsafe(served.serving.ready)
    for path in ("/", "/metrics", "/debug/pprof/", "/any/thing?x=1"):
        assert served.ask(path) == (200, b"")
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        assert served.ask("/", method) == (200, b"")


def test_the_metrics_are_there_when_asked_for_even_before_the_first_pass(serve: Callable[..., Served]) -> None:
    served = serve(http_metrics=True)
    served.metrics.of().synced("success", 0.5)
    status, text = served.ask("/metrics")
    assert status == 200
    assert b'\ngit_sync_count_total{status="success"} 1\n' in text
    assert served.ask("/")[0] == 503


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/debug/pprof/", b"VmRSS:"),
        ("/debug/pprof", b"VmRSS:"),
        ("/debug/pprof/cmdline", b"git-syncer\0--repo=https://***@git.example/app"),
        ("/debug/pprof/symbol", b"num_symbols: 0\n"),
        ("/debug/pprof/profile?seconds=0.1", b"threading._bootstrap"),
        ("/debug/pprof/trace?seconds=0.1", b"threading._bootstrap"),
        ("/debug/pprof/goroutine", b""),
        ("/debug/pprof/heap", b"VmRSS:"),
        ("/debug/pprof/threadcreate", b"MainThread"),
    ],
)
def test_what_go_tells_of_a_process_has_an_equivalent(serve: Callable[..., Served], path: str, expected: bytes) -> None:
    status, text = serve(http_pprof=True).ask(path)
    assert status == 200
    assert expected in text


def test_the_door_answers_while_a_profile_is_taken_and_a_second_one_is_refused(serve: Callable[..., Served]) -> None:
    served = serve(http_pprof=True)
    with socket.create_connection(("127.0.0.1", served.port), 10) as slow:
        slow.sendall(b"GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: a\r\n\r\n")
        while served.ask("/debug/pprof/profile?seconds=0.01")[0] != 503:
            pass
        assert served.ask("/")[0] == 503


@pytest.mark.parametrize("bind", [":{}", "0.0.0.0:{}", "[::]:{}", "localhost:{}", "127.0.0.1:{}"])
def test_an_address_is_read_as_go_reads_it(bind: str) -> None:
    async def reached() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        serving = Serving(Settings(http_bind=bind.format(port)), Metrics())
        await serving.open()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
        finally:
            serving.close()

    asyncio.run(reached())


@pytest.mark.parametrize("bind", ["nonsense", "localhost", ":99999", "192.0.2.1:1", "host.invalid:1"])
def test_an_address_that_cannot_be_had_is_fatal_and_named(bind: str) -> None:
    with pytest.raises(CannotListen, match=r"--http-bind.*" + bind) as raised:
        asyncio.run(Serving(Settings(http_bind=bind), Metrics()).open())
    assert raised.value.exit_code == 1


def test_a_taken_port_is_fatal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotListen, match="Address already in use"):
            asyncio.run(Serving(Settings(http_bind=bind), Metrics()).open())
