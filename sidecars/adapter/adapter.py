"""The log adapter: an application's log in any format, to outputs, by HTTP, and as metrics."""

from __future__ import annotations

import asyncio
import contextlib
import gc
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
from sidecars.core.errors import SidecarError
from sidecars.core.follow.followers import Followers, watch_health
from sidecars.core.follow.lane import Options, Source
from sidecars.core.log import log
from sidecars.core.service import Lifecycle

if TYPE_CHECKING:
    from sidecars.adapter.healthchecks import Checks
    from sidecars.adapter.web.server import Web
    from sidecars.adapter.workers import Ahead, Done, Workers

# What is kept of the grace for flushing last lines and the last checkpoint, should the files never be quiet.
_RESERVE_SECONDS = 1.0


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
        self._workers: dict[str, Workers] = {}
        self._queue: Queue | None = None
        self._taking: inputs.Inputs | None = None
        options = Options(
            rotate_wait=settings.rotate_wait,
            record_timeout=settings.multiline_timeout,
            poll_interval=settings.poll_interval,
            watch=settings.watch == "auto" and not settings.once,
            once=settings.once,
        )
        self._followers = Followers("adapter", self._sources, options)

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
        self._followers.check_state(life.state_dir)
        work = self._outputs(life)
        async with contextlib.AsyncExitStack() as stack:
            await self._open(work, life, stack)
            log.info("watching", paths=len(self._followers.paths), outputs=[output.name for output in work])
            life.health.started()
            await self._deliver(work, life)
        if self._settings.once:
            self._followers.complain_of_missing()

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
        intake = Intake(self._followers.of(name), self._queue.reader(number) if self._queue else None)
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
        await stack.enter_async_context(self._followers)
        for output in work if self._sources else ():
            keeps = output.name != Observer.name
            await self._followers.begin(output.name, life.state_dir if keeps else None)
        if self._settings.listen is not None and not self._settings.once:
            await self._open_web(stack)

    async def _open_web(self, stack: contextlib.AsyncExitStack) -> None:
        from sidecars.adapter.web.server import Web

        queue = self._queue
        web: Web = Web(
            self._settings,
            self._formats.of,
            self._shaping,
            lambda: list(self._followers.paths),
            recent=queue,
            post=(lambda data: queue.offer("post", data)) if queue and self._settings.post else None,
            health=self._checks.result if self._checks else None,
        )
        log.info("serving", addresses=await web.open())
        stack.push_async_callback(web.close)

    async def _deliver(self, work: Sequence[Output], life: Lifecycle) -> None:
        watching = watch_health(lambda: self._followers.unreadable, life.health)
        beside = [asyncio.create_task(each) for each in (self._drain(life), watching)]
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
        self._followers.drain(quiet)
        if self._taking is not None:
            self._taking.drain(quiet)

    def undelivered(self) -> str | None:
        """Say how many bytes of which file did not reach which output, and how many others are lost."""
        texts = self._followers.undelivered(aside=Observer.name)
        if self._queue is not None and self._queue.undelivered:
            texts.append(f"{self._queue.undelivered} bytes of what has no file behind it are lost")
        return "; ".join(texts) or None

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        return self._followers.status()


def _checks(settings: Settings) -> Checks | None:
    if not settings.health:
        return None
    from sidecars.adapter.healthchecks import Checks  # only who has some pays for it

    return Checks(settings)
