"""log-adapter as those meet it who ask --listen."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tests.servers.process import Sidecar
from tests.unit.core.running import PATIENCE


class Reply(NamedTuple):
    """A status, headers and a body."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def numbers(self) -> list[int]:
        """The field n of each record."""
        return [record["n"] for record in self.json]


class Served(Sidecar):
    """log-adapter that serves, and puts nothing out."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "sidecars.adapter")
    prefix: ClassVar[str] = "ADAPTER_"
    defaults: ClassVar[dict[str, str]] = {
        "ADAPTER_LISTEN": "127.0.0.1:0", "ADAPTER_ADMIN": "off", "ADAPTER_OUTPUT": "off", "ADAPTER_QUIET": "0.1s",
        "ADAPTER_STATE_DIR": "off", "ADAPTER_POLL_INTERVAL": "0.1s",
    }  # fmt: skip

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.wait_for("serving")["addresses"][0].rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=PATIENCE)

    def get(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
        """The reply to one request; headers by their names with _ for -."""
        client = self.connect()
        try:
            client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = client.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            client.close()

    def until_read(self, path: Path) -> None:
        """Wait until a file is among those that are followed."""
        self.until(lambda: str(path) in [each["name"] for each in self.get("/files").json])


class Following:
    """A client that follows, line by line."""

    def __init__(self, served: Served, path: str, headers: Mapping[str, str] | None = None) -> None:
        self.client = served.connect()
        self.client.request("GET", path, headers=dict(headers or {}))
        self.answer = self.client.getresponse()

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def lines(self) -> Iterator[str]:
        while line := self.answer.readline():
            if line != b"\n":
                yield line.decode().rstrip("\n")

    def take(self, count: int) -> list[int]:
        """The field n of the next records."""
        lines = self.lines()
        return [json.loads(next(lines))["n"] for _ in range(count)]


def record(number: int, **fields: Any) -> bytes:
    """A line of JSON."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1769860800 + number))
    return (
        json.dumps({"time": at, "level": "info", "message": f"line {number}", "n": number, **fields}).encode() + b"\n"
    )


def append(path: Path, data: bytes) -> None:
    """Write as an application does: at once, at the end."""
    with open(path, "ab") as file:
        file.write(data)


def old(path: Path) -> Path:
    """Let a file be one that nobody has written for a minute."""
    os.utime(path, (time.time() - 60, time.time() - 60))
    return path
