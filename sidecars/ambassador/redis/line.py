"""A connection to a shard that one client has for itself, for as long as it needs one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecars.ambassador.redis.commands import WrongArguments
from sidecars.ambassador.redis.lane import failure
from sidecars.ambassador.redis.link import Link
from sidecars.ambassador.redis.reading import Malformed, follow
from sidecars.ambassador.redis.shard import Shard
from sidecars.ambassador.redis.slots import Slot

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session

_MOST_SPARE = 16  # connections kept for the next client, of each shard and protocol
_FULL = 1024 * 1024  # bytes that wait to be written: no more is read of the client
_TELLING = 64  # bytes of a reply that tell what it is


class Owner(Protocol):
    """Who has a line."""

    session: Session

    def broken(self, line: Line, error: bytes) -> None:
        """Know that the line is lost; what was asked is answered with the error already."""


class Awaited(NamedTuple):
    """A reply that is to come.

    slot   its place among the replies to the client; None: the client gets nothing of it
    after  called when it has come whole, with how it begins: an error is all there
    due    when it must have come, on the loop's clock
    """

    slot: Slot | None
    after: Callable[[bytes], None] | None
    due: float


class Line(Link):
    """A connection of one client.

    queue  what is awaited
    owner  who has it; None for one that is kept for the next
    """

    __slots__ = ("_head", "_missing", "_skip", "_tail", "_torn", "owner", "queue", "stalled")

    def __init__(self, shard: Shard, protocol: int, owner: Owner) -> None:
        super().__init__(shard, protocol)
        self.owner: Owner | None = owner
        self.queue: deque[Awaited] = deque()
        self.stalled = False
        self._missing = self._skip = 0
        self._head = self._tail = b""
        self._torn = False

    @property
    def current(self) -> bool:
        """Whether it is connected, or being connected, to where its shard is now."""
        endpoint, now = self.endpoint, self.shard.endpoint
        return endpoint is not None and now is not None and endpoint.address == now.address

    def ask(
        self, data: bytes, slot: Slot | None, after: Callable[[bytes], None] | None = None, *, extra: float | None = 0
    ) -> None:
        """Send a command whose reply has a place among the client's, or none.

        extra  how many seconds longer than usual it may take; None: for ever
        """
        due = math.inf if extra is None else self.sharding.loop.now + self.sharding.timeout + extra
        self.queue.append(Awaited(slot, after, due))
        self.shard.requests += 1
        self.send(data)
        if self.backlog > _FULL and self.owner is not None:
            self.stalled = True
            self.owner.session.stop()

    def drained(self) -> None:
        """Let the client send more."""
        if self.stalled and self.backlog < _FULL // 2 and self.owner is not None:
            self.stalled = False
            self.owner.session.go_on()

    def check(self, now: float, timeout: float, stall: float) -> None:
        """Fail when a reply takes too long."""
        if self.queue and now > self.queue[0].due and not self.paused:
            self.fail("timeout", "Connection timed out")

    def received(self, data: bytes) -> None:
        """Give the client its replies, piece by piece."""
        self.shard.response_bytes += len(data)
        if self._tail:
            data, self._tail = self._tail + data, b""
        at, end = 0, len(data)
        while at < end and self.sock is not None:
            fresh = not self._missing
            part = follow(data, at, self._missing or 1, self._skip)
            if fresh and (part.at == at or (part.left and end - at < _TELLING)):
                self._tail = data[at:]
                return
            piece = data[at : part.at]
            self._missing, self._skip = part.left, part.skip
            at = part.at
            if fresh:
                self._head = piece
                if self.shard.failing:
                    self.shard.recovered(self.endpoint)
            self.take(piece, fresh, not part.left)
            if part.left:
                self._tail = data[at:]
                return

    def take(self, piece: bytes, fresh: bool, whole: bool) -> None:
        """Take a piece of a reply: the first, or the last, or both."""
        if self._head.startswith(b">"):
            return  # news that nobody has asked for
        if not self.queue:
            raise Malformed("a reply to nothing")
        if fresh and piece.startswith(b"-"):
            self.sharding.error(piece)
        slot = self.queue[0].slot
        if slot is not None:
            self.give(slot, piece, whole)
        self._torn = not whole
        if whole:
            self.answered()

    def answered(self) -> None:
        """Have the oldest reply whole."""
        awaited = self.queue.popleft()
        self.shard.responses += 1
        if awaited.after is not None:
            awaited.after(self._head)

    def give(self, slot: Slot, piece: bytes, whole: bool) -> None:
        """Give the client a piece of a reply, in its place."""
        session = slot.session
        if session is None:
            return
        if whole:
            slot.tally.add(self.sharding.loop.now - slot.since)
            session.complete(slot, piece)
        elif session.waiting[0] is slot:
            session.write(piece)
        else:
            slot.pieces = [*(slot.pieces or ()), piece]
            session.hold(len(piece))
        self.spare_client(session)

    def spare_client(self, session: Session) -> None:
        """Read no more until the client has taken what it has."""
        if session.over:
            self.pause()
            session.pausing.add(self)

    def _ended(self) -> None:
        if self.owner is None:
            # A server that closes what is idle has not failed.
            self.close()
        else:
            super()._ended()

    def close(self) -> None:
        """End it: nothing more of it goes to the client."""
        self.queue.clear()
        self._disown()
        super().close()
        spare = self.shard.spare.get(self.protocol)
        if spare and self in spare:
            spare.remove(self)

    def failed(self, reason: str, detail: str) -> None:
        """Answer with an error what was asked: nobody knows whether it was done."""
        error = failure(reason, detail)
        queue, owner = list(self.queue), self.owner
        torn = self._torn
        self.close()
        for awaited in queue:
            session = awaited.slot.session if awaited.slot is not None else None
            if torn and session is not None:
                session.close("upstream_reset")  # it has a part of the reply already
            elif session is not None and awaited.slot is not None:
                self.sharding.error(error)
                session.complete(awaited.slot, error)
            torn = False
            if awaited.after is not None:
                awaited.after(error)
        if owner is not None:
            owner.broken(self, error)

    def release(self) -> None:
        """Keep it for the next client; it must be as it was at the beginning."""
        spare = self.shard.spare.setdefault(self.protocol, [])
        clean = self.stands and not self.queue and not self._missing
        if clean and self.current and len(spare) < _MOST_SPARE:
            self._disown()
            self.resume()
            spare.append(self)
        else:
            self.close()

    def _disown(self) -> None:
        if self.owner is not None:
            self.owner.session.pausing.discard(self)
            self.owner = None


def line_to(shard: Shard, owner: Owner) -> Line:
    """Get a line to a shard, of the client's protocol. WrongArguments, with the error, when the shard is left out."""
    check(shard)
    protocol = owner.session.state.protocol
    spare = shard.spare.get(protocol)
    if spare:
        line = spare.pop()
        line.owner = owner
        return line
    line = Line(shard, protocol, owner)
    line.open()
    return line


def check(shard: Shard) -> None:
    """Raise WrongArguments, with the error to answer, when a shard is left out, or has no address yet."""
    if shard.refusing is not None or shard.endpoint is None:
        raise WrongArguments("ERR Host is down")


def slot_for(session: Session, name: bytes | None) -> Slot:
    """Take the next place among the replies to the client: for a command, or for what was not asked for."""
    sharding = session.sharding
    slot = Slot(session, sharding.tally(name) if name else sharding.own, 1, 0, sharding.loop.now)
    session.waiting.append(slot)
    return slot
