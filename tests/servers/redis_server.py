"""Real Redis servers, on unix sockets: no port is taken from anybody."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Any, Self

import pytest
import redis

PATIENCE = 30.0

if not shutil.which("redis-server") and os.environ.get("CI") == "true":
    raise RuntimeError("redis-server is not installed: apt-get install redis-server")
needs_redis = pytest.mark.skipif(
    not shutil.which("redis-server"), reason="NOT PROVEN HERE: needs Debian's redis-server"
)


class RedisServer:
    """A redis-server with these words on its command line; killed at the end of the block.

    path  of its socket, which is its address
    """

    def __init__(self, *words: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="redis")
        self.path = os.path.join(self._folder.name, "redis.sock")
        self._words = words
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        words = ("--port", "0", "--unixsocket", self.path, "--save", "", "--dir", self._folder.name, *self._words)
        process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self._accepting():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        return process

    def _accepting(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.path) == 0

    def kill(self) -> None:
        """End it at once, as a node that fails does."""
        self.process.kill()
        self.process.wait()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def restart(self) -> None:
        """Start it anew at the same address, empty."""
        self.process = self._started()

    def client(self, **options: Any) -> redis.Redis:
        """A client that asks it directly."""
        return redis.Redis(unix_socket_path=self.path, decode_responses=True, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()
