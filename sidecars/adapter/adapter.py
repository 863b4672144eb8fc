"""The log adapter: an application's log in any format, to outputs, by HTTP, and as metrics."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from sidecars.adapter import deliver, inputs, portion
from sidecars.adapter.counting import Counting
from sidecars.adapter.encode import encoder
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.inputs.queue import Queue
from sidecars.adapter.intake import Intake
from sidecars.adapter.pipeline import TOGETHER, Pipeline
from sidecars.adapter.reading import Formats, records_of
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Segment, Unparsed
from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.follow import absent
from sidecars.core.follow.checkpoint import JsonStore
from sidecars.core.follow.follower import Follower, follow
from sidecars.core.follow.identity import printable
from sidecars.core.follow.lane import Options, Source
from sidecars.core.log import log
from sidecars.core.metrics import oldest_undelivered
from sidecars.core.service import Lifecycle

if TYPE_CHECKING:
    from sidecars.adapter.healthchecks import Checks
    from sidecars.adapter.web.server import Web
    from sidecars.adapter.workers import Ahead, Done, Workers

# What is kept of the grace for flushing last lines and the last checkpoint, should the files never be quiet.
_RESERVE_SECONDS = 1.0
# The status page shows so many of the files that are furthest behind.
_SHOWN = 50


class Output(Protocol):
    """Where portions go."""

    name: str

    async def deliver(self, intake: portion.Intake) -> None:
        """Deliver and acknowledge until the intake ends."""


class Observer:
    """The output that sends nothing: where no other counts for the metrics, it reads for them alone."""

    name = "metrics"

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._thread = ThreadPoolExecutor(1, self.name)

    async def deliver(self, intake: portion.Intake) -> None:
        """Read and acknowledge until the intake ends."""
        loop = asyncio.get_running_loop()
        async for each in intake:
            await loop.run_in_executor(self._thread, self._pipeline.segments, each)
            intake.acknowledge(each)


class Adapter:
    """Read logs, and offer what they say: to outputs, by HTTP, as metrics and as a health check.

    run    read as fast as the outputs take it, and answer who asks
    drain  read on until the files were quiet for a while, deliver all of it, then answer nobody
    stop   cancelled: what was not delivered stays on disk, and is said
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._formats = Formats(settings)
        self._shaping = Shaping(settings)
        self._counting = Counting(settings)
        self._checks = _checks(settings)
        self._specs = deliver.read_outputs(settings)
        self._inputs = inputs.split(path for source in settings.every_source() for path in source.paths)
        self._sources = self._files_to_follow()
        self._followers: dict[str, Follower] = {}
        self._workers: dict[str, Workers] = {}
        self._queue: Queue | None = None
        self._taking: inputs.Inputs | None = None
        self._options = Options(
            rotate_wait=settings.rotate_wait,
            record_timeout=settings.multiline_timeout,
            poll_interval=settings.poll_interval,
            watch=settings.watch == "auto" and not settings.once,
            once=settings.once,
        )

    def _files_to_follow(self) -> tuple[Source, ...]:
        followed = []
        for source in self._settings.every_source():
            files = tuple(path for path in source.paths if path in self._inputs.files)
            if files:
                followed.append(
                    Source(
                        files,
                        exclude=source.exclude or (),
                        from_end=source.read_from == "end",
                        records=records_of(self._formats.given(source)),
                        decompress=True,
                    )
                )
        return tuple(followed)

    async def run(self, life: Lifecycle) -> None:
        """Deliver until the drain has ended, or the inputs have."""
        # Each batch makes thousands of tuples, none of which refers to itself: to look through them costs a twentieth.
        gc.set_threshold(100_000, 20, 20)
        self._check_state(life.state_dir)
        oldest_undelivered.set_function(lambda: max((f.oldest_seconds for f in self._followers.values()), default=0.0))
        work = self._outputs(life)
        async with contextlib.AsyncExitStack() as stack:
            await self._open(work, life, stack)
            log.info("watching", paths=len(self._any_paths()), outputs=[output.name for output in work])
            life.health.started()
            await self._deliver(work, life)
        if self._settings.once:
            absent.complain(self._sources, [path for each in self._followers.values() for path in each.unreadable])

    def _outputs(self, life: Lifecycle) -> list[Output]:
        """Make the outputs. One of them, stdout where it is one, shows what it reads to those who count."""
        made: list[Output] = []
        counted = False
        for spec in self._specs:
            counts = spec.counts and not counted
            counted = counted or counts
            made.append(deliver.build(self._settings, spec, self._pipeline(spec, counts), life.health))
        if not counted:
            made.append(Observer(Pipeline(self._formats, self._shaping, None, self._observe)))
        return made

    def _pipeline(self, spec: deliver.Spec, counts: bool) -> deliver.Pipeline:
        made = encoder(self._settings, spec.to) if spec.to is not None else None
        observe = self._observe if counts else None
        local = Pipeline(self._formats, self._shaping, made, observe, together=spec.to in TOGETHER)
        if spec.to is None or self._settings.workers == 1:
            return local
        from sidecars.adapter.workers import Workers  # only who asks for them pays for it

        counted, seen = (self._merge, self._see) if counts else (None, None)
        self._workers[spec.name] = Workers(self._settings, spec.to, self._formats, local, counted, seen)
        return self._workers[spec.name]

    def _merge(self, done: Done) -> None:
        self._counting.merge(done.records, done.wrong, done.counted)

    def _see(self, data: bytes) -> None:
        if self._checks is not None:
            self._checks.observe([Unparsed(data.removesuffix(b"\n").split(b"\n"), "")])

    def _intake(self, name: str, number: int) -> Intake | Ahead:
        """Give one output's view of what is read; with workers, these are given it ahead."""
        intake = Intake(self._followers.get(name), self._queue.reader(number) if self._queue else None)
        if name not in self._workers:
            return intake
        from sidecars.adapter.workers import Ahead  # only who has them pays for it

        return Ahead(intake, self._workers[name])

    def _observe(self, segments: Sequence[Segment]) -> None:
        self._counting.count(segments)
        if self._checks is not None:
            self._checks.observe(segments)

    async def _open(self, work: Sequence[Output], life: Lifecycle, stack: contextlib.AsyncExitStack) -> None:
        """Open the inputs and the followers, then the web server."""
        if inputs.wanted(self._settings, self._inputs):
            self._queue = Queue(self._settings.queue_limit, len(work), keep=self._settings.keep)
            self._taking = inputs.Inputs(
                self._settings, self._inputs, self._queue, life.health, records_of(self._formats.of("stdin", b""))
            )
            stack.push_async_callback(self._taking.close)
            addresses = await self._taking.open()
            if addresses:
                log.info("taking syslog", addresses=addresses)
        for output in work:
            if self._sources:
                following = follow(self._sources, self._options, store=_store(life, output), output=output.name)
                self._followers[output.name] = await stack.enter_async_context(following)
        if self._settings.listen is not None and not self._settings.once:
            await self._open_web(stack)

    async def _open_web(self, stack: contextlib.AsyncExitStack) -> None:
        from sidecars.adapter.web.server import Web

        queue = self._queue
        web: Web = Web(
            self._settings,
            self._formats.of,
            self._shaping,
            lambda: list(self._any_paths()),
            recent=queue,
            post=(lambda data: queue.offer("post", data)) if queue and self._settings.post else None,
            health=self._checks.result if self._checks else None,
        )
        log.info("serving", addresses=await web.open())
        stack.push_async_callback(web.close)

    def _any_paths(self) -> Sequence[str]:
        return next(iter(self._followers.values())).paths if self._followers else ()

    async def _deliver(self, work: Sequence[Output], life: Lifecycle) -> None:
        beside = [asyncio.create_task(each) for each in (self._drain(life), self._watch_health(life))]
        if self._checks is not None:
            beside.append(asyncio.create_task(self._checks.run()))
        intakes = [self._intake(output.name, number) for number, output in enumerate(work)]
        if self._queue is not None:
            beside.append(asyncio.create_task(self._take(self._queue, life)))
        try:
            async with asyncio.TaskGroup() as tasks:
                for output, intake in zip(work, intakes, strict=True):
                    tasks.create_task(output.deliver(intake))
        except* SidecarError as group:
            raise group.exceptions[0] from None
        finally:
            for task in beside:
                task.cancel()
            for intake in intakes:
                intake.close()
            for workers in self._workers.values():
                workers.close()

    async def _take(self, queue: Queue, life: Lifecycle) -> None:
        """Take what has no file behind it; when that has ended and nothing else is read, the program has ended."""
        assert self._taking is not None  # noqa: S101  (there is a queue, so there are inputs)
        try:
            await self._taking.run()
            if not self._settings.once and not self._sources:
                life.ask_drain("the input has ended")
        finally:
            queue.close()

    async def _drain(self, life: Lifecycle) -> None:
        await life.drain.wait()
        self._end_after(self._settings.quiet)
        await asyncio.sleep(max(0.0, life.remaining() - _RESERVE_SECONDS))
        self._end_after(0.0)

    def _end_after(self, quiet: float) -> None:
        for follower in self._followers.values():
            follower.drain(quiet)
        if self._taking is not None:
            self._taking.drain(quiet)

    async def _watch_health(self, life: Lifecycle) -> None:
        while True:
            unreadable = [path for follower in self._followers.values() for path in follower.unreadable]
            if unreadable:
                more = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
                life.health.failing("files", f"cannot read {printable(unreadable[0])}{more}")
            else:
                life.health.working("files")
            await asyncio.sleep(1.0)

    def _check_state(self, directory: str | None) -> None:
        if directory and any(source.patterns.matches(os.path.join(directory, "x.json")) for source in self._sources):
            raise WrongSettings(
                f"--state-dir {directory} lies where the paths to read find it; choose a directory outside of them"
            )

    def undelivered(self) -> str | None:
        """Say how many bytes of which file did not reach which output."""
        texts = []
        for name, follower in self._followers.items():
            lag, behind = follower.lag_bytes, follower.furthest_behind(2)
            if lag and name != Observer.name:
                more = " and more" if len(behind) > 1 and behind[1]["lag_bytes"] else ""
                texts.append(f"{lag} bytes of {printable(behind[0]['path'])}{more} not delivered to {name}")
        if self._queue is not None and self._queue.undelivered:
            texts.append(f"{self._queue.undelivered} bytes of what has no file behind it are lost")
        return "; ".join(texts) or None

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        followers = self._followers.items()
        outputs = [
            {
                "output": name,
                "delivered_bytes_total": follower.delivered_bytes,
                "lag_bytes": follower.lag_bytes,
                "oldest_undelivered_seconds": round(follower.oldest_seconds, 1),
            }
            for name, follower in followers
        ]
        files = [{"output": name, **row} for name, follower in followers for row in follower.furthest_behind(_SHOWN)]
        numbers = {
            "delivered_bytes_total": sum(follower.delivered_bytes for _, follower in followers),
            "lag_bytes": sum(follower.lag_bytes for _, follower in followers),
            "paths": len(self._any_paths()),
        }
        return {"numbers": numbers, "tables": {"outputs": outputs, "files": files}}


def _checks(settings: Settings) -> Checks | None:
    if not settings.health:
        return None
    from sidecars.adapter.healthchecks import Checks  # only who has some pays for it

    return Checks(settings)


def _store(life: Lifecycle, output: Output) -> JsonStore | None:
    if life.state_dir is None or output.name == Observer.name:
        return None
    return JsonStore(os.path.join(life.state_dir, f"adapter-{re.sub(r'[^A-Za-z0-9.-]+', '_', output.name)}.json"))
