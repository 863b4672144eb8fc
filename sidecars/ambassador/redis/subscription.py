"""Subscriptions: a channel is on the shard that its name is on, as if it were a key, and so is what is published in it.

A pattern may match channels of every shard, and what is told of keys (__keyspace@, __keyevent@) comes from the shard of
each key: for these, every shard is subscribed to. What is published goes to one shard, so it comes once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecars.ambassador.redis.commands import COMMANDS, WrongArguments, blocks, keys, unsupported
from sidecars.ambassador.redis.line import Line, check, slot_for
from sidecars.ambassador.redis.reading import encoded
from sidecars.ambassador.redis.writing import array, bulk, error, integer, null

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session
    from sidecars.ambassador.redis.shard import Shard
    from sidecars.ambassador.redis.slots import Slot

_OF_KEYS = (b"__keyspace@", b"__keyevent@")
_CONFIRMED = re.compile(rb"[*>]3\r\n\$\d+\r\n[ps]?(?:un)?subscribe\r\n", re.IGNORECASE)


class Confirmation:
    """What the client gets when each shard has done as it was asked."""

    def __init__(self, slot: Slot, missing: int, reply: bytes) -> None:
        self.slot = slot
        self.missing = missing
        self.reply = reply

    def come(self) -> None:
        """Know that one more shard has answered."""
        self.missing -= 1
        session = self.slot.session
        if not self.missing and session is not None:
            session.complete(self.slot, self.reply)


class Listening(Line):
    """A connection that is subscribed: what comes is news, or confirms what was asked."""

    __slots__ = ("_message", "_news")

    def __init__(self, shard: Shard, protocol: int, owner: Subscription) -> None:
        super().__init__(shard, protocol, owner)
        self._news = False
        self._message: Slot | None = None

    def take(self, piece: bytes, fresh: bool, whole: bool) -> None:
        """Pass news on; count what confirms, of which the client gets one from here."""
        if fresh:
            self._news = not piece.startswith(b"-") and _CONFIRMED.match(piece) is None
        if self._news:
            self._pass_on(piece, fresh, whole)
        elif whole and self.queue:
            self.answered()

    def _pass_on(self, piece: bytes, fresh: bool, whole: bool) -> None:
        owner = self.owner
        if owner is None:
            return
        if fresh and whole:
            owner.session.answer(piece)
            self.spare_client(owner.session)
            return
        if fresh:
            self._message = slot_for(owner.session, None)
        if self._message is not None:
            self._torn = not whole
            self.give(self._message, piece, whole)


class Subscription:
    """A client that is subscribed to something.

    names  what it is subscribed to, by how: b"" channels, b"P" patterns, b"S" channels of shards; and where
    """

    ends = False

    def __init__(self, session: Session) -> None:
        self.session = session
        self.names: dict[bytes, dict[bytes, list[Shard]]] = {b"": {}, b"P": {}, b"S": {}}
        self._lines: dict[Shard, Listening] = {}
        self._pending = 0

    # What the session calls.

    def command(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Take a command; False when it must wait until those before it are answered."""
        session = self.session
        try:
            if name.endswith(b"SUBSCRIBE") and name in COMMANDS:
                self.change(name, arguments)
                return True
            if not any(self.names.values()) or name in (b"QUIT", b"RESET"):
                return self._leave(name, arguments, frame)
            return self._other(name, arguments, frame)
        except WrongArguments as wrong:
            session.answer(error(str(wrong)))
            return True

    def drained(self) -> None:
        """Nothing: the session lets the lines go on."""

    def lost(self) -> None:
        """Let go."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.close()

    def moved(self) -> None:
        """Close the client when it would not hear all: it connects again, and subscribes anew."""
        for kind, names in self.names.items():
            for name, shards in names.items():
                now = self._shards(kind, name)
                if {*now} != {*shards} or not all(self._lines[shard].current for shard in now if shard in self._lines):
                    self.session.close("removed")
                    return

    def broken(self, line: Line, error: bytes) -> None:
        """Close the client when it would not hear all any more."""
        if self._lines.pop(line.shard, None) is None:
            return
        for names in self.names.values():
            for name in [name for name, shards in names.items() if line.shard in shards]:
                del names[name]
        if line.stood and self.session.taker is self:
            self.session.close("upstream_reset")

    # Commands.

    def change(self, name: bytes, arguments: list[bytes]) -> None:
        """Subscribe, or unsubscribe."""
        keys(COMMANDS[name], arguments)
        verb = b"UNSUBSCRIBE" if name.endswith(b"UNSUBSCRIBE") else b"SUBSCRIBE"
        kind = name.removesuffix(verb)
        if verb == b"SUBSCRIBE":
            for each in arguments:
                self._subscribe(kind, each)
            return
        those = arguments or list(self.names[kind])
        for each in those:
            self._unsubscribe(kind, each)
        if not those:
            self.session.answer(self._reply(kind, verb, None))
        self.settled()

    def _subscribe(self, kind: bytes, name: bytes) -> None:
        names = self.names[kind]
        if name in names:
            self.session.answer(self._reply(kind, b"SUBSCRIBE", name))
            return
        shards = self._shards(kind, name)
        try:
            for shard in shards:
                check(shard)
        except WrongArguments as down:
            self.session.answer(error(str(down)))
            return
        names[name] = shards
        self._ask(kind, b"SUBSCRIBE", name, shards)

    def _unsubscribe(self, kind: bytes, name: bytes) -> None:
        shards = self.names[kind].pop(name, None)
        if shards is None:
            self.session.answer(self._reply(kind, b"UNSUBSCRIBE", name))
        else:
            self._ask(kind, b"UNSUBSCRIBE", name, shards)

    def _ask(self, kind: bytes, verb: bytes, name: bytes, shards: list[Shard]) -> None:
        word = kind + verb
        confirmation = Confirmation(slot_for(self.session, word), len(shards), self._reply(kind, verb, name))
        self._pending += len(shards)

        def come(head: bytes) -> None:
            self._pending -= 1
            if head.startswith(b"-"):
                self.names[kind].pop(name, None)
                confirmation.reply = head
            confirmation.come()
            self.settled()

        for shard in shards:
            self._line(shard).ask(encoded([word, name]), None, come)

    def _line(self, shard: Shard) -> Listening:
        line = self._lines.get(shard)
        if line is None:
            line = self._lines[shard] = Listening(shard, self.session.state.protocol, self)
            line.open()
        return line

    def _shards(self, kind: bytes, name: bytes) -> list[Shard]:
        if kind == b"P" or (not kind and name.startswith(_OF_KEYS)):
            # One that is left out has nothing to tell; when it is back, the client is to subscribe anew.
            shards = self.session.sharding.shards
            return [each for each in shards if each.refusing is None and each.endpoint is not None] or shards
        return [self.session.shard_of(name)]

    def _reply(self, kind: bytes, verb: bytes, name: bytes | None) -> bytes:
        protocol = self.session.state.protocol
        count = len(self.names[b"S"]) if kind == b"S" else len(self.names[b""]) + len(self.names[b"P"])
        shown = null(protocol) if name is None else bulk(name)
        reply = array([bulk((kind + verb).lower()), shown, integer(count)])
        return b">" + reply[1:] if protocol == 3 else reply

    @property
    def idle(self) -> bool:
        """Whether there is nothing to hear of."""
        return not self._pending and not any(self.names.values())

    def settled(self) -> None:
        """Give the session back when there is nothing left to hear of."""
        if self.idle and self.session.taker is self:
            self.lost()
            self.session.give_back()

    # Other commands.

    def _leave(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        if self.session.waiting:
            return False
        self.lost()
        self.session.taker = None
        return self.session.usual(name, arguments, frame)

    def _other(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        if self.session.state.protocol == 2:
            if name == b"PING" and len(arguments) < 2:
                self.session.answer(array([bulk(b"pong"), bulk(b"".join(arguments))]))
                return True
            shown = name[:32].lower().decode("ascii", "replace")
            allowed = "(P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET"
            raise WrongArguments(f"ERR Can't execute '{shown}': only {allowed} are allowed in this context")
        command = COMMANDS.get(name)
        waits = command is not None and command.kind == "blocking" and blocks(command, arguments)
        if name in (b"AUTH", b"HELLO") or waits or (command is not None and command.kind == "pin"):
            raise unsupported(name, "not while the client is subscribed: use another connection")
        return self.session.usual(name, arguments, frame)
