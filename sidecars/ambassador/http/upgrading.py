"""A connection that has become another protocol's, as WebSocket: bytes are passed on until both sides have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Socket
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.relay import Flow

if TYPE_CHECKING:
    from sidecars.ambassador.http.attempt import Attempt
    from sidecars.ambassador.http.exchange import Exchange
    from sidecars.ambassador.http.link import Link


class Upgraded:
    """A client and an upstream that speak past us: the owner of two flows."""

    __slots__ = (
        "_attempt", "_back", "_exchange", "_heads", "_link", "_looked", "_moved", "_out", "_over", "_to_client",
        "_to_upstream", "loop",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, attempt: Attempt, link: Link, head: bytes, rest: bytes) -> None:
        self.loop: Loop = link.loop
        self._exchange = exchange
        self._attempt = attempt
        self._link = link
        # What one side has not taken yet comes first.
        self._to_client = bytes(exchange.session.held or b"") + head + rest
        self._to_upstream = bytes(link.held or b"")
        self._heads = len(self._to_client) - len(rest), len(self._to_upstream)
        exchange.session.held = link.held = None
        self._over = False
        self._moved = self.loop.now
        self._looked = 0
        session = exchange.session
        plain = isinstance(link.sock, Socket) and isinstance(session.sock, Socket)
        self._out = Flow(self, session.sock, link.sock, session.fd, plain=plain)
        self._back = Flow(self, link.sock, session.sock, link.fd, plain=plain)
        self._out.twin, self._back.twin = self._back, self._out

    def begin(self, from_client: bytes) -> None:
        """Pass on what was read before, and then all."""
        self.loop.hand_over(self._out.fd, self._out.happened)
        self.loop.hand_over(self._back.fd, self._back.happened)
        self._exchange.serving.counts.upgrades += 1
        self._back.begin(self._to_client)
        if not self._over:
            self._out.begin(self._to_upstream + from_client)

    def look(self, now: float) -> float:
        """End it when nothing has passed for long; else say when to look again."""
        bytes = self._out.count + self._back.count
        if bytes != self._looked:
            self._looked, self._moved = bytes, now
        until = self._moved + self._exchange.serving.http.stream_timeout
        if until <= now:
            self.end("timeout")
        return until

    def over(self, flow: Flow, *, torn: bool, reset: bool) -> None:
        """Both directions are at their end."""
        if reset:
            (self._link if flow is self._out else self._exchange.session).reset()
        self.end("client_gone" if torn and flow is self._out else "upstream_reset" if torn else "")

    def end(self, why: str) -> None:
        """Close both sides."""
        if self._over:
            return
        self._over = True
        exchange, out, back = self._exchange, self._out, self._back
        out.drop()
        back.drop()
        del out.twin, back.twin
        session = exchange.session
        session.received += out.count
        session.sent += back.count
        exchange.sent = max(0, back.count - self._heads[0])
        exchange.received = max(0, out.count - self._heads[1])
        # The attempt closes the one, the session the other.
        self._attempt.link = self._link
        exchange.let_go(self._attempt, why)
