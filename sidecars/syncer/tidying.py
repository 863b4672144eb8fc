"""What is cleaned up after a pass, off the way of publishing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from sidecars.core.errors import SidecarError
from sidecars.core.git import Git
from sidecars.syncer.events import Events
from sidecars.syncer.store import Store

# How often in a row the collection of garbage is put off for something new.
_PUT_OFF = 10


class Tidying:
    """Removes stale worktrees and garbage in the background, for so many seconds at most; one at a time."""

    def __init__(self, store: Store, git: Git, events: Events, seconds: float) -> None:
        self._store = store
        self._git = git
        self._events = events
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._put_off = 0

    @property
    def busy(self) -> bool:
        """Whether something is being cleaned up now."""
        return self._task is not None and not self._task.done()

    def begin(self, keep: Collection[str]) -> None:
        """Clean up all but these revisions, unless that is under way."""
        if not self.busy:
            self._task = asyncio.create_task(self._clean(keep))

    async def make_way(self) -> None:
        """Return once nothing is cleaned up. There is news: garbage can wait, but not for ever."""
        if self.busy and self._put_off < _PUT_OFF:
            self._put_off += 1
            self._git.interrupt()
        await self.done()

    async def done(self) -> None:
        """Wait until all is clean."""
        if self._task is not None:
            await self._task

    async def _clean(self, keep: Collection[str]) -> None:
        put_off = self._put_off
        try:
            await asyncio.to_thread(self._store.clean, keep, time.monotonic() + self._seconds)
            self._put_off = 0
        except (SidecarError, OSError) as error:
            if self._put_off > put_off:
                self._events.info(2, "cleaning up is put off", times=self._put_off)
            else:
                self._events.error(error, "failed to clean up")
