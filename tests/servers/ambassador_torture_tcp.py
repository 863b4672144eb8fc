"""Clients and upstreams that check each byte between them, of connections of which many come to a bad end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 40.0  # seconds, in which each connection has come to its end, whatever has happened to it
_HEADER = struct.Struct("!4sQIIB")  # who it is, how much goes up and down, and what becomes of it
_MAGIC = b"ride"
_TRAILER = struct.Struct("!4sQ")
_PIECE = 16384
_LINGER_NOT = struct.pack("ii", 1, 0)

# What becomes of a connection: the upstream does the first half of them, the client the second.
WHOLE, DRIP, HASTY, RESET, SHORT, STALL, SLOW, ABORT, DEAF = range(9)
FATES = ("whole", "drip", "hasty", "reset", "short", "stall", "slow", "abort", "deaf")
WEIGHTS = (70, 3, 5, 5, 4, 1, 4, 5, 3)
BAD = (RESET, SHORT, STALL, ABORT, DEAF)


class Ledger:
    """What is known of the connections of a trial, and what was wrong.

    known     ever opened by a client
    opened    by a client, and not at its end
    arrived   at an upstream, ever
    excused   may end early: by its fate, or since something was done to what it went through
    received  all that its client has sent, by its upstream
    whole     to the end, for its client
    restless  until when one may fail that has not arrived, by the kind of a listener
    starved   until when anybody may meet a timeout: this machine had no time for the trial
    """

    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.known: set[int] = set()
        self.opened: set[int] = set()
        self.arrived: set[int] = set()
        self.excused: set[int] = set()
        self.restless: dict[str, float] = {}
        self.starved = 0.0
        self.received: set[int] = set()
        self.whole: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.wrong: list[str] = []

    def say(self, text: str) -> None:
        """Keep what is wrong."""
        self.wrong.append(text)

    def excuse_all(self) -> None:
        """Whatever is open may end: the process that carries it is killed."""
        self.excused |= self.opened

    def excuse_coming(self) -> None:
        """What has not arrived may never do so: who would have got it has let it go unread."""
        self.excused |= self.opened - self.arrived


class Noise:
    """The bytes of one direction of one connection, from its number."""

    def __init__(self, id: int, up: bool, size: int) -> None:
        self._dice = random.Random(2 * id + up)
        self._ahead = b""
        self.left = size

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            piece = self._dice.randbytes(_PIECE)[: self.left]
            self.left -= len(piece)
            yield piece

    def goes_on(self, data: bytes) -> bool:
        """Whether this is what follows."""
        while len(self._ahead) < len(data):
            self._ahead += self._dice.randbytes(_PIECE)
        same = self._ahead.startswith(data) and len(data) <= self.left
        self._ahead = self._ahead[len(data) :]
        self.left -= len(data)
        return same


def tear(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side gets a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()


def deafen(server: asyncio.Server) -> None:
    """Accept no more, and close the server once what it has accepted is connected.

    A server that is closed between the two leaves the socket to the garbage collector, up to Python 3.11.
    """
    loop = asyncio.get_running_loop()
    for sock in server.sockets:
        loop.remove_reader(sock)
    loop.call_soon(server.close)


class Server:
    """An upstream.

    doomed   its connections may be closed by the ambassador, which has reasons to
    proxied  whom it gets begins with the PROXY protocol, version 2
    """

    def __init__(
        self, ledger: Ledger, host: str, port: int = 0, *, tls: ssl.SSLContext | None = None, proxied: bool = False
    ) -> None:
        self.ledger, self.host, self.port, self.tls, self.proxied = ledger, host, port, tls, proxied
        self.doomed = False
        self._live: dict[asyncio.StreamWriter, int] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def excuse(self) -> None:
        """What is here may end early."""
        self.ledger.excused |= set(self._live.values())

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            deafen(self._server)

    def stop(self) -> None:
        """End as a process does that is killed."""
        self.close()
        self.excuse()
        self.ledger.excuse_coming()
        for writer in list(self._live):
            tear(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._live[writer] = 0
        try:
            await self._greet(reader, writer)
        except (OSError, asyncio.IncompleteReadError):  # its client is gone, or this server is
            self.ledger.counts["ended early, as the upstream saw it"] += 1
        finally:
            del self._live[writer]
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.proxied:
            head = await reader.readexactly(16)
            await reader.readexactly(int.from_bytes(head[14:]))
        magic, id, up, down, fate = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        ledger = self.ledger
        if magic != _MAGIC or id not in ledger.known:
            ledger.say(f"{id} arrived with {magic!r}: nobody has sent that")
        if id in ledger.arrived:
            ledger.say(f"{id} arrived twice")
        ledger.arrived.add(id)
        self._live[writer] = id
        if self.doomed:
            ledger.excused.add(id)
        taking = asyncio.create_task(self._take(reader, id, up))
        try:
            await self._give(writer, id, down, fate, taking)
        finally:
            taking.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await taking

    async def _take(self, reader: asyncio.StreamReader, id: int, up: int) -> None:
        """Check what comes from the client, to its end."""
        noise, ledger = Noise(id, True, up), self.ledger
        while noise.left:
            data = await reader.read(_PIECE)
            if not data:
                if id not in ledger.excused:
                    ledger.say(f"{id} ended in good order at its upstream, {noise.left} of {up} bytes before its end")
                return
            if not noise.goes_on(data):
                ledger.say(f"{id} brought other bytes to its upstream, {noise.left} before its end")
                return
            ledger.bytes += len(data)
        ledger.received.add(id)

    async def _give(
        self, writer: asyncio.StreamWriter, id: int, down: int, fate: int, taking: asyncio.Task[None]
    ) -> None:
        """Send the client its bytes, as far as its fate lets it."""
        await self._send(writer, id, down, fate)
        if fate == RESET:
            tear(writer)
        elif fate == STALL:
            await taking
            await asyncio.sleep(PATIENCE)
        elif fate != SHORT:
            if fate != HASTY:
                await taking
            writer.write(_TRAILER.pack(_MAGIC, id))
            if writer.can_write_eof():
                writer.write_eof()
            await writer.drain()
            await taking

    async def _send(self, writer: asyncio.StreamWriter, id: int, down: int, fate: int) -> None:
        sent = 0
        for piece in Noise(id, False, down):
            if fate in (RESET, SHORT, STALL) and sent >= down // 2:
                break
            for part in _parts(piece, 1000 if fate == DRIP else _PIECE):
                writer.write(part)
                await writer.drain()
                if fate == DRIP:
                    await asyncio.sleep(0.002)
            sent += len(piece)


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


class Client:
    """One who connects again and again; `kind` is the listener's, `connect` gives a connection."""

    def __init__(self, ledger: Ledger, dice: random.Random, kind: str, connect: Callable[[], Any]) -> None:
        self.ledger, self.dice, self.kind, self.connect = ledger, dice, kind, connect

    async def run(self, over: asyncio.Event, calm: bool) -> None:
        """Go on until it is over; while it is calm nothing ends early."""
        await asyncio.sleep(self.dice.random() * 0.3)  # not all at the same moment
        while not over.is_set():
            id = next(self.ledger.ids)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.ride(id, 0 if calm else self.dice.choices(range(9), WEIGHTS)[0])
            except TimeoutError:
                self.ledger.say(f"{id} hangs ({self.kind})")
            finally:
                self.ledger.opened.discard(id)
            await asyncio.sleep(self.dice.random() * 0.05)

    async def ride(self, id: int, fate: int) -> None:
        """Make one connection, to its end."""
        ledger, dice = self.ledger, self.dice
        up, down = (dice.choice((0, 10, 3000, dice.randrange(60_000), dice.randrange(400_000))) for _ in range(2))
        if fate in BAD:
            up, down = up + 100_000, down + 100_000
            ledger.excused.add(id)
        if fate == DRIP:
            down = min(down, 30_000)  # each piece of it takes a round of this process, which has others
        elif dice.random() < 0.01:
            down += 3_000_000
        ledger.known.add(id)
        ledger.opened.add(id)
        since = time.monotonic()
        writer, outcome = None, "reset"
        try:
            reader, writer = await self.connect()
            outcome = await self._talk(reader, writer, id, up, down, fate)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if writer is not None:
                writer.close() if outcome == "whole" else tear(writer)
        if outcome == "whole":
            ledger.whole.add(id)
        ledger.counts[outcome] += 1
        ledger.counts[f"{FATES[fate]}: {outcome}"] += 1
        if outcome in ("cut", "reset") and id not in ledger.excused:
            self._blame(id, f"{FATES[fate]} {outcome}", since)

    def _blame(self, id: int, outcome: str, since: float) -> None:
        if id in self.ledger.arrived:
            self.ledger.say(f"{id} is {outcome} for no reason, after it has arrived ({self.kind})")
        elif since > self.ledger.restless.get(self.kind, 0):
            self.ledger.say(f"{id} is {outcome} for no reason, before it has arrived ({self.kind})")

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id: int, up: int, down: int, fate: int
    ) -> str:
        writer.write(_HEADER.pack(_MAGIC, id, up, down, fate))
        giving = asyncio.create_task(self._give(writer, id, up, fate))
        try:
            if fate == DEAF:
                await asyncio.sleep(0.4)
                return "left"
            outcome = await self._take(reader, id, down, fate)
            if outcome == "whole":
                await giving
            return outcome
        finally:
            giving.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await giving

    async def _give(self, writer: asyncio.StreamWriter, id: int, up: int, fate: int) -> None:
        sent = 0
        for piece in Noise(id, True, up):
            if fate == ABORT and sent >= up // 2:
                tear(writer)
                return
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
        # A server of asyncio has no half-closed TLS: it would take the goodbye for the end of all.
        if writer.can_write_eof() and self.kind != "secure":
            writer.write_eof()

    async def _take(self, reader: asyncio.StreamReader, id: int, down: int, fate: int) -> str:
        """Check what comes, to its end: "whole", "cut" in good order, or "wrong"; OSError where it is torn."""
        noise, ledger = Noise(id, False, down), self.ledger
        while True:
            data = await reader.read(min(_PIECE, noise.left or _TRAILER.size))
            if not data:
                return "cut"
            if not noise.left:
                break
            if not noise.goes_on(data):
                ledger.say(f"{id} got other bytes, {noise.left} before the end ({self.kind})")
                return "wrong"
            ledger.bytes += len(data)
            if fate == SLOW:
                await asyncio.sleep(0.01)
        return await self._end(reader, id, data)

    async def _end(self, reader: asyncio.StreamReader, id: int, data: bytes) -> str:
        """Check that what follows is the trailer, and nothing more; some of it may be there."""
        ledger, trailer = self.ledger, _TRAILER.pack(_MAGIC, id)
        while len(data) < len(trailer) and (more := await reader.read(len(trailer) - len(data))):
            data += more
        if data != trailer[: len(data)]:
            ledger.say(f"{id} got {data!r} at the end ({self.kind})")
            return "wrong"
        if len(data) < len(trailer):
            return "cut"
        if after := await reader.read(1):
            ledger.say(f"{id} got {after!r} after the end ({self.kind})")
            return "wrong"
        return "whole"
