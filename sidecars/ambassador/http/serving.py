"""HTTP mode: each request of each client is checked, completed, passed on and tried again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.ambassador.balance import choose
from sidecars.ambassador.connection import Connection, written
from sidecars.ambassador.http.answering import Answerer
from sidecars.ambassador.http.budget import Budget
from sidecars.ambassador.http.counting import Counts
from sidecars.ambassador.http.exchange import Exchange
from sidecars.ambassador.http.forwarding import Forwarding
from sidecars.ambassador.http.link import Link, Target
from sidecars.ambassador.http.request import Refusal
from sidecars.ambassador.http.session import Session
from sidecars.ambassador.http.settings import Http
from sidecars.ambassador.loop import Deadline
from sidecars.ambassador.plan import Counted, Route
from sidecars.ambassador.queueing import Queue

if TYPE_CHECKING:
    from sidecars.ambassador.http.credentials import Signer
    from sidecars.ambassador.http.guarding import Guard
    from sidecars.ambassador.plane import Plane

_MOST_ROWS = 200
_MOST_REFUSED = 50
_ANSWERED_BODY = 1024 * 1024  # bytes of a body that is answered here, where no limit is set
_KEYS = 5.0  # seconds that a request waits for keys


class Serving:
    """One listener in HTTP mode.

    answerer        what answers in the upstreams' place, made for this listener; None where there are upstreams
    whole_bodies    requests are held until their body is whole: it is signed, or answered here
    refused         the last requests that were not passed on
    """

    gentle = True

    def __init__(self, plane: Plane, route: Route, answerer: Callable[[Plane, Route], Answerer] | None = None) -> None:
        self.plane = plane
        self.loop = plane.loop
        self.sessions: set[Session] = set()
        self.counts = Counts()
        self.active = 0  # requests at the upstreams
        self.pending = 0  # dials under way
        self.tally = plane.tally(route.id)
        self.refused: deque[dict[str, object]] = deque(maxlen=_MOST_REFUSED)
        self.draining = False
        self.answerer = answerer(plane, route) if answerer else None
        # Until a name has had its first answer, clients wait for it: they may be as early as we are.
        self.expected = True
        self._targets: dict[str, Target] = {}
        self._leaving: set[Target] = set()  # gone from the plan, with connections still
        self._live: list[Target] = []
        self._parked: dict[Exchange, tuple[Refusal, float]] = {}  # they wait for keys
        self._queue: Queue[Exchange] = Queue(plane.loop, self._place, self._late)
        self._sweep: Deadline | None = None
        self.route = route
        self._heed(route)
        self.budget = Budget(self.http.retry.budget, self.http.retry.floor)
        self.update(route)

    def _heed(self, route: Route) -> None:
        """Take what is set."""
        from sidecars.ambassador.http.credentials import signer
        from sidecars.ambassador.http.guarding import Guard

        http = route.listener.http
        assert http is not None  # noqa: S101  (the listener is in HTTP mode)
        self.http: Http = http
        self.forwarding = Forwarding(http)
        self.guard: Guard | None = Guard(route.id, http, self.plane.admission, self.plane.tell)
        self.signer: Signer | None = signer(http.credential) if self.answerer is None else None
        self.whole_bodies = self.answerer is not None or (self.signer is not None and self.signer.needs_body)
        self.most_collected = http.signed_body if self.answerer is None else int(http.max_body or _ANSWERED_BODY)
        self.failing = frozenset(http.retry.statuses) | {502, 503, 504}
        limits = (http.head_timeout, http.body_timeout, http.keep_alive, http.timeout, http.try_timeout)
        # A tenth late at the most; one look at all of them costs less than a timer for each.
        self._step = max(0.05, min(1.0, min(*limits, http.stream_timeout, http.upstream_keep_alive) / 10))

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""
        if route.listener != self.route.listener:
            self._heed(route)
            self.budget.limit(self.http.retry.budget, self.http.retry.floor)
        self.route = route
        if self.guard is not None:
            self.guard.update(route)
        targets = {each.key: self._targets.get(each.key) or Target(each.key, self._closed) for each in route.endpoints}
        for endpoint in route.endpoints:
            targets[endpoint.key].take(endpoint, route)
        for gone in self._targets.keys() - targets.keys():
            self._targets[gone].most = 0
            self._targets[gone].clear()
            self._leaving.add(self._targets[gone])
        self._leaving = {target for target in self._leaving if target.links}
        self._targets = targets
        self.expected = self.expected and not targets
        # Who is down or ejected is better than nobody.
        self._live = [each for each in targets.values() if each.endpoint.state == "up"] or [
            each for each in targets.values() if each.endpoint.state in ("down", "ejected")
        ]
        self._close_removed()
        self._ask_again()
        self._queue.look()

    def _close_removed(self) -> None:
        for target in self._targets.values():
            if target.endpoint.close or target.endpoint.state == "disabled":
                for link in list(target.links):
                    if link.attempt is not None:
                        link.attempt.lost("upstream_closed")

    # Clients

    def accepted(self, connection: Connection) -> None:
        """Serve a client."""
        session = Session(self, connection)
        self.sessions.add(session)
        if self._sweep is None:
            self._sweep = self.loop.later(self._step, self._look)
        session.begin()

    def left(self, session: Session) -> None:
        """A client's connection has ended."""
        self.sessions.discard(session)
        self.counts.received += session.received
        self.counts.sent += session.sent

    def began(self, exchange: Exchange) -> None:
        """A request has come."""
        self.counts.in_flight += 1
        self.budget.request(exchange.since)

    def ended(self, exchange: Exchange) -> None:
        """A request is over."""
        self.counts.in_flight -= 1
        seconds = self.loop.now - exchange.since
        self.counts.ended(exchange.status, seconds)
        access = self.plane.access
        if access is not None:
            access.write(self._record(exchange, seconds))

    def _record(self, exchange: Exchange, seconds: float) -> dict[str, object]:
        request, target = exchange.request, exchange.target
        upload = exchange.upload
        took = exchange.upstream_seconds
        return {
            "listener": self.route.id,
            "client": written(exchange.session.connection.peer),
            "user": request.user,
            "method": request.method,
            "path": request.path.decode("utf-8", "replace"),
            "status": exchange.status or None,
            "received_bytes": upload.received if upload else exchange.received,
            "sent_bytes": exchange.sent,
            "duration_seconds": round(seconds, 6),
            "upstream": target.label if target else None,
            "address": written(target.endpoint.address) if target else None,
            "upstream_seconds": None if took is None else round(took, 6),
            "tries": exchange.tries,
            "request_id": request.id,
            "rule": exchange.rule or None,
            "why": exchange.why,
        }

    def note_refusal(self, exchange: Exchange, status: int, rule: str, detail: str) -> None:
        """Count a request that is not passed on."""
        request = exchange.request
        self._note(request.client, request.method, request.path, status, rule, detail)

    def note_fault(self, session: Session, status: int, rule: str, detail: str) -> None:
        """Count what was no request that can be understood."""
        client = session.connection.peer
        self.counts.ended(status, 0.0)
        self._note(client[0] if client else "", "", b"", status, rule, detail)
        if self.plane.access is not None:
            self.plane.access.write(
                {"listener": self.route.id, "client": written(client), "status": status, "rule": rule, "why": "refused"}
            )

    def _note(self, client: str, method: str, path: bytes, status: int, rule: str, detail: str) -> None:
        self.counts.refused[rule] = self.counts.refused.get(rule, 0) + 1
        self.refused.append(
            {
                "time": time.time(),
                "listener": self.route.id,
                "client": client or "unix",
                "method": method,
                "path": path[:200].decode("utf-8", "replace"),
                "status": status,
                "rule": rule,
                "detail": detail,
            }
        )

    def deny(self, why: str) -> None:
        """Count a try that is not made."""
        self.counts.denied[why] = self.counts.denied.get(why, 0) + 1

    # Keys

    def park(self, exchange: Exchange, refusal: Refusal) -> None:
        """Let it wait for keys."""
        self._parked[exchange] = refusal, self.loop.now + _KEYS

    def _ask_again(self) -> None:
        for exchange in list(self._parked):
            del self._parked[exchange]
            if not exchange.over:
                exchange.begin()

    # Upstreams

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

    def _place(self, exchange: Exchange) -> float:
        """Send it, or answer it; or say how long it has to wait, at most."""
        live = self._live
        if exchange.tried:
            live = [target for target in live if target.key not in exchange.tried] or live
        if not live:
            if self.expected:
                return 1.0
            exchange.fail("no_upstream")
            return 0.0
        most = self.http.max_requests
        if most is not None and self.active >= most:
            exchange.fail("overflow")
            return 0.0
        listener = self.route.listener
        if listener.upstream_connections is not None:
            return self._place_within(exchange, live, listener.upstream_connections)
        target = live[0] if len(live) == 1 else choose(listener.balance, live, exchange.source)
        link = self._ready(target, exchange)
        if link is not None:
            exchange.try_(target, link)
        else:
            self._dial(exchange, target)
        return 0.0

    def _ready(self, target: Target, exchange: Exchange) -> Link | None:
        """Give a connection that waits. What cannot be sent twice is sent over none that is at its end already."""
        while (link := target.idle_one()) is not None:
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
            target = choose(self.route.listener.balance, live, exchange.source)
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
        exchange.fail("no_upstream" if self.expected else "queue")

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

    def unplace(self, exchange: Exchange) -> None:
        """It waits no longer."""
        if self._queue:
            self._queue.leave(exchange)
        self._parked.pop(exchange, None)

    # Time

    def _look(self) -> None:
        """Look at all whose time may be over."""
        now = self.loop.now
        for session in [session for session in self.sessions if session.due <= now]:
            if not session.closed:
                session.late(now)
        for exchange, (refusal, until) in list(self._parked.items()):
            if until <= now:
                del self._parked[exchange]
                exchange.refuse(refusal)
        waiting = False
        for target in self._targets.values():
            target.expire(now - self.http.upstream_keep_alive)
            waiting = waiting or bool(target.idle)
        self._sweep = self.loop.later(self._step, self._look) if self.sessions or waiting else None

    def drain(self) -> None:
        """Let go of every client that loses nothing by it."""
        self.draining = True
        for session in list(self.sessions):
            session.drain()

    def close(self) -> None:
        """End everything, at once."""
        self.draining = True
        if self._sweep is not None:
            self._sweep.cancel()
        for session in list(self.sessions):
            session.leave()
        for target in (*self._targets.values(), *self._leaving):
            for link in list(target.links):
                target.leave(link)

    # What is shown

    def connections(self) -> int:
        """How many clients it serves."""
        return len(self.sessions)

    def counted(self) -> Counted:
        """What it has counted."""
        label, counts = (self.route.id,), self.counts
        counted = counts.counted(self.route.id)
        links: dict[tuple[str, ...], float | list[float]] = {}
        idle: dict[tuple[str, ...], float | list[float]] = {}
        for target in (*self._targets.values(), *self._leaving):
            upstream = (self.route.id, target.label)
            links[upstream] = links.get(upstream, 0.0) + len(target.links)  # type: ignore[operator]
            idle[upstream] = idle.get(upstream, 0.0) + len(target.idle)  # type: ignore[operator]
        received = counts.received + sum(session.received for session in self.sessions)
        sent = counts.sent + sum(session.sent for session in self.sessions)
        return {
            **counted,
            "received_bytes_total": {label: received},
            "sent_bytes_total": {label: sent},
            "waiting": {label: len(self._queue)},
            "upstream_connections": links,
            "http_idle_connections": idle,
            "http_retry_budget": {label: int(self.budget.left(self.loop.now))},
        }

    def shown(self) -> list[dict[str, object]]:
        """Rows for /status."""
        now = self.loop.now
        rows: list[dict[str, object]] = []
        for session in self.sessions:
            exchange = session.exchange
            target = exchange.target if exchange else None
            rows.append(
                {
                    "listener": self.route.id,
                    "client": written(session.connection.peer),
                    "upstream": target.label if target else None,
                    "address": target and written(target.endpoint.address),
                    "age_seconds": round(now - session.connection.since, 3),
                    "bytes": session.received + session.sent,
                }
            )
            if len(rows) == _MOST_ROWS:
                break
        return rows
