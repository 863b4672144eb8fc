"""One client: its commands go out to the shards, and their replies come back in the order of its commands."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Protocol

from sidecars.ambassador.connection import Connection, Reason
from sidecars.ambassador.loop import GONE, HALF_CLOSED, READ, WRITE
from sidecars.ambassador.redis import commands, fanning
from sidecars.ambassador.redis.answering import State, answer
from sidecars.ambassador.redis.commands import COMMANDS as TABLE
from sidecars.ambassador.redis.commands import CROSSSLOT, Command, WrongArguments, unsupported
from sidecars.ambassador.redis.lane import Lane
from sidecars.ambassador.redis.outbox import Outbox
from sidecars.ambassador.redis.reading import COMMANDS, Malformed, Scan, encoded
from sidecars.ambassador.redis.shard import Shard

if TYPE_CHECKING:
    from sidecars.ambassador.redis.sharding import Sharding
    from sidecars.ambassador.redis.uploading import Upload

_PIECE = 16 * 1024  # bytes read at once: a longer buffer costs each short command more than it saves a long one
_ROUNDS = 8  # reads of one client before others have their turn
_SHORT = 512  # bytes of a command that are rather read again
_LARGE = 256 * 1024  # bytes of a command that are held until it is whole
_MOST_WHOLE = 64 * 1024 * 1024  # and of one that must be
_MOST_WORDS = 128 * 1024  # of it: they take more memory than their bytes, and time in which nobody else is served
# Why a session is stopped, as bits; FULL and CLOGGED are two more.
ASKED = 1  # by whom it is handed to
_WAITING = 8  # for the replies to what it has sent, before the next command can be taken
_OVER = 16  # no more is wanted of it
_INET = (socket.AF_INET, socket.AF_INET6)
_BEFORE_LOGIN = frozenset((b"AUTH", b"HELLO", b"QUIT", b"RESET"))
_NOAUTH = b"-NOAUTH Authentication required.\r\n"


class Taker(Protocol):
    """Whom a session is handed to: it gets the client's commands, one by one, until it calls give_back()."""

    @property
    def ends(self) -> bool:
        """Whether it comes to an end by itself, also when the client sends nothing more."""

    def command(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Take a command: its name in capitals, its arguments, and its bytes as they are to be forwarded.

        False when it must wait until those before it are answered, or until give_back().
        """

    def drained(self) -> None:
        """Know that the client has taken what it had to, after session.backlog was large."""

    def moved(self) -> None:
        """Know that keys may be on other shards than before, and shards at other addresses."""

    def lost(self) -> None:
        """Let go: the client is gone."""


class Session(Outbox):
    """A client.

    quiet   how many bytes had passed when it was looked at last, and since when they are so many
    taker   whom it is handed to
    """

    __slots__ = (
        "_kept", "_recv", "_scan", "_sharp", "_stopped", "_upload", "connection", "fast", "lanes", "quiet",
        "received_bytes", "state", "taker", "turn",
    )  # fmt: skip

    def __init__(self, sharding: Sharding, connection: Connection, turn: int, state: State) -> None:
        sock = connection.sock
        super().__init__(sharding, sock.send)
        self.connection = connection
        self.turn = turn
        self.state = state
        self.lanes: list[Lane] = []
        self.fast = False
        self.taker: Taker | None = None
        self.received_bytes = 0
        self.quiet = (0, sharding.clock.now)
        self._kept: bytearray | None = None
        self._scan: Scan | None = None
        self._upload: Upload | None = None
        self._stopped = 0
        self._sharp = isinstance(sock, socket.SocketType) and sock.family in _INET
        self._recv = sock.recv
        self.renew()

    # For whom the session is handed to, and others beside it.

    @property
    def kept(self) -> int:
        """How many bytes there are of a command that is not whole, or has to wait."""
        return len(self._kept or b"")

    def shard_of(self, key: bytes) -> Shard:
        """Say which shard a key is on; it may be left out, see Shard.refusing."""
        return self.sharding.shards[self.sharding.place_of(key)]

    def stop(self, why: int = ASKED) -> None:
        """Read no more commands for now."""
        self._stopped |= why

    def go_on(self, why: int = ASKED) -> None:
        """Read on, if that was all that stood against it: commands that were kept, then more."""
        if self._stopped & why and not self._closing:
            self._stopped &= ~why
            if not self._stopped:
                self.sharding.to_read(self)

    def give_back(self) -> None:
        """Be handed to nobody any more: further commands go to the shards, as before."""
        self.taker = self._upload = None
        self.renew()
        if not self._kept:
            self._kept = None
        self._stopped |= ASKED
        if not self.waiting:
            self.answered()
        self.go_on()

    def finish(self) -> None:
        """Close the client when it has all its replies: it has said QUIT, or sends no more."""
        self._closing = True
        self.stop(_OVER)
        self.easy = False
        if not self.waiting and self.taker is None:
            self.write(b"")

    def await_replies(self) -> None:
        """Read no more until nothing is waiting."""
        self.awaiting = True
        self.easy = False
        self.stop(_WAITING)

    def answered(self) -> None:
        """Go on, for nothing waits any more: see `awaiting`."""
        self.awaiting = False
        self.ease()
        self.go_on(_WAITING)

    def drained(self) -> None:
        """Tell whom it is handed to that the client takes its replies."""
        if self.taker is not None:
            self.taker.drained()

    def renew(self) -> None:
        """Use what has become of the state: the protocol's version, and whether the client is logged in."""
        self.lanes = self.sharding.lanes(self.state.protocol, self.turn)
        self.fast = self.state.authenticated and self.taker is None

    # Reading.

    def happened(self, event: int) -> None:
        """Read and write what can be."""
        if event != READ or self._kept is not None or self._stopped or not self._sharp:
            self._happened(event)
            return
        try:
            data = self._recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            self.close("client_reset")
            return
        if not data:
            self._ended()
            return
        self.received_bytes += len(data)
        self._take(data)
        if len(data) == _PIECE:
            self.sharding.to_read(self)

    def _happened(self, event: int) -> None:
        if self._rest is not None and (event & WRITE or not self._sharp):
            self.resume()
        if event & GONE and self._stopped:
            self.close("client_reset")
        elif event & HALF_CLOSED and self._stopped and self.taker is not None and not self.taker.ends:
            # What it waits for may be long in coming; a shard must not give it to nobody.
            self.close("client")
        elif event != WRITE or not self._sharp:
            self.read(event)

    def read(self, event: int = READ | HALF_CLOSED) -> None:
        """Take commands until there are no more for now."""
        recv = self._recv
        if self._kept is not None and not self._stopped:
            self._take(b"")
        for _ in range(_ROUNDS):
            if self._stopped:
                return
            try:
                data = recv(_PIECE)
            except BlockingIOError:
                return
            except OSError:
                self.close("client_reset")
                return
            if not data:
                self._ended()
                return
            self.received_bytes += len(data)
            self._take(data)
            if len(data) < _PIECE and self._sharp and not event & (HALF_CLOSED | GONE):
                return
        self.sharding.to_read(self)

    def _ended(self) -> None:
        """Let a client that sends no more have its replies."""
        if self.taker is not None and not (self.taker.ends and self.waiting):
            self.close("client")
        else:
            self.finish()

    def _take(self, data: bytes) -> None:  # noqa: C901  (the hot path: each call in it is paid for by every command)
        """Send commands to their shards: runs for one shard as one piece."""
        if (kept := self._kept) is not None:
            if len(kept) > _SHORT or not self.fast:
                self._take_more(kept, data)
                return
            data, self._kept, self._scan = bytes(kept) + data, None, None
        if not self.fast:
            self._slowly(data, 0)
            return
        sharding = self.sharding
        tallies, places, lanes = sharding.tallies, sharding.places, self.lanes
        at = start = count = 0
        run_tally, run_place = sharding.own, -1
        for frame, _, _, name, key, _ in COMMANDS.findall(data):
            tally = tallies.get(name)
            if tally is None and (tally := sharding.learn(name)) is None:
                break
            place = places.get(key)
            if place is None:
                place = sharding.place(key)
            if place != run_place or tally is not run_tally:
                if count:
                    lanes[run_place].put(self, run_tally, count, data[start:at])
                    start, count = at, 0
                run_place, run_tally = place, tally
            count += 1
            at += len(frame)
        if count:
            lanes[run_place].put(self, run_tally, count, data[start:at] if start or at < len(data) else data)
        if at < len(data):
            self._slowly(data, at)

    def _take_more(self, kept: bytearray, data: bytes) -> None:
        """Take what follows on something that was kept."""
        if self._upload is None:
            kept += data
            self._slowly(kept, 0)
        elif data:
            self._send_up(data)

    def _slowly(self, data: bytes | bytearray, at: int) -> None:
        """Take the commands one by one, of whatever kind, and keep what is not whole or must wait."""
        end, most = len(data), self.sharding.most
        large = False
        try:
            while at < end and not self._stopped:
                scan = self._scan or Scan()
                self._scan = scan
                if not scan.advance(data, at, most):
                    large = scan.least > _LARGE
                    break
                if not self._command(scan, data, at):
                    break
                self._scan = None
                at += scan.size
        except Malformed as error:
            self._refuse(str(error))
            return
        if at >= end:
            self._kept = None
        elif data is self._kept:
            del self._kept[:at]
        else:
            self._kept = bytearray(data[at:])
        if large:
            self._large()

    def _large(self) -> None:
        """Pass a large command through as it comes; one that cannot be is held, up to a limit."""
        scan, kept = self._scan, self._kept
        assert scan is not None and kept is not None  # noqa: S101  (it is what has been found to be large)
        if not self.state.authenticated:
            self._refuse("unauthenticated bulk length")
            return
        words = scan.words(kept, 0, 2)
        command = TABLE.get(words[0].upper()) if len(words) > 1 and self.fast else None
        if command is None or not by_first_key(command):
            if scan.least > _MOST_WHOLE or len(scan.spans) > _MOST_WORDS:
                self._refuse("a command of more than 64 MiB, or 131072 words, that has several keys")
            elif self.sharding.kept > _MOST_WHOLE:
                self._refuse("more than 64 MiB of commands that are not whole, of all clients together")
            return
        if len(words[1]) > commands.LONGEST_KEY:
            self._refuse(commands.TOO_LONG)
            return
        if self.waiting:
            self.await_replies()
            return
        self._scan, self._kept = None, bytearray()
        self._upload = self.taker = self.shard_of(words[1]).upload(self.state.protocol)
        self.renew()
        try:
            self._upload.begin(self, self.sharding.tally(command.name), bytes(kept))
        except Malformed as error:
            self._refuse(str(error))

    def _send_up(self, data: bytes) -> None:
        upload = self._upload
        assert upload is not None  # noqa: S101  (it is why this is called)
        try:
            rest = upload.more(data)
        except Malformed as error:
            self._refuse(str(error))
            return
        if rest:
            self._kept = (self._kept or bytearray()) + rest

    def _refuse(self, error: str) -> None:
        """Say what is wrong with what the client has sent, and let it go."""
        self._kept = self._scan = None
        self.answer(b"-ERR Protocol error: %b\r\n" % error.encode())
        self.finish()

    # Commands.

    def _command(self, scan: Scan, data: bytes | bytearray, at: int) -> bool:
        """Take one command; False when it must wait until those before it are answered."""
        words = scan.words(data, at)
        if not words:
            return True
        frame = encoded(words) if scan.inline is not None else bytes(data[at : at + scan.size])
        name, arguments = words[0].upper(), words[1:]
        take = self.usual if self.taker is None else self.taker.command
        taken = take(name, arguments, frame)
        if not taken:
            self.await_replies()
        return taken

    def usual(self, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Take a command as of a client that is handed to nobody; False when it must wait, as for a taker."""
        command = TABLE.get(name)
        try:
            if command is None:
                raise unsupported(name)
            if not self.state.authenticated and name not in _BEFORE_LOGIN:
                self.answer(_NOAUTH)
                return True
            return _KINDS[command.kind](self, command, name, arguments, frame)
        except WrongArguments as error:
            self.answer(b"-%b\r\n" % str(error).encode())
            return True

    def _local(self, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        self.answer(answer(self.state, name, arguments))
        self.renew()
        if name == b"QUIT":
            self.finish()
        return True

    def _one(self, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Send a command to the shard of its keys; an error where they are on several."""
        keys = commands.keys(command, arguments)
        places = {self.sharding.place_of(key) for key in keys}
        if len(places) > 1:
            raise WrongArguments(CROSSSLOT)
        self.lanes[places.pop()].put(self, self.sharding.tally(name), 1, frame)
        return True

    def _fan(self, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        fanning.fan(self, command, commands.keys(command, arguments), arguments, frame)
        return True

    def _every(self, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        commands.keys(command, arguments)
        fanning.everywhere(self, command, arguments, frame)
        return True

    def _blocking(self, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        send = self._hand_over if commands.blocks(command, arguments) else self._one
        return send(command, name, arguments, frame)

    def _hand_over(self, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        """Hand the session over, once the client has all replies to what it has sent before."""
        if self.waiting:
            return False
        from sidecars.ambassador.redis import dedicated

        self.taker = dedicated.take(self, command, name, arguments, frame)
        self.renew()
        return True

    def _refused(self, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> bool:
        raise WrongArguments(f"ERR {command.reason}")

    def check(self, now: float, idle: float, oldest: float) -> None:
        """Close it when it has been idle for too long, or is too old and waits for nothing."""
        passed = self.received_bytes + self.sent_bytes
        if passed != self.quiet[0]:
            self.quiet = passed, now
        if self.waiting or self.taker is not None:
            return
        if now - self.quiet[1] > idle:
            self.close("idle")
        elif now - self.connection.since > oldest and self._kept is None:
            self.close("max_age")

    def close(self, reason: Reason) -> None:
        """End it, whatever it has."""
        if self.sharding.sessions.get(self.connection.fd) is not self:
            return  # it has ended before; the descriptor's number may be another's
        del self.sharding.sessions[self.connection.fd]
        self.sharding.loop.forget(self.connection.fd)
        if self.connection.tls and reason != "client_reset":
            # TLS has a goodbye, which close() alone does not say.
            with contextlib.suppress(OSError):
                self.connection.sock.shutdown(socket.SHUT_WR)
        self.connection.sock.close()
        self.stop(_OVER)
        self.fast = False
        self.drop()
        if self.taker is not None:
            self.taker.lost()
            self.taker = None
        self.sharding.left(self, reason)


def by_first_key(command: Command) -> bool:
    """Whether its first argument is its only key."""
    return command.kind == "one" and (command.first, command.last, command.shape) == (1, 1, "")


_KINDS = {
    "one": Session._one,
    "fan": Session._fan,
    "every": Session._every,
    "local": Session._local,
    "pin": Session._hand_over,
    "blocking": Session._blocking,
    "pubsub": Session._hand_over,
    "refused": Session._refused,
}
