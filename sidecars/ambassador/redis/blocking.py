"""A command whose reply may be long in coming: it has a connection of its own meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.redis.commands import Command, longest
from sidecars.ambassador.redis.line import Line, line_to, slot_for
from sidecars.ambassador.redis.writing import error

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session
    from sidecars.ambassador.redis.shard import Shard

_ELSEWHERE = "UNBLOCKED force unblock from blocking operation, the keys are on another connection now"


class Blocking:
    """A client that waits for one reply."""

    ends = False  # the client may go before that

    def __init__(self, session: Session, key: bytes) -> None:
        self.session = session
        self._key = key
        self._line: Line | None = None

    def begin(self, shard: Shard, command: Command, arguments: list[bytes], frame: bytes) -> None:
        """Ask; WrongArguments when the shard is left out."""
        seconds = longest(command, arguments)
        self._line = line_to(shard, self)
        slot = slot_for(self.session, command.name)
        self._line.ask(frame, slot, self._finished, extra=seconds or None)

    def command(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Have it wait."""
        return False

    def drained(self) -> None:
        """Nothing: the session lets the line go on."""

    def lost(self) -> None:
        """Let go: the shard must give nothing to nobody."""
        if self._line is not None:
            self._line.close()

    def moved(self) -> None:
        """Wait no longer where nothing will come any more."""
        line = self._line
        if line is None or (self.session.shard_of(self._key) is line.shard and line.current):
            return
        slot = line.queue[0].slot
        line.close()
        if slot is not None:
            self.session.complete(slot, error(_ELSEWHERE))
        self._end()

    def broken(self, line: Line, error: bytes) -> None:
        """Nothing: the client has the error."""

    def _finished(self, head: bytes) -> None:
        if self._line is not None and self._line.sock is not None:
            self._line.release()
        self._end()

    def _end(self) -> None:
        self._line = None
        if self.session.taker is self:
            self.session.give_back()
