"""HTTP mode: each request of each client is checked, completed, passed on and tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Connection, written
from sidecars.ambassador.http.answering import Answerer
from sidecars.ambassador.http.budget import Budget
from sidecars.ambassador.http.counting import Counts
from sidecars.ambassador.http.exchange import Exchange
from sidecars.ambassador.http.forwarding import Forwarding
from sidecars.ambassador.http.placing import Placing
from sidecars.ambassador.http.recording import Records
from sidecars.ambassador.http.request import Refusal
from sidecars.ambassador.http.session import Session
from sidecars.ambassador.http.settings import Http
from sidecars.ambassador.loop import Deadline
from sidecars.ambassador.plan import Counted, Route

if TYPE_CHECKING:
    from sidecars.ambassador.http.credentials import Signer
    from sidecars.ambassador.http.guarding import Guard
    from sidecars.ambassador.plane import Plane

_MOST_ROWS = 200
ANSWERED_BODY = 1024 * 1024  # bytes of a body that is answered here, where no limit is set
_KEYS = 5.0  # seconds that a request waits for keys


class Serving:
    """One listener in HTTP mode.

    answerer        what answers in the upstreams' place, made for this listener; None where there are upstreams
    whole_bodies    requests are held until their body is whole: it is signed, or answered here
    """

    gentle = True

    def __init__(self, plane: Plane, route: Route, answerer: Callable[[Plane, Route], Answerer] | None = None) -> None:
        self.plane = plane
        self.loop = plane.loop
        self.sessions: set[Session] = set()
        self.counts = Counts()
        self.records = Records(plane, route.id, self.counts)
        self.placing = Placing(plane, route)
        self.tally = plane.tally(route.id)
        self.draining = False
        self.answerer = answerer(plane, route) if answerer else None
        self._parked: dict[Exchange, tuple[Refusal, float]] = {}  # they wait for keys
        self._sweep: Deadline | None = None
        self.route = route
        self._heed(route)
        self.budget = Budget(self.http.retry.budget, self.http.retry.floor)
        self.update(route)

    @property
    def refused(self) -> Iterable[dict[str, object]]:
        """The last requests that were not passed on."""
        return self.records.refused

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
        self.most_held = http.signed_body if self.answerer is None else int(http.max_body or ANSWERED_BODY)
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
        self.draining = self.plane.draining  # a listener that had gone may be back
        if self.guard is not None:
            self.guard.update(route)
        self.placing.update(route)
        self._ask_again()

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
        self.records.ended(exchange, self.loop.now - exchange.since)

    def deny(self, why: str) -> None:
        """Count a try that is not made."""
        self.counts.denied[why] = self.counts.denied.get(why, 0) + 1

    # Keys

    def unpark(self, exchange: Exchange) -> None:
        """It waits no longer."""
        self._parked.pop(exchange, None)

    def park(self, exchange: Exchange, refusal: Refusal) -> None:
        """Let it wait for keys."""
        self._parked[exchange] = refusal, exchange.since + _KEYS  # however often it is asked again

    def _ask_again(self) -> None:
        for exchange in list(self._parked):
            del self._parked[exchange]
            if not exchange.over:
                exchange.begin()

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
        waiting = self.placing.expire(now)
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
        self.placing.close()

    # What is shown

    def connections(self) -> int:
        """How many clients it serves."""
        return len(self.sessions)

    def counted(self) -> Counted:
        """What it has counted."""
        label, counts = (self.route.id,), self.counts
        received = counts.received + sum(session.received for session in self.sessions)
        sent = counts.sent + sum(session.sent for session in self.sessions)
        return {
            **counts.counted(self.route.id),
            **self.placing.counted(),
            "received_bytes_total": {label: received},
            "sent_bytes_total": {label: sent},
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
