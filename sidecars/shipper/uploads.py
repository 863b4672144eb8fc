"""Sealed chunks into their buckets: several at a time, each until it is there, and once.

What follows point 4 of the protocol in spool.py:

4.1 Many small members are compressed anew as one, into another file; the record is changed, the old file removed.
4.2 The key is made and recorded, before the first upload and for good. One with an index takes the index after the last
    that the ledger knows for keys of this kind; for the first of a kind the bucket is listed once.
4.3 The upload says If-None-Match: *. A failure whose outcome is not known is followed by the same upload under the same
    key, until the answer is 200 or 412.
4.4 412 for a key with the chunk's id in it: an earlier upload of ours has arrived. For a key with an index, the id in
    the object's metadata tells: ours has arrived; or it is another's object, and the next index is recorded and tried.
4.5 An endpoint that ignores the condition is asked for the object before the upload instead. Between question and
    upload another writer may use the same key with an index; a key with an id has only one writer.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import stamina

from sidecars.core.errors import SidecarError
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.metrics import delivery_errors
from sidecars.shipper import compression, metrics, points
from sidecars.shipper.chunk import Chunk
from sidecars.shipper.keys import ChunkFacts, KeyFormat, key_format
from sidecars.shipper.plan import Output, Plan
from sidecars.shipper.spool import Spool

if TYPE_CHECKING:
    from sidecars.shipper.bucket import Bucket

_LONGEST_PAUSE = 30.0
# Once the pod ends, there is no time for long pauses.
_LONGEST_LAST_PAUSE = 2.0
# Members smaller than this on average compress badly: a trickle of lines makes one each second.
_SMALL_MEMBER = 64 << 10
_SHOWN = 20


class Delivery:
    """How the chunks of one output get into its bucket. Blocking: called from threads."""

    def __init__(self, output: Output, spool: Spool, known: Mapping[str, str]) -> None:
        self.output = output
        self._spool = spool
        self._known = known
        self._lock = threading.Lock()
        self._bucket: Bucket | None = None
        self._formats: dict[str, KeyFormat] = {}
        self._conditional: bool | None = None

    @property
    def bucket(self) -> Bucket:
        """The bucket; boto3 is imported when it is first asked for."""
        from sidecars.shipper.bucket import Bucket  # 16 MiB and 0.3 s that a pod pays with its first upload

        if self._bucket is None:
            self._bucket = Bucket(self.output.destination)
            if self.output.destination.create_bucket:
                self._bucket.create()
        return self._bucket

    def deliver(self, chunk: Chunk) -> None:
        """Try to have the chunk in the bucket; return when it is. Raises bucket.Failed, OSError."""
        with self._lock:
            conditional = self._honours_conditions()
            self._decide_key(chunk)
        while not self._is_stored(chunk, conditional):
            with self._lock:
                log.info("object key is taken", key=chunk.key, output=self.output.name)
                self._take_index(chunk)
        points.reached("object stored")

    def _is_stored(self, chunk: Chunk, conditional: bool) -> bool:
        """Upload under the chunk's key; False when the key is another's."""
        from sidecars.shipper.bucket import Taken

        key = chunk.key or ""
        if not conditional:
            owner = self.bucket.owner(key)
            if owner == chunk.id:
                return True
            if owner is not None and chunk.index is not None:
                return False
        try:
            self._put(chunk, conditional=conditional)
        except Taken:
            # A key that holds the id can only be taken by ourselves. One that is free again fails, and is tried again.
            owner = chunk.id if chunk.index is None else self.bucket.owner(key)
            if owner is None:
                raise
            return owner == chunk.id
        return True

    def _put(self, chunk: Chunk, *, conditional: bool) -> None:
        self.bucket.put(
            chunk.key or "",
            self._spool.path(chunk),
            chunk.length,
            chunk=chunk.id,
            conditional=conditional,
            encoding=None,
            content_type=self.output.destination.content_type
            or compression.content_type(chunk.body, chunk.compression),
            lines=chunk.lines,
        )

    def _content_type(self, chunk: Chunk) -> str:
        return self.output.destination.content_type or compression.content_type(chunk.body, chunk.compression)

    def _honours_conditions(self) -> bool:
        """Find out once whether the endpoint honours If-None-Match, and remember it in the ledger."""
        if self._conditional is None:
            place = self.output.destination
            name = f"conditional {place.endpoint or 'aws'} {place.bucket}"
            noted = self._spool.ledger.fact(name)
            if noted is None:
                noted = b"no" if self.bucket.ignores_conditions(_literal(self.output.layout.prefix)) else b"yes"
                self._spool.ledger.note(name, noted)
                if noted == b"no":
                    log.warning(
                        "endpoint ignores If-None-Match; objects are looked up before each upload instead",
                        endpoint=place.endpoint,
                        advice="let no other writer use the same keys",
                    )
            self._conditional = noted == b"yes"
        return self._conditional

    # The key

    def _format(self, chunk: Chunk) -> KeyFormat:
        if chunk.kind not in self._formats:
            layout = self.output.layout
            extension = layout.extension or compression.extension(chunk.body, chunk.compression)
            self._formats[chunk.kind] = key_format(layout, self._known, extension=extension)
        return self._formats[chunk.kind]

    def _decide_key(self, chunk: Chunk) -> None:
        if chunk.key is not None:
            return
        if self._format(chunk).indexed:
            self._take_index(chunk)
        else:
            chunk.key = self._format(chunk).render(_facts(chunk), None)
            try:
                self._spool.ledger.commit([chunk])
            except OSError:
                chunk.key = None
                raise
        points.reached("key recorded")

    def _take_index(self, chunk: Chunk) -> None:
        before = chunk.key, chunk.index
        made, facts = self._format(chunk), _facts(chunk)
        around = "\0".join(made.around_index(facts))
        last = self._spool.ledger.last_index(self.output.name, around)
        if last is None:
            last = made.greatest(facts, self.bucket.keys(made.around_index(facts)[0]))
        chunk.index = 0 if last is None else last + 1
        chunk.key = made.render(facts, chunk.index)
        try:
            self._spool.ledger.take_index(chunk, around, chunk.index)
        except OSError:
            chunk.key, chunk.index = before
            raise

    def make_whole(self, chunk: Chunk) -> None:
        """Compress many small members anew, as one. Raises OSError."""
        small = chunk.members > 1 and chunk.raw_bytes / chunk.members < _SMALL_MEMBER
        if chunk.key is not None or not small or chunk.compression == "none":
            return
        path = self._spool.path(chunk)
        try:
            length = compression.recompress(path, f"{path}-whole", chunk.compression, chunk.length)
        except OSError as error:
            # A chunk that is damaged, or finds no room for a second copy, is uploaded as it is.
            if error.errno not in (errno.EBADMSG, errno.ENOSPC, errno.EDQUOT):
                raise
            log.warning("chunk is uploaded in many small members", path=path, error=str(error))
            return
        self._spool.exchange(chunk, f"{chunk.file}-whole", length)


class Uploads:
    """Uploads sealed chunks, several at a time, for as long as it takes.

    `add` may be called from any thread. `objects` are the last that were stored, for the status page.
    """

    def __init__(
        self, spool: Spool, outputs: Mapping[str, Output], known: Mapping[str, str], health: Health, jobs: int
    ) -> None:
        self.objects: deque[dict[str, object]] = deque(maxlen=_SHOWN)
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
        if code not in said:
            said[code] = str(error)
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
        return next((text for said in self._failing.values() for text in said.values()), None)


def _facts(chunk: Chunk) -> ChunkFacts:
    return ChunkFacts(id=chunk.id, tag=chunk.tag, slice=chunk.slice, opened=chunk.opened)


def _literal(prefix: str) -> str:
    """Give the part of a prefix that holds no placeholder."""
    for mark in ("%", "$", "{"):
        prefix = prefix.partition(mark)[0]
    return prefix


def check(plan: Plan) -> str:
    """Try each output with a real write, and say how it went. Raises SidecarError."""
    from sidecars.shipper.bucket import Bucket, Failed

    texts = []
    for output in {stream.output.name: stream.output for stream in plan.streams}.values():
        place = f"s3://{output.destination.bucket}/{output.layout.prefix}"
        try:
            warnings = Bucket(output.destination).check(_literal(output.layout.prefix))
        except Failed as error:
            raise SidecarError(f"{place} cannot be written: {error}") from error
        texts += [*(f"warning: {warning}" for warning in warnings), f"{place} can be written"]
    return "\n".join(texts)
