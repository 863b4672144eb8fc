"""The demo's application: it writes logs of several kinds, each rotated in its own way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sidecars.core.log import log
from sidecars.core.service import Lifecycle
from sidecars.demo import lines, rotation
from sidecars.demo.settings import ApplicationSettings

_SHORTEST_TICK = 0.01


@dataclass(frozen=True)
class Kind:
    """A log of the application: its file, what is in it, how often, how it is rotated and when it first appears."""

    file: str
    record: lines.Record
    share: int
    rotate: rotation.Rotate
    size: int
    after: float = 0.0


KINDS = (
    Kind("access.log", lines.access, 6, rotation.logrotate, 16 << 10),
    Kind("orders.log", lines.order, 3, rotation.log4j, 6 << 10),
    Kind("stock.log", lines.java, 1, rotation.copytruncate, 6 << 10),
    Kind("backup.log", lines.backup, 1, rotation.log4j, 6 << 10, after=10.0),
)


class Application:
    """Write realistic logs at a steady rate.

    run    at each tick, records of kinds drawn by chance
    drain  write nothing more
    stop   cancelled: the files are closed
    """

    def __init__(self, settings: ApplicationSettings) -> None:
        self._folder = settings.dir
        self._rate = settings.rate
        self._seconds = settings.seconds
        self._random = Random()  # noqa: S311  (the records are no secret)
        self._logs: dict[str, rotation.RotatedLog] = {}
        self._written = 0

    async def run(self, life: Lifecycle) -> None:
        """Write until the drain is asked, or for the seconds that the settings give."""
        os.makedirs(self._folder, exist_ok=True)
        life.health.started()
        with contextlib.ExitStack() as stack, contextlib.suppress(TimeoutError):
            stack.callback(self._close)
            async with asyncio.timeout(self._seconds):
                await self._write_until(life.drain)

    def undelivered(self) -> str | None:
        """Nothing is ever left: a record is in its file once it is written."""
        return None

    def status(self) -> dict[str, object]:
        """How much was written to which files."""
        return {"records": self._written, "files": sorted(self._logs)}

    async def _write_until(self, drain: asyncio.Event) -> None:
        tick = max(1 / self._rate, _SHORTEST_TICK)
        start = time.monotonic()
        while not drain.is_set():
            age = time.monotonic() - start
            due = int(age * self._rate) + 1 - self._written
            for kind in drawn(self._random, age, due):
                self._write(kind)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(drain.wait(), tick)

    def _write(self, kind: Kind) -> None:
        self._written += 1
        record = kind.record(self._random, self._written, time.time()).encode()
        if self._log(kind).write(record):
            log.info("log rotated", file=kind.file, by=kind.rotate.__name__)

    def _log(self, kind: Kind) -> rotation.RotatedLog:
        if kind.file not in self._logs:
            path = os.path.join(self._folder, kind.file)
            self._logs[kind.file] = rotation.RotatedLog(path, kind.rotate, kind.size)
        return self._logs[kind.file]

    def _close(self) -> None:
        for open_log in self._logs.values():
            open_log.close()


def drawn(random: Random, age: float, count: int) -> Iterator[Kind]:
    """The kinds of the next records, for an application that has run for that many seconds."""
    kinds = [kind for kind in KINDS if age >= kind.after]
    yield from random.choices(kinds, [kind.share for kind in kinds], k=max(count, 0))
