"""MULTI and WATCH: the first key that is watched or used decides on which shard all of it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.redis.commands import COMMANDS, Command, WrongArguments, blocks, keys, longest, unsupported
from sidecars.ambassador.redis.line import Line, line_to, slot_for
from sidecars.ambassador.redis.reading import encoded
from sidecars.ambassador.redis.writing import OK, array, error

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session
    from sidecars.ambassador.redis.shard import Shard

_QUEUED = b"+QUEUED\r\n"
_ABORTED = "EXECABORT Transaction discarded because of previous errors."
_MOST_AHEAD = 1024 * 1024  # bytes of commands without a key that are kept until one with a key comes
_ANYWHERE = frozenset((b"PING", b"ECHO", b"TIME"))
_FIXED = frozenset((b"AUTH", b"HELLO"))
OTHER_SHARD = (
    "CROSSSLOT Keys in request don't hash to the same slot: a transaction is on one shard, that of its first key; to "
    "keep keys on one, set hash_tag and give them the same tag"
)


def discarded(wrong: WrongArguments) -> str:
    """Make the error for an EXEC that is wrong itself."""
    return f"EXECABORT Transaction discarded because of: {str(wrong).removeprefix('ERR ')}"


class Transaction:
    """A client between WATCH or MULTI, and EXEC, DISCARD or UNWATCH.

    line      the connection to its shard; None before there is a key, and after it was lost
    queueing  MULTI was said
    aborted   EXEC will fail
    over      its last command is on its way
    ahead     commands queued while there is no shard to queue them
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.line: Line | None = None
        self.queueing = self.aborted = self.over = False
        self.ahead: list[bytes] = []
        self._held = 0

    # What the session calls.

    @property
    def ends(self) -> bool:
        """Whether its last command is on its way."""
        return self.over

    def command(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Take a command; False when it must wait until those before it are answered."""
        if self.over or (name in (b"QUIT", b"RESET") and self.session.waiting):
            return False
        if name in (b"QUIT", b"RESET"):
            self.lost()
            self.session.taker = None
            return self.session.usual(name, arguments, frame)
        try:
            return self._command(name, arguments, frame)
        except WrongArguments as wrong:
            if name == b"EXEC" and not self.over:
                self._abort(discarded(wrong))
                return True
            self.aborted = self.aborted or self.queueing
            self.session.answer(error(str(wrong)))
            return True

    def drained(self) -> None:
        """Nothing: the session lets the line go on."""

    def lost(self) -> None:
        """Let go: the shard forgets it all with the connection."""
        if self.line is not None:
            self.line.close()
            self.line = None

    def moved(self) -> None:
        """Stay: keys that are elsewhere now are refused."""

    def broken(self, line: Line, error: bytes) -> None:
        """Know that the shard has forgotten it all."""
        if self.line is line:
            self.line = None
            self.aborted = True

    # Commands.

    def _command(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        command = COMMANDS.get(name)
        if command is None:
            raise unsupported(name)
        found = keys(command, arguments)
        own = {b"MULTI": self.multi, b"EXEC": self._exec, b"DISCARD": self._discard}.get(name)
        if own is not None:
            own(frame)
        elif name == b"WATCH":
            self.watch(found, frame)
        elif self.queueing:
            self._queue(command, found, frame)
        elif name == b"UNWATCH":
            self._last(frame, name)
        else:
            return self._between(command, found, arguments, frame)
        return True

    def multi(self, frame: bytes) -> None:
        """Begin to queue."""
        if self.queueing:
            # Redis runs it at once, and does not abort for it.
            self.session.answer(error("ERR MULTI calls can not be nested"))
            return
        self.queueing = True
        if self.line is not None:
            self.line.ask(frame, slot_for(self.session, b"MULTI"))
        else:
            self.session.answer(OK)

    def watch(self, found: list[bytes], frame: bytes) -> None:
        """Watch keys."""
        if self.queueing:
            self.session.answer(error("ERR WATCH inside MULTI is not allowed"))
            return
        shard = self._shard(found)
        assert shard is not None  # noqa: S101  (it has keys)
        self._pin(shard).ask(frame, slot_for(self.session, b"WATCH"))

    def _exec(self, frame: bytes) -> None:
        if not self.queueing:
            self.session.answer(error("ERR EXEC without MULTI"))
            return
        if self.aborted:
            self._abort(_ABORTED)
            return
        if self.line is None and not self.ahead:
            self.session.answer(array([]))
            self._end()
            return
        if self.line is None:
            try:
                self._pin(self.session.shard_of(b""))
            except WrongArguments as down:
                self.session.answer(error(str(down)))
                self._end()
                return
        self._last(frame, b"EXEC")

    def _abort(self, why: str) -> None:
        """Have the shard forget it, and the client know."""
        if self.line is None:
            self.session.answer(error(why))
            self._end()
            return
        self.over = True
        slot = slot_for(self.session, b"EXEC")

        def forgotten(head: bytes) -> None:
            if slot.session is not None:
                self.session.complete(slot, error(why))
            self._finished(head)

        self.line.ask(encoded([b"DISCARD" if self.queueing else b"UNWATCH"]), None, forgotten)

    def _discard(self, frame: bytes) -> None:
        if not self.queueing:
            raise WrongArguments("ERR DISCARD without MULTI")
        self._last(frame, b"DISCARD")

    def _last(self, frame: bytes, name: bytes) -> None:
        """Send what ends it."""
        if self.line is None:
            self.session.answer(OK)
            self._end()
            return
        self.over = True
        self.line.ask(frame, slot_for(self.session, name), self._finished)

    def _queue(self, command: Command, found: list[bytes], frame: bytes) -> None:
        if command.kind == "refused":
            raise WrongArguments(f"ERR {command.reason}")
        if command.kind in ("local", "every", "pubsub") and command.name not in _ANYWHERE:
            raise unsupported(command.name, "inside MULTI there are only commands of one shard")
        shard = self._shard(found)
        if self.line is None and (shard is None or self.aborted):
            self._keep(frame)
        else:
            line = self.line or self._pin(shard)
            line.ask(frame, slot_for(self.session, command.name))

    def _keep(self, frame: bytes) -> None:
        if not self.aborted:
            self._held += len(frame)
            if self._held > _MOST_AHEAD:
                raise WrongArguments("ERR too many commands without a key before the first that has one")
            self.ahead.append(frame)
        self.session.answer(_QUEUED)

    def _between(self, command: Command, found: list[bytes], arguments: list[bytes], frame: bytes) -> bool:
        """Do a command while keys are watched: in its order with them, where it is on their shard."""
        waits = command.kind == "blocking" and blocks(command, arguments)
        if self.line is not None and found and {self.session.shard_of(key) for key in found} == {self.line.shard}:
            extra = longest(command, arguments) or None if waits else 0.0
            self.line.ask(frame, slot_for(self.session, command.name), extra=extra)
            return True
        if waits or command.kind == "pubsub" or command.name in _FIXED:
            raise unsupported(command.name, "not while keys of another shard are watched: UNWATCH first")
        return self.session.usual(command.name, arguments, frame)

    # The shard.

    def _shard(self, found: list[bytes]) -> Shard | None:
        shards = {self.session.shard_of(key) for key in found}
        if self.line is not None:
            shards.add(self.line.shard)
        if len(shards) > 1:
            raise WrongArguments(OTHER_SHARD)
        return shards.pop() if shards else None

    def _pin(self, shard: Shard | None) -> Line:
        """Get the line, and have it queue what is queued already."""
        if self.line is not None:
            return self.line
        assert shard is not None  # noqa: S101  (there is a key)
        self.line = line = line_to(shard, self)
        if self.queueing:
            for frame in (encoded([b"MULTI"]), *self.ahead):
                line.ask(frame, None, self._queued)
            self.ahead.clear()
        return line

    def _queued(self, head: bytes) -> None:
        """Abort where the client was told that a command is queued, and it is not."""
        self.aborted = self.aborted or head.startswith(b"-")

    def _finished(self, head: bytes) -> None:
        line, self.line = self.line, None
        if line is not None and line.sock is not None:
            line.release()
        self._end()

    def _end(self) -> None:
        if self.session.taker is self:
            self.session.give_back()
