"""Writing answers: with the house's headers, compressed where that is wanted, to clients that may be slow."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from sidecars.adapter.web.guard import HEADERS
from sidecars.adapter.web.rendering import as_json

# How long a client may take for a piece of an answer.
WRITE_SECONDS = 30.0
_PIECE = 64 << 10
_WORTH_COMPRESSING = 1024


class TooSlow(Exception):  # noqa: N818
    """A client does not read its answer."""


def takes_gzip(headers: Mapping[str, str]) -> bool:
    """Tell whether a client understands gzip: named in Accept-Encoding, and not with q=0."""
    for coding in headers.get("Accept-Encoding", "").lower().split(","):
        name, _, quality = coding.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def compress(body: bytes) -> bytes:
    """Compress a whole body; in a thread."""
    squeezed = zlib.compressobj(5, wbits=31)
    return squeezed.compress(body) + squeezed.flush()


def worth_compressing(body: bytes) -> bool:
    """Tell whether a body gets smaller by more than it costs."""
    return len(body) >= _WORTH_COMPRESSING


class Answer:
    """One answer that is written in pieces; for HEAD only its head is sent."""

    def __init__(self, request: web.BaseRequest, status: int, headers: Mapping[str, str], length: int | None) -> None:
        self._request = request
        self._silent = request.method == "HEAD" or status == 304
        self._response = web.StreamResponse(status=status, headers={**HEADERS, "Cache-Control": "no-cache", **headers})
        if length is not None and status != 304:
            self._response.content_length = length
        elif not self._silent and request.version >= (1, 1):
            self._response.enable_chunked_encoding()

    async def begin(self) -> None:
        """Send the head."""
        self._request["begun"] = True
        await self._response.prepare(self._request)

    @property
    def silent(self) -> bool:
        """Whether there is no body."""
        return self._silent

    async def write(self, data: bytes) -> None:
        """Send a piece. Raises TooSlow."""
        for start in range(0, len(data), _PIECE):
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._response.write(data[start : start + _PIECE])
            except TimeoutError as error:
                raise TooSlow from error

    async def end(self) -> web.StreamResponse:
        """End the body."""
        async with asyncio.timeout(WRITE_SECONDS):
            await self._response.write_eof()
        return self._response


def begun(request: web.BaseRequest) -> bool:
    """Tell whether the head of an answer was sent: no other answer can be given then."""
    return bool(request.get("begun"))


async def whole(request: web.BaseRequest, status: int, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send an answer that is known as a whole."""
    answer = Answer(request, status, headers, len(body))
    await answer.begin()
    if not answer.silent:
        await answer.write(body)
    return await answer.end()


async def told(
    request: web.BaseRequest, status: int, value: object, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send a JSON value."""
    told = {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})}
    return await whole(request, status, as_json(value) + b"\n", told)


@contextlib.asynccontextmanager
async def cut_off(request: web.BaseRequest) -> AsyncIterator[None]:
    """Drop the connection of a client that is too slow: to end its answer properly would say that it is whole."""
    try:
        yield
    except (TooSlow, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
