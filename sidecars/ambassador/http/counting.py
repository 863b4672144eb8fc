"""What one listener in HTTP mode counts."""

from __future__ import annotations

from bisect import bisect_left

from sidecars.ambassador.metrics import BUCKETS
from sidecars.ambassador.plan import Counted

_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class Counts:
    """Counters, as they are now.

    received, sent  bytes from and to clients, by connections that have ended
    """

    __slots__ = (
        "_answered", "_answered_seconds", "_classes", "_upstream", "_upstream_seconds", "denied", "in_flight",
        "received", "refused", "retries", "sent", "upgrades",
    )  # fmt: skip

    def __init__(self) -> None:
        self.in_flight = 0
        self.received = 0
        self.sent = 0
        self.upgrades = 0
        self.refused: dict[str, int] = {}
        self.retries: dict[str, int] = {}
        self.denied: dict[str, int] = {}
        self._classes = [0] * 6
        self._upstream = [0] * (len(BUCKETS) + 1)
        self._upstream_seconds = 0.0
        self._answered = [0] * (len(BUCKETS) + 1)
        self._answered_seconds = 0.0

    def ended(self, status: int, seconds: float) -> None:
        """A request is over; its status is 0 when it has not been answered, 101 when it took on another protocol."""
        self._classes[status // 100] += 1
        if status > 101:
            self._answered[bisect_left(BUCKETS, seconds)] += 1
            self._answered_seconds += seconds

    def heard(self, seconds: float) -> None:
        """An upstream has begun to answer."""
        self._upstream[bisect_left(BUCKETS, seconds)] += 1
        self._upstream_seconds += seconds

    def counted(self, listener: str) -> Counted:
        """Give them by the names of their metrics."""
        label = (listener,)
        counted: Counted = {
            "http_requests_total": {
                (listener, name): count for name, count in zip(_CLASSES, self._classes[1:], strict=True)
            },
            "http_in_flight": {label: self.in_flight},
            "http_refused_total": {(listener, rule): count for rule, count in self.refused.items()},
            "http_retries_total": {(listener, why): count for why, count in self.retries.items()},
            "http_retries_denied_total": {(listener, why): count for why, count in self.denied.items()},
            "http_upgrades_total": {label: self.upgrades},
        }
        if any(self._upstream):
            counted["http_upstream_seconds"] = {label: [*map(float, self._upstream), self._upstream_seconds]}
        if any(self._answered):
            counted["http_seconds"] = {label: [*map(float, self._answered), self._answered_seconds]}
        return counted
