"""How many connections a listener may have at once, and begin each second: the limits of one process."""

from __future__ import annotations

import time


class Admission:
    """Slots and tokens, by the id of what is limited: a route's id, or "ROUTE ENDPOINT" for one address of it.

    Several processes share their limits through another class with these methods.
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._tokens: dict[str, tuple[float, float]] = {}

    def take(self, limited: str, most: int) -> bool:
        """Take a slot, unless so many are taken."""
        taken = self._taken.get(limited, 0)
        if taken >= most:
            return False
        self._taken[limited] = taken + 1
        return True

    def give(self, limited: str) -> None:
        """Give a slot back."""
        taken = self._taken.get(limited, 0)
        if taken > 1:
            self._taken[limited] = taken - 1
        else:
            self._taken.pop(limited, None)

    def may_begin(self, limited: str, rate: float, burst: int) -> float:
        """Take a token of the bucket, which fills at `rate` a second up to `burst`; else say how many seconds to wait."""
        now = time.monotonic()
        tokens, since = self._tokens.get(limited, (float(burst), now))
        tokens = min(float(burst), tokens + (now - since) * rate)
        if tokens < 1:
            self._tokens[limited] = (tokens, now)
            return (1 - tokens) / rate
        self._tokens[limited] = (tokens - 1, now)
        return 0.0
