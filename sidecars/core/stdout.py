"""The output that every container has, stdout: written by a thread of its own, so that a full pipe blocks no other."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sidecars.core.errors import SidecarError
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.metrics import delivery_errors

if TYPE_CHECKING:
    from sidecars.core.delivery import Intake

# A write that takes longer is worth a word, and makes /healthz say so.
_STALLED_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ERRORS = {errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EFBIG: "disk_full"}


class Held(Protocol):
    """What is delivered: bytes of a file or of another origin."""

    @property
    def data(self) -> bytes | memoryview:
        """Its bytes, as they were read."""


T = TypeVar("T", bound=Held)
Piece = bytes | memoryview


class Stdout(Generic[T]):
    """Writes what is made of each thing that comes, and acknowledges it when the kernel has all of it.

    `render` gives what to write, in a thread, once for each in their order; `delivered` is told what was acknowledged.
    """

    name = "stdout"

    def __init__(
        self,
        render: Callable[[T], Iterable[Piece]],
        delivered: Callable[[T], None],
        health: Health,
        descriptor: int = 1,
    ) -> None:
        self._render = render
        self._delivered = delivered
        self._health = health
        self._descriptor = descriptor
        self._thread = ThreadPoolExecutor(1, "stdout")
        self._since: float | None = None

    async def deliver(self, intake: Intake[T]) -> None:
        """Deliver until the intake ends."""
        loop = asyncio.get_running_loop()
        watcher = asyncio.create_task(self._watch())
        try:
            async for each in intake:
                self._since = began = time.monotonic()
                await loop.run_in_executor(self._thread, self._write, each)
                self._since = None
                intake.acknowledge(each)
                intake.pace(len(each.data), time.monotonic() - began)
                self._delivered(each)
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        stalled = False
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            since = self._since
            now_stalled = since is not None and time.monotonic() - since > _STALLED_SECONDS
            if now_stalled and not stalled:
                reason = "nobody reads it, or its disk is full; files are read no further until it moves"
                self._health.failing(self.name, f"stdout has taken nothing for {_STALLED_SECONDS:.0f} s: {reason}")
                log.warning("stdout is stalled", reason=reason)
            if stalled and not now_stalled:
                self._health.working(self.name)
                log.info("stdout moves again")
            stalled = now_stalled

    def _write(self, each: T) -> None:
        for piece in self._render(each):
            rest = memoryview(piece)
            while rest:
                rest = rest[self._write_some(rest) :]

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever shares the pipe has made it non-blocking
            select.select([], [self._descriptor], [])
        except BrokenPipeError as error:
            raise SidecarError("stdout was closed by its reader; start it again, or write to a file") from error
        except OSError as error:
            if error.errno not in _FULL:
                raise SidecarError(f"cannot write to stdout: {error.strerror}") from error
            delivery_errors.labels(self.name, _ERRORS[error.errno]).inc()
            time.sleep(_RETRY_SECONDS)  # in this thread nothing else waits; what is not written is kept
        return 0
