"""A real redis-server on loopback, for as long as a block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from tests.unit.core.running import PATIENCE, free_port

PROGRAM = shutil.which("redis-server")
if not PROGRAM and os.environ.get("CI") == "true":
    raise RuntimeError("redis-server is not installed: apt-get install redis-server")
needed = pytest.mark.skipif(not PROGRAM, reason="NOT PROVEN HERE: needs Debian's redis-server")


def command(*words: str) -> bytes:
    """A command as it stands on the wire."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each.encode()) for each in words)


class RedisServer:
    """A redis-server that keeps nothing, at a port of its own; more arguments are its own: "--requirepass", "x"."""

    def __init__(self, directory: Path, *arguments: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
        self._arguments += arguments
        self.start()

    def start(self) -> None:
        """Start it, also again after kill()."""
        assert PROGRAM
        self.process = subprocess.Popen([PROGRAM, *self._arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while self.ask("PING")[:1] not in (b"+", b"-"):
            assert self.process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once; whoever connects is refused from now on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def ask(self, *words: str) -> bytes:
        """The answer to one command, as it stands on the wire; empty when it cannot be had."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            client.sendall(command(*words))
            return client.recv(65536)
        return b""

    def keys(self) -> int:
        """How many keys it has."""
        return int(self.ask("DBSIZE")[1:])
