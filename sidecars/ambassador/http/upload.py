"""The body of a request on its way to the upstream: no more of it is read than the upstream takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.http.framing import Chunks, chunk, last_chunk

if TYPE_CHECKING:
    from sidecars.ambassador.http.link import Link
    from sidecars.ambassador.http.session import Session

_SIZE = 65536
_ROUNDS = 4  # reads before others have their turn: there may be a chunk for each byte
_GRACE = 10.0  # seconds before a slow body's rate is looked at


class TooLarge(Exception):  # noqa: N818  (named for what is so)
    """The body is larger than it may be."""


class Upload:
    """A body that is read from a client's connection.

    done      it has come whole
    received  bytes of content so far
    kept      what was sent of it, for another try; None once that is too much
    progress  when something came last, or was first waited for
    """

    __slots__ = (
        "_chunks", "_counted", "_left", "_most", "_most_kept", "_since", "done", "kept", "progress",
        "received", "session",
    )  # fmt: skip

    def __init__(
        self, session: Session, length: int | None, *, most: int | None, most_kept: int, most_trailers: int
    ) -> None:
        self.session = session
        self.kept: bytearray | None = bytearray()
        self.done = False
        self.received = 0
        self.progress = session.loop.now
        self._left = length or 0
        self._chunks = Chunks(most_trailers) if length is None else None
        self._most = most
        self._most_kept = most_kept
        self._since, self._counted = self.progress, 0

    def wait(self, now: float) -> None:
        """Count the client's time from now: the upstream has had it until then."""
        self._since, self._counted = now, self.received
        if not self.received:
            self.progress = now

    def crawls(self, rate: int | None, now: float) -> bool:
        """Whether the client sends fewer bytes a second than this."""
        waited = now - self._since
        return bool(rate) and waited > _GRACE and self.received - self._counted < (rate or 0) * waited

    def pump(self, link: Link) -> bool:
        """Send on what comes, until the client or the upstream would have to wait; False when the client has gone.

        Raises Malformed, and TooLarge.
        """
        session = self.session
        for _ in range(_ROUNDS):
            if self.done or link.held is not None or link.deaf:
                return True
            data = session.buffer or session.receive(_SIZE)
            if data is None:
                return True
            if not data:
                return False
            link.send(self._framed(data))
        session.yield_()
        return True

    def collect(self, into: bytearray, most: int) -> bool:
        """Put the content there, until the client would have to wait; False when the client has gone.

        Raises Malformed, and TooLarge when it is more than so many bytes.
        """
        session = self.session
        while not self.done:
            data = session.buffer or session.receive(_SIZE)
            if data is None:
                return True
            if not data:
                return False
            into += self._content(data)
            if len(into) > most:
                raise TooLarge
        return True

    def _content(self, data: bytes) -> bytes:
        """Take the content out of what came; what comes after the body stays for the next request."""
        session = self.session
        self.progress = session.loop.now
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
                content += last_chunk(self.session.serving.forwarding.trailing.kept(chunks.trailers))
        if self.kept is not None:
            if len(self.kept) + len(content) > self._most_kept:
                self.kept = None
            else:
                self.kept += content
        return content
