"""The sending side of the forward protocol: chunks to Fluentd or Fluent Bit, each until it is acknowledged.

The door of fluent-logger.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

import msgpack
from fluent.sender import FluentSender

from sidecars.core import failures, tls
from sidecars.core.errors import DeliveryFailed
from sidecars.core.failures import Code, code_of
from sidecars.core.forward.handshake import Handshake, read_helo, shown
from sidecars.core.forward.packing import Chunk
from sidecars.core.forward.settings import Forward
from sidecars.core.forward.window import Window
from sidecars.core.units import Seconds

HINTS = {**failures.HINTS, "closed": "its log says why; does it ask for TLS or a shared key?"}


class ForwardSender(FluentSender):  # type: ignore[misc]  # fluent-logger comes without types
    """A connection to a receiver, and the chunks that it has not acknowledged yet.

    fluent-logger's sender writes and forgets: it asks for no acknowledgement, keeps what failed in `pendings` until
    that is dropped, returns False for an error, and knows neither IPv6 nor TLS nor shared keys. Here a chunk is held
    until it is acknowledged; a failure closes the connection and raises DeliveryFailed; and whatever is called next
    connects anew and sends again what is held, in its order. So a receiver gets each chunk at least once.

        sender.send(chunk)                   # up to `window` chunks may be under way
        for name in sender.acknowledged():   # in the order of sending
            ...

    It blocks, and is used by one thread at a time. Nothing in it waits longer than the destination's timeouts say, but
    for the system's resolver, which has its own (resolv.conf).
    """

    def __init__(self, destination: Forward, *, hostname: str | None = None) -> None:
        super().__init__(destination.tag, destination.host, destination.port, timeout=destination.connect_timeout)
        self.destination = destination
        self._hostname = hostname or socket.gethostname()
        self._keepalive = destination.keepalive
        self._window = Window()
        self._heard_at = 0.0

    @property
    def unacknowledged(self) -> tuple[Chunk, ...]:
        """The chunks held, in the order of sending."""
        return tuple(self._window.held.values())

    @property
    def full(self) -> bool:
        """As many chunks are under way as may be: `acknowledged` comes before the next `send`."""
        return len(self._window.held) >= self._capacity

    def send(self, chunk: Chunk) -> None:
        """Hold a chunk until it is acknowledged, and send what is held.

        It is held even when DeliveryFailed is raised: after a pause call this with the same chunk, or `acknowledged`.
        """
        if self.full and chunk.id not in self._window.held:
            raise ValueError("the window is full: take acknowledged() before the next send()")
        self._window.held[chunk.id] = chunk
        self._send_held()

    def acknowledged(self, wait: float | None = None) -> list[str]:
        """Let go of the chunks that are acknowledged together with all before them, and name them in that order.

        Waits at most so many seconds for the first; without a number, until one comes or DeliveryFailed says why not.
        """
        until = None if wait is None else time.monotonic() + wait
        self._send_held()
        while not (done := self._window.let_go()) and self._window.held and self._hear(until):
            self._send_held()
        if done and not self._keepalive:
            self._close()
        return done

    def close(self) -> None:
        """Close the connection. What is held stays held, for the next connection."""
        self._close()

    @property
    def _capacity(self) -> int:
        return self.destination.window if self._keepalive else 1

    def _send_held(self) -> None:
        for each in self._window.unsent():
            # Asked for each: only the handshake tells whether the receiver keeps connections alive.
            if self._window.waiting >= self._capacity:
                break
            self._send_internal(each.message)
            if not self._window.waiting:
                self._heard_at = time.monotonic()
            self._window.sent(each)

    def _hear(self, until: float | None) -> bool:
        """Wait for answers; False when none came until then."""
        patience = self._heard_at + self.destination.ack_timeout
        end = patience if until is None else min(patience, until)
        with self._phase("closed", "no acknowledgement from", self.destination.ack_timeout):
            heard = self._listen(end - time.monotonic())
            if not heard and time.monotonic() >= patience:
                raise TimeoutError
        return heard or until is None or time.monotonic() < until

    def _listen(self, seconds: float) -> bool:
        heard = self._receive(seconds)
        for answer in self._messages():
            self._take(answer)
        return heard

    def _take(self, answer: object) -> None:
        match answer:
            case {b"ack": bytes(name)} if self._window.acknowledge(name.decode(errors="replace")):
                self._heard_at = time.monotonic()
            case {b"ack": name}:
                raise DeliveryFailed("wrong_ack", f"it was for {shown(name)}; does a proxy mix up connections?")
            case [b"HELO", *_]:
                raise DeliveryFailed("auth", "it asks for a shared key; give --forward-key-file")
            case None:
                pass  # a heartbeat
            case _:
                raise DeliveryFailed("protocol", f"it answered {shown(answer)}; is it a forward receiver, without TLS?")

    # From here on: the parent's hooks, doing otherwise.

    def _send_internal(self, bytes_: bytes) -> bool:
        with self._phase("closed", "cannot send to", self.destination.ack_timeout):
            self._check_recv_side()
        if not self.socket:
            self._reconnect()
        with self._phase("closed", "cannot send to", self.destination.ack_timeout):
            self._send_data(bytes_)
        return True

    def _check_recv_side(self) -> None:
        """Hear what came meanwhile. A connection that was closed while nothing was under way has not failed."""
        try:
            while self.socket and self._listen(0):
                pass
        except OSError:
            if self._window.waiting:
                raise
            self._close()

    def _send_data(self, bytes_: bytes) -> None:
        self.socket.settimeout(self.destination.ack_timeout)
        rest = memoryview(bytes_)
        # Not sendall: its timeout is for the whole message, and a receiver that reads slowly has not failed.
        while rest:
            rest = rest[self.socket.send(rest) :]

    def _reconnect(self) -> None:
        self._unpacker = msgpack.Unpacker(raw=True, max_buffer_size=1024 * 1024)
        with self._phase("connect", "cannot connect to", self.destination.connect_timeout):
            self.socket = self._connected()
        if self.destination.tls:
            with self._phase("tls", "cannot speak TLS with", self.destination.connect_timeout):
                name = self.destination.server_name or self.host
                self.socket = self._tls().wrap_socket(self.socket, server_hostname=name)
        if self.destination.key:
            with self._phase("closed", "no handshake with", self.destination.connect_timeout):
                self._shake_hands(self.destination.key.reveal())

    def _tls(self) -> ssl.SSLContext:
        to = self.destination
        return tls.context(ca=to.ca, cert=to.cert, cert_key=to.cert_key, verify=to.verify)

    def _close(self) -> None:
        super()._close()
        self._window.disconnected()

    def _connected(self) -> socket.socket:
        if not self.host.startswith("unix://"):
            connection = socket.create_connection((self.host, self.port), self.timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        with contextlib.ExitStack() as failing:
            connection = failing.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(self.timeout)
            connection.connect(self.host.removeprefix("unix://"))
            failing.pop_all()
        return connection

    def _shake_hands(self, key: str) -> None:
        deadline = time.monotonic() + self.destination.connect_timeout
        helo = read_helo(self._next_message(deadline))
        self._keepalive = self.destination.keepalive and helo.keepalive
        handshake = Handshake(helo, key, self._hostname)
        self.socket.sendall(handshake.ping(*self._user(asked=bool(helo.auth))))
        handshake.check(self._next_message(deadline))

    def _user(self, *, asked: bool) -> tuple[str, str]:
        """Give the user's name and password, where the receiver asks for them."""
        if not asked:
            return "", ""
        if self.destination.username is None or self.destination.password is None:
            raise DeliveryFailed("auth", "it asks for a user; give username and password_file")
        return self.destination.username, self.destination.password.reveal()

    def _next_message(self, deadline: float) -> object:
        while True:
            for each in self._messages():
                return each
            if not self._receive(deadline - time.monotonic()) and time.monotonic() >= deadline:
                raise TimeoutError

    def _receive(self, seconds: float) -> bool:
        """Read what comes within these seconds; False when nothing does, ConnectionError at the end."""
        self.socket.settimeout(max(0.0, seconds))
        try:
            data = self.socket.recv(64 * 1024)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            return False
        if not data:
            raise ConnectionResetError("it closed the connection")
        self._feed(data)
        return True

    def _feed(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
        except msgpack.BufferFull as error:
            raise DeliveryFailed("protocol", "its answer has no end; is it a forward receiver?") from error

    def _messages(self) -> Iterator[object]:
        try:
            yield from self._unpacker
        except (ValueError, msgpack.UnpackException) as error:
            raise DeliveryFailed("protocol", "its answer is not MessagePack; is it a forward receiver?") from error

    @contextlib.contextmanager
    def _phase(self, code: Code, action: str, timeout: Seconds) -> Iterator[None]:
        """Close the connection on any failure; say what was being done, with whom, and what to do about it."""
        try:
            yield
        except DeliveryFailed as failure:
            self._close()
            raise DeliveryFailed(failure.code, f"{action} {self.destination}: {failure}") from failure
        except OSError as error:
            self._close()
            code = code_of(error, code)
            reason = f"nothing within {timeout}" if code == "timeout" else error.strerror or error
            raise DeliveryFailed(code, f"{action} {self.destination}: {reason}; {HINTS[code]}") from error
        except BaseException:
            self._close()
            raise
