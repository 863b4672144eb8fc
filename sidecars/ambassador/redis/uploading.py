"""Commands too large to be held: they pass through as they come, on a connection that nobody else waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.redis.lane import failure
from sidecars.ambassador.redis.link import Link
from sidecars.ambassador.redis.reading import Malformed, follow

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session
    from sidecars.ambassador.redis.shard import Shard
    from sidecars.ambassador.redis.slots import Tally

_HIGH = 1024 * 1024  # bytes on their way, in either direction: no more is read until they have gone
_MOST_SPARE = 4  # connections that are kept for the next one


class Upload(Link):
    """One large command of a client, and its reply; then the next one, of the same or another client."""

    __slots__ = (
        "_asked", "_came", "_error", "_heard", "_line", "_moved", "_progress", "_session", "_since", "_tail", "_tally",
        "_wanted",
    )  # fmt: skip

    def __init__(self, shard: Shard, protocol: int) -> None:
        super().__init__(shard, protocol)
        self._session: Session | None = None

    def begin(self, session: Session, tally: Tally, data: bytes) -> None:
        """Pass a command on, of which this is the beginning."""
        self._session = session
        self._tally = tally
        self._since = self._progress = self.sharding.clock.now
        self._asked: tuple[int, int] = (1, 0)  # values and bytes that are missing of the command
        self._wanted: tuple[int, int] = (1, 0)  # and of the reply
        self._moved = (0, 0)
        self._came = 0
        self._tail = self._line = b""
        self._heard = 0
        self._error = self.shard.refusing
        self.shard.requests += 1
        if self._error is None:
            self.open()
        self.more(data)

    def more(self, data: bytes) -> bytes:
        """Take more of it; what is left over when it is whole is not its own."""
        session = self._session
        assert session is not None  # noqa: S101  (begin() comes first)
        data = self._tail + data
        part = follow(data, 0, *self._asked)
        self._asked = part.left, part.skip
        self._came += part.at
        if self._came + part.skip > self.sharding.most:
            raise Malformed("invalid bulk length")
        rest = data[part.at :]
        self._tail = rest if part.left else b""
        if self._error is None and part.at:
            self.send(data[: part.at] if rest else data)
        if part.left:
            if self.backlog > _HIGH:
                session.stop()
            return b""
        if self._error is not None:
            self._over(self._error)
        else:
            session.stop()
        return rest

    def drained(self) -> None:
        """Let the client go on; for the client, let the shard."""
        if self._session is not None and self._asked[0]:
            self._session.go_on()
        self.resume()

    def received(self, data: bytes) -> None:
        """Pass the reply on."""
        session = self._session
        self.shard.response_bytes += len(data)
        self._heard += len(data)
        if session is None:
            raise Malformed("a reply to nothing")
        # A line that is not whole goes out with the rest of it.
        data = self._line + data
        part = follow(data, 0, *self._wanted)
        self._wanted, self._line = (part.left, part.skip), data[part.at :]
        if self._line and not part.left:
            raise Malformed("a reply to nothing")
        session.write(data[: part.at])
        if not part.left:
            self._answered()
        elif session.backlog > _HIGH:
            self.pause()

    def _answered(self) -> None:
        session = self._session
        self.shard.responses += 1
        if session is not None and self._asked[0]:
            # The shard has refused it before it was whole: what follows cannot be told from commands.
            self.close()
            session.finish()
            return
        self._over(b"")

    def _over(self, reply: bytes) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        self._tally.add(self.sharding.clock.now - self._since)
        if reply:
            self.sharding.error(reply)
            session.write(reply)
        if self.stands and len(self.shard.uploads) < _MOST_SPARE:
            self.shard.uploads.append(self)
        else:
            self.close()
        session.give_back()

    def failed(self, reason: str, detail: str) -> None:
        """Answer with an error, once the client has sent all of it."""
        if self in self.shard.uploads:
            self.shard.uploads.remove(self)
        session = self._session
        if session is None:
            return
        if self._wanted != (1, 0):
            session.close("upstream_reset")
            return
        self._error = failure(reason, detail)
        if not self._asked[0]:
            self._over(self._error)
        else:
            session.go_on()

    @property
    def ends(self) -> bool:
        """Whether all of the command has come."""
        return not self._asked[0]

    def command(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Take no commands: there are none before it is over."""
        return False

    def moved(self) -> None:
        """Go on: what has begun is not sent again."""

    def lost(self) -> None:
        """Let go: half a command is of no use."""
        self._session = None
        self.close()

    def check(self, now: float, timeout: float, stall: float) -> None:
        """Fail when nothing moves."""
        if self._session is None or self.paused:
            return
        moved = (self.sent, self._heard)
        if moved != self._moved or (self._asked[0] and not self.backlog):
            self._moved, self._progress = moved, now
        elif now - self._progress > timeout:
            self.fail("timeout", "Connection timed out")
