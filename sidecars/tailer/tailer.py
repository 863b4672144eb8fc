"""The log tailer: everything that is and will be written to some files, to stdout and to forward receivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from sidecars.core.errors import SidecarError
from sidecars.core.follow.file import Batch
from sidecars.core.follow.follower import Follower
from sidecars.core.follow.followers import Followers, watch_health
from sidecars.core.follow.join import records
from sidecars.core.follow.lane import Options, Source
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.service import Lifecycle
from sidecars.core.stdout import Stdout
from sidecars.tailer import metrics, outputs, sweeper
from sidecars.tailer.rendering import Json, Piece, Raw, label
from sidecars.tailer.settings import Settings

# What is kept of the grace for flushing last lines and the last checkpoint, should the files never be quiet.
_RESERVE_SECONDS = 1.0


class Output(Protocol):
    """Where batches go."""

    name: str

    async def deliver(self, follower: Follower) -> None:
        """Deliver and acknowledge until the follower ends."""


class Tailer:
    """Follow files and deliver their bytes to each output, each at its own offset.

    run    read as fast as the outputs take it
    drain  read on until the files were quiet for a while, deliver all of it, unterminated last lines too
    stop   cancelled: what was not delivered stays on disk, and is said
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sources = _sources(settings)
        options = Options(
            rotate_wait=settings.rotate_wait,
            partial_timeout=settings.partial_timeout,
            record_timeout=settings.multiline_timeout,
            poll_interval=settings.poll_interval,
            watch=settings.watch == "auto" and not settings.once,
            once=settings.once,
            keep_rotated=settings.remove_rotated_after is not None,
            rate_limit=settings.rate_limit,
        )
        self._followers = Followers("tailer", self._sources, options)
        if settings.remove_rotated_after is not None:
            sweeper.check_writable([path for source in self._sources for path in source.patterns.directories()])

    async def run(self, life: Lifecycle) -> None:
        """Deliver until the drain has ended, or with --once until the end of the files."""
        self._followers.check_state(life.state_dir)
        async with self._followers:
            work = _outputs(self._settings, life.health)
            for output in work:
                await self._followers.begin(output.name, life.state_dir)
            log.info("watching", paths=len(self._followers.paths), outputs=[output.name for output in work])
            life.health.started()
            await self._deliver(work, life)
        if self._settings.once:
            self._followers.complain_of_missing()

    async def _deliver(self, work: Sequence[Output], life: Lifecycle) -> None:
        watching = watch_health(lambda: self._followers.unreadable, life.health)
        beside = [asyncio.create_task(each) for each in (self._drain(life), watching)]
        after = self._settings.remove_rotated_after
        if after is not None:
            beside.append(asyncio.create_task(sweeper.sweep(list(self._followers), after)))
        try:
            async with asyncio.TaskGroup() as tasks:
                for output, follower in zip(work, self._followers, strict=True):
                    tasks.create_task(output.deliver(follower))
        except* SidecarError as group:
            raise group.exceptions[0] from None
        finally:
            for task in beside:
                task.cancel()

    async def _drain(self, life: Lifecycle) -> None:
        await life.drain.wait()
        self._followers.drain(self._settings.quiet)
        await asyncio.sleep(max(0.0, life.remaining() - _RESERVE_SECONDS))
        self._followers.drain(0.0)

    def undelivered(self) -> str | None:
        """Say how many bytes of which file did not reach which output."""
        return "; ".join(self._followers.undelivered()) or None

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        return self._followers.status()


def _sources(settings: Settings) -> tuple[Source, ...]:
    return tuple(
        Source(
            source.paths,
            exclude=source.exclude or (),
            from_end=source.from_ == "end",
            records=records(source.multiline),
        )
        for source in settings.every_source()
    )


def _outputs(settings: Settings, health: Health) -> list[Output]:
    fields = {"pod": settings.pod_name, "namespace": settings.pod_namespace}
    known = {name: value for name, value in fields.items() if value}
    made: list[Output] = []
    for output in settings.every_output():
        if isinstance(output, outputs.Stdout):
            made.append(Stdout(_renderer(settings, output, known), _delivered("stdout"), health))
            continue
        from sidecars.core.forward.shipping import Shipping  # only who forwards pays for it
        from sidecars.tailer.chunks import Chunks

        name = f"forward-{output}"
        taken = sum(other.name.startswith(name) for other in made)
        name = f"{name}-{taken}" if taken else name
        chunks = Chunks(output, known, settings.format == "json")
        made.append(Shipping(name, output, chunks.of, _delivered(name), health))
    return made


def _renderer(settings: Settings, output: outputs.Stdout, fields: dict[str, str]) -> Callable[[Batch], list[Piece]]:
    if output.format == "json":
        return Json(fields, settings.max_line).render
    return Raw(label(output.label or "none")).render


def _delivered(name: str) -> Callable[[Batch], None]:
    delivered_bytes, batches = metrics.DELIVERED_BYTES.labels(name), metrics.BATCHES.labels(name)

    def count(batch: Batch) -> None:
        delivered_bytes.inc(batch.end - batch.start)
        batches.inc()

    return count
