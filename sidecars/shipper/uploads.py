"""Sealed chunks into their buckets: several at a time, each until it is there."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping

import stamina

from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.metrics import delivery_errors
from sidecars.shipper import metrics
from sidecars.shipper.chunk import Chunk
from sidecars.shipper.delivery import Delivery
from sidecars.shipper.plan import Output
from sidecars.shipper.spool import Spool

_LONGEST_PAUSE = 30.0
# Once the pod ends, there is no time for long pauses.
_LONGEST_LAST_PAUSE = 2.0
_SHOWN = 20


class Uploads:
    """Uploads sealed chunks, several at a time, for as long as it takes.

    `add` may be called from any thread. `objects` are the last that were stored, for the status page.
    """

    def __init__(
        self, spool: Spool, outputs: Mapping[str, Output], known: Mapping[str, str], health: Health, jobs: int
    ) -> None:
        self.objects: deque[dict[str, object]] = deque(maxlen=_SHOWN)
        self.objects_total = self.bytes_total = self.lines_total = 0
        self._spool = spool
        self._health = health
        self._deliveries = {name: Delivery(output, spool, known) for name, output in outputs.items()}
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Chunk] = asyncio.Queue()
        self._unfinished = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._jobs = jobs
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._pausing: set[str] = set()
        self._hurried = False
        self._failing: dict[str, dict[str, str]] = {}
        for name in outputs:  # what has not happened yet is 0, and not absent
            for each in (metrics.OBJECTS, metrics.OBJECT_BYTES, metrics.LINES, metrics.LINE_BYTES, metrics.RETRIES):
                each.labels(name)
        stamina.instrumentation.set_on_retry_hooks(())  # one event when it fails, not one for each attempt

    def add(self, chunk: Chunk) -> None:
        """Take a sealed chunk."""
        self._loop.call_soon_threadsafe(self._take, chunk)

    def _take(self, chunk: Chunk) -> None:
        self._unfinished += 1
        self._idle.clear()
        self._queue.put_nowait(chunk)

    async def idle(self) -> None:
        """Wait until every chunk that was taken is in its bucket."""
        await asyncio.sleep(0)  # what other threads have added comes first
        await self._idle.wait()

    def hurry(self) -> None:
        """Try at once what waits to be tried again, and from now on with short pauses."""
        self._hurried = True
        for name in self._pausing:
            self._attempts[name].cancel()

    async def run(self) -> None:
        """Upload for ever."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._jobs):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            chunk = await self._queue.get()
            await self._finish(chunk)
            self._unfinished -= 1
            if not self._unfinished:
                self._idle.set()

    async def _finish(self, chunk: Chunk) -> None:
        while True:
            attempts = self._attempts[chunk.id] = asyncio.create_task(self._until_delivered(chunk))
            try:
                await asyncio.wait({attempts})
            finally:
                attempts.cancel()
                del self._attempts[chunk.id]
            if not attempts.cancelled():
                attempts.result()
                return

    async def _until_delivered(self, chunk: Chunk) -> None:
        delivery = self._deliveries[chunk.output]
        pause = _LONGEST_LAST_PAUSE if self._hurried else _LONGEST_PAUSE
        retries = stamina.retry_context(
            on=lambda error: self._failed(delivery.output, chunk, error),
            attempts=None, timeout=None, wait_initial=0.2, wait_max=pause, wait_jitter=0.5,
        )  # fmt: skip
        try:
            async for attempt in retries:
                self._pausing.discard(chunk.id)
                with attempt:
                    await self._attempt(delivery, chunk)
                self._pausing.add(chunk.id)
        finally:
            self._pausing.discard(chunk.id)

    async def _attempt(self, delivery: Delivery, chunk: Chunk) -> None:
        began = time.monotonic()
        # Shielded: a thread goes on when its task is cancelled, and nobody else may have the chunk meanwhile.
        work = asyncio.ensure_future(asyncio.to_thread(self._deliver, delivery, chunk))
        await asyncio.shield(work)
        self._delivered(delivery.output, chunk, time.monotonic() - began)

    def _deliver(self, delivery: Delivery, chunk: Chunk) -> None:
        delivery.make_whole(chunk)
        delivery.deliver(chunk)
        self._spool.forget(chunk)

    def _delivered(self, output: Output, chunk: Chunk, seconds: float) -> None:
        name = output.name
        if self._failing.pop(name, None) is not None:
            log.info("uploads work again", output=name)
        self._health.working(name)
        self.objects_total += 1
        self.bytes_total += chunk.length
        self.lines_total += chunk.lines
        metrics.OBJECTS.labels(name).inc()
        metrics.OBJECT_BYTES.labels(name).inc(chunk.length)
        metrics.LINES.labels(name).inc(chunk.lines)
        metrics.LINE_BYTES.labels(name).inc(chunk.raw_bytes)
        self.objects.appendleft(
            {
                "key": chunk.key,
                "bytes": chunk.length,
                "lines": chunk.lines,
                "output": name,
                "seconds": round(seconds, 3),
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )

    def _failed(self, output: Output, chunk: Chunk, error: Exception) -> bool:
        from sidecars.shipper.bucket import Failed

        if not isinstance(error, Failed | OSError):
            return False
        code = error.code if isinstance(error, Failed) else "disk"
        delivery_errors.labels(output.name, code).inc()
        metrics.RETRIES.labels(output.name).inc()
        self._health.failing(output.name, str(error))
        said = self._failing.setdefault(output.name, {})
        new = code not in said
        said.pop(code, None)
        said[code] = str(error)  # the last one is at the end
        if new:
            permanent = isinstance(error, Failed) and error.permanent
            say = log.error if permanent else log.warning
            say(
                "upload refused; it is tried again until it is allowed"
                if permanent
                else "upload failed; it is tried again until it works",
                output=output.name,
                key=chunk.key,
                code=code,
                error=str(error),
            )
        return True

    def why_failing(self) -> str | None:
        """Say why uploads do not work now, in the words of the last failure; None if they do."""
        return next((list(said.values())[-1] for said in self._failing.values() if said), None)
