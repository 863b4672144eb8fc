"""One try at an upstream: a connection, the request over it, and the head of what is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.dialling import Dial, Dialled, Failed, dial
from sidecars.ambassador.http.forwarding import request_head
from sidecars.ambassador.http.framing import Reply, reply
from sidecars.ambassador.http.heads import END, Malformed
from sidecars.ambassador.http.link import Link, Target

if TYPE_CHECKING:
    from sidecars.ambassador.http.exchange import Exchange
    from sidecars.ambassador.http.request import Headers

_SIZE = 65536
_MOST_INTERIM = 32  # answers before the answer
# What is counted of upstreams, and how it is called there.
_LOSSES = {"upstream_reset": "reset", "upstream_closed": "eof", "try_timeout": "timeout", "bad_response": "error"}


class Attempt:
    """One try of an exchange.

    link     once it is connected
    placed   it has one of the endpoint's places, which the connection takes over
    since    when the head was sent
    until    when the answer's head must have come, once the whole request has been sent
    interim  how many answers came before the answer
    """

    __slots__ = ("_dial", "exchange", "interim", "link", "placed", "since", "target", "until")

    def __init__(self, exchange: Exchange, target: Target, *, placed: bool = False) -> None:
        self.exchange = exchange
        self.target = target
        self.placed = placed
        self.link: Link | None = None
        self.since = 0.0
        self.until = 0.0
        self.interim = 0
        self._dial: Dial | None = None
        target.active += 1
        exchange.serving.placing.active += 1

    def dial(self) -> None:
        """Connect."""
        exchange, target = self.exchange, self.target
        serving = exchange.serving
        serving.placing.pending += 1
        self._dial = dial(
            serving.plane,
            target.endpoint,
            target.upstream,
            serving.route.listener.connect_timeout,
            self._dialled,
            exchange.session.connection,
            route=serving.route.id,
        )

    def _dialled(self, outcome: Dialled | Failed) -> None:
        exchange = self.exchange
        self._dial = None
        exchange.serving.placing.pending -= 1
        if isinstance(outcome, Failed):
            self.drop()
            exchange.failed("connect_failed", unsent=True)
            return
        link = Link(exchange.serving.loop, self.target, outcome, placed=self.placed)
        self.placed = False
        self.target.join(link)
        self.send(link)
        if outcome.events and self.link is link:
            link.happened(outcome.events)

    def send(self, link: Link) -> None:
        """Send the head, and what there is of the body."""
        exchange = self.exchange
        self.link = link
        link.attempt = self
        self.since = exchange.session.loop.now
        head = self._head()
        if head is None:
            return
        upload = exchange.upload
        if upload is None:
            link.send(head + exchange.body if exchange.body else head)
            exchange.sent_whole(self)
        else:
            link.send(head + upload.kept if upload.kept else head)
            exchange.sent_head(self)
        if not link.sharp and self.link is link:
            self.read()

    def _head(self) -> bytes | None:
        exchange, origin = self.exchange, self.target.origin
        serving, arrival = exchange.serving, exchange.arrival
        forwarding, request = serving.forwarding, exchange.request
        path = forwarding.target(request, origin)
        headers = forwarding.headers(arrival, exchange.session.client, origin)
        if exchange.collected and arrival.expects:
            headers = [pair for pair in headers if pair[0].lower() != b"expect"]  # we wait for nothing
        if serving.signer is not None:
            signed = self._signed(path, headers)
            if signed is None:
                return None
            headers = signed
        length = len(exchange.body) if exchange.collected else request.length
        return request_head(request.method, path, headers, arrival, length)

    def _signed(self, path: bytes, headers: Headers) -> Headers | None:
        from sidecars.ambassador.http.credentials import Unavailable

        exchange, origin = self.exchange, self.target.origin
        signer = exchange.serving.signer
        assert signer is not None  # noqa: S101  (who calls it has looked)
        authority = next((value for name, value in headers if name == b"Host"), origin.authority).decode("latin-1")
        body = None if exchange.upload else exchange.body
        try:
            return signer.sign(exchange.request.method, origin.scheme, authority, path, headers, body)
        except Unavailable as error:
            self.drop(reusable=True)
            exchange.fail("credential", str(error))
            return None

    def taken(self) -> None:
        """The upstream has taken what it was sent."""
        if self.exchange.upload is not None:
            self.exchange.upload.pump()

    # What is answered

    def read(self) -> None:
        """Take what the upstream says; it is called until nothing is left to be read."""
        link, exchange = self.link, self.exchange
        session = exchange.session
        while link is not None and link.readable and session.held is None:
            if exchange.download is not None:
                exchange.download.read(link)
                return
            data = link.receive(_SIZE)
            if data is None:
                return
            if not data:
                self.lost("upstream_reset" if link.torn else "upstream_closed")
                return
            self._hear(link, data)
            link = self.link

    def _hear(self, link: Link, data: bytes) -> None:
        """Take a part of an answer's head, or the head and what comes after it."""
        exchange = self.exchange
        if link.early:
            data = link.early + data
        end = data.find(END) + 4
        if end < 4 or end > exchange.serving.http.max_head:
            link.early = data
            if len(data) > exchange.serving.http.max_head:
                self.lost("bad_response")
            return
        link.early = b""
        try:
            answer = reply(data[:end], exchange.request.method)
            link.stay = answer.stay
            if answer.status >= 200:
                exchange.heard(self, link, answer, data[end:])
            else:
                self._hear_interim(link, answer, data[end:])
        except Malformed:
            self.lost("bad_response")

    def _hear_interim(self, link: Link, answer: Reply, rest: bytes) -> None:
        exchange = self.exchange
        self.interim += 1
        if answer.status == 101 and exchange.arrival.upgrade and answer.upgrade:
            self.link = None
            exchange.switch(self, link, answer, rest)
        elif answer.status == 101 or self.interim > _MOST_INTERIM:
            self.lost("bad_response")
        elif exchange.interim(answer) and rest and self.link is link:
            self._hear(link, rest)

    # Its end

    def lost(self, why: str) -> None:
        """The connection is gone, or of no use."""
        link, exchange, target = self.link, self.exchange, self.target
        assert link is not None  # noqa: S101  (it is lost)
        silent = exchange.download is None and not link.early and not self.interim
        stale = silent and link.reused and why in ("upstream_reset", "upstream_closed")
        self.drop()
        if not stale:
            exchange.serving.tally.poor(target.upstream, target.endpoint, _LOSSES[why], why)
        # One that had waited has been closed meanwhile, as servers do: no failure.
        exchange.failed(why, stale=stale)

    def cut(self) -> None:
        """The endpoint is not to be used any more."""
        if self.link is not None:
            self.lost("upstream_closed")
        else:
            self.exchange.session.leave("upstream_closed")

    def drop(self, *, reusable: bool = False) -> None:
        """Let go of the connection, or of what has been done to have one; the exchange has no attempt then."""
        exchange, target, link = self.exchange, self.target, self.link
        placing = exchange.serving.placing
        exchange.attempt = None
        target.active -= 1
        placing.active -= 1
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
            placing.pending -= 1
        if self.placed:
            self.placed = False
            placing.leave_place(target)
        if link is not None:
            self.link = None
            if reusable:
                target.give(link, link.loop.now)
            else:
                target.drop(link)
        placing.roomier()
