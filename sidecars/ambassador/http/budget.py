"""How many tries beside the first a listener may make: when all fails, retries must not double what fails.

Source: the retry budget of Finagle (com.twitter.finagle.service.RetryBudget), here over whole seconds.
"""

from __future__ import annotations

_SECONDS = 10


class Budget:
    """A share of the requests of the last ten seconds, and so many a second however few there were.

    Times are seconds on a clock that only goes forward.
    """

    __slots__ = ("_floor", "_requests", "_second", "_share", "_tries", "requests")

    def __init__(self, percent: int, floor: float) -> None:
        self._share = percent / 100
        self._floor = floor * _SECONDS
        self._second = 0
        self.requests = 0  # of this second: who counts calls at() first, and adds one
        self._requests = [0] * (_SECONDS - 1)  # of the seconds before it
        self._tries = [0] * _SECONDS  # this one's is the last

    def limit(self, percent: int, floor: float) -> None:
        """Take other limits, after a reload."""
        self._share = percent / 100
        self._floor = floor * _SECONDS

    def at(self, now: float) -> None:
        """Let time pass."""
        passed = int(now) - self._second
        if passed <= 0:
            return
        self._second += passed
        gone = min(passed, _SECONDS)
        self._requests = [*self._requests, self.requests, *[0] * (gone - 1)][1 - _SECONDS :]
        self._tries = [*self._tries, *[0] * gone][-_SECONDS:]
        self.requests = 0

    def request(self, now: float) -> None:
        """Count a request."""
        if int(now) != self._second:
            self.at(now)
        self.requests += 1

    def left(self, now: float) -> float:
        """Say how many tries there may be now."""
        self.at(now)
        return max(0.0, self._floor + self._share * (sum(self._requests) + self.requests) - sum(self._tries))

    def take(self, now: float) -> bool:
        """Count a try beside the first, if there may be one."""
        if self.left(now) < 1:
            return False
        self._tries[-1] += 1
        return True
