"""One connection to a shard: dialled, logged in, and then bytes both ways."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.ambassador.dialling import Dial, Dialled, Failed, dial
from sidecars.ambassador.loop import GONE, HALF_CLOSED, WRITE
from sidecars.ambassador.redis.reading import Malformed, encoded, follow
from sidecars.core.errors import WrongSettings

if TYPE_CHECKING:
    from sidecars.ambassador.plan import Endpoint
    from sidecars.ambassador.redis.shard import Shard
    from sidecars.ambassador.secured import Secured

_PIECE = 256 * 1024  # bytes read at once
_ROUNDS = 8  # reads of one connection before others have their turn
_INET = (socket.AF_INET, socket.AF_INET6)


class Link:
    """A connection to a shard.

    Whoever needs one makes a subclass: opened(), received(), drained() and failed() say what becomes of it. What
    is given to send() goes out at the end of the round of events, all of it at once; before the connection stands
    it is kept. A closed one can be opened again.

    endpoint  what it is connected to, or being connected to; None while it is closed
    queued    bytes given to send(), of all time, and of them
    sent      those that the kernel has taken

    After a failure `stood` is whether it had been usable, `written` is what `sent` was then, and `unwritten` the bytes
    from there on.
    """

    __slots__ = (
        "_begun", "_expected", "_greeting", "_login", "_recv", "_send", "_sharp", "dial", "dirty", "endpoint", "fd",
        "out", "paused", "protocol", "queued", "rest", "sent", "shard", "sharding", "sock", "stands", "stood", "unread",
        "unwritten", "written",
    )  # fmt: skip
    _recv: Callable[[int], bytes]
    _send: Callable[..., int]

    def __init__(self, shard: Shard, protocol: int) -> None:
        self.shard = shard
        self.sharding = shard.sharding
        self.protocol = protocol
        self.endpoint: Endpoint | None = None
        self.dial: Dial | None = None
        self.sock: socket.socket | Secured | None = None
        self.fd = -1
        self.stands = False
        self.paused = False
        self.unread = False
        self.dirty = False
        self.out: list[bytes] = []
        self.rest: memoryview | None = None
        self.queued = self.sent = 0
        self.stood = False
        self.written, self.unwritten = 0, b""
        self._greeting = self._login = False
        self._begun = b""
        self._expected = 0
        self._sharp = False

    # What a subclass says.

    def opened(self) -> None:
        """It stands: it is connected and logged in."""

    def received(self, data: bytes) -> None:
        """Take what the shard has sent."""

    def drained(self) -> None:
        """All that was given is written."""

    def failed(self, reason: str, detail: str) -> None:
        """See that it is closed, and not by close(). The outcome is told already."""

    def check(self, now: float, timeout: float, stall: float) -> None:
        """Fail, if what is waited for takes too long; called a few times a second."""

    # What is done with it.

    @property
    def backlog(self) -> int:
        """How many bytes wait to be written."""
        return self.queued - self.sent

    def open(self) -> None:
        """Dial the shard's address, unless it is done or there is none."""
        if self.endpoint is not None or (endpoint := self.shard.endpoint) is None:
            return
        self.endpoint = endpoint
        self.shard.links.add(self)
        sharding = self.sharding
        self.dial = dial(
            sharding.plane, endpoint, self.shard.upstream, sharding.dial_timeout, self._dialled, None,
            route=sharding.route.id,
        )  # fmt: skip

    def send(self, data: bytes) -> None:
        """Write it at the end of this round."""
        self.out.append(data)
        self.queued += len(data)
        if not self.dirty:
            self.dirty = True
            self.sharding.to_flush(self)

    def pause(self) -> None:
        """Read no more for now."""
        self.paused = True

    def resume(self) -> None:
        """Read again."""
        if self.paused:
            self.paused = False
            if self.unread:
                self.sharding.to_read(self)

    def close(self) -> None:
        """End it; failed() is not called."""
        self._let_go()

    def fail(self, reason: str, detail: str, *, told: bool = False) -> None:
        """End it because of what has happened; the outcome is told, unless it is already."""
        endpoint = self.endpoint
        if not told and endpoint is not None:
            self.shard.tell(endpoint, reason, detail)
        waiting = [*([self.rest] if self.rest is not None and not self._greeting else ()), *self.out]
        self.stood, self.written, self.unwritten = self.stands, self.sent, b"".join(waiting)
        self._let_go()
        self.failed(reason, detail)

    def _let_go(self) -> None:
        if self.dial is not None:
            self.dial.cancel()
            self.dial = None
        if self.sock is not None:
            self.sharding.loop.forget(self.fd)
            self.sock.close()
            self.sock = None
        self.shard.links.discard(self)
        self.fd = -1
        self.endpoint = None
        self.stands = self.paused = self.unread = self._greeting = False
        self.rest = None
        self.out.clear()
        self.sent = self.queued

    # Events.

    def _dialled(self, outcome: Dialled | Failed) -> None:
        self.dial = None
        if not isinstance(outcome, Dialled):
            self.fail(outcome.reason, outcome.detail, told=True)
            self.sharding.settle()
            return
        self.sock, self.fd = outcome.sock, outcome.fd
        # Of a TCP socket that gave less than was asked for, more is told anew; TLS gives single records.
        self._sharp = isinstance(self.sock, socket.SocketType) and self.sock.family in _INET
        self._recv, self._send = self.sock.recv, self.sock.send
        self.sharding.loop.hand_over(self.fd, self.happened)
        self._greet()
        if self.sock is not None and (outcome.events or not self._sharp):
            self.happened(outcome.events)
        self.sharding.settle()

    def _greet(self) -> None:
        """Log in and choose protocol and database, before anything else: it must not run as somebody else."""
        try:
            words = self.shard.greeting(self.protocol)
        except WrongSettings as error:
            self.fail("error", str(error), told=True)
            return
        if not words:
            self._stand()
            return
        self._greeting, self._expected, self._begun = True, len(words), b""
        self._login = self.sharding.settings.password is not None
        self.rest = memoryview(b"".join(map(encoded, words)))
        self._write_rest(counted=False)

    def _greeted(self, data: bytes) -> None:
        data = self._begun + data
        at = 0
        while self._expected:
            part = follow(data, at)
            if part.left:
                self._begun = data[at:]
                return
            if data[at] in b"-!":
                self.fail("error", self._refusal(data[at + 1 : part.at].decode(errors="replace").strip()))
                return
            self._login = False  # it comes first
            at = part.at
            self._expected -= 1
        self._greeting, self._begun = False, b""
        self._stand()
        if at < len(data):
            self.received(data[at:])

    def _refusal(self, text: str) -> str:
        """Give what a shard says to the greeting; to a login the first word: Redis 5 quotes HELLO, password and all."""
        if not self._login:
            return text
        code = text.partition(" ")[0]
        return f"the shard refuses the login: {code if code.isalpha() and len(code) < 32 else 'an error'}"

    def _stand(self) -> None:
        self.stands = True
        self.opened()
        self.flush()

    def happened(self, event: int) -> None:
        """Read and write what can be."""
        if self.rest is not None and (event & WRITE or not self._sharp):
            self._write_rest(counted=not self._greeting)
        if self.paused:
            self.unread = True
            return
        if event != WRITE or not self._sharp:
            self.read(event)

    def read(self, event: int = HALF_CLOSED) -> None:  # noqa: C901  (the hot path: a call in it is paid for by each read)
        """Read until there is nothing more for now."""
        self.unread = False
        for _ in range(_ROUNDS):
            if self.sock is None:
                return
            try:
                data = self._recv(_PIECE)
            except BlockingIOError:
                return
            except OSError as error:
                self.fail("reset", error.strerror or "Connection reset by peer")
                return
            if not data:
                self._ended()
                return
            try:
                if self._greeting:
                    self._greeted(data)
                else:
                    self.received(data)
            except Malformed as error:
                self.fail("error", f"not the Redis protocol: {error}")
                return
            if self.paused:
                self.unread = True
                return
            if self._sharp and len(data) < _PIECE and not event & (HALF_CLOSED | GONE):
                return
        self.sharding.to_read(self)

    def _ended(self) -> None:
        """End as the shard does; a subclass that waits for nothing may take it for no failure."""
        self.fail("eof", "Connection reset by peer")

    def flush(self) -> None:
        """Write what was given since the last round."""
        self.dirty = False
        self.write()
        if self.stands and self.rest is None:
            self.drained()

    def write(self) -> None:
        """Write what was given and is not written."""
        out = self.out
        if not out or not self.stands or self.rest is not None:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        try:
            count = self._send(data)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self.rest = memoryview(data)
            self.fail("reset", error.strerror or "Connection reset by peer")
            return
        self.sent += count
        self.shard.request_bytes += count
        if count < len(data):
            self.rest = memoryview(data)[count:]

    def _write_rest(self, *, counted: bool) -> None:
        while self.rest is not None:
            try:
                count = self._send(self.rest)
            except BlockingIOError:
                return
            except OSError as error:
                self.fail("reset", error.strerror or "Connection reset by peer")
                return
            if counted:
                self.sent += count
                self.shard.request_bytes += count
            if count < len(self.rest):
                self.rest = self.rest[count:]
                continue
            self.rest = None
            self.write()
        if self.stands and counted:
            self.drained()
