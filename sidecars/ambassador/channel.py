"""What the parent and a worker say to each other: messages, and open sockets beside them."""

from __future__ import annotations

import array
import asyncio
import os
import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from sidecars.ambassador.plan import Counted, Plan
from sidecars.core.declaration import Provenance

_HEAD = struct.Struct("<QI")  # bytes of the pickle, and how many descriptors come with it
_AT_ONCE = 250  # descriptors; the kernel takes 253
_PIECE = 1 << 16
_DESCRIPTOR = array.array("i").itemsize


class Setup(NamedTuple):
    """To a worker, at first, with the descriptor of the limits that all share: who it is."""

    worker: int
    processes: int
    access_log: str | None
    log_level: str
    log_format: Literal["json", "text"] | None
    provenance: Provenance


class Apply(NamedTuple):
    """To a worker: the plan, and of which routes new sockets come with it, how many of each."""

    plan: Plan
    sockets: dict[str, int]


class Drain(NamedTuple):
    """To a worker: let what is open come to its end; see Plane.drain()."""

    close_listeners: bool
    finish: bool


class Ask(NamedTuple):
    """To a worker: report."""

    number: int


class Reopen(NamedTuple):
    """To a worker: open the access log anew."""


class Report(NamedTuple):
    """From a worker, once it can carry, and whenever it is asked; what it tells is as Plane has it."""

    number: int
    connections: int
    counted: Counted
    shown: list[dict[str, object]]
    refusals: Sequence[dict[str, object]] = ()


class Channel:
    """One end of a socket pair. Call it on the event loop; nothing waits.

    take  is called with each message, and the descriptors that came with it
    gone  is called once, when the other end is gone
    sent  is called when nothing is left to be sent, after there was
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[object, list[int]], None],
        gone: Callable[[], None],
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._take = take
        self._gone = gone
        self._sent = sent
        self._in = bytearray()
        self._descriptors: deque[int] = deque()
        self._out: deque[tuple[memoryview, list[int]]] = deque()
        self._loop = asyncio.get_event_loop()
        self._loop.add_reader(sock, self._read)
        self.waiting = 0  # bytes that the other end has not taken yet

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message; the descriptors may be closed afterwards."""
        if self._sock.fileno() < 0:
            return
        text = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        data = memoryview(_HEAD.pack(len(text), len(descriptors)) + text)
        kept = [os.dup(each) for each in descriptors]
        idle = not self._out
        self.waiting += len(data)
        # Each lot of descriptors goes with at least a byte.
        for first in range(_AT_ONCE, len(kept), _AT_ONCE):
            self._out.append((data[:1], kept[first - _AT_ONCE : first]))
            data = data[1:]
        self._out.append((data, kept[(len(kept) - 1) // _AT_ONCE * _AT_ONCE :] if kept else []))
        if idle:
            self._write()

    def close(self) -> None:
        """Say nothing more, and hear nothing more."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _, descriptors in self._out:
            _close(descriptors)
        _close(self._descriptors)
        self._out.clear()

    def _write(self) -> None:
        try:
            while self._out:
                data, descriptors = self._out[0]
                count = self._sock.sendmsg([data], _ancillary(descriptors))
                _close(descriptors)
                self.waiting -= count
                if count == len(data):
                    self._out.popleft()
                else:
                    self._out[0] = (data[count:], [])
        except BlockingIOError:
            self._loop.add_writer(self._sock, self._write)
            return
        except OSError:
            self._lost()
            return
        self._loop.remove_writer(self._sock)
        self._sent()

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_PIECE, socket.CMSG_SPACE(_AT_ONCE * _DESCRIPTOR))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors.extend(array.array("i", content[: len(content) // _DESCRIPTOR * _DESCRIPTOR]))
        self._in += data
        if not data:
            self._lost()
            return
        while self._sock.fileno() >= 0 and (message := self._next()):
            self._take(*message)

    def _next(self) -> tuple[object, list[int]] | None:
        if len(self._in) < _HEAD.size:
            return None
        length, count = _HEAD.unpack_from(self._in)
        end = _HEAD.size + length
        if len(self._in) < end:
            return None
        message = pickle.loads(self._in[_HEAD.size : end])  # noqa: S301  (a parent and its own child)
        del self._in[:end]
        return message, [self._descriptors.popleft() for _ in range(count)]

    def _lost(self) -> None:
        if self._sock.fileno() >= 0:
            self.close()
            self._gone()


def _ancillary(descriptors: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []


def _close(descriptors: Sequence[int] | deque[int]) -> None:
    for each in descriptors:
        os.close(each)
