"""Who may come in: how many connections a listener has at once, and how many new ones begin in a second."""

from __future__ import annotations

import time
from typing import Protocol


class Admission(Protocol):
    """What a plane asks before it takes a connection.

    take       whether one more connection fits under the limit (None: no limit); who was let in gives its place back
    give       one has ended that was let in
    may_begin  seconds to wait until a new connection may begin; at 0 it is counted as begun. Who is made to wait asks
               again then: nothing is reserved.
    """

    def take(self, route: str, most: int | None) -> bool:
        """Let one more in, unless there are so many."""

    def give(self, route: str) -> None:
        """One that was let in has ended."""

    def may_begin(self, route: str, rate: float, burst: int) -> float:
        """Say how long the next one has to wait."""


class Alone:
    """The limits of one process."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def take(self, route: str, most: int | None) -> bool:
        """Let one more in, unless there are so many."""
        count = self._open.get(route, 0)
        if most is not None and count >= most:
            return False
        self._open[route] = count + 1
        return True

    def give(self, route: str) -> None:
        """One that was let in has ended."""
        count = self._open[route] - 1
        if count:
            self._open[route] = count
        else:
            del self._open[route]

    def may_begin(self, route: str, rate: float, burst: int) -> float:
        """Say how long the next one has to wait."""
        self._due[route], wait = paced(self._due.get(route, 0.0), time.monotonic(), rate, burst)
        return wait


def paced(due: float, now: float, rate: float, burst: int) -> tuple[float, float]:
    """Give when the next one would be due at the even pace, and the seconds to wait; 0 means that this one begins.

    Up to `burst` come before they are due. Source: the generic cell rate algorithm, ITU-T I.371, as virtual scheduling.
    """
    wait = due - now - (burst - 1) / rate
    # What is left of a rounding error is no reason to come again.
    if wait > 1e-9:
        return due, wait
    return max(due, now) + 1 / rate, 0.0
