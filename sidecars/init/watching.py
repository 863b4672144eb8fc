"""One target's way to being as it shall: attempts, the pauses between them, and what is known of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from time import monotonic  # the clock of the event loop too, but still there when the loop has ended
from typing import Protocol

import msgspec

from sidecars.init.checks import Check, Result, State, attempt
from sidecars.init.target import Target

# What a `not:` target is satisfied by. A look that failed, or what can never be, proves nothing.
_ABSENT: tuple[State, ...] = ("no-name", "no-endpoints", "refused", "filtered", "reset", "tls", "auth", "not-ready")


class Pace(msgspec.Struct, frozen=True):
    """How often to look; all in seconds.

    interval, longest  the first pause, and the most it grows to; twice as long each time
    patience           what one attempt may take
    consecutive        how many attempts in a row must be good
    nxdomain           how long a name may not exist before it never will; None: for ever
    """

    interval: float = 0.25
    longest: float = 5.0
    patience: float = 5.0
    consecutive: int = 1
    nxdomain: float | None = None


def pause(pace: Pace, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Choose how long to wait after so many failures in a row: exponential, with full jitter above a tenth.

    A thousand pods that start together shall not come together. Source: Brooker, "Exponential Backoff And Jitter".
    """
    # From 2**20 on any interval is beyond any longest one, and 2**2000 is no float.
    longest = min(pace.longest, pace.interval * 2 ** min(max(failures - 1, 0), 20))
    return uniform(longest / 10, longest)


def turned(result: Result) -> Result:
    """Turn a result into that of `not:`."""
    if result.state == "ok":
        return Result("not-ready", f"is still so: {result.text}", result.again)
    if result.state in _ABSENT:
        return Result("ok", f"is not so: {result.text.partition('; ')[0]}")
    return result


class Listener(Protocol):
    """Who is told how the watching goes."""

    def found(self, watch: Watch) -> None:
        """An attempt is over: watch.last says how."""


class Watch:
    """Look at one target until it is as wanted."""

    def __init__(self, target: Target, check: Check, pace: Pace, listener: Listener) -> None:
        self.target = target
        self.last: Result | None = None
        self.attempts = 0
        self.good = 0
        self.met = False
        self.states: Counter[State] = Counter()
        self.began = 0.0
        self.took = 0.0
        self._check = check
        self._pace = pace
        self._listener = listener
        self._failures = 0
        self._nameless_since: float | None = None

    @property
    def lost(self) -> bool:
        """It can never be as wanted."""
        return self.last is not None and self.last.state == "impossible"

    async def run(self, deadline: float) -> bool:
        """Look until the target is as wanted (true), or can never be (false); the deadline is the loop's time."""
        self.began = monotonic()
        while True:
            result = await self._attempt(deadline)
            self._note(result)
            if self.met or self.lost:
                return self.met
            await asyncio.sleep(self._rest(result))

    def elapsed(self) -> float:
        """Seconds that it has been, or was, looked at."""
        return self.took if self.met or self.lost else monotonic() - self.began

    async def _attempt(self, deadline: float) -> Result:
        patience = self.target.seconds("patience") or self._pace.patience
        if self.last is None:
            # Something is to be known when time is up, even where the first attempt would take longer.
            patience = min(patience, max((deadline - monotonic()) * 0.9, 0.001))
        result = await attempt(self._check, self.target, patience)
        return turned(result) if self.target.negated else self._judged(result)

    def _judged(self, result: Result) -> Result:
        """Give up on a name that has not existed for so long, where that was asked for."""
        if result.state not in ("no-name", "error"):
            self._nameless_since = None
        if result.state != "no-name":
            return result
        if self._nameless_since is None:
            self._nameless_since = monotonic()
        if self._pace.nxdomain is None or monotonic() - self._nameless_since < self._pace.nxdomain:
            return result
        what, _, advice = result.text.partition("; ")
        return Result("impossible", f"{what} and has not for {self._pace.nxdomain:g} s; {advice}")

    def _note(self, result: Result) -> None:
        before, self.last = self.last, result
        self.attempts += 1
        self.states[result.state] += 1
        self.good = self.good + 1 if result.state == "ok" else 0
        self.met = self.good >= self._pace.consecutive
        # Something has moved, so that more may move soon: the pauses begin anew.
        self._failures = self._failures + 1 if before and before.state == result.state else 1
        self.took = monotonic() - self.began
        self._listener.found(self)

    def _rest(self, result: Result) -> float:
        if result.state == "ok":
            return self._pace.interval
        rest = pause(self._pace, self._failures)
        if result.again is not None:
            rest = min(rest, max(result.again, 0.01))
        if self._pace.nxdomain is not None and self._nameless_since is not None:
            rest = min(rest, max(self._nameless_since + self._pace.nxdomain - monotonic(), 0.01))
        return rest
