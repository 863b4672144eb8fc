"""Inputs that have no file behind them: the standard input, FIFOs, syslog. They fill the queue."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sidecars.adapter.inputs.readiness import Readiness
from sidecars.adapter.inputs.streams import Fifo, Stdin, is_fifo
from sidecars.core.follow.join import Lines, Records

if TYPE_CHECKING:
    from sidecars.adapter.inputs.queue import Queue
    from sidecars.adapter.inputs.syslog import Listener
    from sidecars.adapter.settings import Settings
    from sidecars.core.health import Health

STDIN = "-"
# One piece of at most 1 MiB must fit while another is delivered.
SMALLEST_QUEUE = 2 << 20
_MAGIC = re.compile(r"[*?\[]")


class Split(NamedTuple):
    """Paths by what is behind them.

    files  what is followed
    stdin  whether the standard input is one of them
    fifos  those that are FIFOs now
    """

    files: tuple[str, ...]
    stdin: bool
    fifos: tuple[str, ...]


def split(paths: Iterable[str]) -> Split:
    """Look what is behind each path."""
    paths = tuple(paths)
    fifos = tuple(path for path in paths if path != STDIN and is_fifo(path))
    files = tuple(path for path in paths if path != STDIN and path not in fifos)
    return Split(files, STDIN in paths, fifos)


def wanted(settings: Settings, paths: Split) -> bool:
    """Tell whether there is an input without a file behind it, or a path where nothing is, which may become a FIFO."""
    return bool(paths.stdin or settings.syslog or settings.post or _fifos(settings, paths))


def _fifos(settings: Settings, paths: Split) -> list[str]:
    """Give the FIFOs, and the paths at which one may be made yet."""
    awaited = [] if settings.once else [path for path in paths.files if not _MAGIC.search(path)]
    return [*paths.fifos, *(path for path in awaited if not os.path.exists(path))]


class Inputs:
    """The inputs that the settings name, for one run.

    run    put into the queue what comes, as long as it has room
    drain  go on until nothing has come for a while
    stop   cancelled: what is in pipes and sockets is lost with them

    `records` says what a record is in the standard input and in FIFOs: a line, or several.
    """

    def __init__(
        self, settings: Settings, paths: Split, queue: Queue, health: Health, records: Records | None = None
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._queue = queue
        self._health = health
        self._records = records or Lines()
        self._readiness = Readiness()
        self._drained = asyncio.Event()
        self._stdin: Stdin | None = None
        self._fifos: list[Fifo] = []
        self._listeners: list[Listener] = []

    async def open(self) -> list[str]:
        """Listen, and give the addresses of it; port 0 lets the kernel choose. Raises WrongSettings."""
        fifos = _fifos(self._settings, self._paths)
        if self._paths.stdin or fifos:
            self._open_streams(fifos)
        if self._settings.syslog:
            self._listen()
        return [listener.address for listener in self._listeners]

    def _open_streams(self, fifos: Sequence[str]) -> None:
        queue, readiness, records = self._queue, self._readiness, self._records
        patience, interval = self._settings.multiline_timeout, self._settings.poll_interval
        self._fifos = [Fifo(path, queue, readiness, records, patience, interval) for path in fifos]
        if self._paths.stdin:
            self._stdin = Stdin("stdin", queue, readiness, records, patience)
            self._stdin.check()

    def _listen(self) -> None:
        from sidecars.adapter.inputs.syslog import listener  # only who takes syslog pays for it

        listeners = [listener(url, self._queue, self._readiness) for url in self._settings.syslog]
        for each in listeners:
            each.open()
            self._listeners.append(each)

    async def run(self) -> None:
        """Read until all has ended that can: the standard input, and with --once FIFOs. Else until the drain's end."""
        async with asyncio.TaskGroup() as tasks:
            if self._stdin:
                tasks.create_task(self._stdin.run())
            for fifo in self._fifos:
                tasks.create_task(fifo.run(self._health, once=self._settings.once))
            for each in self._listeners:
                tasks.create_task(each.run())
            if self._settings.post:
                tasks.create_task(self._drained.wait())

    def drain(self, quiet: float) -> None:
        """Let run() end once nothing has come for so many seconds."""
        self._readiness.drain(quiet)
        self._drained.set()

    async def close(self) -> None:
        """Listen no more, once run() has ended or was cancelled."""
        for each in self._listeners:
            each.close()
        self._listeners.clear()
