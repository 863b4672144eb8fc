"""Which upstream a request goes to, over which connection; and who waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.balance import choose
from sidecars.ambassador.http.link import Link, Target
from sidecars.ambassador.plan import Counted, Route
from sidecars.ambassador.queueing import Queue

if TYPE_CHECKING:
    from sidecars.ambassador.http.exchange import Exchange
    from sidecars.ambassador.plane import Plane


class Placing:
    """The endpoints of one listener, and their connections.

    active   requests at the upstreams
    pending  dials under way
    """

    def __init__(self, plane: Plane, route: Route) -> None:
        self.plane = plane
        self.route = route
        self.active = 0
        self.pending = 0
        # Until a name has had its first answer, requests wait for it: they may be as early as we are.
        self._expected = True
        self._most: int | None = None
        self._targets: dict[str, Target] = {}
        self._leaving: set[Target] = set()  # gone from the plan, with connections still
        self._live: list[Target] = []
        self._queue: Queue[Exchange] = Queue(plane.loop, self._place, self._late)

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""
        http = route.listener.http
        self.route = route
        self._most = http.max_requests if http is not None else None
        targets = {each.key: self._targets.get(each.key) or Target(each.key, self._closed) for each in route.endpoints}
        for endpoint in route.endpoints:
            targets[endpoint.key].take(endpoint, route)
        for gone in self._targets.keys() - targets.keys():
            self._targets[gone].retire()
            self._leaving.add(self._targets[gone])
        self._leaving = {target for target in self._leaving if target.links}
        self._targets = targets
        self._expected = self._expected and not targets
        # Who is down or ejected is better than nobody.
        self._live = [each for each in targets.values() if each.endpoint.state == "up"] or [
            each for each in targets.values() if each.endpoint.state in ("down", "ejected")
        ]
        self._close_removed()
        self._queue.look()

    def _close_removed(self) -> None:
        for target in self._targets.values():
            if target.endpoint.close or target.endpoint.state == "disabled":
                for link in list(target.links):
                    if link.attempt is not None:
                        link.attempt.cut()

    def untried(self, exchange: Exchange) -> bool:
        """Whether there is an endpoint that it has not tried."""
        return any(target.key not in exchange.tried for target in self._live)

    def place(self, exchange: Exchange) -> None:
        """Send it to an upstream, now or when there is room."""
        if self._queue or self._place(exchange):
            listener = self.route.listener
            if len(self._queue) < listener.queue:
                exchange.session.due = exchange.until
                self._queue.join(exchange, listener.queue_timeout)
            else:
                exchange.fail("queue")

    def leave(self, exchange: Exchange) -> None:
        """It waits no longer."""
        if self._queue:
            self._queue.leave(exchange)

    def _place(self, exchange: Exchange) -> float:
        """Send it, or answer it; or say how long it has to wait, at most."""
        live = self._live
        if exchange.tried:
            live = [target for target in live if target.key not in exchange.tried] or live
        if not live:
            if self._expected:
                return 1.0
            exchange.fail("no_upstream")
            return 0.0
        if self._most is not None and self.active >= self._most:
            exchange.fail("overflow")
            return 0.0
        listener = self.route.listener
        if listener.upstream_connections is not None:
            return self._place_within(exchange, live, listener.upstream_connections)
        target = live[0] if len(live) == 1 else choose(listener.balance, live, exchange.request.client)
        link = self._ready(target, exchange)
        if link is not None:
            exchange.try_(target, link)
        else:
            self._dial(exchange, target)
        return 0.0

    def _ready(self, target: Target, exchange: Exchange) -> Link | None:
        """Give a connection that waits. What cannot be sent twice is sent over none that is at its end already."""
        if exchange.resent:
            return None
        while (link := target.idle_one(self.plane.loop.now)) is not None:
            if exchange.request.method in ("GET", "HEAD") or link.fresh():
                return link
            target.drop(link)
        return None

    def _dial(self, exchange: Exchange, target: Target, *, placed: bool = False) -> None:
        most = self.route.listener.max_pending
        if most is None or self.pending < most:
            exchange.try_(target, None, placed=placed)
            return
        if placed:
            self.leave_place(target)
        exchange.fail("overflow")

    def _place_within(self, exchange: Exchange, live: list[Target], most: int) -> float:
        """Send it to one that has room; which of them have is known to the admission, for all processes."""
        live = list(live)
        while live:
            target = choose(self.route.listener.balance, live, exchange.request.client)
            link = self._ready(target, exchange)
            if link is not None:
                exchange.try_(target, link)
                return 0.0
            if self.plane.admission.take(self._place_of(target), most):
                self._dial(exchange, target, placed=True)
                return 0.0
            live.remove(target)
        return 1.0

    def _late(self, exchange: Exchange) -> None:
        exchange.fail("no_upstream" if self._expected else "queue")

    def _place_of(self, target: Target) -> str:
        return f"{self.route.id} {target.key}"

    def leave_place(self, target: Target) -> None:
        """Give back a place at an endpoint."""
        self.plane.admission.give(self._place_of(target))
        self.roomier()

    def _closed(self, link: Link) -> None:
        if link.placed:
            link.placed = False
            self.leave_place(link.target)

    def roomier(self) -> None:
        """A connection has become free."""
        if self._queue:
            self._queue.look()

    def expire(self, now: float) -> bool:
        """Close what has waited for long enough; whether any waits still."""
        for target in self._targets.values():
            target.expire(now)
        return any(target.idle for target in self._targets.values())

    def close(self) -> None:
        """Close every connection."""
        for target in (*self._targets.values(), *self._leaving):
            for link in list(target.links):
                target.leave(link)

    def counted(self) -> Counted:
        """What there is now."""
        id = self.route.id
        links: dict[tuple[str, ...], float | list[float]] = {}
        idle: dict[tuple[str, ...], float | list[float]] = {}
        for target in (*self._targets.values(), *self._leaving):
            upstream = (id, target.label)
            links[upstream] = links.get(upstream, 0.0) + len(target.links)  # type: ignore[operator]
            idle[upstream] = idle.get(upstream, 0.0) + len(target.idle)  # type: ignore[operator]
        return {
            "upstream_connections": links,
            "http_idle_connections": idle,
            "waiting": {(id,): len(self._queue)},
        }
