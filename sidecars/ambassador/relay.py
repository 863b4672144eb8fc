"""Bytes between two sockets: copied while they are few, spliced through a pipe, which copies none, while many come."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from typing import TYPE_CHECKING, Protocol

from sidecars.ambassador import descriptors
from sidecars.ambassador.loop import BOTH, GONE, HALF_CLOSED, WRITE, Loop

if TYPE_CHECKING:
    from sidecars.ambassador.secured import Secured

_SIZE = 65536
# One for all: what was read is sent at once, and what is not taken then is kept by itself.
_BUFFER = memoryview(bytearray(_SIZE))

_PIPE = 1024 * 1024  # the kernel's limit for a user without privileges
_MOST_PIPES = 48  # pages of a user's pipes are limited: to 64 MiB, by default
_ROUNDS = 16  # reads of one direction before others have their turn
_SPLICES = 4  # the same, through a pipe
_SPLICE = getattr(os, "splice", None)
_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)
_ENDING = HALF_CLOSED | GONE
_WRITABLE = WRITE | GONE


class Pipe:
    """A pipe that holds what is on its way between two sockets."""

    __slots__ = ("read", "write")

    def __init__(self) -> None:
        """Raise OSError when there is none to be had."""
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, _PIPE)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Give it back to the system."""
        os.close(self.read)
        os.close(self.write)


