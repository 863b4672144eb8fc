"""The log tailer: everything that is and will be written to some files, to stdout and to forward receivers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.follow import absent
from sidecars.core.follow.checkpoint import JsonStore
from sidecars.core.follow.file import Batch
from sidecars.core.follow.follower import Follower, follow
from sidecars.core.follow.identity import printable
from sidecars.core.follow.join import records
from sidecars.core.follow.lane import Options, Source
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.metrics import oldest_undelivered
from sidecars.core.service import Lifecycle
from sidecars.core.stdout import Stdout
from sidecars.tailer import metrics, outputs, sweeper
from sidecars.tailer.rendering import Json, Piece, Raw, label
from sidecars.tailer.settings import Settings

# What is kept of the grace for flushing last lines and the last checkpoint, should the files never be quiet.
_RESERVE_SECONDS = 1.0
# The status page shows so many of the files that are furthest behind.
_SHOWN = 50


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
        self._followers: dict[str, Follower] = {}
        self._options = Options(
            rotate_wait=settings.rotate_wait,
            partial_timeout=settings.partial_timeout,
            record_timeout=settings.multiline_timeout,
            poll_interval=settings.poll_interval,
            watch=settings.watch == "auto" and not settings.once,
            once=settings.once,
            keep_rotated=settings.remove_rotated_after is not None,
            rate_limit=settings.rate_limit,
        )
        if settings.remove_rotated_after is not None:
            sweeper.check_writable([path for source in self._sources for path in source.patterns.directories()])

    async def run(self, life: Lifecycle) -> None:
        """Deliver until the drain has ended, or with --once until the end of the files."""
        self._check_state(life.state_dir)
        oldest_undelivered.set_function(lambda: max((f.oldest_seconds for f in self._followers.values()), default=0.0))
        async with contextlib.AsyncExitStack() as stack:
            work = _outputs(self._settings, life.health)
            for output in work:
                following = follow(self._sources, self._options, store=_store(life, output), output=output.name)
                self._followers[output.name] = await stack.enter_async_context(following)
            log.info("watching", paths=len(self._any_paths()), outputs=[output.name for output in work])
            life.health.started()
            await self._deliver(work, life)
        self._complain_of_missing()

    def _any_paths(self) -> Sequence[str]:
        return next(iter(self._followers.values())).paths

    async def _deliver(self, work: Sequence[Output], life: Lifecycle) -> None:
        beside = [asyncio.create_task(self._drain(life)), asyncio.create_task(self._watch_health(life))]
        after = self._settings.remove_rotated_after
        if after is not None:
            beside.append(asyncio.create_task(sweeper.sweep(list(self._followers.values()), after)))
        try:
            async with asyncio.TaskGroup() as tasks:
                for output in work:
                    tasks.create_task(output.deliver(self._followers[output.name]))
        except* SidecarError as group:
            raise group.exceptions[0] from None
        finally:
            for task in beside:
                task.cancel()

    async def _drain(self, life: Lifecycle) -> None:
        await life.drain.wait()
        for follower in self._followers.values():
            follower.drain(self._settings.quiet)
        await asyncio.sleep(max(0.0, life.remaining() - _RESERVE_SECONDS))
        for follower in self._followers.values():
            follower.drain(0.0)

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

    def _complain_of_missing(self) -> None:
        if not self._settings.once:
            return
        absent.complain(self._sources, [path for each in self._followers.values() for path in each.unreadable])

    def undelivered(self) -> str | None:
        """Say how many bytes of which file did not reach which output."""
        texts = []
        for name, follower in self._followers.items():
            lag, behind = follower.lag_bytes, follower.furthest_behind(2)
            if lag:
                more = " and more" if len(behind) > 1 and behind[1]["lag_bytes"] else ""
                texts.append(f"{lag} bytes of {printable(behind[0]['path'])}{more} not delivered to {name}")
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
            "paths": max((len(follower.paths) for _, follower in followers), default=0),
        }
        return {"numbers": numbers, "tables": {"outputs": outputs, "files": files}}


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


def _store(life: Lifecycle, output: Output) -> JsonStore | None:
    if life.state_dir is None:
        return None
    return JsonStore(os.path.join(life.state_dir, f"tailer-{re.sub(r'[^A-Za-z0-9.-]+', '_', output.name)}.json"))
