"""What a client is to get: replies in the order of its commands, as fast as it takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Reason
from sidecars.ambassador.redis.link import Link
from sidecars.ambassador.redis.slots import Slot

if TYPE_CHECKING:
    from sidecars.ambassador.redis.sharding import Sharding

CLOGGED = 4  # a reason to stop a session: it does not take its replies
_HIGH = 1024 * 1024  # bytes a client has not taken: no more of its commands are read


class Outbox:
    """The replies to a client; a session is one.

    out       replies to be written at the end of this round
    waiting   the commands that have no reply yet, in their order
    held      bytes of replies that cannot be written before an earlier one has come
    easy      nothing is known that would forbid to write to it at once
    over      it has more replies to take than it should: connections that bring more are paused, see `pausing`; as are
              those that bring too many before their turn
    awaiting  it goes on when nothing is waiting any more
    """

    __slots__ = (
        "_backlog", "_closing", "_rest", "_send", "_size", "awaiting", "dirty", "easy", "held", "out", "over",
        "pausing", "sent_bytes", "sharding", "waiting",
    )  # fmt: skip

    def __init__(self, sharding: Sharding, send: Callable[..., int]) -> None:
        self.sharding = sharding
        self.out: list[bytes] = []
        self.waiting: deque[Slot] = deque()
        self.dirty = False
        self.held = 0
        self.over = False
        self.easy = True
        self.pausing: set[Link] = set()
        self.awaiting = False
        self.sent_bytes = 0
        self._send = send
        self._rest: memoryview | None = None
        self._backlog: deque[bytes] = deque()
        self._size = 0
        self._closing = False

    # What a session says.

    def stop(self, why: int) -> None:
        """Read no more commands for now."""

    def go_on(self, why: int) -> None:
        """Read on, if that was all that stood against it."""

    def answered(self) -> None:
        """Go on, for nothing waits any more: see `awaiting`."""

    def drained(self) -> None:
        """Know that the client has taken what it had to."""

    def close(self, reason: Reason) -> None:
        """End it, whatever it has."""

    # Replies.

    @property
    def backlog(self) -> int:
        """How many bytes the client has not taken yet, those of this round not counted."""
        return self._size

    def write(self, data: bytes) -> None:
        """Send bytes to the client at the end of this round: those of a reply whose turn it is."""
        self.out.append(data)
        if not self.dirty:
            self.dirty = True
            self.sharding.to_flush(self)

    def answer(self, data: bytes) -> None:
        """Reply to the command that was taken last, after the replies to those before it."""
        if data[:1] == b"-":
            self.sharding.error(data)
        if not self.waiting:
            self.write(data)
            return
        slot = Slot(None, self.sharding.own, 1, 0, 0.0)
        slot.pieces, slot.left = [data], 0
        self.waiting.append(slot)
        self.hold(len(data))

    def complete(self, slot: Slot, piece: bytes) -> None:
        """Take the last piece of the replies to a run."""
        slot.left = 0
        if slot.pieces is None:
            slot.pieces = []
        slot.pieces.append(piece)
        self.hold(len(piece))
        if self.waiting[0] is slot:
            self.advance()

    def advance(self) -> None:
        """Write all replies whose turn it is."""
        waiting = self.waiting
        while waiting:
            slot = waiting[0]
            pieces = slot.pieces
            if pieces is not None:
                for piece in pieces:
                    self.held -= len(piece)
                    self.out.append(piece)
                slot.pieces = None
            if slot.left:
                break
            waiting.popleft()
        if not self.dirty:
            self.dirty = True
            self.sharding.to_flush(self)
        if self.pausing and not self.over:
            # The next in turn may come now, whatever else is held.
            self.relieve()
        if not waiting and self.awaiting:
            self.answered()

    def hold(self, size: int) -> None:
        """Count bytes that wait for an earlier reply."""
        self.held += size

    @property
    def holding(self) -> bool:
        """Whether it should be brought no more replies before their turn."""
        return self.held > self.sharding.allowance

    def write_now(self, data: bytes) -> None:
        """Send bytes to the client at once, when it is `easy` and has nothing else to get in this round."""
        try:
            count = self._send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            self.close("client_reset")
            return
        self.sent_bytes += count
        if count < len(data):
            self._rest = memoryview(data)[count:]
            self._pile([])

    def flush(self) -> None:
        """Write the replies of this round."""
        self.dirty = False
        out = self.out
        if self._rest is not None:
            self._pile(out)
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        try:
            count = self._send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            self.close("client_reset")
            return
        self.sent_bytes += count
        if count < len(data):
            self._rest = memoryview(data)[count:]
            self._pile([])
        elif self._closing and not self.waiting:
            self.close("client")
        elif self.over:
            self.relieve()

    def ease(self) -> None:
        """See whether it may be written to at once."""
        self.easy = not (self._rest is not None or self._closing or self.over or self.awaiting)

    def _pile(self, out: list[bytes]) -> None:
        """Keep what the client does not take now."""
        self._backlog.extend(out)
        size = self._size
        self._size = len(self._rest or b"") + sum(map(len, self._backlog))
        out.clear()
        self.sharding.unsent += self._size - size
        if self._size > _HIGH:
            self.stop(CLOGGED)
        if self._size > self.sharding.allowance:
            self.over = True
        self.ease()

    def resume(self) -> None:
        """Write on what is kept."""
        while self._rest is not None:
            try:
                count = self._send(self._rest)
            except BlockingIOError:
                break
            except OSError:
                self.close("client_reset")
                return
            self.sent_bytes += count
            self._rest = self._rest[count:] if count < len(self._rest) else self._next()
        self._pile([])
        if self._size < _HIGH // 2:
            self.relieve()
            self.go_on(CLOGGED)
            self.drained()
        if self._rest is None and self._closing and not self.waiting:
            self.close("client")

    def _next(self) -> memoryview | None:
        if not self._backlog:
            return None
        pieces, size = [], 0
        while self._backlog and size < _HIGH // 4:
            pieces.append(self._backlog.popleft())
            size += len(pieces[-1])
        return memoryview(b"".join(pieces))

    def relieve(self) -> None:
        """Let the connections go on that were paused for it."""
        self.over = False
        self.ease()
        pausing, self.pausing = self.pausing, set()
        for lane in pausing:
            lane.resume()

    def drop(self) -> None:
        """Have nothing more for it: whatever comes is for nobody."""
        for slot in self.waiting:
            slot.session = None
        self.waiting = deque()
        self.awaiting = False
        self.sharding.unsent -= self._size
        self._size = 0
        self._backlog.clear()
        self._rest = None
        self.held = 0
        self.relieve()
