"""A file as an output: appended to, synced before it counts as delivered, and anyone may rotate it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sidecars.adapter.portion import Intake, Portion
from sidecars.core.delivery import Attempts
from sidecars.core.errors import DeliveryFailed
from sidecars.core.follow.identity import printable
from sidecars.core.health import Health

R = TypeVar("R")

# What is written is synced, and acknowledged then, when so much of it waits or so long: a sync costs the disk as much
# as many writes, and a checkpoint is no more frequent.
_SYNC_BYTES = 2 << 20
_SYNC_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Appending:
    """The open file, and what was written to it that is not synced.

    It is opened anew when it was renamed or removed. What was not synced is written once more when it may be lost: the
    file was removed, or the disk failed. It blocks, and is used by one thread.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._unsynced: list[bytes] = []
        self._rest: list[memoryview] = []
        self._inside = False

    def add(self, pieces: list[bytes]) -> None:
        """Take what is to be written: whole records."""
        self._unsynced += pieces
        self._rest += [memoryview(piece) for piece in pieces]

    def write(self) -> None:
        """Write what is to be written, or what is left of it since this failed. Raises DeliveryFailed."""
        try:
            self._follow_the_path()
            while self._rest:
                self._write_some()
        except OSError as error:
            raise self._failure("write to", error) from error

    def sync(self) -> None:
        """Write what is left, and make sure that it is on the disk. Raises DeliveryFailed."""
        self.write()
        if not self._synced():
            # The kernel may have given up the pages, and will not say so again.
            self._write_again()
            raise DeliveryFailed("sync", f"cannot sync {printable(self._path)}; is its disk full, or broken?")
        self._unsynced.clear()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_some(self) -> None:
        first = self._rest[0]
        written = os.write(self._descriptor, first)
        self._inside = written < len(first)
        if self._inside:
            self._rest[0] = first[written:]
        else:
            del self._rest[0]

    def _write_again(self) -> None:
        self._rest, self._inside = [memoryview(piece) for piece in self._unsynced], False

    def _follow_the_path(self) -> None:
        """Open what is under the path now."""
        if self._descriptor >= 0:
            ours = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(ours, os.stat(self._path)):
                    return
            if ours.st_nlink == 0:
                self._write_again()
            elif self._inside:
                return  # a record is never torn between two files
            elif not self._synced():
                self._write_again()
            self.close()
        self._open()

    def _synced(self) -> bool:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            # What is no regular file, such as a FIFO or /dev/null, has nothing to sync.
            return error.errno == errno.EINVAL
        return True

    def _open(self) -> None:
        # Not blocking, for a FIFO without a reader would hold the thread for ever.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o644)
        os.set_blocking(self._descriptor, True)
        if _torn(self._path):
            os.write(self._descriptor, b"\n")

    def _failure(self, action: str, error: OSError) -> DeliveryFailed:
        code = "disk_full" if error.errno in _FULL else errno.errorcode.get(error.errno or 0, "write").lower()
        hint = "make room" if code == "disk_full" else "is its directory there, and writable by this user?"
        return DeliveryFailed(code, f"cannot {action} {printable(self._path)}: {error.strerror}; {hint}")


def _torn(path: str) -> bool:
    """Tell whether a file ends inside a line: whoever wrote it, this program before a crash perhaps, did not finish."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size:
                return os.pread(descriptor, 1, status.st_size - 1) != b"\n"
        finally:
            os.close(descriptor)
    return False


class FileOutput:
    """Appends what is made of each portion, and acknowledges it when it is on the disk."""

    def __init__(
        self,
        name: str,
        path: str,
        render: Callable[[Portion], list[bytes]],
        delivered: Callable[[Portion], None],
        health: Health,
    ) -> None:
        self.name = name
        self._file = Appending(path)
        self._render = render
        self._delivered = delivered
        self._attempts = Attempts(name, health)
        self._thread = ThreadPoolExecutor(1, "file")
        self._written: list[Portion] = []
        self._bytes = 0
        self._due = 0.0

    async def deliver(self, intake: Intake) -> None:
        """Deliver until the intake ends."""
        coming = asyncio.ensure_future(anext(intake, None))
        try:
            while (portion := await self._come(coming, intake)) is not None:
                pieces = await self._in_thread(lambda portion=portion: self._render(portion))  # type: ignore[misc]
                coming = asyncio.ensure_future(anext(intake, None))
                self._file.add(pieces)
                await self._until_done(self._file.write)
                self._note(portion)
                if self._bytes >= _SYNC_BYTES:
                    await self._sync(intake)
            await self._sync(intake)
        finally:
            coming.cancel()
            self._thread.submit(self._file.close)
            self._thread.shutdown(wait=False)

    async def _come(self, coming: asyncio.Future[Portion | None], intake: Intake) -> Portion | None:
        """Wait for the next portion, and sync when that is due."""
        while self._written:
            await asyncio.wait({coming}, timeout=max(0.0, self._due - time.monotonic()))
            if time.monotonic() >= self._due:
                await self._sync(intake)
            if coming.done():
                break
        return await coming

    def _note(self, portion: Portion) -> None:
        if not self._written:
            self._due = time.monotonic() + _SYNC_SECONDS
        self._written.append(portion)
        self._bytes += len(portion.data)

    async def _sync(self, intake: Intake) -> None:
        if not self._written:
            return
        await self._until_done(self._file.sync)
        for portion in self._written:
            intake.acknowledge(portion)
            self._delivered(portion)
        self._written.clear()
        self._bytes = 0

    async def _until_done(self, call: Callable[[], None]) -> None:
        await self._attempts.until_delivered(lambda: self._in_thread(call))

    def _in_thread(self, call: Callable[[], R]) -> asyncio.Future[R]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
