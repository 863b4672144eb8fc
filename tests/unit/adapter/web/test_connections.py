"""Clients that ask for nothing are dropped; those that are answered are not; too many are told so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from sidecars.adapter.web import connections
from sidecars.adapter.web.connections import Connections


class Echo(asyncio.Protocol):
    """Stands for what speaks HTTP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@contextlib.asynccontextmanager
async def listening(most: int = 10) -> AsyncIterator[tuple[Connections, int]]:
    house = Connections(Echo, most)
    server = await asyncio.get_running_loop().create_server(house, "127.0.0.1", 0)
    sweeping = asyncio.create_task(house.sweep())
    try:
        yield house, server.sockets[0].getsockname()[1]
    finally:
        sweeping.cancel()
        server.close()


async def until_dropped(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(connections, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(connections, "_SWEEP_SECONDS", 0.01)


def test_who_asks_for_nothing_is_dropped_also_when_it_sends_byte_by_byte():
    async def run() -> None:
        async with listening() as (_, port), asyncio.timeout(10):
            silent, one = await asyncio.open_connection("127.0.0.1", port)
            drip, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(b"G")
            assert await until_dropped(silent) == b""
            assert await until_dropped(drip) == b"G"
            one.close()
            other.close()

    asyncio.run(run())


def test_who_is_answered_is_not():
    async def run() -> None:
        async with listening() as (house, port), asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            (connection,) = house._open.values()
            with house.answering(connection.transport):
                await asyncio.sleep(0.2)  # Four times its patience.
                writer.write(b"y")
                assert await reader.read(1) == b"y"
            assert await until_dropped(reader) == b""
            writer.close()

    asyncio.run(run())


def test_too_many_are_told_so():
    async def run() -> None:
        async with listening(most=1) as (_, port), asyncio.timeout(10):
            _, first = await asyncio.open_connection("127.0.0.1", port)
            reader, second = await asyncio.open_connection("127.0.0.1", port)
            told = await until_dropped(reader)
            assert told.startswith(b"HTTP/1.1 503 ")
            head, _, body = told.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head
            first.close()
            second.close()

    asyncio.run(run())
