"""Leaving out what fails the connections it gets: when, for how long, and how many at once."""

from __future__ import annotations

from collections.abc import Callable

from sidecars.ambassador.settings import Eject

_JITTER = 0.2  # of the time: those that were left out together do not come back together


class Ejection:
    """What one address has failed of late, and what has come of it.

    Times are seconds on a clock that only goes forward. `uniform(a, b)` gives a random number between a and b.
    `out` is true from leave() to come_back(); `ejections` counts the calls of leave() when it was in.
    """

    __slots__ = ("_back", "_limits", "_times", "_uniform", "ejections", "failures", "out")

    def __init__(self, limits: Eject, uniform: Callable[[float, float], float]) -> None:
        self._limits = limits
        self._uniform = uniform
        self.failures = 0
        self.out = False
        self.ejections = 0
        self._times = 0  # how often its time has been doubled
        self._back = 0.0

    def limit(self, limits: Eject) -> None:
        """Take other limits, after a reload."""
        self._limits = limits

    def failed(self) -> bool:
        """Count a failure; true when there were enough of them one after another. One that is out counts none."""
        if self.out or not self._limits.failures:
            return False
        self.failures += 1
        return self.failures >= self._limits.failures

    def worked(self) -> None:
        """Note a success: failures count from the beginning."""
        self.failures = 0

    def leave(self, now: float) -> float:
        """Leave it out, or leave it out again; the seconds until it may come back.

        time, 2 * time, 4 * time, and so on, up to a fifth more, max_time at most. Each max_time in which it was well
        takes one doubling back.
        """
        limits = self._limits
        if not self.out:
            self.ejections += 1
            well = (now - self._back) // limits.max_time if limits.max_time else self._times
            self._times = max(0, self._times - int(well))
        self.out = True
        self.failures = 0
        least = min(limits.max_time, limits.time * 2.0 ** min(self._times, 64))
        self._times += 1
        jitter = self._uniform(0.0, _JITTER)
        longer = least * (1.0 + jitter)
        return longer if longer <= limits.max_time else float(limits.max_time) * (1.0 - jitter)

    def come_back(self, now: float) -> None:
        """Its time is over, and it is well as far as is known."""
        self.out = False
        self.failures = 0
        self._back = now


def may_leave(out: int, total: int, limits: Eject) -> bool:
    """Say whether one more of so many may be left out, where some are out; the first always may."""
    return out == 0 or (out + 1) * 100 <= total * limits.max_share
