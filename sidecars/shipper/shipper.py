"""The S3 shipper: log files, through chunks on the state volume, into buckets."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable

from sidecars.core.errors import WrongSettings
from sidecars.core.follow import absent
from sidecars.core.follow.file import Batch
from sidecars.core.follow.find import Patterns
from sidecars.core.follow.follower import Follower, follow
from sidecars.core.follow.followers import watch_health
from sidecars.core.follow.identity import printable
from sidecars.core.follow.join import Lines, records
from sidecars.core.follow.lane import Options, Source
from sidecars.core.log import log
from sidecars.core.metrics import oldest_undelivered
from sidecars.core.service import Lifecycle
from sidecars.shipper import bodies, metrics, points, takeover
from sidecars.shipper.chunk import Chunk
from sidecars.shipper.ledger import open_ledger
from sidecars.shipper.plan import Output, Stream
from sidecars.shipper.settings import Settings
from sidecars.shipper.spool import Line, Spool, anew
from sidecars.shipper.uploads import Uploads

_RECORD_SECONDS = 1.0
# With many tags each record syncs many files: it may take this share of the time.
_RECORD_SHARE = 0.25
_RETRY_SECONDS = 1.0
# What is kept of the grace for uploading, should the files never be quiet.
_RESERVE_SHARE = 0.4
_RESERVE_SECONDS = 8.0
_SHOWN = 50


class Shipper:
    """Follow files, collect their lines in chunks on disk, and upload each chunk as one object.

    run    read as fast as chunks can be written, upload what is sealed
    drain  seal and upload at once, read on until the files were quiet for a while, then seal and upload the rest
    stop   cancelled: what is not uploaded stays on the state volume for the next start, and is said
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plan = settings.plan()
        self._outputs = {stream.output.name: stream.output for stream in self._plan.streams}
        self._streams = {_source(stream): stream for stream in self._plan.streams}
        self._renderers = {
            source: bodies.renderer(stream.output.body, stream.parse, stream.output.layout)
            for source, stream in self._streams.items()
        }
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._limit = 0
        self._spool: Spool | None = None
        self._uploads: Uploads | None = None
        self._follower: Follower | None = None

    async def run(self, life: Lifecycle) -> None:
        """Ship until the drain has ended."""
        directory = self._state(life)
        self._life = life
        for warning in self._plan.warnings:
            log.warning("fluentd's configuration", reason=warning)
        ledger, was_corrupt = await asyncio.to_thread(open_ledger, directory)
        started = anew() if was_corrupt else takeover.document(self._plan)
        spool = self._spool = Spool(directory, ledger, self._outputs, started)
        jobs = self._plan.upload_jobs or self._settings.upload_jobs
        uploads = self._uploads = Uploads(spool, self._outputs, self._settings.known(), life.health, jobs)
        spool.sealed = uploads.add
        self._count()
        try:
            for chunk in await asyncio.to_thread(spool.recover):
                uploads.add(chunk)
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(uploads.run())
                await self._follow(spool, uploads, life)
                await uploads.idle()
                working.cancel()
            if self._settings.once:
                absent.complain(self._streams, self._follower.unreadable if self._follower else ())
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            await asyncio.to_thread(spool.close)

    def _state(self, life: Lifecycle) -> str:
        if life.state_dir is None:
            raise WrongSettings(
                "there is no state directory: chunks must outlive a restart; mount a volume at /state, or --state-dir"
            )
        directory = os.path.abspath(life.state_dir)
        if any(_absolute(stream).matches(os.path.join(directory, "x.log")) for stream in self._plan.streams):
            raise WrongSettings(
                f"--state-dir {directory} lies where the paths to read find it; choose a directory outside of them"
            )
        limit = self._plan.backlog_limit
        self._limit = self._settings.backlog_limit.of(shutil.disk_usage(directory).total) if limit is None else limit
        return directory

    def _count(self) -> None:
        metrics.BACKLOG_BYTES.set_function(lambda: self._spool.stored_bytes if self._spool else 0)
        metrics.BACKLOG_CHUNKS.set_function(lambda: len(self._spool.kept()) if self._spool else 0)
        metrics.PENDING_BYTES.set_function(lambda: self._spool.pending_bytes if self._spool else 0)
        oldest_undelivered.set_function(self._oldest)

    def _oldest(self) -> float:
        follower, spool = self._follower, self._spool
        opened = [chunk.opened for chunk in spool.kept()] if spool else []
        return max(time.time() - min(opened, default=time.time()), follower.oldest_seconds if follower else 0.0)

    # Reading

    async def _follow(self, spool: Spool, uploads: Uploads, life: Lifecycle) -> None:
        options = Options(
            rotate_wait=self._plan.rotate_wait if self._settings.fluentd_config else self._settings.rotate_wait,
            poll_interval=self._settings.poll_interval,
            watch=self._settings.watch == "auto" and not self._settings.once,
            once=self._settings.once,
            checkpoints=False,
        )
        async with follow(self._streams, options, store=spool, output="s3") as follower:
            self._follower = follower
            log.info(
                "watching", paths=len(follower.paths), outputs=[_place(output) for output in self._outputs.values()]
            )
            life.health.started()
            beside = [
                asyncio.create_task(self._record(spool, follower)),
                asyncio.create_task(self._drain(spool, follower, uploads, life)),
                asyncio.create_task(watch_health(lambda: follower.unreadable, life.health)),
            ]
            try:
                async for batch in follower:
                    await self._take(spool, batch, follower)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)
            for task in beside:
                if not task.cancelled():
                    task.result()
            await self._until_done(lambda: self._seal(spool, follower, None))

    async def _take(self, spool: Spool, batch: Batch, follower: Follower) -> None:
        await self._until_room(spool)
        source = batch.file.lane.source
        stream = self._streams[source]
        tag = takeover.tag(stream, batch.path)
        lines = await asyncio.to_thread(self._render, stream, source, tag, batch)
        now = time.time()
        async with self._turn:
            # What was rendered ends in a newline, whatever it was made of.
            whole = stream.output.body.kind != "text" or stream.parse is not None
            line = Line(batch.file.inode, batch.continued and not whole, batch.complete or whole)
            for part in lines:
                if part.unmatched:
                    metrics.UNPARSED.labels(tag).inc(part.unmatched)
                if part.data:
                    moment = now if part.moment is None else part.moment
                    spool.append(stream.output, tag, moment, part.data, part.count, line)
            follower.acknowledge(batch)
            points.reached("batch appended")
        if spool.crowded():
            await self._until_done(lambda: self._relieve(spool))

    def _render(self, stream: Stream, source: Source, tag: str, batch: Batch) -> list[bodies.Lines]:
        way = batch.file.lane.records
        extra = {stream.path_key: printable(batch.path)} if stream.path_key else {}
        return self._renderers[source].render(
            batch.data,
            records=None if isinstance(way, Lines) else list(way.split(bytes(batch.data))),
            tag=tag,
            path=printable(batch.path),
            now=time.time(),
            partial=batch.continued or not batch.complete,
            extra=extra,
        )

    async def _relieve(self, spool: Spool) -> None:
        async with self._turn:
            await asyncio.to_thread(spool.relieve)

    async def _until_room(self, spool: Spool) -> None:
        """Read no more while the backlog is at its limit: the log files are the buffer then."""
        if spool.stored_bytes < self._limit:
            return
        reason = f"the backlog has reached its limit of {self._limit} bytes; nothing is read until some is uploaded"
        log.error(
            "backlog is full", limit=self._limit, reason=reason, uploads=self._uploads and self._uploads.why_failing()
        )
        metrics.BACKLOG_FULL.set(1)
        self._life.health.failing("backlog", reason)
        # What waits in memory or takes lines still can be uploaded only when it is sealed.
        await self._until_done(lambda: self._seal(spool, self._follower, None))
        while spool.stored_bytes >= self._limit:  # noqa: ASYNC110  (whatever frees space is in other threads)
            await asyncio.sleep(0.1)
        log.info("backlog is below its limit again")
        metrics.BACKLOG_FULL.set(0)
        self._life.health.working("backlog")

    async def _until_done(self, call: Callable[[], object]) -> None:
        """Do what writes to the state volume, again and again while it is full."""
        said = ""
        while True:
            try:
                await call()  # type: ignore[misc]
            except OSError as error:
                if str(error) != said:
                    said = str(error)
                    log.error("cannot write to the state volume; nothing is read until it can be", error=said)
                self._life.health.failing("state", f"cannot write to the state volume: {error}")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if said:
                    log.info("state volume can be written again")
                self._life.health.working("state")
                return

    # Recording, sealing

    async def _record(self, spool: Spool, follower: Follower) -> None:
        """Make durable what was appended, once a second, and seal what is due; for ever."""
        while True:
            began = time.monotonic()
            await self._until_done(lambda: self._seal(spool, follower, time.time()))
            took = time.monotonic() - began
            await asyncio.sleep(max(_RECORD_SECONDS, took / _RECORD_SHARE))

    async def _seal(self, spool: Spool, follower: Follower | None, now: float | None) -> None:
        async with self._turn:
            await asyncio.to_thread(spool.seal, now)
            try:
                if follower is not None:
                    await follower.record()
            finally:
                await asyncio.to_thread(spool.settle)

    async def _drain(self, spool: Spool, follower: Follower, uploads: Uploads, life: Lifecycle) -> None:
        await life.drain.wait()
        uploads.hurry()
        await self._until_done(lambda: self._seal(spool, follower, None))
        follower.drain(self._settings.quiet)
        remaining = life.remaining()
        await asyncio.sleep(max(0.0, remaining - min(_RESERVE_SECONDS, remaining * _RESERVE_SHARE)))
        follower.drain(0.0)

    # What is left, and how it does

    def undelivered(self) -> str | None:
        """Say what did not reach its bucket, and why."""
        lag = self._follower.lag_bytes if self._follower else 0
        unread = f"{lag} bytes of log files not read" if lag else None
        return "; ".join(filter(None, (self._not_uploaded(), unread))) or None

    def _not_uploaded(self) -> str | None:
        chunks = self._spool.kept() if self._spool else []
        if not chunks:
            return None
        lines, size = sum(chunk.lines for chunk in chunks), sum(chunk.length for chunk in chunks)
        where = ", ".join(dict.fromkeys(_place(self._outputs[chunk.output]) for chunk in chunks))
        why = self._uploads.why_failing() if self._uploads else None
        because = f": {why}" if why else ""
        return (
            f"{lines} lines in {len(chunks)} chunks of {size} bytes not uploaded to {where}{because}; "
            "they stay in the state directory for the next start"
        )

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        spool, follower, uploads = self._spool, self._follower, self._uploads
        if spool is None or uploads is None or follower is None:
            return {"numbers": {}, "tables": {}}
        numbers = {
            "objects_total": uploads.objects_total,
            "object_bytes_total": uploads.bytes_total,
            "lines_total": uploads.lines_total,
            "backlog_bytes": spool.stored_bytes + spool.pending_bytes,
            "backlog_chunks": len(spool.kept()),
            "lag_bytes": follower.lag_bytes,
            "oldest_undelivered_seconds": round(self._oldest(), 1),
        }
        oldest = sorted(spool.kept(), key=lambda chunk: chunk.opened)[:_SHOWN]
        tables = {
            "objects": list(uploads.objects),
            "chunks": list(map(_row, oldest)),
            "files": follower.furthest_behind(_SHOWN),
        }
        return {"numbers": numbers, "tables": tables}


def _row(chunk: Chunk) -> dict[str, object]:
    """Give a chunk as a row of the status page."""
    return {
        "chunk": chunk.id[:8],
        "output": chunk.output,
        "tag": chunk.tag,
        "state": "sealed" if chunk.sealed else "takes lines",
        "lines": chunk.lines,
        "bytes": chunk.length,
        "key": chunk.key or "",
        "age_seconds": round(time.time() - chunk.opened),
    }


def _source(stream: Stream) -> Source:
    return Source(stream.paths, exclude=stream.exclude, from_end=stream.from_end, records=records(stream.multiline))


def _absolute(stream: Stream) -> Patterns:
    exclude = (os.path.abspath(pattern) if "/" in pattern else pattern for pattern in stream.exclude)
    return Patterns(tuple(map(os.path.abspath, stream.paths)), tuple(exclude))


def _place(output: Output) -> str:
    return f"s3://{output.destination.bucket}/{output.layout.prefix}"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
