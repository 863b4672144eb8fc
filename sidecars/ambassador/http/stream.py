"""A socket as both sides of a request use it: what it cannot take now is held, and what is read is read to its end."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Socket
from sidecars.ambassador.loop import GONE, HALF_CLOSED, WRITE, Loop

if TYPE_CHECKING:
    from sidecars.ambassador.secured import Secured

ENDING = HALF_CLOSED | GONE
WRITABLE = WRITE | GONE
_LINGER_NOT = struct.pack("ii", 1, 0)


class Stream:
    """A connected socket, or Secured.

    held       what it has not taken yet
    readable   there may be something to read that no event will tell
    ending     the other side has said its last word, which may not be read yet
    torn       it has ended by a reset
    sharp      a read that does not fill the buffer has emptied the socket: not so with TLS and unix sockets
    received, sent  bytes
    """

    __slots__ = ("ending", "fd", "held", "loop", "readable", "received", "sent", "sharp", "sock", "torn")

    def __init__(self, loop: Loop, sock: socket.socket | Secured, fd: int) -> None:
        plain = isinstance(sock, Socket)
        self.loop = loop
        self.sock = sock
        self.fd = fd
        self.held: memoryview | None = None
        self.readable = not plain  # TLS may have decrypted something already
        self.ending = self.torn = False
        self.sharp = plain and sock.family != socket.AF_UNIX  # type: ignore[union-attr]
        self.received = self.sent = 0

    def receive(self, size: int) -> bytes | None:
        """Read; None when nothing is there now, and nothing at the end."""
        if not self.readable:
            return None
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            self.readable = False
            return None
        except OSError:
            self.torn = True
            return b""
        count = len(data)
        self.received += count
        if count < size and self.sharp and not self.ending:
            self.readable = False
        return data

    def send(self, data: bytes) -> bool:
        """Send; what is not taken is held. False when the other side takes nothing any more."""
        if self.held is not None:
            self.held = memoryview(bytes(self.held) + data)
            return True
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.broken()
            return False
        self.sent += sent
        if sent < len(data):
            self.hold(memoryview(data)[sent:])
        return True

    def hold(self, data: memoryview) -> None:
        """Keep what has not been taken: nothing more is read for it until it is."""
        self.held = memoryview(bytes(data))

    def flush(self) -> bool:
        """Send what is held; whether it has all been taken."""
        held = self.held
        try:
            while held:
                sent = self.sock.send(held)
                self.sent += sent
                held = held[sent:]
        except BlockingIOError:
            self.held = held
            return False
        except OSError:
            self.held = None
            self.broken()
            return False
        self.held = None
        return True

    def broken(self) -> None:
        """Learn that the other side takes nothing any more."""
        raise NotImplementedError

    def reset(self) -> None:
        """Have the other side get a reset when it is closed, so that it does not take what it got for all."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)

    def shut(self) -> None:
        """Close it now."""
        self.held = None
        self.readable = False
        self.loop.forget_closing(self.fd)
        self.sock.close()
