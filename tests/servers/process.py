"""A sidecar under test, met as its operator meets it: its process, its metrics, what log-tailer writes to stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.core.running import PATIENCE, Running, pause

# Root without the right to read what it may not: the interpreter may lie where another user cannot go.
_RIGHTS = "-dac_override,-dac_read_search"
UNPRIVILEGED = ("setpriv", f"--bounding-set={_RIGHTS}", f"--inh-caps={_RIGHTS}", "--")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVEN HERE: needs root, as CI has it")


class Sidecar(Running):
    """A program with these arguments, and with `defaults` where no variable is given."""

    defaults: ClassVar[dict[str, str]] = {}

    def __init__(self, *arguments: str | Path, environ: dict[str, str] | None = None, **popen: Any) -> None:
        super().__init__(*map(str, arguments), environ={**self.defaults, **(environ or {})}, **popen)

    def watching(self) -> Self:
        """This, once the first look is done."""
        self.wait_for("watching")
        return self

    def until(self, happened: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Wait until something is so; fail at once if the process ends before it is."""
        began = time.monotonic()
        while True:
            ended = self.process.poll() is not None
            if happened():
                return
            late = time.monotonic() > began + seconds
            log = "\n".join(self.lines)[-3000:]
            assert not ended and not late, f"did not happen; {self.written()!r} was written, and logged:\n{log}"
            pause(began)

    def written(self) -> bytes:
        """The end of what it has put out."""
        return b""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        _, text = self.ask("/metrics")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
        assert found or any(each.name == name for each in samples) or f"# TYPE {name.removesuffix('_total')}" in text
        return sum(found)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Every event of this name so far."""
        return [each for each in self.events() if each["event"] == event]

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        return psutil.Process(self.pid).memory_info().rss / 2**20

    def children(self) -> list[int]:
        """The ids of the processes it has started that are there still."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @property
    def descriptors(self) -> int:
        return psutil.Process(self.pid).num_fds()


class Tailer(Sidecar):
    """log-tailer with these arguments. Its stdout is appended to a file, unless `stdout` says otherwise."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "sidecars.tailer")
    prefix: ClassVar[str] = "TAILER_"
    defaults: ClassVar[dict[str, str]] = {
        "TAILER_ADMIN": "127.0.0.1:0", "TAILER_QUIET": "0.1s", "TAILER_STATE_DIR": "off",
    }  # fmt: skip

    def __init__(self, *arguments: str | Path, out: Path, environ: dict[str, str] | None = None, **popen: Any) -> None:
        self.out = out
        with open(out, "ab") as stdout:
            super().__init__(*arguments, environ=environ, **{"stdout": stdout, **popen})

    def read(self) -> bytes:
        """What was written to stdout so far, by this process and those before it on the same file."""
        return self.out.read_bytes()

    def written(self) -> bytes:
        return self.read()[-500:]

    def until_written(self, expected: bytes) -> None:
        """Wait until exactly this has been written."""
        self.until(lambda: len(self.read()) >= len(expected))
        assert self.read() == expected

    def drained(self) -> bytes:
        """Ask for the drain; what was written when it has ended well."""
        self.process.terminate()
        code, _ = self.ended()
        assert code == 0, "\n".join(self.lines)
        return self.read()
