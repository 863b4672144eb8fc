"""Syslog from the network and from /dev/log: by UDP, TCP and unix datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import Protocol

from sidecars.adapter import metrics
from sidecars.adapter.inputs.framing import Framing, flat
from sidecars.adapter.inputs.queue import Queue
from sidecars.adapter.inputs.readiness import Drained, Readiness
from sidecars.adapter.inputs.sockets import enlarge, inet_socket, naming, shown, unix_socket
from sidecars.core.errors import WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import Address

ORIGIN = "syslog"
_LARGEST_DATAGRAM = 256 << 10
_AT_ONCE = 512  # datagrams, before others on the event loop have their turn
_LAST_LOOKS = 64
_READ_BYTES = 64 << 10
MOST_CONNECTIONS = 256
# Messages that have not ended, of all connections together: beyond it those that grow are cut.
_MOST_UNFINISHED = 8 << 20
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_DROPPED_AGAIN_SECONDS = 60.0


class Listener(Protocol):
    """One --syslog."""

    address: str

    def open(self) -> None:
        """Listen. Raises WrongSettings."""

    async def run(self) -> None:
        """Take messages until the drain."""

    def close(self) -> None:
        """Listen no more."""


def listener(url: str, queue: Queue, readiness: Readiness) -> Listener:
    """Make what listens at a --syslog. Raises WrongSettings."""
    return Tcp(url, queue, readiness) if scheme(url) == "tcp" else Datagrams(url, queue, readiness)


def scheme(url: str) -> str:
    """Give the scheme of a --syslog: udp, tcp or unix. Raises WrongSettings."""
    name, _, rest = url.partition("://")
    if name == "unix" and rest.startswith("/") and len(rest) > 1:
        return name
    with contextlib.suppress(ValueError):
        if name in ("udp", "tcp") and Address(rest):
            return name
    raise WrongSettings(f"--syslog is {url!r}, expected udp://:5514, tcp://:5514 or unix:///PATH")


class Datagrams:
    """A UDP or a unix socket: each datagram is a record.

    Its senders do not wait. What comes while the queue is full is dropped and counted; what the kernel drops, while
    this process is slower than the sender for longer than the socket's buffer lasts, nobody tells.
    """

    def __init__(self, url: str, queue: Queue, readiness: Readiness) -> None:
        self._url = url
        self._queue = queue
        self._readiness = readiness
        self._buffer = bytearray(_LARGEST_DATAGRAM)
        self._dropped = metrics.DROPPED_RECORDS.labels(ORIGIN)
        self._complained = -_DROPPED_AGAIN_SECONDS
        self._socket: socket.socket
        self.address = url

    def open(self) -> None:
        """Listen. Raises WrongSettings."""
        with naming(self._url):
            if self._url.startswith("unix:"):
                self._socket = unix_socket(self._url.removeprefix("unix://"))
            else:
                self._socket = inet_socket(Address(self._url.removeprefix("udp://")), socket.SOCK_DGRAM)
                self.address = shown("udp", self._socket)
        self._socket.setblocking(False)
        enlarge(self._socket)

    async def run(self) -> None:
        """Take datagrams until the drain."""
        with contextlib.suppress(Drained):
            while True:
                await self._readiness.wait(self._socket.fileno())
                self.take()

    def take(self) -> bool:
        """Take what has come; False when that was nothing."""
        lines = []
        with memoryview(self._buffer) as view:
            for _ in range(_AT_ONCE):
                try:
                    size = self._socket.recv_into(view)
                except BlockingIOError:
                    break
                except OSError:  # an ICMP error for what was never sent from here
                    continue
                lines.append(flat(bytes(view[:size])))
        data = b"".join(lines)
        if data and not self._queue.offer(ORIGIN, data):
            self._drop(sum(not self._queue.offer(ORIGIN, line) for line in lines))
        return bool(lines)

    def _drop(self, count: int) -> None:
        self._dropped.inc(count)
        now = asyncio.get_running_loop().time()
        if now - self._complained >= _DROPPED_AGAIN_SECONDS:
            self._complained = now
            advice = "an output is slower than the senders; raise --queue-limit, or let them send by tcp, which waits"
            log.warning("syslog records dropped", address=self.address, records=count, advice=advice)

    def close(self) -> None:
        """Listen no more; what the kernel holds is taken first."""
        for _ in range(_LAST_LOOKS):
            if not self.take():
                break
        self._socket.close()
        if self._url.startswith("unix:"):
            with contextlib.suppress(OSError):
                os.unlink(self._url.removeprefix("unix://"))


class Connection:
    """A TCP connection that sends syslog.

    framing   what of a message has come
    waiting   messages that the queue has no room for yet
    """

    def __init__(self, connection: socket.socket) -> None:
        self.framing = Framing()
        self.waiting = b""
        self.task: asyncio.Task[None]
        self._socket = connection
        connection.setblocking(False)

    def keep_alive(self) -> None:
        """Let the kernel find out whether the other end has vanished."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    async def read(self, readiness: Readiness) -> bytes:
        """Give what comes next; nothing at the end, however it came. Raises Drained."""
        while True:
            await readiness.wait(self._socket.fileno())
            try:
                return self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    async def put(self, queue: Queue, data: bytes) -> None:
        """Give messages to the queue, as soon as it has room."""
        self.waiting = data
        await queue.put(ORIGIN, data)
        self.waiting = b""

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Tcp:
    """A TCP socket, whose connections are read no further while the queue is full.

    At most 256 connections are open: a further one takes the place of the one that was quiet for longest. Peers that
    have vanished are found by TCP's keepalive.
    """

    def __init__(self, url: str, queue: Queue, readiness: Readiness) -> None:
        self._url = url
        self._queue = queue
        self._readiness = readiness
        self._socket: socket.socket
        # In the order in which something came last.
        self._connections: dict[Connection, None] = {}
        self._unfinished = 0
        self.address = url

    def open(self) -> None:
        """Listen. Raises WrongSettings."""
        with naming(self._url):
            self._socket = inet_socket(Address(self._url.removeprefix("tcp://")), socket.SOCK_STREAM)
            self._socket.listen(128)
        self._socket.setblocking(False)
        self.address = shown("tcp", self._socket)
        metrics.CONNECTIONS.set_function(lambda: len(self._connections))

    async def run(self) -> None:
        """Take messages until the drain."""
        async with asyncio.TaskGroup() as tasks:
            with contextlib.suppress(Drained):
                while True:
                    await self._readiness.wait(self._socket.fileno())
                    await self._accept(tasks)

    async def _accept(self, tasks: asyncio.TaskGroup) -> None:
        try:
            accepted, _ = self._socket.accept()
        except OSError as error:
            # Out of descriptors: the client waits, as the loop does not. Else the client has gone again.
            await asyncio.sleep(1.0 if error.errno in (errno.EMFILE, errno.ENFILE) else 0.0)
            return
        if len(self._connections) >= MOST_CONNECTIONS and not self._make_room():
            accepted.close()
            return
        connection = Connection(accepted)
        self._connections[connection] = None
        connection.task = tasks.create_task(self._serve(connection))

    def _make_room(self) -> bool:
        """Hang up on the quietest connection that does not wait for the queue."""
        quiet = next((each for each in self._connections if not each.waiting), None)
        if quiet is None:
            return False
        self._queue.offer(ORIGIN, self._rest(quiet))
        # Its task hangs up: as long as that waits for the descriptor, no other connection may get the same.
        del self._connections[quiet]
        return quiet.task.cancel()

    async def _serve(self, connection: Connection) -> None:
        try:
            connection.keep_alive()
            with contextlib.suppress(Drained):
                while data := await connection.read(self._readiness):
                    self._connections[connection] = self._connections.pop(connection)
                    await connection.put(self._queue, self._taken(connection, data))
            await connection.put(self._queue, self._rest(connection))
        finally:
            self._let_go(connection)

    def _taken(self, connection: Connection, data: bytes) -> bytes:
        before = len(connection.framing)
        lines = connection.framing.take(data)
        self._unfinished += len(connection.framing) - before
        return lines + self._rest(connection) if self._unfinished > _MOST_UNFINISHED else lines

    def _rest(self, connection: Connection) -> bytes:
        self._unfinished -= len(connection.framing)
        return connection.framing.rest()

    def _let_go(self, connection: Connection) -> None:
        self._rest(connection)
        self._connections.pop(connection, None)
        connection.close()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
