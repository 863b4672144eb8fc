"""The s3-shipper under test, met as its operator meets it: its process, and what is in its bucket."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import zstandard

from sidecars.shipper.points import Point
from tests.servers.process import Sidecar
from tests.servers.s3 import S3

# Found before whatever this machine may have; moto takes any.
RIGHTS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
CRASHING = os.path.join(os.path.dirname(__file__), "shipper_crashing.py")
# In the name of what a shipper tries an endpoint with.
PROBE = ".sidecars-probe-"


class Shipper(Sidecar):
    """s3-shipper with these arguments; with `crash_at`, it kills itself when it gets to a point for the nth time.

    `stored` is asked for what has arrived, when something does not happen.
    """

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "sidecars.shipper")
    prefix: ClassVar[str] = "SHIPPER_"
    defaults: ClassVar[dict[str, str]] = {**RIGHTS, "SHIPPER_ADMIN": "127.0.0.1:0", "SHIPPER_QUIET": "0.1s"}

    def __init__(
        self,
        *arguments: str | Path,
        state: Path | None = None,
        stored: Callable[[], object] = dict,
        crash_at: tuple[Point, int] | None = None,
        **options: Any,
    ) -> None:
        self._stored = stored
        self.state = state
        if crash_at:
            self.command = (sys.executable, CRASHING, *map(str, crash_at))
        super().__init__(*(("--state-dir", state) if state else ()), *arguments, **options)

    def written(self) -> bytes:
        return repr(self._stored())[-500:].encode()

    def done(self) -> list[dict[str, Any]]:
        """Every event, once it has ended by itself, and well."""
        code, events = self.ended()
        assert code == 0, "\n".join(self.lines)
        return events

    def drained(self) -> list[dict[str, Any]]:
        """Ask for the drain; every event, once it has ended well."""
        self.process.terminate()
        return self.done()

    def killed(self) -> None:
        """End it without a chance to do anything."""
        self.process.kill()
        self.process.wait()

    def until_kept(self, lines: int) -> None:
        """Wait until its chunks hold so many lines, and the ledger says so: a kill changes nothing of it."""
        with contextlib.closing(sqlite3.connect(f"{self.state}/ledger.sqlite3")) as ledger:
            self.until(lambda: ledger.execute("SELECT SUM(lines) FROM chunks").fetchone() == (lines,))

    def status(self) -> dict[str, Any]:
        """What the status page shows."""
        code, text = self.ask("/status")
        assert code == 200
        return json.loads(text)


class Bucket:
    """A bucket of a server, and what its objects hold."""

    def __init__(self, server: S3, name: str) -> None:
        self.server = server
        self.name = name

    @property
    def keys(self) -> list[str]:
        """The keys of all objects, but for the empty one by which a shipper tries an endpoint."""
        return [key for key in self.server.keys(self.name) if PROBE not in key]

    @property
    def bodies(self) -> dict[str, bytes]:
        """Every object by its key, as it is stored."""
        client = self.server.client()
        return {key: client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in self.keys}

    @property
    def objects(self) -> dict[str, bytes]:
        """Every object by its key, uncompressed."""
        return {key: plain(key, data) for key, data in self.bodies.items()}

    @property
    def lines(self) -> list[bytes]:
        """Every line of every object, sorted."""
        return sorted(line for data in self.objects.values() for line in data.splitlines(keepends=True))

    def head(self, key: str) -> dict[str, Any]:
        """What S3 says of an object."""
        return self.server.client().head_object(Bucket=self.name, Key=key)


def plain(key: str, data: bytes) -> bytes:
    """Uncompress an object, as its key says that it is."""
    if key.endswith(".gz"):
        return gzip.decompress(data)
    if key.endswith(".zst"):
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


def append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def numbered(count: int, first: int = 0) -> list[bytes]:
    """So many lines, each its own, in order."""
    return [b"line %06d\n" % number for number in range(first, first + count)]
