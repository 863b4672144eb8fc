"""Batches to a receiver of the forward protocol, each held until it is acknowledged, for as long as that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import stamina

from sidecars.core.follow.file import Batch
from sidecars.core.follow.follower import Follower
from sidecars.core.follow.identity import printable
from sidecars.core.follow.join import Lines
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.metrics import delivery_errors
from sidecars.tailer import metrics, outputs, packing
from sidecars.tailer.destination import DeliveryFailed, tag_for
from sidecars.tailer.forward import ForwardSender

T = TypeVar("T")

_LONGEST_PAUSE = 10.0
_LISTEN_SECONDS = 0.05


class Forward:
    """Sends each batch as one chunk, and acknowledges it to the follower when the receiver has acknowledged the chunk.

    A destination that is down is tried again, at most every ten seconds, until the service is stopped.
    """

    def __init__(
        self, name: str, destination: outputs.Forward, fields: Mapping[str, str], json: bool, health: Health
    ) -> None:
        self.name = name
        self._destination = destination
        self._fields = fields
        self._pack = packing.pack_json if json else packing.pack
        self._health = health
        self._sender = ForwardSender(destination)
        self._thread = ThreadPoolExecutor(1, name)
        self._batches: dict[str, Batch] = {}
        self._parts: dict[object, int] = {}
        self._down = False
        # One event when it fails and one when it works again, from here, instead of one for each attempt.
        stamina.instrumentation.set_on_retry_hooks(())

    async def deliver(self, follower: Follower) -> None:
        """Deliver until the follower ends and everything is acknowledged."""
        coming = asyncio.ensure_future(anext(follower, None))
        try:
            while True:
                while self._batches and not coming.done():
                    await self._listen(follower, _LISTEN_SECONDS)
                batch = await coming
                if batch is None:
                    break
                chunk = await self._in_thread(lambda batch=batch: self._chunk(batch))  # type: ignore[misc]
                coming = asyncio.ensure_future(anext(follower, None))
                while self._sender.full:
                    await self._listen(follower, None)
                self._batches[chunk.id] = batch
                await self._until_delivered(lambda chunk=chunk: self._sender.send(chunk))  # type: ignore[misc]
                await self._listen(follower, 0.0)
            while self._batches:
                await self._listen(follower, None)
        finally:
            coming.cancel()
            self._sender.close()

    def _chunk(self, batch: Batch) -> packing.Chunk:
        data = bytes(batch.data)
        records = batch.file.lane.source.records
        if isinstance(records, Lines):
            lines: Sequence[str | bytes] = packing.texts(data)
        else:
            lines = [packing.text(record.removesuffix(b"\n")) for record in records.split(data)]
        fields: dict[str, object] = {"file": batch.path, **self._fields}
        if batch.continued or not batch.complete:
            entries = self._packed_parts(batch, lines, fields)
        else:
            entries = self._pack(lines, fields, time.time_ns())
        tag = tag_for(
            self._destination.tag,
            path=printable(batch.path),
            pod=self._fields.get("pod"),
            namespace=self._fields.get("namespace"),
        )
        return packing.chunk(tag, entries, len(lines), compressed=self._destination.compress == "gzip")

    def _packed_parts(self, batch: Batch, lines: Sequence[str | bytes], fields: dict[str, object]) -> bytes:
        """Pack lines of which the first continues one that began before, or the last goes on: these are marked."""
        now = time.time_ns()
        entries = []
        for index, line in enumerate(lines):
            begun = batch.continued and index == 0
            ends = batch.complete or index < len(lines) - 1
            marks: dict[str, object] = {}
            if begun or not ends:
                number = (self._parts.pop(batch.file, 1) if begun else 0) + 1
                marks = {"part": number, "last": ends}
                if not ends:
                    self._parts[batch.file] = number
            entries.append((packing.pack if marks else self._pack)([line], {**fields, **marks}, now))
        return b"".join(entries)

    async def _listen(self, follower: Follower, wait: float | None) -> None:
        for name in await self._until_delivered(lambda: self._sender.acknowledged(wait)):
            batch = self._batches.pop(name)
            follower.acknowledge(batch)
            metrics.DELIVERED_BYTES.labels(self.name).inc(batch.end - batch.start)
            metrics.BATCHES.labels(self.name).inc()

    async def _until_delivered(self, call: Callable[[], T]) -> T:
        """Call, and again after a pause as long as the delivery fails."""
        retries = stamina.retry_context(
            on=self._failed, attempts=None, timeout=None, wait_initial=0.2, wait_max=_LONGEST_PAUSE, wait_jitter=0.5
        )
        async for attempt in retries:
            with attempt:
                result = await self._in_thread(call)
        if self._down:
            self._down = False
            self._health.working(self.name)
            log.info("delivery works again", output=self.name)
        return result

    def _failed(self, error: Exception) -> bool:
        if not isinstance(error, DeliveryFailed):
            return False
        delivery_errors.labels(self.name, error.code).inc()
        self._health.failing(self.name, str(error))
        if not self._down:
            log.warning("delivery failed; it is tried again until it works", output=self.name, error=str(error))
        self._down = True
        return True

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
