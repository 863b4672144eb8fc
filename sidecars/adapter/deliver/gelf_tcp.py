"""GELF over TCP: messages in a stream, each ended by a NUL."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import sys
import termios
from collections.abc import AsyncIterator

from sidecars.adapter.deliver.metrics import Delivered
from sidecars.adapter.deliver.pipeline import Pipeline
from sidecars.adapter.deliver.push import Push
from sidecars.adapter.deliver.specs import GelfTcp
from sidecars.adapter.portion import Portion
from sidecars.core import tls
from sidecars.core.errors import DeliveryFailed
from sidecars.core.failures import HINTS, Code, code_of
from sidecars.core.health import Health
from sidecars.core.units import Seconds

_PIECE_BYTES = 64 << 10
# How long to wait between two looks at what the other side's kernel has not acknowledged yet: at first, and at most.
_FIRST_LOOK, _LONGEST_LOOK = 0.0005, 0.05


def push(name: str, to: GelfTcp, pipeline: Pipeline, delivered: Delivered, health: Health) -> Push[bytes]:
    """Make the output."""

    def encode(portion: Portion) -> list[bytes]:
        messages = pipeline.encode(portion)
        delivered.made(portion)
        return [b"".join([part for message in messages for part in (message, b"\0")])]

    return Push(name, encode, TcpSender(to), delivered, health)


class TcpSender:
    """A connection to a receiver of GELF.

    The protocol has no confirmation. What comes nearest is taken for one: the receiver's kernel has acknowledged every
    byte. A receiver that crashes loses what it had not read by then. When the connection is lost before that, the
    whole batch is sent again on a new one: a receiver gets each message at least once.
    """

    def __init__(self, to: GelfTcp) -> None:
        self._to = to
        self._writer: asyncio.StreamWriter | None = None
        self._ended: asyncio.Task[None] | None = None

    async def send(self, unit: bytes) -> None:
        """Send messages, and return when the other side has them; DeliveryFailed when the connection is lost."""
        if self._ended is not None and self._ended.done():
            self._drop()  # closed while nothing was under way: nothing has failed
        async with self._phase("connect", "cannot connect to", self._to.connect_timeout):
            async with asyncio.timeout(self._to.connect_timeout):
                writer, ended = await self._connection()
        async with self._phase("closed", "cannot send to", self._to.ack_timeout):
            await self._write(writer, ended, memoryview(unit))

    async def close(self) -> None:
        """Let go of the connection."""
        self._drop()

    async def _connection(self) -> tuple[asyncio.StreamWriter, asyncio.Task[None]]:
        if self._writer is None or self._ended is None:
            to, context = self._to, None
            if to.tls:
                context = await asyncio.to_thread(
                    lambda: tls.context(ca=to.ca, cert=to.cert, cert_key=to.cert_key, verify=to.verify)
                )
            reader, self._writer = await asyncio.open_connection(
                to.host, to.port, ssl=context, server_hostname=(to.server_name or to.host) if context else None
            )
            # Drained means written then: what waits is in the kernel, and it alone knows what the other side has.
            # Not 0: asyncio's TLS would take an empty buffer for one that is too full.
            self._writer.transport.set_write_buffer_limits(high=1, low=0)
            self._ended = asyncio.create_task(_end(reader))
        return self._writer, self._ended

    async def _write(self, writer: asyncio.StreamWriter, ended: asyncio.Task[None], rest: memoryview) -> None:
        while rest:
            # In pieces, for the timeout is for no progress, and a receiver that reads slowly has not failed.
            async with asyncio.timeout(self._to.ack_timeout):
                writer.write(rest[:_PIECE_BYTES])
                await writer.drain()
            rest = rest[_PIECE_BYTES:]
        await self._taken(writer, ended)
        if ended.done():
            raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")

    async def _taken(self, writer: asyncio.StreamWriter, ended: asyncio.Task[None]) -> None:
        """Wait until the other side's kernel has acknowledged what was sent, or the connection has ended."""
        loop = asyncio.get_running_loop()
        pause, left, moved_at = _FIRST_LOOK, -1, loop.time()
        # Below TLS asyncio may hold some bytes yet, which it gives to the kernel between two looks.
        clear, enough = 0, 2 if self._to.tls else 1
        while not ended.done():
            now_left = _unacknowledged(writer)
            clear = 0 if now_left else clear + 1
            if clear == enough:
                break
            if now_left != left:
                left, moved_at = now_left, loop.time()
            elif loop.time() - moved_at > self._to.ack_timeout:
                raise TimeoutError
            await asyncio.wait({ended}, timeout=pause)
            pause = min(_LONGEST_LOOK, pause * 2)

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        if self._ended is not None:
            self._ended.cancel()
        self._writer = self._ended = None

    @contextlib.asynccontextmanager
    async def _phase(self, code: Code, action: str, within: Seconds) -> AsyncIterator[None]:
        """Drop the connection on any failure; say what was being done, with whom, and what to do about it."""
        try:
            yield
        except OSError as error:
            self._drop()
            code = code_of(error, code)
            reason = f"nothing within {within}" if code == "timeout" else error.strerror or error
            raise DeliveryFailed(code, f"{action} {self._to}: {reason}; {HINTS[code]}") from error
        except BaseException:
            self._drop()
            raise


async def _end(reader: asyncio.StreamReader) -> None:
    """Return when the connection has ended; what a receiver says, GELF gives no meaning."""
    with contextlib.suppress(OSError):
        while await reader.read(_PIECE_BYTES):
            pass


def _unacknowledged(writer: asyncio.StreamWriter) -> int:
    """Ask how many bytes the other side's kernel has not acknowledged (SIOCOUTQ, which has TIOCOUTQ's number)."""
    if writer.transport.is_closing():
        raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")
    answer = fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)
