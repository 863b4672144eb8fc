"""What is counted of the connections to upstreams, and what the side that decides is told of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from sidecars.ambassador.metrics import BUCKETS
from sidecars.ambassador.plan import Counted, Endpoint, Outcome
from sidecars.ambassador.settings import Upstream


class Tally:
    """The connections to the upstreams of one route, those that could not be made too; it tells the outcomes.

    doubted  endpoints whose last answer was none, or poor: a connection alone does not make them well again
    """

    __slots__ = ("_failed", "_failures", "_histogram", "_made", "_route", "_seconds", "_tell", "doubted")

    def __init__(self, route: str, tell: Callable[[Outcome], None]) -> None:
        self._route = route
        self._tell = tell
        self._made: dict[str, int] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._histogram = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._failed: set[str] = set()  # endpoints of which a failure was told, and no success since
        self.doubted: set[str] = set()

    def made(self, upstream: Upstream, endpoint: Endpoint, seconds: float) -> None:
        """One more stands."""
        label = upstream.name or upstream.address
        self._made[label] = self._made.get(label, 0) + 1
        self._histogram[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds
        if endpoint.key in self._failed and endpoint.key not in self.doubted:
            self._failed.discard(endpoint.key)
            self._tell(Outcome(self._route, endpoint.key, True))

    def failed(self, upstream: Upstream, endpoint: Endpoint, reason: str, detail: str) -> None:
        """One could not be made."""
        self.lost(upstream, reason)
        self._failed.add(endpoint.key)
        self._tell(Outcome(self._route, endpoint.key, False, reason, detail))

    def poor(self, upstream: Upstream, endpoint: Endpoint, reason: str, detail: str) -> None:
        """One that had been made came to nothing: there was no answer, or one that says that there is none."""
        self.doubted.add(endpoint.key)
        self.failed(upstream, endpoint, reason, detail)

    def well(self, endpoint: Endpoint) -> None:
        """An endpoint has answered well."""
        if endpoint.key in self.doubted:
            self.doubted.discard(endpoint.key)
            self._failed.discard(endpoint.key)
            self._tell(Outcome(self._route, endpoint.key, True))

    def lost(self, upstream: Upstream, reason: str) -> None:
        """One has failed that had been made; whoever has it tells of it."""
        label = upstream.name or upstream.address, reason
        self._failures[label] = self._failures.get(label, 0) + 1

    def counted(self) -> Counted:
        """What it comes to."""
        counted: Counted = {
            "upstream_connections_total": {(self._route, label): made for label, made in self._made.items()},
            "upstream_failures_total": {(self._route, *label): count for label, count in self._failures.items()},
        }
        if self._made:
            counted["upstream_connect_seconds"] = {(self._route,): [*map(float, self._histogram), self._seconds]}
        return counted
