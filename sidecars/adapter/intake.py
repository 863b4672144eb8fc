"""One output's view of everything that is read: the followed files, and what has no file behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, Self

from sidecars.adapter.portion import Portion
from sidecars.core.follow.follower import Follower


class Live(Protocol):
    """One output's reader of the queue."""

    def __aiter__(self) -> AsyncIterator[Portion]:
        """Iterate over the portions."""

    def acknowledge(self, portion: Portion) -> None:
        """Take a portion as delivered."""


class Intake:
    """Portions of a follower and of a reader of the queue, whichever comes first; it ends when both have ended."""

    def __init__(self, follower: Follower | None, live: Live | None) -> None:
        self._follower = follower
        self._live = live
        sources = [each for each in (_portions(follower) if follower else None, aiter(live) if live else None) if each]
        self._coming: dict[asyncio.Future[Portion], AsyncIterator[Portion]] = {}
        self._idle: list[AsyncIterator[Portion]] = sources

    def __aiter__(self) -> Self:
        """Iterate over the portions."""
        return self

    async def __anext__(self) -> Portion:
        """Give the next portion, as soon as there is one. A cancelled wait loses none."""
        while True:
            for source in self._idle:
                self._coming[asyncio.ensure_future(anext(source))] = source
            self._idle.clear()
            if not self._coming:
                raise StopAsyncIteration
            done, _ = await asyncio.wait(self._coming, return_when=asyncio.FIRST_COMPLETED)
            first = next(iter(done))
            source = self._coming.pop(first)
            try:
                portion = first.result()
            except StopAsyncIteration:
                continue
            self._idle.append(source)
            return portion

    def acknowledge(self, portion: Portion) -> None:
        """Take a portion as delivered; those of one origin in their order."""
        if portion.batch is not None and self._follower is not None:
            self._follower.acknowledge(portion.batch)
        elif self._live is not None:
            self._live.acknowledge(portion)

    def pace(self, size: int, seconds: float) -> None:
        """Leave batches as large as they are: a smaller one could cut a line that a whole one would not."""

    def close(self) -> None:
        """Wait no more."""
        for coming in self._coming:
            coming.cancel()


async def _portions(follower: Follower) -> AsyncIterator[Portion]:
    async for batch in follower:
        # A copy: the follower's buffer is read into again while this is parsed.
        yield Portion(batch.path, bytes(batch.data), batch=batch, continued=batch.continued, complete=batch.complete)
