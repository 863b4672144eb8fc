"""The stream: batches as they come, from a thread that reads, woken by inotify or the clock; checkpoints behind it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypedDict, TypeVar

from sidecars.core.follow import metrics
from sidecars.core.follow.checkpoint import Store
from sidecars.core.follow.file import Batch
from sidecars.core.follow.lane import Options, Source
from sidecars.core.follow.tracker import Tracker
from sidecars.core.follow.turns import BATCH_BYTES
from sidecars.core.follow.wake import Wake
from sidecars.core.log import log

T = TypeVar("T")

_CHECKPOINT_SECONDS = 1.0
_DELIVERY_SECONDS = 0.25
_SMALLEST_BATCH = 16 << 10
# While a rotated file lingers, a held line may be due, or the drain waits for quiet.
_TEND_SECONDS = 0.1
# Looking at everything costs time in proportion to the files; it may take this share of one core, and no more. Where
# inotify tells what happens it is a safety net; where it cannot, it is all there is.
_SCAN_SHARE = 0.005
_POLL_SHARE = 0.1
_SCAN_SECONDS = 10.0


class Row(TypedDict):
    """A file on the status page."""

    path: str
    state: str
    size_bytes: int
    delivered_bytes: int
    lag_bytes: int
    inode: int


class Follower:
    """Batches of bytes of some sources' files, in order within each path, in fair turns between paths.

    Iterate to get them, and acknowledge each one once it is delivered: the checkpoint follows the acknowledgement.
    A batch is valid until the next one is asked for. Iteration ends after `drain`, or with `once` at the files' end.
    """

    def __init__(self, sources: Iterable[Source], options: Options, store: Store | None, output: str) -> None:
        self._options = options
        self._store = store
        self._output = output
        self._tracker = Tracker(sources, options, output)
        self._thread = ThreadPoolExecutor(1, f"follow-{output}")
        self._ahead: asyncio.Future[Batch | None] | None = None
        self._more = asyncio.Event()
        self.delivered_bytes = 0
        self._said = ""
        self._dirty = False
        self._quiet: float | None = None
        self._drained_at = 0.0
        self._wake = Wake(asyncio.get_running_loop(), output, options)
        if options.rate_limit is not None:
            self.pace(0, 1)
        self._scan_at = 0.0
        self._poll_at = 0.0
        self._resume_at = 0.0
        self._read = metrics.READ_BYTES.labels(output)
        self._saved = metrics.CHECKPOINTS.labels(output)
        self._not_saved = metrics.CHECKPOINT_ERRORS.labels(output)
        metrics.LAG_BYTES.labels(output).set_function(lambda: self.lag_bytes)
        metrics.FILES.labels(output).set_function(lambda: len(self._tracker.registry.files))
        metrics.OPEN_FILES.labels(output).set_function(lambda: len(self._tracker.registry.descriptors))
        metrics.UNREADABLE.labels(output).set_function(lambda: len(self.unreadable))
        metrics.POLLING.labels(output).set_function(lambda: self._wake.polling)

    # What is there, for status and metrics

    @property
    def lag_bytes(self) -> int:
        """Bytes seen and not delivered."""
        return sum(file.undelivered for file in list(self._tracker.registry.files.values()))

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest undelivered byte has been waiting; 0 when nothing is."""
        since = [file.behind_since for file in list(self._tracker.registry.files.values()) if file.undelivered]
        return max((time.monotonic() - moment for moment in since if moment), default=0.0)

    @property
    def unreadable(self) -> list[str]:
        """Paths that cannot be read now."""
        return [lane.path for lane in list(self._tracker.lanes.values()) if lane.trouble]

    def furthest_behind(self, count: int) -> list[Row]:
        """Give rows for the status page: so many files, those with the most undelivered bytes first."""
        files = heapq.nlargest(count, list(self._tracker.registry.files.values()), key=lambda file: file.undelivered)
        return [
            Row(
                path=file.path,
                state="rotated" if file.rotated_at else "followed",
                size_bytes=file.size,
                delivered_bytes=max(0, file.size - file.undelivered),
                lag_bytes=file.undelivered,
                inode=file.inode,
            )
            for file in files
        ]

    def delivered(self, status: os.stat_result) -> bool:
        """Tell whether the file of this stat was rotated away and is delivered to its last byte."""
        file = self._tracker.registry.files.get((status.st_dev, status.st_ino))
        return (
            file is not None
            and not file.packed
            and file.rotated_at is not None
            and file.acked is not None
            and file.acked.generation == file.generation
            and file.acked.offset == status.st_size
        )

    @property
    def paths(self) -> list[str]:
        """The followed paths."""
        return list(self._tracker.lanes)

    # The stream

    async def start(self) -> None:
        """Read the checkpoint, look at everything once, and write down what is there: it may be rotated any moment."""
        await self._in_thread(self._begin)
        await self.save()

    def _begin(self) -> None:
        self._tracker.remember(self._store.load() if self._store else None)
        self._scan()
        self._watch_targets()

    def __aiter__(self) -> Self:
        """Iterate over the batches."""
        return self

    async def __anext__(self) -> Batch:
        """Give the next batch, as soon as there is one."""
        while True:
            if self._ahead is None:
                self._read_ahead()
            batch = await asyncio.shield(self._ahead)  # type: ignore[arg-type]
            self._ahead = None
            if batch is not None:
                await self._limit(len(batch.data))
                self._read_ahead()
                self._read.inc(len(batch.data))
                return batch
            if self._tracker.turns.ended:
                raise StopAsyncIteration
            await self._more.wait()

    def _read_ahead(self) -> None:
        self._more.clear()
        self._ahead = self._in_thread(self._tracker.turns.next)

    async def _limit(self, size: int) -> None:
        rate = self._options.rate_limit
        if rate is not None:
            now = time.monotonic()
            await asyncio.sleep(max(0.0, self._resume_at - now))
            self._resume_at = max(self._resume_at, now) + size / rate

    def pace(self, size: int, seconds: float) -> None:
        """Learn how long a delivery took: batches get so large that one takes about a quarter of a second.

        What is under way when this process dies is delivered again, so it shall not be seconds' worth.
        """
        fitting = int(size / max(seconds, 1e-6) * _DELIVERY_SECONDS)
        if self._options.rate_limit is not None:
            fitting = min(fitting, int(self._options.rate_limit * _DELIVERY_SECONDS))
        self._tracker.turns.room = max(_SMALLEST_BATCH, min(BATCH_BYTES, fitting))

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)

    def acknowledge(self, batch: Batch) -> None:
        """Take a batch as delivered; those of one file in their order."""
        batch.file.acknowledge(batch)
        self.delivered_bytes += batch.end - batch.start
        self._dirty = True

    def drain(self, quiet: float) -> None:
        """End once the files have not grown for so many seconds, and what they hold was given out."""
        if self._quiet is None:
            self._drained_at = time.monotonic()
        self._quiet = quiet
        self._wake.now()

    # Looking, in the background

    async def watch(self) -> None:
        """Look when told to, and when it is time; for ever."""
        while True:
            told = await self._wake.wait(self._until_next_look())
            await self._in_thread(lambda told=told: self._look(*told))  # type: ignore[misc]
            if self._tracker.turns or self._tracker.turns.finish:
                self._more.set()

    def _until_next_look(self) -> float:
        due = min(self._scan_at, self._poll_at if self._wake.polling else math.inf) - time.monotonic()
        if self._tracker.turns.tending or self._tracker.listing_again or self._quiet is not None:
            due = min(due, _TEND_SECONDS)
        return max(0.0, due)

    def _look(self, paths: set[str], everything: bool) -> None:
        now = time.monotonic()
        if everything or now >= self._scan_at:
            self._scan()
        for path in paths:
            self._tracker.look(path)
        if self._quiet is not None or (self._wake.polling and now >= self._poll_at):
            self._poll()
        self._watch_targets()
        self._tracker.list_again()
        self._tracker.turns.tend()
        self._end_when_quiet()

    def _watch_targets(self) -> None:
        """Watch where symlinks lead; then look once more: what was written there before the watch was not told."""
        paths, self._tracker.registry.led = self._tracker.registry.led, set()
        if paths:
            self._wake.cover(self._tracker)
        for path in paths:
            self._tracker.look(path)

    def _scan(self) -> None:
        started = time.monotonic()
        self._wake.cover(self._tracker)
        self._tracker.scan()
        now = time.monotonic()
        if self._wake.polling:
            self._scan_at = now + max(self._options.poll_interval, (now - started) / _POLL_SHARE)
        else:
            self._scan_at = now + max(_SCAN_SECONDS, (now - started) / _SCAN_SHARE)
        self._poll_at = now + self._options.poll_interval

    def _poll(self) -> None:
        started = time.monotonic()
        for lane in list(self._tracker.lanes.values()):
            if self._quiet is not None or not self._wake.tells(lane):
                self._tracker.look(lane.path)
        now = time.monotonic()
        self._poll_at = now + max(self._options.poll_interval, (now - started) / _POLL_SHARE)

    def _end_when_quiet(self) -> None:
        turns = self._tracker.turns
        if self._quiet is None or turns or turns.pending:
            return
        quiet = time.monotonic() - max(self._tracker.grown_at, self._drained_at)
        if quiet >= self._quiet and not self._tracker.list_again(at_once=True):
            turns.finish = True

    # Checkpoints

    async def remember(self) -> None:
        """Write a checkpoint a second, if anything was acknowledged; for ever."""
        while self._options.checkpoints:
            await asyncio.sleep(_CHECKPOINT_SECONDS)
            await self.save()

    async def save(self) -> None:
        """Write what was acknowledged, if anything was since the last time."""
        try:
            await self.record()
            self._said = ""
        except OSError as error:
            self._not_saved.inc()
            self._complain(str(error))

    async def record(self) -> None:
        """Write what was acknowledged, if anything was since the last time. Raises OSError; it is due still then."""
        if self._store is None or not (self._dirty or self._tracker.registry.changed):
            return
        self._dirty = self._tracker.registry.changed = False
        try:
            positions = await self._in_thread(self._tracker.positions)
            await asyncio.to_thread(self._store.save, positions, self._tracker.begun)
            self._saved.inc()
        except BaseException:  # also a cancelled one: the next to record must not take it for done
            self._dirty = True
            raise

    def _complain(self, error: str) -> None:
        """Say once what is tried again each second."""
        if error != self._said:
            self._said = error
            log.error(
                "cannot write checkpoint; a restart would repeat what was delivered since the last one",
                error=error,
                output=self._output,
            )

    def close(self) -> None:
        """Stop watching, and close the files once the thread has done what it is at."""
        self._wake.close()
        self._thread.submit(self._tracker.registry.descriptors.close_all)
        self._thread.shutdown(wait=False)


@contextlib.asynccontextmanager
async def follow(
    sources: Iterable[Source], options: Options | None = None, *, store: Store | None = None, output: str = "stdout"
) -> AsyncIterator[Follower]:
    """Follow files: a Follower to iterate over, which looks and writes checkpoints as long as the block lasts."""
    follower = Follower(sources, options or Options(), store, output)
    try:
        await follower.start()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(follower.watch()), tasks.create_task(follower.remember())]
            yield follower
            for task in background:
                task.cancel()
    finally:
        # Also when it was stopped: one output may have to end because another is dead.
        await follower.save()
        follower.close()
