"""Connections to what is looked at: which of its addresses takes one, and why the others do not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sidecars.init.checks import Result, Unmet, explained, late
from sidecars.init.resolving import Address, lookup

if TYPE_CHECKING:
    import ssl

    from sidecars.init.target import Target

MOST_ADDRESSES = 8
BUFFER = 32 * 1024  # bytes: what is held of what the other end sends, at most twice this


class Streams(NamedTuple):
    """A connection; in an `except` or at the end of its block it is closed."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@contextlib.asynccontextmanager
async def connected(
    target: Target, patience: float, tls: ssl.SSLContext | None = None, server_name: str | None = None
) -> AsyncIterator[Streams]:
    """Connect to host and port of the target, by TLS when there is a context. Raises Unmet, or OSError of TLS."""
    sock = await dial(target.host, target.port, patience)
    async with _streams(sock, tls, (server_name or target.host).rstrip(".") if tls else None) as streams:
        yield streams


@contextlib.asynccontextmanager
async def connected_unix(path: str, patience: float) -> AsyncIterator[Streams]:
    """Connect to a socket in the filesystem. Raises Unmet."""
    silence = Unmet("filtered", "takes no connection; its queue is full")
    late.set(lambda: silence.result)
    try:
        sock = await _connect(Address(socket.AF_UNIX, (path,)), patience)
        late.set(None)
    except FileNotFoundError:
        raise Unmet("not-ready", f"{path} does not exist") from None
    except TimeoutError:
        raise silence from None
    except ConnectionRefusedError:
        raise Unmet("refused", "refused; the socket is there, but nobody listens on it") from None
    except OSError as error:
        raise Unmet("error", f"cannot connect: {error.strerror or error}") from None
    async with _streams(sock, None, None) as streams:
        yield streams


async def dial(host: str, port: int, patience: float) -> socket.socket:
    """Connect to the first address of a name that takes a connection. Raises Unmet with why none did.

    Each address gets its part of the time, so that one that is silent leaves some to the others.
    """
    deadline = asyncio.get_running_loop().time() + patience
    addresses = (await lookup(host, port))[:MOST_ADDRESSES]
    failures: list[Result] = []
    for index, address in enumerate(addresses):
        left = deadline - asyncio.get_running_loop().time()
        advice = "a firewall or NetworkPolicy drops what is sent, or there is no such host"
        silence = Result("filtered", f"no answer from {address}; {advice}")
        late.set(partial(Result, silence.state, silence.text))
        try:
            sock = await _connect(address, max(left, 0.01) / (len(addresses) - index))
            late.set(None)
            return sock
        except TimeoutError:
            failures.append(silence)
        except OSError as error:
            failures.append(explained(error, str(address)))
    worst = _telling(failures)
    what, _, advice = worst.text.partition("; ")
    others = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    raise Unmet(worst.state, f"{what}{others}; {advice}" if advice else what + others)


def _telling(failures: Iterable[Result]) -> Result:
    """Choose what tells most: an address family that this machine lacks tells nothing."""
    ranks = ("refused", "reset", "filtered", "error")
    return min(failures, key=lambda each: ranks.index(each.state) if each.state in ranks else 0)


async def _connect(address: Address, patience: float) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    where = address.where[0] if address.family == socket.AF_UNIX else address.where
    try:
        async with asyncio.timeout(patience):
            await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.asynccontextmanager
async def _streams(sock: socket.socket, tls: ssl.SSLContext | None, name: str | None) -> AsyncIterator[Streams]:
    try:
        reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=BUFFER)
    except BaseException:
        sock.close()
        raise
    try:
        yield Streams(reader, writer)
    finally:
        # Not wait_closed(): the other end may take its time to say goodbye in TLS.
        writer.transport.abort()
