"""A connection inside TLS, used as a non-blocking socket is.

OpenSSL is given bytes rather than the socket (ssl.MemoryBIO). With the socket, half-close is not to be had: Python's
unwrap() says close_notify and in the same call waits for the other side's, and data on its way becomes an error. With
bytes we choose what OpenSSL sees. Edge-triggered readiness fits too: what the kernel has is always taken to the end,
in large pieces, and a caller that reads until BlockingIOError has emptied both the kernel and OpenSSL.
"""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import ssl
import time
from typing import Any

from sidecars.ambassador.loop import Deadline, Loop
from sidecars.ambassador.trust import words
from sidecars.core.log import log

_PIECE = 64 * 1024  # bytes read from the kernel at once
_WRITTEN = 64 * 1024  # bytes encrypted at once: they are held, encrypted, while the kernel does not take them
_AGAIN = 0.05  # seconds between two attempts to say close_notify to a full socket
_LINGER = 100  # such attempts after close()
_QUIET = 10.0  # seconds between two lines in the log about broken connections
_said = -math.inf  # when there was one


class Secured:
    """A TLS connection with the methods of a non-blocking socket.

    recv, recv_into and send raise BlockingIOError where a socket would, and ConnectionResetError when TLS is broken.
    Read until BlockingIOError or the end: OpenSSL may hold what no readiness will tell. After a send that would block,
    the same bytes are to be offered again, as one does with a socket: part of them is encrypted already.

    names      of the other side's certificate, when it was verified
    truncated  the end came without close_notify: the other side broke off, or somebody between us did

    close() says no goodbye, so that a broken connection is not taken for a whole one; shutdown(SHUT_WR) does.
    """

    __slots__ = (
        "_cipher", "_failure", "_held", "_in", "_lingering", "_loop", "_out", "_owed", "_ssl", "_tail", "_waiting",
        "names", "sock", "truncated",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, sock: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self.sock = sock
        self.names: tuple[str, ...] = ()
        self.truncated = False
        self._loop = loop
        self._ssl = tls
        self._in, self._out = incoming, outgoing
        self._held = b""  # decrypted, not yet read
        self._failure: OSError | None = None  # what to raise when all before it has been read
        self._cipher = b""  # encrypted, not yet taken by the kernel
        self._owed = 0  # bytes that are in there, and that no send() has said to be sent
        self._tail: int | None = None  # how the socket is to be shut down once close_notify has gone
        self._waiting: Deadline | None = None
        self._lingering = 0  # how often the goodbye is tried still, since close()

    def fileno(self) -> int:
        """Give the descriptor."""
        return self.sock.fileno()

    def getsockname(self) -> Any:
        """Give the address on our side."""
        return self.sock.getsockname()

    def getpeername(self) -> Any:
        """Give the address on the other side."""
        return self.sock.getpeername()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the socket."""
        self.sock.setsockopt(level, option, value)

    def recv(self, size: int) -> bytes:
        """Read up to so many bytes; empty: the other side has ended."""
        if self._held:
            held, self._held = self._held[:size], self._held[size:]
            return held
        return bytes(self._read(size) or b"")

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0) -> int:
        """Read into the buffer, which is filled when there is enough; 0: the other side has ended."""
        view = memoryview(buffer)[: nbytes or None]
        filled = min(len(self._held), len(view))
        if filled:
            view[:filled] = self._held[:filled]
            self._held = self._held[filled:]
        # A record has 16 KiB at most, and a caller's round costs more than ours.
        while filled < len(view):
            try:
                got = self._read(len(view) - filled, view[filled:])
            except OSError as error:
                if not filled:
                    raise
                if not isinstance(error, BlockingIOError):
                    self._failure = error  # the kernel says it once
                break
            if not got:
                break
            filled += got
        return filled

    def _read(self, *where: Any) -> Any:
        """Read from one record: bytes, or their number; something empty at the end."""
        if self._failure:
            raise self._failure
        if self.truncated:
            return 0
        while True:
            try:
                return self._ssl.read(*where)
            except ssl.SSLWantReadError:
                self._more()
            except ssl.SSLError as error:
                return self._ended(error)

    def _more(self) -> None:
        """Take what the kernel has; the end, too."""
        got = self.sock.recv(_PIECE)
        if got:
            self._in.write(got)
        else:
            self._in.write_eof()

    def _ended(self, error: ssl.SSLError) -> int:
        """Give the 0 of an end, or raise what breaks the connection."""
        if isinstance(error, ssl.SSLZeroReturnError):  # close_notify came, and ours went before
            return 0
        if isinstance(error, ssl.SSLEOFError):
            self.truncated = True
            return 0
        with contextlib.suppress(OSError):
            self._flush()  # the alert that says why
        self._failure = ConnectionResetError(errno.ECONNRESET, f"TLS: {words(error)}")
        self._say(words(error))
        raise self._failure from error

    def _say(self, what: str) -> None:
        """Log what broke a connection, for a mode only sees a reset: an upstream says that it wants a certificate here.

        What strangers can cause is said now and then.
        """
        global _said
        if time.monotonic() - _said >= _QUIET:
            _said = time.monotonic()
            with contextlib.suppress(OSError):
                log.warning("TLS connection broken", other_side=str(self.sock.getpeername()), error=what)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send a beginning of the data, and say how many bytes the kernel has taken.

        As with a socket it is less than all only when the kernel is full, so that it will tell when there is room.
        """
        view = memoryview(data)
        sent = 0
        try:
            while sent < len(view):
                if not self._owed:
                    # What a full kernel has refused before goes first: records have an order.
                    self._flush()
                    self._owed = self._encrypt(view[sent : sent + _WRITTEN])
                self._flush()
                taken = min(self._owed, len(view) - sent)
                self._owed -= taken
                sent += taken
        except BlockingIOError:
            if not sent:
                raise
        return sent

    def _encrypt(self, piece: memoryview) -> int:
        try:
            return self._ssl.write(piece)
        except ssl.SSLWantReadError:  # only within a handshake, and none happens after the first
            raise BlockingIOError(errno.EAGAIN, "TLS is busy") from None
        except ssl.SSLError as error:
            raise ConnectionResetError(errno.ECONNRESET, f"TLS: {words(error)}") from error

    def _flush(self) -> None:
        """Hand over what is encrypted; raises BlockingIOError while some of it is left."""
        if self._out.pending:
            self._cipher += self._out.read()
        while self._cipher:
            self._cipher = self._cipher[self.sock.send(self._cipher) :]

    def shutdown(self, how: int) -> None:
        """Say close_notify, and end the sending side of the socket; what the other side sends is still read.

        It never blocks. A full socket is tried again until the goodbye has gone, or the connection is closed.
        """
        if how == socket.SHUT_RD:
            self.sock.shutdown(how)
            return
        if self._tail is None:
            self._say_goodbye()
        self._tail = how
        self._finish()

    def _say_goodbye(self) -> None:
        # unwrap() looks for the other side's goodbye at once, and data there would be an error: see that it finds the
        # beginning of a record at most, which it leaves alone.
        if pending := self._ssl.pending():
            self._held += self._ssl.read(pending)
        kept = self._in.read()
        with contextlib.suppress(ssl.SSLError):
            self._ssl.unwrap()
        if kept:
            self._in.write(kept)

    def _finish(self) -> None:
        self._waiting = None
        try:
            self._flush()
        except BlockingIOError:
            if self._lingering != 1:
                self._lingering = max(0, self._lingering - 1)
                self._waiting = self._loop.later(_AGAIN, self._finish)
                return
        except OSError:
            pass
        if self._lingering:
            self.sock.close()
        elif self._tail is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(self._tail)

    def close(self) -> None:
        """Close the socket; when a goodbye waits still for room, once that has gone, or some seconds later."""
        if self._waiting:
            self._lingering = _LINGER
        else:
            self.sock.close()
