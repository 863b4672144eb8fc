"""The standard input and FIFOs: streams of bytes that are read no further while the queue is full."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat

from sidecars.adapter.inputs.assembly import Assembly
from sidecars.adapter.inputs.queue import Queue
from sidecars.adapter.inputs.readiness import Drained, Readiness
from sidecars.core.errors import WrongSettings
from sidecars.core.follow.identity import printable
from sidecars.core.follow.join import Records
from sidecars.core.health import Health
from sidecars.core.log import log

_READ_BYTES = 256 << 10
_PIPE_BYTES = 1 << 20


class Stream:
    """A descriptor, read until its writers have gone.

    `patience` is how long whole lines wait for the next one, where a record may have several; an unfinished line waits
    for its end.
    """

    def __init__(self, origin: str, queue: Queue, readiness: Readiness, records: Records, patience: float) -> None:
        self._origin = origin
        self._queue = queue
        self._readiness = readiness
        self._assembly = Assembly(records)
        self._patience = patience
        self._interval: float | None = None
        self._file = False  # what poll(2) does not know: it has an end, and each read may take a disk's time

    async def read(self, descriptor: int) -> None:
        """Read until the end. The last line is a record even without a newline. Raises Drained."""
        with contextlib.suppress(OSError):  # no pipe, or more than this user may have
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            while data := await self._some(descriptor):
                for piece in self._assembly.take(data):
                    await self._queue.put(self._origin, piece)
        except Drained:
            await self._queue.put(self._origin, self._assembly.rest())
            raise
        await self._queue.put(self._origin, self._assembly.rest())

    async def _some(self, descriptor: int) -> bytes:
        while True:
            if not await self._ready(descriptor):
                if self._replaced(descriptor):
                    return b""
                await self._queue.put(self._origin, self._assembly.lines())
                continue
            with contextlib.suppress(BlockingIOError):
                return await self._read(descriptor)

    async def _ready(self, descriptor: int) -> bool:
        if self._file:
            return True
        try:
            return await self._readiness.wait(descriptor, self._patience if self._assembly.line else self._interval)
        except PermissionError:
            self._file = True
            return True

    async def _read(self, descriptor: int) -> bytes:
        try:
            if self._file:
                return await asyncio.to_thread(os.read, descriptor, _READ_BYTES)
            return os.read(descriptor, _READ_BYTES)
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal that has gone
                return b""
            raise

    def _replaced(self, descriptor: int) -> bool:
        """Tell whether what is read has another at its place; asked while it is quiet."""
        return False


class Stdin(Stream):
    """The standard input: a pipe, a file or a terminal."""

    def check(self) -> None:
        """Raise WrongSettings when there is none."""
        try:
            os.fstat(0)
        except OSError as error:
            raise WrongSettings("PATH is -, but the standard input is closed; give it one, or name a file") from error

    async def run(self) -> None:
        """Read until its end, or the drain's.

        It is left in the mode it is in, for others may have it open too; what poll(2) says is there can be read.
        """
        with contextlib.suppress(Drained):
            await self.read(0)
            log.info("standard input ended")


class Fifo(Stream):
    """A FIFO, whose writers come and go; or a path that may become one.

    `interval` is how often to look whether one is there, or another one.
    """

    def __init__(
        self, path: str, queue: Queue, readiness: Readiness, records: Records, patience: float, interval: float
    ) -> None:
        super().__init__(path, queue, readiness, records, patience)
        self._path = path
        self._interval: float = interval
        self._error: str | None = None

    async def run(self, health: Health, *, once: bool) -> None:
        """Read what writers write until the drain; with `once` until the first of them have gone."""
        with contextlib.suppress(Drained), contextlib.ExitStack() as held:
            while True:
                # While one descriptor is open nothing written is lost, and no writer meets a pipe without a reader. A
                # new one waits for new writers; the old one would say for ever that its writers have gone.
                descriptor = await self._opened(health)
                held.pop_all().close()
                held.callback(os.close, descriptor)
                await self.read(descriptor)
                if once:
                    return

    async def _opened(self, health: Health) -> int:
        while (descriptor := self._open()) is None:
            if self._error:
                health.failing(printable(self._path), self._error)
            await asyncio.sleep(self._interval)
            if self._readiness.quiet is not None:
                raise Drained
        if self._error:
            health.working(printable(self._path))
        self._error = None
        return descriptor

    def _open(self) -> int | None:
        if not is_fifo(self._path):
            return None
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._complain(error)
            return None
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor

    def _replaced(self, descriptor: int) -> bool:
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return stat.S_ISFIFO(there.st_mode) and not os.path.samestat(there, os.fstat(descriptor))

    def _complain(self, error: OSError) -> None:
        if not self._error:
            advice = "let the user or group of this container read it"
            log.warning("cannot read", path=printable(self._path), error=error.strerror, advice=advice)
        self._error = f"cannot read it: {error.strerror}"


def is_fifo(path: str) -> bool:
    """Tell whether a FIFO is there now."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
