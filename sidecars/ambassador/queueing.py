"""A queue of those who wait for room, first come, first served, none longer than a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sidecars.ambassador.loop import Loop

T = TypeVar("T")

_SOONER = 0.05  # seconds: room may be made where nobody tells, in another process


class Queue(Generic[T]):
    """Who waits.

    begin  is called for the first of them; it returns 0 when it has begun, or else how many seconds it has to wait,
           at most, until it is asked again
    late   is called for one whose time is over
    """

    def __init__(self, loop: Loop, begin: Callable[[T], float], late: Callable[[T], None]) -> None:
        self._loop = loop
        self._begin = begin
        self._late = late
        self._waiting: deque[tuple[float, T]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, waiting: T, timeout: float) -> None:
        """Wait, for so many seconds at most."""
        self._waiting.append((self._loop.now + timeout, waiting))
        self.look()

    def leave(self, waiting: T) -> None:
        """Wait no longer."""
        self._waiting = deque(each for each in self._waiting if each[1] is not waiting)

    def clear(self) -> list[T]:
        """Empty it, and give who has waited."""
        waiting = [each for _, each in self._waiting]
        self._waiting.clear()
        return waiting

    def look(self) -> None:
        """There may be room: look soon."""
        if not self._asked:
            self._asked = True
            self._loop.after(self._look)

    def _look(self) -> None:
        self._asked = False
        wait = 0.0
        while self._waiting and not wait:
            deadline, first = self._waiting.popleft()
            if deadline <= self._loop.now:
                self._late(first)
            elif wait := self._begin(first):
                self._waiting.appendleft((deadline, first))
        if self._waiting:
            # From a handler, asyncio hears of a timer only when it is told so.
            self._loop.soon(self._again, min(wait, _SOONER, self._waiting[0][0] - self._loop.now))

    def _again(self, delay: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(delay, 0.001), self.look)
