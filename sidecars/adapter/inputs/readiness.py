"""Waiting on the event loop until a descriptor, a pipe's or a socket's, has something; and for the drain."""

from __future__ import annotations

import asyncio


class Drained(Exception):  # noqa: N818
    """The drain was asked, and nothing has come for as long as it shall be quiet."""


class Readiness:
    """Says of all descriptors of the inputs when they can be read.

    `quiet` is None until the drain is asked; then, for how many seconds nothing may come until an input ends.
    """

    def __init__(self) -> None:
        self.quiet: float | None = None
        self._waits: set[asyncio.Future[bool]] = set()

    def drain(self, quiet: float) -> None:
        """Let each wait end with Drained once its descriptor was quiet for so many seconds."""
        self.quiet = quiet
        for wait in self._waits:
            _tell(wait, False)

    async def wait(self, descriptor: int, most: float | None = None) -> bool:
        """Wait until a read does not block; False when it still would after `most` seconds.

        Raises Drained, and PermissionError for what epoll(7) does not take: regular files, whose reads never wait for
        a writer.
        """
        if self.quiet is None:
            ready = await self._once(descriptor, most)
            if ready or self.quiet is None:
                return ready
        if await self._once(descriptor, self.quiet):
            return True
        raise Drained

    async def _once(self, descriptor: int, most: float | None) -> bool:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(descriptor, _tell, ready, True)
        timer = loop.call_later(most, _tell, ready, False) if most is not None else None
        self._waits.add(ready)
        try:
            return await ready
        finally:
            self._waits.discard(ready)
            loop.remove_reader(descriptor)
            if timer is not None:
                timer.cancel()


def _tell(ready: asyncio.Future[bool], whether: bool) -> None:
    if not ready.done():
        ready.set_result(whether)
