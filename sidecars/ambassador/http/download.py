"""The body of an answer on its way to the client: no more of it is read than the client takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.http.chunks import Chunks, chunk, last_chunk
from sidecars.ambassador.http.framing import CHUNKED, UNTIL_CLOSE, Reply
from sidecars.ambassador.http.heads import Malformed

if TYPE_CHECKING:
    from sidecars.ambassador.http.exchange import Exchange
    from sidecars.ambassador.http.link import Link

_SIZE = 65536
# One for all: what was read is sent at once, and what is not taken then is kept by itself.
_BUFFER = memoryview(bytearray(_SIZE + 1))
_ROUNDS = 16  # reads before others have their turn
_FEW_ROUNDS = 4  # likewise, where there may be a chunk for each byte


class Download:
    """A body that is read from an upstream.

    chunking  the client gets it in chunks
    framed    the client can tell where it ends without the end of the connection
    progress  when something came or went last
    spent     the connection is of no use afterwards: it is to be closed, or the upstream has sent more than it said
    """

    __slots__ = ("_chunks", "_left", "chunking", "exchange", "framed", "progress", "spent")

    def __init__(self, exchange: Exchange, answer: Reply, *, chunking: bool, most_trailers: int) -> None:
        self.exchange = exchange
        self.chunking = chunking
        self.framed = chunking or answer.length >= 0
        self.spent = not answer.keep
        self.progress = exchange.session.loop.now
        self._left = answer.length
        self._chunks = Chunks(most_trailers) if answer.length == CHUNKED else None

    @property
    def until(self) -> float:
        """When it will have stood still for too long."""
        return self.progress + float(self.exchange.serving.http.stream_timeout)

    def first(self, rest: bytes) -> tuple[bytes, bool]:
        """Take what came with the head: give it as the client gets it, and whether that was all. Raises Malformed."""
        return self._taken(rest) if rest else (b"", False)

    def read(self, link: Link) -> None:
        """Pass on what comes, until the upstream or the client would have to wait."""
        self.progress = link.loop.now
        if self._left > 0:
            self._read_counted(link)
        else:
            self._read_framed(link)

    def _read_counted(self, link: Link) -> None:  # noqa: C901  (the hot path of large answers)
        """Pass on so many bytes as they are."""
        exchange, session = self.exchange, self.exchange.session
        recv_into, send, sharp = link.sock.recv_into, session.sock.send, link.sharp
        for _ in range(_ROUNDS):
            if session.held is not None:
                return
            # One more than is left: so its end is seen, or what should not be there.
            wanted = min(_SIZE, self._left + 1)
            try:
                count = recv_into(_BUFFER, wanted)
            except BlockingIOError:
                link.readable = False
                return
            except OSError:
                self._lost("upstream_reset")
                return
            if not count:
                self._lost("upstream_closed")
                return
            if count < wanted and sharp and not link.ending:
                link.readable = False
            if count > self._left:
                self.spent, count = True, self._left
            self._left -= count
            exchange.sent += count
            try:
                sent = send(_BUFFER[:count])
            except BlockingIOError:
                sent = 0
            except OSError:
                session.broken()
                return
            session.sent += sent
            if sent < count:
                session.hold(_BUFFER[sent:count])
            if not self._left:
                exchange.whole()
                return
            if not link.readable:
                return
        link.yield_()

    def _read_framed(self, link: Link) -> None:
        """Pass on chunks, or what comes until the end of the connection."""
        exchange, session = self.exchange, self.exchange.session
        for _ in range(_FEW_ROUNDS):
            if session.held is not None:
                return
            data = link.receive(_SIZE)
            if data is None:
                return
            if not data:
                self._ended(link)
                return
            try:
                framed, done = self._taken(data)
            except Malformed:
                self._lost("bad_response")
                return
            if (framed and not session.send(framed)) or done:
                if done and not exchange.over:
                    exchange.whole()
                return
        link.yield_()

    def _taken(self, data: bytes) -> tuple[bytes, bool]:
        """Take the content out of what came, and give it as the client gets it, and whether that was all."""
        chunks = self._chunks
        done = False
        if chunks is not None:
            content, used = chunks.feed(data)
            done = chunks.done
            self.spent = self.spent or used < len(data)
        elif self._left == UNTIL_CLOSE:
            content = data
        else:
            content = data[: self._left]
            self.spent = self.spent or len(data) > self._left
            self._left -= len(content)
            done = not self._left
        self.exchange.sent += len(content)
        if self.chunking:
            content = chunk(content)
            if done:
                reserved = self.exchange.serving.forwarding.reply_reserved
                content += last_chunk(reserved.trailing(chunks.trailers) if chunks else [])
        return content, done

    def _lost(self, why: str) -> None:
        attempt = self.exchange.attempt
        if attempt is not None:
            attempt.lost(why)

    def _ended(self, link: Link) -> None:
        """The upstream has ended, which is the end of the body where nothing else is said."""
        exchange = self.exchange
        if link.torn or self._left != UNTIL_CLOSE or getattr(link.sock, "truncated", False):
            self._lost("upstream_reset" if link.torn else "upstream_closed")
            return
        if self.chunking and not exchange.session.send(last_chunk([])):
            return
        exchange.whole()
