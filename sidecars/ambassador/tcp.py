"""TCP mode: each client's connection is passed on to one of the upstreams, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.balance import choose
from sidecars.ambassador.connection import Connection, written
from sidecars.ambassador.loop import Deadline
from sidecars.ambassador.passage import Passage, Target
from sidecars.ambassador.plan import Counted, Route
from sidecars.ambassador.queueing import Queue

if TYPE_CHECKING:
    from sidecars.ambassador.plane import Plane

_MOST_ROWS = 200


class Tcp:
    """One listener in TCP mode."""

    gentle = False

    def __init__(self, plane: Plane, route: Route) -> None:
        self.plane = plane
        self.route = route
        self.passages: set[Passage] = set()
        self.pending = 0
        self.retries = 0
        self._received = 0  # by connections that have ended
        self._sent = 0
        self._targets: dict[str, Target] = {}
        self._live: list[Target] = []
        # Until a name has had its first answer, clients wait for it: they may be as early as we are.
        self.expected = True
        self._queue: Queue[Passage] = Queue(plane.loop, self._serve, Passage.late)
        self._sweep: Deadline | None = None
        self.update(route)

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""
        self.route = route
        targets = {each.key: self._targets.get(each.key) or Target(each.key) for each in route.endpoints}
        for endpoint in route.endpoints:
            targets[endpoint.key].take(endpoint, route)
        self._targets = targets
        self.expected = self.expected and not targets
        # Who is down or ejected is better than nobody.
        self._live = [each for each in targets.values() if each.endpoint.state == "up"] or [
            each for each in targets.values() if each.endpoint.state in ("down", "ejected")
        ]
        if any(each.close or each.state == "disabled" for each in route.endpoints):
            self._close_removed()
        self._queue.look()
        self._begin_sweep()

    def _close_removed(self) -> None:
        for passage in list(self.passages):
            endpoint = passage.target and passage.target.endpoint
            if endpoint and (endpoint.close or endpoint.state == "disabled"):
                passage.lose_target("operator" if endpoint.state == "disabled" else "removed")

    def accepted(self, connection: Connection) -> None:
        """Pass a client on."""
        passage = Passage(self, connection)
        self.passages.add(passage)
        self.serve(passage)

    def others(self, passage: Passage) -> list[Target]:
        """Which targets it may go to, and has not tried."""
        if not passage.tried:
            return self._live
        return [target for target in self._live if target.endpoint.key not in passage.tried]

    def serve(self, passage: Passage) -> None:
        """Dial for it, now or when there is room."""
        if self._queue or self._serve(passage):
            if len(self._queue) < self.route.listener.queue:
                self._queue.join(passage, self.route.listener.queue_timeout)
            else:
                passage.end("refused_full")

    def _serve(self, passage: Passage) -> float:
        """Dial for it, or end it; or say how long it has to wait, at most."""
        listener = self.route.listener
        live = self.others(passage)
        if not live:
            if self.expected:
                return 1.0
            passage.end("connect_failed" if passage.tried else "no_upstream")
            return 0.0
        most = listener.max_pending
        if most is not None and self.pending >= most:
            passage.end("refused_full")
            return 0.0
        if listener.upstream_connections is not None:
            return self._serve_within(passage, live, listener.upstream_connections)
        passage.dial(choose(listener.balance, live, passage.source))
        return 0.0

    def _serve_within(self, passage: Passage, live: list[Target], most: int) -> float:
        """Dial one that has room; which of them have is known to the admission, for all processes."""
        live = list(live)
        while live:
            target = choose(self.route.listener.balance, live, passage.source)
            if self.plane.admission.take(self._place(target), most):
                passage.placed = True
                passage.dial(target)
                return 0.0
            live.remove(target)
        return 1.0

    def _place(self, target: Target) -> str:
        return f"{self.route.id} {target.endpoint.key}"

    def left(self, passage: Passage, target: Target) -> None:
        """A passage has no connection to its target any more, nor is one under way."""
        target.active -= 1
        if passage.placed:
            passage.placed = False
            self.plane.admission.give(self._place(target))
            self._queue.look()

    def ended(self, passage: Passage, received: int, sent: int) -> None:
        """A passage is over."""
        self.passages.discard(passage)
        self._received += received
        self._sent += sent

    def leave_queue(self, passage: Passage) -> None:
        """It waits no longer."""
        if self._queue:
            self._queue.leave(passage)

    def _begin_sweep(self) -> None:
        listener = self.route.listener
        limits = [float(each) for each in (listener.idle_timeout, listener.max_age) if each is not None]
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if limits:
            # A tenth late at the most; one look at all of them costs less than a timer for each.
            self._sweep = self.plane.loop.later(max(0.05, min(10.0, min(limits) / 10)), self._look)

    def _look(self) -> None:
        listener, now = self.route.listener, self.plane.loop.now
        idle, age = listener.idle_timeout, listener.max_age
        for passage in list(self.passages):
            if age is not None and now - passage.connection.since >= age:
                passage.leave("max_age")
            elif idle is not None and passage.idle(now) >= idle:
                passage.leave("idle")
        self._begin_sweep()

    def drain(self) -> None:
        """Let go of every client that loses nothing by it: of bytes, nobody knows where one may end."""

    def close(self) -> None:
        """End everything, at once."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for passage in list(self.passages):
            passage.leave("drained")

    def connections(self) -> int:
        """How many clients it serves."""
        return len(self.passages)

    def counted(self) -> Counted:
        """What it has counted."""
        label = (self.route.id,)
        received, sent = self._received, self._sent
        upstreams: dict[tuple[str, ...], float | list[float]] = {}
        for target in self._targets.values():
            upstreams[self.route.id, target.label] = 0.0
        for passage in self.passages:
            received += passage.received
            sent += passage.sent
            if passage.connected and passage.target:
                upstream = (self.route.id, passage.target.label)
                upstreams[upstream] = upstreams.get(upstream, 0.0) + 1  # type: ignore[operator]
        return {
            "received_bytes_total": {label: received},
            "sent_bytes_total": {label: sent},
            "retries_total": {label: self.retries},
            "waiting": {label: len(self._queue)},
            "upstream_connections": upstreams,
        }

    def shown(self) -> list[dict[str, object]]:
        """Rows for /status."""
        now = self.plane.loop.now
        rows: list[dict[str, object]] = []
        for passage in self.passages:
            rows.append(
                {
                    "listener": self.route.id,
                    "client": written(passage.connection.peer),
                    "upstream": passage.upstream,
                    "address": passage.target and written(passage.target.endpoint.address),
                    "age_seconds": round(now - passage.connection.since, 3),
                    "bytes": passage.received + passage.sent,
                }
            )
            if len(rows) == _MOST_ROWS:
                break
        return rows
