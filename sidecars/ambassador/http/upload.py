"""The body of a request on its way to the upstream: no more of it is read than the upstream takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.http.chunks import Chunks, chunk, last_chunk
from sidecars.ambassador.http.heads import Malformed
from sidecars.ambassador.http.request import Refusal
from sidecars.ambassador.http.retrying import IDEMPOTENT

if TYPE_CHECKING:
    from sidecars.ambassador.http.exchange import Exchange
    from sidecars.ambassador.http.link import Link

_SIZE = 65536
_ROUNDS = 4  # reads before others have their turn: there may be a chunk for each byte
_GRACE = 10.0  # seconds before a slow body's rate is looked at
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SILENCE = 1.0  # seconds in which an upstream may say 100 (Continue); then we do


class TooLarge(Exception):  # noqa: N818  (named for what is so)
    """The body is larger than it may be."""


class Upload:
    """A body that is read from a client's connection.

    done      it has come whole
    received  bytes of content so far
    held      the content, where nothing is sent before it is whole; else None
    kept      what was sent of it, for another try; None once that is too much
    """

    __slots__ = (
        "_chunks", "_counted", "_exchange", "_expected", "_left", "_most", "_most_kept", "_progress", "_since", "done",
        "held", "kept", "received",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, length: int | None) -> None:
        http = exchange.serving.http
        self.done = False
        self.received = 0
        self.held: bytearray | None = None
        self.kept: bytearray | None = bytearray()
        self._exchange = exchange
        self._expected = exchange.arrival.expects  # the client waits to be told to send it
        self._left = length or 0
        self._chunks = Chunks(http.max_head) if length is None else None
        self._most: int | None = http.max_body
        self._most_kept = http.retry.buffer if http.retry.tries and exchange.request.method in IDEMPOTENT else 0
        self._progress = exchange.since  # when something came last, or was first waited for
        self._since, self._counted = exchange.since, 0

    def hold(self, most: int) -> None:
        """Hold it until it is whole, if it has so many bytes at most."""
        self.held = bytearray()
        self._most = most = most if self._most is None else min(most, self._most)
        if self._left > most:
            self._refuse_size()
        elif not self._expected or self._let_send():
            self.look_again()
            self.pump()

    def begin(self, since: float) -> None:
        """Send on what comes: the head has been sent, and what is kept."""
        if self._expected:
            self._exchange.serving.loop.later(_SILENCE, self._encourage)
        self._wait(since)
        self.look_again()
        self.pump()

    def interim(self) -> bool:
        """The upstream says 100 (Continue): whether the client waits for it."""
        expected, self._expected = self._expected, False
        return expected

    def _encourage(self) -> None:
        """Let the client send it: the upstream says nothing."""
        exchange = self._exchange
        if self._expected and not exchange.over and not exchange.status and not self.received:
            self._let_send()

    def _let_send(self) -> bool:
        self._expected = False
        return self._exchange.session.send(_CONTINUE)

    def pump(self) -> None:
        """Send on, or hold, what there is of it, until the client or the upstream would have to wait."""
        if self.done:
            return
        exchange = self._exchange
        attempt = exchange.attempt
        link = attempt.link if attempt is not None else None
        try:
            there = self._pass_on(link) if self.held is None else self._collect(self.held)
        except TooLarge:
            self._refuse_size()
            return
        except Malformed as error:
            exchange.refuse(Refusal(400, "malformed", str(error), detail=str(error)))
            return
        if not there:
            exchange.client_gone()
        elif self.done and not exchange.over:
            exchange.uploaded()

    def _refuse_size(self) -> None:
        self._exchange.refuse(Refusal(413, "body_size", "the body is too large"))

    def _pass_on(self, link: Link | None) -> bool:
        """Send on what comes; False when the client has gone."""
        session = self._exchange.session
        for _ in range(_ROUNDS):
            if self.done or link is None or link.held is not None or link.deaf:
                return True
            data = session.buffer or session.receive(_SIZE)
            if data is None:
                return True
            if not data:
                return False
            link.send(self._framed(data))
        session.yield_()
        return True

    def _collect(self, held: bytearray) -> bool:
        """Hold what comes; False when the client has gone."""
        session = self._exchange.session
        while not self.done:
            data = session.buffer or session.receive(_SIZE)
            if data is None:
                return True
            if not data:
                return False
            held += self._content(data)
        return True

    def _content(self, data: bytes) -> bytes:
        """Take the content out of what came; what comes after the body stays for the next request."""
        session = self._exchange.session
        self._progress = session.loop.now
        chunks = self._chunks
        if chunks is None:
            content, session.buffer = data[: self._left], data[self._left :]
            self._left -= len(content)
            self.done = not self._left
        else:
            content, used = chunks.feed(data)
            session.buffer = data[used:]
            self.done = chunks.done
        self.received += len(content)
        if self._most is not None and self.received > self._most:
            raise TooLarge
        return content

    def _framed(self, data: bytes) -> bytes:
        """Frame it anew, as the upstream gets it."""
        content = self._content(data)
        chunks = self._chunks
        if chunks is not None:
            content = chunk(content)
            if chunks.done:
                content += last_chunk(self._exchange.serving.forwarding.reserved.trailing(chunks.trailers))
        if self.kept is not None:
            if len(self.kept) + len(content) > self._most_kept:
                self.kept = None
            else:
                self.kept += content
        return content

    # Time

    def look_again(self) -> None:
        """Have it looked at soon, while it comes."""
        session = self._exchange.session
        session.due = session.loop.now + min(1.0, self._exchange.serving.http.body_timeout / 4)

    def look(self, now: float) -> None:
        """Give up a body that comes too slowly, or that the upstream does not take."""
        exchange, attempt = self._exchange, self._exchange.attempt
        http = exchange.serving.http
        link = attempt.link if attempt is not None else None
        if attempt is not None and link is not None and (link.held is not None or link.deaf):
            self._wait(now)
            if now - self._progress >= http.try_timeout:
                attempt.lost("try_timeout")
        elif now - self._progress >= http.body_timeout or self._crawls(http.min_rate, now):
            exchange.keep = False
            exchange.fail("body_timeout")
        if not exchange.over and exchange.attempt is attempt:
            self.look_again()

    def _wait(self, now: float) -> None:
        """Count the client's time from now: the upstream has had it until then."""
        self._since, self._counted = now, self.received
        if not self.received:
            self._progress = now

    def _crawls(self, rate: int | None, now: float) -> bool:
        waited = now - self._since
        return bool(rate) and waited > _GRACE and self.received - self._counted < (rate or 0) * waited
