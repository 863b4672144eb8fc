"""One repository, kept: passes one after another, each of which publishes what is new; then the hooks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from sidecars.core import disk
from sidecars.core.errors import SidecarError
from sidecars.core.git import Event, Git, GitFailed
from sidecars.core.health import Health
from sidecars.syncer import documents, programs, publish
from sidecars.syncer.credentials import Access
from sidecars.syncer.events import Events
from sidecars.syncer.files import touch
from sidecars.syncer.gate import Gate, GateClosed
from sidecars.syncer.history import History
from sidecars.syncer.hooks import hooks
from sidecars.syncer.metrics import Measures
from sidecars.syncer.remote import Remote
from sidecars.syncer.rollback import Pin
from sidecars.syncer.settings import Settings
from sidecars.syncer.signatures import NotTrusted, Signatures
from sidecars.syncer.store import Store
from sidecars.syncer.tidying import Tidying

T = TypeVar("T")

_LOOK_SECONDS = 0.5
# Who polls often wants to hear soon that the remote is back.
_MOST_PERIODS = 8
# After a failure the wait is drawn from this part of it upwards: not all pods ask again at the same moment.
_JITTER = 0.25


class TooManyFailures(SidecarError):  # noqa: N818
    """A repository failed as often in a row as it may."""


class Outcome(NamedTuple):
    """What a pass came to: the hash that is published, and whether this pass published it."""

    hash: str
    changed: bool


class Keeper:
    """Keeps one repository published.

    ready         a pass has succeeded in this process
    published     the hash that consumers find; None before the first one
    failures      in a row
    succeeded_at  time of the last success, in seconds since the epoch; 0 before the first one
    remote        what the ref was at the last look; None before one
    trouble       what the last failure was; empty after a success
    """

    def __init__(
        self, settings: Settings, events: Events, measures: Measures, health: Health, succeeded: Callable[[], None]
    ) -> None:
        self.settings = settings
        self.name = settings.called
        self.ready = False
        self.published: str | None = None
        self.failures = 0
        self.succeeded_at = 0.0
        self.trouble = ""
        self._events = events
        self._measures = measures
        self._health = health
        self._git = Git(settings.git)
        self._git.watch = self._watch
        self._succeeded_once = succeeded
        self.access = Access(settings, self._git)
        self.access.say = lambda text: events.info(0, text)
        self.access.asked = measures.asked
        self.access.token_refreshed = measures.token_refreshed
        # A password in the URL must reach neither a command line nor the repository's configuration.
        self._store = Store(replace(settings, repo=self.access.url), self._git)
        self.pin = Pin(documents.place(self._store.path, "pin"))
        self.history = History(documents.place(self._store.path, "history"))
        self._publisher = publish.make(settings, self._store.path)
        self._signatures = Signatures(settings, self._git)
        self._gate = Gate(settings, self._inherited, measures, events)
        self.hooks = hooks(settings, self._inherited, measures, events)
        self.remote: str | None = None
        self._remote = Remote(settings, self.access, self._git, self._store.path)
        self._tidying = Tidying(self._store, self._git, events, float(settings.sync_timeout))
        self._asked = asyncio.Event()
        self._why = "poll"

    # The loop

    async def run(self, turns: asyncio.Semaphore) -> None:
        """Sync again and again, for ever; with --one-time until it is done. Raises TooManyFailures."""
        with contextlib.ExitStack() as holding:
            await self._hold(holding)
            try:
                await self._in_thread(self.access.start)
            except SidecarError as error:
                self._events.error(error, "can't set up access to the repository")
                raise
            async with asyncio.TaskGroup() as tasks:
                runners = [] if self.settings.one_time else self.hooks.present()
                running = [tasks.create_task(each.run()) for each in runners]
                await self._keep(turns)
                for each in running:
                    each.cancel()

    def _inherited(self) -> Mapping[str, str]:
        """Give what hooks and the gate inherit."""
        return programs.environment(os.environ, self.access.environment())

    async def _hold(self, holding: contextlib.ExitStack) -> None:
        """Hold the root for this process alone: a second one waits, not ready, and says why."""
        said = False
        while True:
            try:
                holding.enter_context(self._store.held())
                return
            except disk.Locked:
                if not said:
                    said = True
                    self._events.info(0, "root is held by another process; waiting for it", root=self._store.path)
                    self._health.starting(f"--root {self._store.path} is held by another process")
                await asyncio.sleep(_LOOK_SECONDS)

    async def _keep(self, turns: asyncio.Semaphore) -> None:
        while True:
            began = time.monotonic()
            try:
                async with turns:
                    outcome = await self._pass(began)
            except GateClosed as error:
                await self._refused(error, time.monotonic() - began)
                continue
            except NotTrusted as error:
                await self._distrusted(error, time.monotonic() - began)
                continue
            except (SidecarError, OSError) as error:
                await self._failed(error, time.monotonic() - began)
                continue
            await self._succeeded(outcome, began)
            if self.settings.one_time:
                return
            if self.settings.ref == outcome.hash and not self.pin.active:
                self._events.info(0, "ref appears to be a git hash, no further sync needed", ref=self.settings.ref)
                await self._forever()
            await self._wait(float(self.settings.period))

    def there(self, revision: str) -> bool:
        """Whether a revision can be published without the remote."""
        return os.path.isdir(self._store.worktree(revision))

    async def _forever(self) -> None:
        """Sleep until somebody asks for a revision by hand: a hash does not move."""
        while not self.pin.active:
            self._asked.clear()
            await self._asked.wait()

    async def _wait(self, seconds: float) -> None:
        self._events.info(3, "next sync", waitTime=f"{seconds:g}s")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)

    def ask(self, why: str) -> None:
        """Sync now, or once more after the pass that is under way."""
        self._why = why
        self._asked.set()

    async def _refused(self, error: GateClosed, seconds: float) -> None:
        """Go on after the gate refused a revision: that is no failure of the sync, but with --one-time it is all."""
        if self.settings.one_time or not self.published:
            await self._failed(error, seconds)
            return
        self._measures.synced("noop", seconds)
        self._health.failing(self.name, self._gate.trouble or str(error))
        await self._wait(float(self.settings.period))

    async def _distrusted(self, error: NotTrusted, seconds: float) -> None:
        """Go on after a revision was not signed as it must be; a pinned one is not tried again."""
        if self.pin.active:
            await self._in_thread(lambda: self.pin.clear(str(error)))
        if self.settings.one_time or not self.published:
            await self._failed(error, seconds)
            return
        self._events.error(error, "revision is not trusted; the one before stays published")
        self._measures.synced("noop", seconds)
        self._health.failing(self.name, str(error))
        await self._wait(float(self.settings.period))

    async def _failed(self, error: Exception, seconds: float) -> None:
        self.failures += 1
        self.trouble = self.concealed(str(error))
        self._measures.synced("error", seconds)
        self._measures.failures(self.failures)
        self._health.failing(self.name, self.trouble)
        settings = self.settings
        limit = settings.max_failures
        if not self.ready and settings.init_max_failures is not None:
            limit = settings.init_max_failures
        if 0 <= limit <= self.failures:
            self._events.error(error, "too many failures, aborting", failCount=self.failures, maxFailures=limit)
            raise TooManyFailures(self.trouble)
        self._events.error(error, "error syncing repo, will retry", failCount=self.failures)
        await self._wait(self._pause())

    def _pause(self) -> float:
        """Give how long to wait after failures: the period, doubled with each, a part of it by chance."""
        settings = self.settings
        period = float(settings.period if self.ready or not settings.init_period else settings.init_period)
        longest = max(period, min(float(settings.max_backoff), _MOST_PERIODS * period))
        pause: float = min(period * 2.0 ** min(self.failures - 1, 30), longest)
        return pause if self.failures < 2 else pause * random.uniform(1 - _JITTER, 1)  # noqa: S311  (no secret)

    async def _succeeded(self, outcome: Outcome, began: float) -> None:
        first, self.ready = not self.ready, True
        self.failures, self.trouble, self.succeeded_at = 0, "", time.time()
        worked = outcome.changed or first
        # Counted before the touch file: who waits for that reads the metrics next.
        self._measures.synced("success" if worked else "noop", time.monotonic() - began)
        self._measures.failures(0)
        self._measures.last_sync(self.succeeded_at)
        self._health.working(self.name)
        self._events.well()
        if worked and self.settings.touch_file:
            await self._in_thread(lambda: touch(self.settings.touch_file, self._store.path))
        if worked:
            worktree = self._store.worktree(outcome.hash)
            for runner in (self.hooks.exechook, self.hooks.webhook):
                if runner is not None:
                    runner.send(outcome.hash, worktree)
        self._succeeded_once()
        self._tidying.begin({outcome.hash, *((self.pin.revision,) if self.pin.revision else ())})
        if self.settings.one_time:
            await self._tidying.done()

    # One pass

    async def _pass(self, began: float) -> Outcome:
        """Publish what the ref is at now. Raises SidecarError, OSError."""
        why, self._why = self._why, "poll"
        self._asked.clear()
        deadline = began + float(self.settings.sync_timeout)
        await self._in_thread(lambda: self.access.refresh(deadline))
        current = self._publisher.current()
        # Without a link all is fetched: what is wrong with the remote, git is to say.
        remote = await self._remote.look(deadline) if current else None
        self.remote = remote or self.remote
        wanted = self.pin.wanted(remote)
        if wanted:
            self._gate.recall(wanted)
        same = self.ready and current is not None and wanted == current
        if same and self._tidying.busy:
            return Outcome(current or "", changed=False)
        await self._tidying.make_way()
        await self._in_thread(lambda: self._store.prepare(deadline))
        if same and current and await self._sound(current, deadline):
            return Outcome(current, changed=False)
        return await self._work(current, wanted if self.pin.active else None, deadline, began, why)

    async def _sound(self, current: str, deadline: float) -> bool:
        if not self._publisher.intact(current):
            return False
        return await self._in_thread(lambda: self._store.sound(current, deadline))

    async def _work(self, current: str | None, pinned: str | None, deadline: float, began: float, why: str) -> Outcome:
        """Fetch, check out and publish; or, in the first pass, apply the settings to what is published already."""
        hash = await self._fetched(pinned, deadline)
        sound = current == hash and await self._sound(hash, deadline)
        self._measures.fetched()
        if sound:
            if not self.ready:
                await self._in_thread(lambda: self._store.configure(hash, deadline))
                await self._in_thread(lambda: self._publisher.mend(self._store.worktree(hash), hash))
            self._tell(hash)
            return Outcome(hash, changed=False)
        self._events.info(0, "update required", ref=self.settings.ref, local=current or "", remote=hash)
        worktree = await self._in_thread(lambda: self._store.checkout(hash, current, deadline))
        await self._in_thread(lambda: self._signatures.verify(hash, worktree, deadline))
        await self._gate.check(hash, worktree, current)
        if self.hooks.pre_publish is not None:
            self.hooks.pre_publish.send(hash, worktree)
        before = self._publisher.target()
        if current and current != hash:
            self._store.retire(current)  # before: a crash in between must not make it look old to the next clean-up
        await self._in_thread(lambda: self._publisher.publish(worktree, hash))
        if before:
            await self._in_thread(lambda: self._store.discard(before))
        self._tell(hash, time.time())
        await self._record(hash, began, why, deadline)
        self._events.info(0, "updated successfully", ref=self.settings.ref, remote=hash)
        return Outcome(hash, changed=True)

    async def _fetched(self, pinned: str | None, deadline: float) -> str:
        """Fetch the ref, or a pinned revision whose worktree is gone; what the remote has no longer is not pinned."""
        if pinned and self.there(pinned):
            return pinned
        if pinned:
            try:
                return await self._in_thread(lambda: self._store.fetch(pinned, deadline))
            except GitFailed as error:
                self._events.error(error, "can't fetch the revision to roll back to", hash=pinned)
        hash = await self._in_thread(lambda: self._store.fetch(self.settings.ref, deadline))
        if pinned:  # The remote is there, and does not have it.
            await self._in_thread(lambda: self.pin.clear("the revision cannot be fetched"))
        return hash

    def _tell(self, hash: str, changed_at: float | None = None) -> None:
        self.published = hash
        self._measures.published(hash, self.settings.ref, changed_at)

    async def _record(self, hash: str, began: float, why: str, deadline: float) -> None:
        """Remember what was published: what cannot be remembered stops nothing."""
        seconds = time.monotonic() - began
        try:
            commit = await self._in_thread(lambda: self._store.describe(hash, deadline))
            await self._in_thread(lambda: self.history.add(commit, seconds, "rollback" if self.pin.active else why))
        except (SidecarError, OSError) as error:
            self._events.info(1, "can't record the revision", hash=hash, reason=str(error))

    def _watch(self, event: Event) -> None:
        if event.code is None:
            self._events.info(5, "running command", cwd=event.cwd, cmd=event.command)
        else:
            said = {"stdout": event.stdout, "stderr": event.stderr, "time": f"{event.seconds:.6f}s"}
            self._events.info(6, "command result", cmd=event.command, **said)

    @staticmethod
    async def _in_thread(call: Callable[[], T]) -> T:
        return await asyncio.to_thread(call)

    def stop(self) -> None:
        """Kill every git that runs, so that no thread waits for one."""
        self._git.kill_all()

    def concealed(self, text: str) -> str:
        """Black out the secrets known by now."""
        return self.access.conceal(text)

    async def close(self) -> None:
        """Let go of what was opened."""
        await self._remote.close()
        self.access.close()
