"""A consumer of a follower over real files: what it was given, by path, and the wait for what shall come."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from sidecars.core.follow.checkpoint import Store
from sidecars.core.follow.file import Batch
from sidecars.core.follow.follower import Follower, follow
from sidecars.core.follow.lane import Options, Source

PATIENCE = 60.0


@dataclass
class Given:
    """A batch that was given out, as it was then."""

    path: str
    data: bytes
    start: int
    complete: bool
    continued: bool


class Stream:
    """Takes batches, acknowledges them unless told otherwise, and keeps what was in them."""

    def __init__(self, follower: Follower, acknowledging: bool) -> None:
        self.follower = follower
        self.given: list[Given] = []
        self.last: Batch
        self._acknowledging = acknowledging

    @property
    def data(self) -> bytes:
        """All that was given, in its order."""
        return b"".join(batch.data for batch in self.given)

    def by_path(self) -> dict[str, bytes]:
        """All that was given, by the name of the path that it was followed under."""
        parts: dict[str, bytes] = defaultdict(bytes)
        for batch in self.given:
            parts[os.path.basename(batch.path)] += batch.data
        return dict(parts)

    async def take(self) -> bool:
        """Take one batch; False at the end."""
        try:
            batch = await anext(self.follower)
        except StopAsyncIteration:
            return False
        given = Given(batch.path, bytes(batch.data), batch.start, batch.complete, batch.continued)
        assert batch.end == batch.start + len(given.data)
        self.last = batch
        self.given.append(given)
        if self._acknowledging:
            self.follower.acknowledge(batch)
        return True

    async def until(self, met: Callable[[], bool]) -> None:
        """Take batches until this is so; it must be within PATIENCE."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not met():
                    assert await self.take(), f"the stream ended after {self.data[-200:]!r}"
        except TimeoutError:
            raise AssertionError(f"waited in vain; given so far: {self.data[-400:]!r}") from None

    async def receive(self, data: bytes) -> None:
        """Take batches until exactly this was given, all in all."""
        await self.until(lambda: len(self.data) >= len(data))
        assert self.data == data

    async def receive_any_order(self, data: bytes) -> None:
        """Take batches until exactly these lines were given, all in all."""
        await self.until(lambda: len(self.data) >= len(data))
        assert sorted(self.data.splitlines()) == sorted(data.splitlines())

    async def eventually(self, met: Callable[[], bool]) -> None:
        """Take what comes, if anything does, until this is so."""
        taking = asyncio.create_task(self._take_all())
        try:
            async with asyncio.timeout(PATIENCE):
                while not met():
                    await asyncio.sleep(0.01)
        finally:
            taking.cancel()
            await asyncio.wait([taking])

    async def _take_all(self) -> None:
        while await self.take():
            pass

    async def rest(self) -> bytes:
        """Drain: all that was given once the stream has ended."""
        self.follower.drain(0.05)
        async with asyncio.timeout(PATIENCE):
            await self._take_all()
        return self.data


@contextlib.asynccontextmanager
async def streaming(
    *paths: object,
    options: Options | None = None,
    store: Store | None = None,
    acknowledging: bool = True,
    **source: Any,
) -> AsyncIterator[Stream]:
    """Follow these paths, as one source."""
    sources = [Source(tuple(map(str, paths)), **source)]
    async with follow(sources, options, store=store, output="test") as follower:
        yield Stream(follower, acknowledging)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine of a test."""
    asyncio.run(test)