class Pipes:
    """The pipes of this process: few, since each is held only while it holds something."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []
        self._made = 0
        self._not_before = 0.0

    def take(self) -> Pipe | None:
        """Give an empty pipe; None where there is none to be had, and bytes are to be copied."""
        if self._free:
            return self._free.pop()
        if self._made >= _MOST_PIPES or time.monotonic() < self._not_before:
            return None
        try:
            pipe = Pipe()
        except OSError:
            self._not_before = time.monotonic() + 1
            return None
        if pipe.write >= descriptors.most():
            pipe.close()
            self._not_before = time.monotonic() + 1
            return None
        self._made += 1
        return pipe

    def give(self, pipe: Pipe, *, empty: bool = True) -> None:
        """Take one back; one that holds something still is of no use to others."""
        if empty:
            self._free.append(pipe)
        else:
            pipe.close()
            self._made -= 1


_PIPES = Pipes()


class Owner(Protocol):
    """Whom two flows belong to."""

    loop: Loop

    def over(self, flow: Flow, *, torn: bool, reset: bool) -> None:
        """Both directions are at their end; `flow` is the one whose source has ended first, or was torn down.

        reset  the other side has to learn that what it got is not all
        """


class Flow:
    """One direction: from a source to a sink, with another, its twin, back from that sink to that source.

    The descriptor of the source is watched for both directions: its handler is happened(). What the sink does not take
    is held, and nothing is read until it is gone: a buffer's worth, or a pipe's, whatever the source sends.
    """

    __slots__ = (
        "_bulky", "_held", "_pipe", "_piped", "_recv_into", "_send", "_sharp", "_spliced", "_torn", "_wary", "count",
        "ended", "fd", "owner", "sink", "twin", "waiting",
    )  # fmt: skip
    twin: Flow

    def __init__(
        self, owner: Owner, source: socket.socket | Secured, sink: socket.socket | Secured, fd: int, *, plain: bool
    ) -> None:
        self.owner = owner
        self.sink = sink
        self.fd = fd  # of the source
        self.count = 0  # bytes read
        self.ended = False  # the source has sent all, or what it sends is wanted no more
        self.waiting = False  # for the sink
        # A read that does not fill the buffer has emptied a TCP socket: what comes then is told anew. This does not
        # hold for TLS, which hands out single records, nor for unix sockets, where a read ends at passed descriptors.
        self._sharp = plain and source.family != socket.AF_UNIX  # type: ignore[union-attr]
        self._spliced = plain and _SPLICE is not None
        # TLS reads to write and writes to read: each event may let both go on.
        self._wary = not plain
        self._bulky = False
        self._torn = False
        self._held: memoryview | None = None
        self._pipe: Pipe | None = None
        self._piped = 0
        self._recv_into = source.recv_into
        self._send = sink.send

    def happened(self, event: int) -> None:
        """Move on what can be moved, after an event of the source's descriptor."""
        twin = self.twin
        if twin.waiting and (event & _WRITABLE or self._wary):
            twin.resume()
        if self.waiting:
            return
        if self.ended:
            if event & GONE and not twin.ended:
                twin._lose_sink()
        elif event != WRITE or self._wary:
            self.read(event)

    def read(self, event: int = _ENDING) -> None:  # noqa: C901  (the hot path: each call in it costs every message)
        """Read and send; until the source would block, unless the event says that it has no more to say."""
        if self._bulky and self._splice():
            return
        recv_into, send, rounds = self._recv_into, self._send, 0
        while rounds < _ROUNDS:
            rounds += 1
            try:
                count = recv_into(_BUFFER)
            except BlockingIOError:
                if self._torn:
                    self.owner.over(self, torn=True, reset=False)
                return
            except OSError:
                self.owner.over(self, torn=True, reset=True)
                return
            if not count:
                self._end()
                return
            self.count += count
            try:
                sent = send(_BUFFER[:count])
            except BlockingIOError:
                sent = 0
            except OSError:
                self._lose_sink()
                return
            if sent < count:
                self._held = memoryview(bytes(_BUFFER[sent:count]))
                self.waiting = True
                return
            if count < _SIZE:
                if self._sharp and not event & _ENDING:
                    return
            elif self._spliced and self._splice():
                return
        self._yield()

    def begin(self, before: bytes) -> None:
        """Send what was read of the source before, and then all."""
        self.count += len(before)
        if before:
            self._held = memoryview(before)
            self.waiting = True
            self.resume()
        else:
            self.read()

    def resume(self) -> None:
        """Send what is held, now that the sink may take it; then read on."""
        if self._held is not None:
            try:
                while self._held:
                    self._held = self._held[self._send(self._held) :]
            except BlockingIOError:
                return
            except OSError:
                self._lose_sink()
                return
            self._held = None
        elif self._drain():
            self._give_back()
            self._bulky = True
        else:
            return
        self.waiting = False
        self.read()

    def drop(self) -> None:
        """Let go of all that it holds, and do nothing any more."""
        self.ended = True
        self.waiting = False
        self._held = None
        if self._pipe is not None:
            _PIPES.give(self._pipe, empty=not self._piped)
            self._pipe = None

    def _splice(self) -> bool:  # noqa: C901  (the hot path of bulk)
        """Move bytes through a pipe until the source would block; False where that is not possible."""
        pipe = self._pipe = _PIPES.take()
        if pipe is None:
            self._bulky = False
            return False
        before, fd, write = self.count, self.fd, pipe.write
        for _ in range(_SPLICES):
            try:
                count = os.splice(fd, write, _PIPE, flags=_FLAGS)
            except BlockingIOError:
                # What came was worth it, or is not any more.
                self._bulky = self.count - before >= _SIZE
                self._give_back()
                if self._torn:
                    self.owner.over(self, torn=True, reset=False)
                return True
            except OSError as error:
                self._give_back()
                if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    self._spliced = self._bulky = False
                    return False
                self.owner.over(self, torn=True, reset=True)
                return True
            if not count:
                self._give_back()
                self._end()
                return True
            self.count += count
            self._piped = count
            if not self._drain():
                return True
        self._bulky = True
        self._give_back()
        self._yield()
        return True

    def _drain(self) -> bool:
        """Move what is in the pipe to the sink; False when it does not take all."""
        pipe = self._pipe
        assert pipe is not None  # noqa: S101  (who calls it holds one)
        sink = self.twin.fd
        try:
            while self._piped:
                self._piped -= os.splice(pipe.read, sink, self._piped, flags=_FLAGS)
        except BlockingIOError:
            self.waiting = True
            return False
        except OSError:
            self._lose_sink()
            return False
        return True

    def _give_back(self) -> None:
        if self._pipe is not None:
            _PIPES.give(self._pipe)
            self._pipe = None

    def _yield(self) -> None:
        """Let others have their turn: to watch it anew tells what there is to read in the next round."""
        self.owner.loop.change(self.fd, BOTH)
        if self._wary:
            # What TLS has decrypted is no news to the kernel.
            self.owner.loop.soon(self._go_on)

    def _go_on(self) -> None:
        if not self.ended and not self.waiting:
            self.read()

    def _end(self) -> None:
        """The source has sent all: tell the sink."""
        self.ended = True
        twin = self.twin
        if self._torn:
            self.owner.over(self, torn=True, reset=False)
        elif twin.ended:
            if self._wary:
                # TLS has a goodbye, which close() alone does not say.
                with contextlib.suppress(OSError):
                    self.sink.shutdown(socket.SHUT_WR)
            self.owner.over(twin, torn=False, reset=False)
        else:
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                pass
            except OSError:
                self._lose_sink()

    def _lose_sink(self) -> None:
        """The sink takes nothing any more; what it has sent before it was torn down is still to be passed on."""
        self.drop()
        twin = self.twin
        twin._torn = True
        if twin.ended:
            self.owner.over(twin, torn=True, reset=True)
        elif not twin.waiting:
            twin.read()
