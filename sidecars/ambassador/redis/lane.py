"""The connections that clients share: their commands follow one another there, and so do the replies."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from sidecars.ambassador.metrics import BUCKETS
from sidecars.ambassador.redis.link import Link
from sidecars.ambassador.redis.reading import REPLIES, REPLY, Malformed, follow
from sidecars.ambassador.redis.slots import FULL, LEAST_HELD, Slot, Tally

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session
    from sidecars.ambassador.redis.shard import Shard

_FULL = 1024 * 1024  # bytes that wait to be written: no more is read of the clients that sent them
_EARLY = 16  # runs of commands that are sent before a round ends
_MOST = 16384  # commands, or runs of them, that wait for their replies
_GLANCE = 0.1  # seconds, in which who reads has taken something
_STEP = 64 * 1024  # bytes of a reply between two looks are enough not to be late
_WORDS = {"refused": b"Connection refused", "timeout": b"Connection timed out", "unreachable": b"Host is down"}
_RESET = b"Connection reset by peer"
# Replies that say that the server is in no state to serve: twemproxy counts them as failures of it.
_FAILING = (b"-OOM ", b"-BUSY ", b"-LOADING ")


class Lane(Link):
    """A connection that many clients share: replies come in the order of the commands.

    full       so much waits that clients should send no more; they are told by resume() when that is over
    impatient  until when nobody who takes nothing is waited for: others have waited for such a one already
    """

    __slots__ = (
        "_ignored", "_missing", "_skip", "_step", "_tail", "full", "heard", "impatient", "paused_since", "queue",
        "retired", "stalled",
    )  # fmt: skip

    def __init__(self, shard: Shard, protocol: int) -> None:
        super().__init__(shard, protocol)
        self.queue: deque[Slot] = deque()
        self.full = False
        self.stalled: list[Session] = []
        self.retired = False
        self.heard = 0.0  # when replies were seen to go on
        self._step = (0, 0, 0, 0)
        self.paused_since = self.impatient = 0.0
        self._forget()

    def _forget(self) -> None:
        """Expect the beginning of a reply."""
        self._missing = self._skip = 0
        self._tail = b""
        self._ignored = False

    def put(self, session: Session, tally: Tally, count: int, data: bytes) -> None:
        """Send a run of commands of a client; their replies have the next place among the client's."""
        shard, sharding = self.shard, self.sharding
        if shard.refusing is not None:
            session.answer(shard.refusing * count)
            return
        start = self.queued
        slot = Slot(session, tally, count, start, sharding.clock.now)
        session.waiting.append(slot)
        self.queue.append(slot)
        out = self.out
        out.append(data)
        self.queued = start + len(data)
        shard.requests += count
        if not self.dirty:
            self.dirty = True
            sharding.to_flush(self)
        elif len(out) == _EARLY and self.stands:
            # The shard can begin, while others of this round are read.
            self.write()
        if self.full:
            self.stalled.append(session)
            session.stop(FULL)

    def put_part(self, part: Slot, data: bytes) -> None:
        """Send a part of a command that goes to several shards."""
        shard = self.shard
        if shard.refusing is not None:
            part.take(shard.refusing, True)
            return
        part.start = self.queued
        part.since = self.sharding.clock.now
        self.queue.append(part)
        shard.requests += 1
        self.send(data)

    def flush(self) -> None:
        """Write what was given since the last round; connect, if need be."""
        self.dirty = False
        self.write()
        if self.endpoint is None and self.queue:
            self.open()
        self.full = self.queued - self.sent > _FULL or len(self.queue) > _MOST
        if self.stalled and not self.full:
            self._less()

    def drained(self) -> None:
        """Let clients go on."""
        self._less()

    def _less(self) -> None:
        if self.queued - self.sent < _FULL // 2 and len(self.queue) < _MOST // 2:
            self.full = False
            stalled, self.stalled = self.stalled, []
            for session in stalled:
                session.go_on(FULL)

    def opened(self) -> None:
        """Begin with the replies."""
        self._forget()

    def received(self, data: bytes) -> None:  # noqa: C901  (the hot path: each call in it is paid for by every reply)
        """Give each client its replies."""
        shard = self.shard
        shard.response_bytes += len(data)
        if self._missing or self._tail:
            self._slowly(data)
            return
        frames = REPLIES.findall(data)
        rest = b""
        if REPLY.fullmatch(frames[-1]) is None:
            rest = frames.pop()
        end = len(frames)
        queue, sharding = self.queue, self.sharding
        now = sharding.clock.now
        at = 0
        while at < end:
            if not queue:
                raise Malformed("a reply to nothing")
            slot = queue[0]
            count = slot.left
            if count == 1:
                piece = frames[at]
                at += 1
            elif count <= end - at:
                piece = b"".join(frames[at : at + count])
                at += count
            else:
                self._partly(slot, b"".join(frames[at:]), end - at)
                break
            queue.popleft()
            seconds = now - slot.since
            tally = slot.tally
            tally.counts[bisect_left(BUCKETS, seconds)] += count
            tally.seconds += seconds * count
            session = slot.session
            if session is None:
                slot.take(piece, True)
                continue
            slot.left = 0
            waiting = session.waiting
            if waiting[0] is not slot:
                if slot.pieces is None:
                    slot.pieces = [piece]
                else:
                    slot.pieces.append(piece)
                session.held += len(piece)
                if session.held > LEAST_HELD:
                    self._check_held(session)
                continue
            waiting.popleft()
            if not waiting and session.easy and not session.dirty:
                # All it waits for: nothing is gained by collecting more.
                session.write_now(piece)
                continue
            session.out.append(piece)
            if not session.dirty:
                session.dirty = True
                sharding.to_flush(session)
            if waiting:
                if waiting[0].pieces is not None:
                    session.advance()
            elif session.awaiting:
                session.answered()
            if session.over:
                self._pause_for(session)
        shard.responses += end
        if shard.failing and end:
            shard.recovered(self.endpoint)
        if rest:
            self._slowly(rest)
        if self.stalled:
            self._less()
        if self.retired and not queue:
            self.close()

    def _partly(self, slot: Slot, piece: bytes, count: int) -> None:
        """Give a client a piece of its replies, and so many of them whole."""
        slot.left -= count
        if count:
            slot.tally.add(self.sharding.clock.now - slot.since, count)
        session = slot.session
        if session is None:
            slot.take(piece, False)
        elif session.waiting[0] is slot:
            session.write(piece)
            if session.over:
                self._pause_for(session)
        else:
            self._hold(session, slot, piece)

    def _hold(self, session: Session, slot: Slot, piece: bytes) -> None:
        if slot.pieces is None:
            slot.pieces = []
        slot.pieces.append(piece)
        session.held += len(piece)
        self._check_held(session)

    def _check_held(self, session: Session) -> None:
        if session.holding:
            self._pause_for(session)

    def _slowly(self, data: bytes) -> None:
        """Give each client its replies, of any kind and size, and what there is of one that is not whole."""
        if self._tail:
            data, self._tail = self._tail + data, b""
        at, end = 0, len(data)
        while at < end:
            fresh = not self._missing
            part = follow(data, at, self._missing or 1, self._skip)
            if fresh and part.at == at:
                self._tail = data[at:]
                return
            if fresh:
                self._begins(data, at, part.at)
            self._missing, self._skip = part.left, part.skip
            piece = data[at : part.at] if at or part.at < end else data
            at = part.at
            if not self._ignored:
                self._give(piece, not part.left)
            elif not part.left:
                self._ignored = False
            if part.left:
                self._tail = data[at:]
                return

    def _begins(self, data: bytes, at: int, end: int) -> None:
        """Look at how a reply begins: it may be no reply, but news; and an error counts."""
        sign = data[at]
        if sign == 0x3E:
            self._ignored = True
        elif sign == 0x2D:
            line = data[at:end]
            self.sharding.error(line)
            if self.endpoint is not None and line.startswith(_FAILING):
                self.shard.tell(self.endpoint, "error", line[1:].partition(b" ")[0].decode())
                return
        if self.shard.failing:
            self.shard.recovered(self.endpoint)

    def _give(self, piece: bytes, whole: bool) -> None:
        if not self.queue:
            raise Malformed("a reply to nothing")
        slot = self.queue[0]
        self.shard.responses += whole
        if not whole or slot.left > 1:
            self._partly(slot, piece, int(whole))
            return
        self.queue.popleft()
        slot.tally.add(self.sharding.clock.now - slot.since)
        session = slot.session
        if session is None:
            slot.take(piece, True)
            return
        session.complete(slot, piece)
        if session.over:
            self._pause_for(session)

    def _pause_for(self, session: Session) -> None:
        """Read no more until a client that does not read has taken what it has."""
        if not self.paused:
            self.paused_since = now = self.sharding.clock.now
            self.pause()
            if now < self.impatient:
                before = session.sent_bytes
                self.sharding.loop.later(_GLANCE, lambda: self._glance(session, before))
        session.pausing.add(self)

    def resume(self) -> None:
        """Read again; the time in which nothing was read is not the shard's."""
        if self.paused:
            self.heard = self.sharding.clock.now
        super().resume()

    def _glance(self, session: Session, before: int) -> None:
        """Wait no longer for one who has taken nothing."""
        if self in session.pausing and session.sent_bytes == before:
            self.sharding.stalled(self)

    def _ended(self) -> None:
        if self.queue:
            super()._ended()
        else:
            # A server that closes what is idle has not failed.
            self.close()

    def failed(self, reason: str, detail: str) -> None:
        """Answer with an error what was written, for nobody knows whether it was done; the rest goes out anew."""
        again = self.stood and reason != "timeout" and not self.retired and self.shard.usable
        error = failure(reason, detail)
        queue, self.queue = self.queue, deque()
        torn = bool(self._missing)  # the client has a part of a reply already
        self._forget()
        while queue and not (again and queue[0].start >= self.written):
            slot = queue.popleft()
            if torn and slot.session is not None:
                slot.session.close("upstream_reset")
            torn = False
            self._refuse(slot, error)
        self._again(queue)
        self._less()

    def _refuse(self, slot: Slot, error: bytes) -> None:
        session = slot.session
        self.sharding.error(error, slot.left)
        if session is None:
            slot.pieces = None
            slot.take(error, True)
        else:
            session.complete(slot, error * slot.left)

    def _again(self, slots: deque[Slot]) -> None:
        """Keep what was not written for the next connection."""
        if not slots:
            return
        first = slots[0].start
        data = self.unwritten[first - self.written :]
        moved = self.queued - first
        for slot in slots:
            slot.start += moved
        self.queue = slots
        self.unwritten = b""
        self.send(data)

    def check(self, now: float, timeout: float, stall: float) -> None:
        """Fail when the oldest command waits for too long; close a client that keeps others waiting by not reading."""
        if self.paused:
            if now - self.paused_since > stall:
                self.sharding.stalled(self)
            return
        if not self.queue:
            return
        slot = self.queue[0]
        step = (id(slot), slot.left, self._missing, self._skip // _STEP)
        if step != self._step:
            # What waits behind large replies is not late while they come.
            self._step, self.heard = step, now
        since = max(slot.since, self.heard)
        if self.endpoint is None and now - slot.since > self.sharding.dial_timeout:
            self.fail("unreachable", "Host is down")
        elif now - since > timeout:
            self.fail("timeout", "Connection timed out")

    def replaced(self) -> None:
        """Take no more commands; close when the last one is answered."""
        self.retired = True
        if not self.queue:
            self.close()


def failure(reason: str, detail: str) -> bytes:
    """Write the error a client gets: with the texts of twemproxy, where it has one."""
    word = _WORDS.get(reason) or (_RESET if reason in ("reset", "eof") else _plain(detail))
    return b"-ERR %b\r\n" % word


def _plain(detail: str) -> bytes:
    return detail.encode("ascii", "replace").replace(b"\r", b" ").replace(b"\n", b" ")[:200]
