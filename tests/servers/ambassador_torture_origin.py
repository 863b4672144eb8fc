"""A server of HTTP that may be killed at any moment: what it was asked stands in a file before it is answered.

python -I -S ambassador_torture_origin.py PORT LOG
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import struct
import sys

_PIECE = 16384
_LINGER_NOT = struct.pack("ii", 1, 0)


def noise(id: int, size: int) -> bytes:
    """The bytes of an answer, by the number of its request."""
    return random.Random(id).randbytes(size)


class Origin:
    """It answers `METHOD /ID/FATE/SIZE` as fate has it.

    Its log has a line for each: "arrived ID METHOD" once the head is there, "whole ID" when the body is as X-Sha says,
    "wrong ID" when it is not.
    """

    def __init__(self, log: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    def _say(self, word: str, id: int, more: str = "") -> None:
        os.write(self._log, f"{word} {id} {more}\n".encode())

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        id, fate, size = target.strip("/").split("/")
        number = int(id)
        self._say("arrived", number, method)
        if fate == "early":
            await self._answer(writer, method, number, int(size), close=True)
            return False
        if fate == "reset" or (fate == "flaky" and random.random() < 0.5):
            _tear(writer)
            return False
        body = await _body(reader, headers)
        told = headers.get("x-sha", "")
        self._say("whole" if hashlib.sha1(body).hexdigest() == told else "wrong", number)
        if fate == "poor" or (fate == "unwell" and random.random() < 0.5):
            writer.write(b"HTTP/1.1 503 Not Now\r\nContent-Length: 4\r\nX-Id: %d\r\n\r\npoor" % number)
            return True
        await getattr(self, f"_{fate}", self._answer)(writer, method, number, int(size))
        return fate not in ("short", "short_chunks", "until_close")

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, id: int, size: int, *, close: bool = False
    ) -> None:
        more = b"Connection: close\r\n" if close else b""
        writer.write(b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nContent-Length: %d\r\n%b\r\n" % (id, size, more))
        if method != "HEAD":
            writer.write(noise(id, size))
        await writer.drain()

    async def _chunks(self, writer: asyncio.StreamWriter, method: str, id: int, size: int, last: int = 0) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" % id)
        if method == "HEAD":
            return
        data = noise(id, size)
        for at in range(0, len(data) - last, 7001):
            piece = data[at : at + 7001]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if not last:
            writer.write(b"0\r\nX-Sum: %d\r\n\r\n" % id)

    async def _hints(self, writer: asyncio.StreamWriter, method: str, id: int, size: int) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await self._answer(writer, method, id, size)

    async def _drip(self, writer: asyncio.StreamWriter, method: str, id: int, size: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nContent-Length: %d\r\n\r\n" % (id, size))
        data = noise(id, size) if method != "HEAD" else b""
        for at in range(0, len(data), 1000):
            writer.write(data[at : at + 1000])
            await writer.drain()
            await asyncio.sleep(0.002)

    async def _until_close(self, writer: asyncio.StreamWriter, method: str, id: int, size: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Id: %d\r\n\r\n" % id)
        if method != "HEAD":
            writer.write(noise(id, size))
        await writer.drain()

    async def _short(self, writer: asyncio.StreamWriter, method: str, id: int, size: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nContent-Length: %d\r\n\r\n" % (id, size))
        writer.write(noise(id, size)[: size // 2])
        await writer.drain()

    async def _short_chunks(self, writer: asyncio.StreamWriter, method: str, id: int, size: int) -> None:
        await self._chunks(writer, method, id, size, last=size // 2 + 1)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readline() != b"\r\n":
        pass
    return body


def _tear(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()


async def _run(port: int, log: str) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server = await asyncio.start_server(Origin(log).serve, "127.0.0.1", port, backlog=1024, limit=1 << 20)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), sys.argv[2]))
