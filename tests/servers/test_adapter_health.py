"""Checks behind GET /health, against real servers and files: well, failing, slow, gone, and well again."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import ClassVar

import pytest
from prometheus_client.registry import REGISTRY

from sidecars.adapter.healthchecks import Checks
from sidecars.adapter.settings import Settings
from tests.servers.process import Sidecar
from tests.unit.core.running import free_port

PATIENCE = 20.0


def in_loop(test):
    """Run a test that is a coroutine."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run


@contextlib.asynccontextmanager
async def watched(*health: str):
    checks = Checks(Settings(health=health))
    running = asyncio.create_task(checks.run())
    try:
        yield checks
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(happened) -> None:
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await asyncio.sleep(0.002)


async def until_result(checks: Checks, *reasons: str) -> None:
    expected = (not reasons, list(reasons))
    with contextlib.suppress(TimeoutError):
        await until(lambda: checks.result() == expected)
    assert checks.result() == expected


class Server:
    """An HTTP server that answers with these bytes, and keeps what it was asked."""

    def __init__(self, answer: bytes, port: int = 0) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self._port = port

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        await asyncio.sleep(0.01)  # what is served comes to its end

    async def _serve(self, reader, writer) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                await writer.drain()
                if not self.answer:
                    await reader.read()
        finally:
            writer.close()  # also when the loop ends, or it would be found open long after


def status(line: str) -> bytes:
    return f"HTTP/1.1 {line}\r\nContent-Length: 3\r\n\r\nabc".encode()


@in_loop
async def test_http_is_asked_by_its_path_and_query_and_follows_what_it_answers():
    async with Server(status("200 OK")) as server:
        url = f"http://127.0.0.1:{server.port}/status?full=1&status=500#every=100ms"
        async with watched(url) as checks:
            assert checks.result() == (False, [f"{url}: it was not looked at yet"])
            await until_result(checks)
            assert server.asked[0].startswith(b"GET /status?full=1&status=500 HTTP/1.1\r\nHost: 127.0.0.1:")
            assert REGISTRY.get_sample_value("adapter_health_check", {"check": url}) == 1
            server.answer = status("503 Service Unavailable")
            await until_result(checks, f"{url}: answers 503, expected a status below 400")
            assert REGISTRY.get_sample_value("adapter_health_check", {"check": url}) == 0
            server.answer = status("302 Found")
            await until_result(checks)


@pytest.mark.parametrize(
    ("answer", "options", "reason"),
    [
        (status("204 No Content"), "status=204", None),
        (status("204 No Content"), "status=2xx", None),
        (status("200 OK"), "status=204", "answers 200, expected 204"),
        (status("404 Not Found"), "status=404", None),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + status("200 OK"), "status=200", None),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"endless " * 100_000, "status=200", None),
        (b"SSH-2.0-OpenSSH\r\n", "", "what answers does not speak HTTP"),
        (b"\0\xff" * 20_000, "", "what answers does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000, "", "what answers does not speak HTTP"),
        (b"HTTP/1.1 200 ", "", "what answers does not speak HTTP"),
        (b"", "timeout=100ms", "no answer within 100ms"),
    ],
)
@in_loop
async def test_what_http_answers(answer, options, reason):
    async with Server(answer) as server:
        url = f"http://127.0.0.1:{server.port}#{options}"
        async with watched(url) as checks:
            await until(lambda: checks.result()[1] != [f"{url}: it was not looked at yet"])
            assert checks.result()[1] == ([f"{url}: {reason}"] if reason else [])


@in_loop
async def test_tcp_is_well_while_something_listens():
    port = free_port()
    url = f"tcp://127.0.0.1:{port}#every=100ms"
    async with watched(url) as checks:
        await until(lambda: "not looked" not in str(checks.result()))
        [reason] = checks.result()[1]
        assert reason.startswith(f"{url}: ")
        assert "refused" in reason or "Connect call failed" in reason
        async with Server(b"", port):
            await until_result(checks)
        await until(lambda: not checks.result()[0])


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "a..b"])
@in_loop
async def test_a_name_that_is_none_is_a_reason(host):
    async with watched(f"tcp://{host}:1") as checks:
        await until(lambda: "not looked" not in str(checks.result()))
        assert not checks.result()[0]


@in_loop
async def test_a_file_is_well_while_it_is_written(tmp_path):
    path = tmp_path / "heartbeat"
    text = f"file-age:{path}#max=60s&every=100ms"
    async with watched(text) as checks:
        await until_result(checks, f"{text}: there is no such file")
        path.touch()
        await until_result(checks)
        old = time.time() - 83
        os.utime(path, (old, old))
        await until(lambda: not checks.result()[0])
        assert checks.result()[1] == [f"{text}: was written 83 s ago, expected at most 1m"]


@in_loop
async def test_one_that_hangs_holds_no_other(tmp_path):
    (tmp_path / "heartbeat").touch()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}/#timeout=1m"
        async with watched(hanging, f"file-age:{tmp_path}/heartbeat", "log-pattern:!panic") as checks:
            await until_result(checks, f"{hanging}: it was not looked at yet")


@in_loop
async def test_a_hundred_looks_leave_no_descriptor():
    async with Server(status("200 OK")) as server:
        checks = Checks(Settings(health=(f"http://127.0.0.1:{server.port}/", f"tcp://127.0.0.1:{server.port}")))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(100):
            for each in checks._checks:
                await each.look()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert checks.result() == (True, [])


class Adapter(Sidecar):
    """log-adapter whose input is a pipe."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "sidecars.adapter", "-", "--listen=127.0.0.1:0")
    prefix: ClassVar[str] = "ADAPTER_"
    defaults: ClassVar[dict[str, str]] = {
        "ADAPTER_ADMIN": "127.0.0.1:0", "ADAPTER_QUIET": "0.1s", "ADAPTER_STATE_DIR": "off",
    }  # fmt: skip

    def health(self) -> tuple[int, str]:
        client = http.client.HTTPConnection(self.wait_for("serving")["addresses"][0], timeout=PATIENCE)
        with contextlib.closing(client):
            client.request("GET", "/health")
            answer = client.getresponse()
            return answer.status, answer.read().decode()


def test_the_program_answers_for_its_application():
    with Adapter("--health", "log-pattern:!panic#every=100ms", stdin=subprocess.PIPE) as adapter:
        adapter.until(lambda: adapter.health()[0] == 200)
        adapter.process.stdin.write(b"panic: no more\n")
        adapter.process.stdin.flush()
        adapter.until(lambda: adapter.health()[0] == 503)
        assert "a record that matches came" in adapter.health()[1]
        assert adapter.metric("adapter_health_check", check="log-pattern:!panic#every=100ms") == 0
        assert adapter.wait_for("health check fails")["check"] == "log-pattern:!panic#every=100ms"
