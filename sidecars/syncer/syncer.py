"""git-syncer: directories kept at revisions of git repositories, by git-sync's contract."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

import sidecars
from sidecars.core.errors import SidecarError
from sidecars.core.service import Lifecycle
from sidecars.syncer import rollback
from sidecars.syncer.checks import signal_number
from sidecars.syncer.events import Events
from sidecars.syncer.files import ErrorFile
from sidecars.syncer.keeper import Keeper
from sidecars.syncer.metrics import Metrics
from sidecars.syncer.serving import Serving
from sidecars.syncer.words import Words

_LOOK_SECONDS = 0.5


class HookFailed(SidecarError):  # noqa: N818
    """A hook failed in a run that is done once."""


class Syncer:
    """Keep each repository published.

    run    sync each at its period, and when a push or a signal says so
    drain  stop what is under way: what is published stays, and the next start goes on
    stop   cancelled: the same
    """

    def __init__(self, words: Words) -> None:
        self._settings = words.repositories[0]
        self._words = words
        self._keepers: list[Keeper] = []
        several = len(words.repositories) > 1
        # One repository alone has no label in metrics: they are git-sync's.
        self._repositories = {each.called if several else "": each for each in words.repositories}
        self._metrics = Metrics(tuple(self._repositories))
        self._serving = Serving(self._settings, self._metrics, words.given)
        self._error_file: ErrorFile | None = None
        self._events = Events(self._settings.verbose, None)

    async def run(self, life: Lifecycle) -> None:
        """Sync until the drain; with --one-time until all is done, hooks too. Raises SidecarError."""
        os.umask(0o002 if any(each.group_write for each in self._words.repositories) else 0o022)
        self._metrics.show_in()
        self._begin(life)
        try:
            self._events.info(0, "starting up", **self._about())
            for hint in self._words.hints:
                self._events.info(1, "variable ignored", reason=hint)
            await self._serving.open()
            await self._work(life)
        finally:
            for keeper in self._keepers:
                keeper.stop()
            self._serving.close()
            for keeper in self._keepers:
                await keeper.close()

    def _begin(self, life: Lifecycle) -> None:
        """Make the root, and a keeper for each repository. Raises SidecarError."""
        settings = self._settings
        try:
            os.makedirs(settings.root, 0o775, exist_ok=True)
        except OSError as error:
            raise SidecarError(
                f"can't make --root {settings.root}: {error.strerror}; mount a writable volume"
            ) from None
        if shutil.which(settings.git) is None:
            raise SidecarError(f"git executable {settings.git!r} not found in $PATH; give --git")
        if settings.error_file:
            self._error_file = ErrorFile(settings.error_file, os.path.realpath(settings.root))
        self._events = Events(settings.verbose, self._error_file, conceal=self._concealed)
        for name, each in self._repositories.items():
            events = self._events.about(repository=name) if name else self._events
            self._keepers.append(Keeper(each, events, self._metrics.of(name), life.health, lambda: self._tell(life)))
        life.posts.update(rollback.posts([_target(keeper) for keeper in self._keepers]))

    def _tell(self, life: Lifecycle) -> None:
        """Say that all is ready, once it is."""
        if all(keeper.ready for keeper in self._keepers):
            life.health.started()
            self._serving.ready()

    def _concealed(self, text: str) -> str:
        for keeper in self._keepers:
            text = keeper.concealed(text)
        return text

    def _about(self) -> dict[str, object]:
        return {
            "version": sidecars.__version__,
            "pid": os.getpid(),
            "uid": os.getuid(),
            "gid": os.getgid(),
            "home": os.environ.get("HOME", ""),
            "flags": list(self._words.given),
        }

    async def _work(self, life: Lifecycle) -> None:
        turns = asyncio.Semaphore(self._settings.concurrency)
        self._take_signal()
        async with contextlib.AsyncExitStack() as stack:
            await self._open_push(stack)
            work = [asyncio.create_task(keeper.run(turns)) for keeper in self._keepers]
            beside = [asyncio.create_task(self._watch(life)), asyncio.create_task(life.drain.wait())]
            try:
                await self._until_done(work, beside[1])
            finally:
                for keeper in self._keepers:
                    keeper.stop()
                for task in (*work, *beside):
                    task.cancel()
                await asyncio.gather(*work, *beside, return_exceptions=True)

    async def _until_done(self, work: Sequence[asyncio.Task[None]], drain: asyncio.Task[Any]) -> None:
        """Wait for the drain, for the first failure, or with --one-time for all to be done; then run the hooks once."""
        pending: set[asyncio.Task[None]] = set(work)
        while pending and not drain.done():
            done, _ = await asyncio.wait({*pending, drain}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {drain}:
                task.result()
            pending -= done
        if self._settings.one_time and not drain.done():
            results = [await hook.once() for keeper in self._keepers for hook in keeper.hooks.present()]
            status = 0 if all(results) else 1
            self._events.info(0, "exiting after one sync", status=status)
            if status:
                raise HookFailed("a hook failed; its error is above")

    async def _open_push(self, stack: contextlib.AsyncExitStack) -> None:
        if not self._settings.hook_bind:
            return
        from sidecars.syncer.push import Pushes  # only who takes pushes pays for it

        pushes = Pushes(self._repositories, self._pushed, self._metrics, self._events)
        addresses = await pushes.open()
        stack.callback(pushes.close)
        self._events.info(0, "taking pushes", addresses=addresses)

    def _pushed(self, repository: str, _hash: str | None) -> None:
        for name, keeper in zip(self._repositories, self._keepers, strict=True):
            if name == repository:
                keeper.ask("push")

    def _take_signal(self) -> None:
        number = signal_number(self._settings.sync_on_signal) if self._settings.sync_on_signal else None
        if number is not None:
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number.name)

    def _signalled(self, name: str) -> None:
        self._events.info(1, "caught signal", signal=name)
        for keeper in self._keepers:
            keeper.ask("signal")

    async def _watch(self, life: Lifecycle) -> None:
        """Say what is stale."""
        while True:
            for keeper in self._keepers:
                limit = float(keeper.settings.max_staleness)
                age = time.time() - keeper.succeeded_at
                if limit and keeper.ready and age > limit:
                    life.health.failing(f"{keeper.name} is stale", f"the last success was {age:.0f} s ago")
                elif limit:
                    life.health.working(f"{keeper.name} is stale")
            await asyncio.sleep(_LOOK_SECONDS)

    def undelivered(self) -> str | None:
        """Nothing is: what was not fetched is at the remote."""
        return None

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        rows = [
            {
                "repository": keeper.name,
                "published": keeper.published or "",
                "ref": keeper.settings.ref,
                "failures": keeper.failures,
                "last_success_seconds": round(time.time() - keeper.succeeded_at, 1) if keeper.succeeded_at else None,
                "error": keeper.trouble,
            }
            for keeper in self._keepers
        ]
        revisions = [{"repository": keeper.name, **row} for keeper in self._keepers for row in keeper.history.rows()]
        numbers = {"repositories": len(self._keepers), "failures": sum(keeper.failures for keeper in self._keepers)}
        return {"numbers": numbers, "tables": {"repositories": rows, "revisions": revisions}}


def _target(keeper: Keeper) -> rollback.Target:
    return rollback.Target(
        keeper.name,
        keeper.pin,
        keeper.history,
        current=lambda: keeper.published,
        remote=lambda: keeper.remote,
        there=keeper.there,
        wake=lambda: keeper.ask("rollback"),
    )
