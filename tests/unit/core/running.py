"""A real process under test, met as its operator meets it: flags, variables, signals, events, its door, exit code."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any, ClassVar, Self

PROGRAM = os.path.join(os.path.dirname(__file__), "lifecycle_program.py")
PATIENCE = 60.0  # seconds: a failure takes them, nothing else does


def pause(began: float) -> None:
    """Sleep before another look, longer after a while: looking takes time from what is looked at."""
    time.sleep(min(0.05, max(0.005, (time.monotonic() - began) / 20)))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Running:
    """The lifecycle program with these arguments; killed at the end of its block if it still runs then."""

    command: ClassVar[Sequence[str]] = (sys.executable, PROGRAM)
    prefix: ClassVar[str] = "LIFE_"

    def __init__(
        self,
        *arguments: str,
        environ: dict[str, str] | None = None,
        under: Sequence[str] = (),
        termination_log: str = "/dev/null",
        **popen: Any,
    ) -> None:
        command = [*under, *self.command, *arguments]
        variables = {**os.environ, f"{self.prefix}TERMINATION_LOG": termination_log, **(environ or {})}
        popen = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": variables, **popen}
        self.process = subprocess.Popen(command, **popen)
        self.lines: list[str] = []
        # A port that was chosen is known without the log.
        self._port = next((int(word.rpartition(":")[2]) for word in arguments if word.startswith("127.0.0.1:")), 0)
        self._news = threading.Condition()
        self._ended = self.process.stderr is None
        if self.process.stderr:
            self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
            self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        if self.process.stderr:
            self._reader.join(PATIENCE)
            self.process.stderr.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)

    def ended(self, seconds: float = PATIENCE) -> tuple[int, list[dict[str, Any]]]:
        """The exit code and every event, once the process has ended."""
        code = self.wait(seconds)
        self._reader.join(PATIENCE)
        return code, list(self.events())

    def events(self) -> Iterator[dict[str, Any]]:
        for line in list(self.lines):
            if line.startswith("{"):
                yield json.loads(line)

    def wait_for(self, event: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The first event of this name, as soon as it is logged."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self.find(event), seconds)
        found = self.find(event)
        assert found, f"no event {event!r} in\n" + "\n".join(self.lines)
        return found

    @property
    def port(self) -> int:
        if self._port:
            return self._port
        return int(self.wait_for("admin door open")["addresses"][0].rpartition(":")[2])

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        host: str = "127.0.0.1",
        patience: float = PATIENCE,
    ) -> tuple[int, str]:
        """Status and text of one request to the door."""
        response, text = self.fetch(path, method, headers, body, host, patience)
        return response.status, text

    def fetch(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        host: str = "127.0.0.1",
        patience: float = PATIENCE,
    ) -> tuple[http.client.HTTPResponse, str]:
        client = http.client.HTTPConnection(host, self.port, timeout=patience)
        try:
            client.request(method, path, body, headers or {})
            response = client.getresponse()
            return response, response.read().decode()
        finally:
            client.close()

    def wait_until_ready(self) -> None:
        """For a process whose log cannot be read: ask until it is ready."""
        began = time.monotonic()
        while True:
            try:
                if self.ask("/readyz")[0] == 200:
                    return
            except OSError:
                assert self.process.poll() is None, "ended before it was ready"
            assert time.monotonic() < began + PATIENCE, "not ready in time"
            pause(began)

    def find(self, event: str) -> dict[str, Any] | None:
        return next((each for each in self.events() if each["event"] == event), None)

    def _read(self, stderr: IO[bytes]) -> None:
        for line in stderr:
            with self._news:
                self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
