"""GET /logs: pages, everything there is, and what comes."""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from sidecars.adapter.web import answers, cursor, rendering
from sidecars.adapter.web.live import Following, Tail, cursors
from sidecars.adapter.web.pages import Page, ends
from sidecars.adapter.web.query import Query, read
from sidecars.adapter.web.refusal import Refusal
from sidecars.adapter.web.rendering import Rendering
from sidecars.adapter.web.sieve import Entry

if TYPE_CHECKING:
    from sidecars.adapter.web.server import Web

MOST_LIVE = 32
MOST_READING = 16
_HEARTBEAT_SECONDS = 15.0
_LOOK_AGAIN_SECONDS = 0.5
Render = Callable[[Tail, list[Entry]], bytes]

_TAIL = 10  # of a client that follows and says nothing else, as tail -f does


class Slots:
    """How many may do something at a time."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Take a slot. Raises Refusal, with status 503, when there is none."""
        if self._taken >= self._most:
            raise Refusal(503, f"{self._most} clients {self._what} already; try again later", {"Retry-After": "5"})
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Streams:
    """Answers to GET /logs."""

    def __init__(self, house: Web) -> None:
        self._house = house
        self._live = Slots(MOST_LIVE, "follow")
        self._reading = Slots(MOST_READING, "read")

    async def logs(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request for /logs."""
        query = read(request.query.items(), request.headers.get("Accept", ""), time.time())
        self._house.catalogue.refresh()
        if query.live:
            with self._live.one(), self._house.watcher:
                return await self._follow(request, query)
        with self._reading.one():
            return await self._finite(request, query)

    async def _finite(self, request: web.BaseRequest, query: Query) -> web.StreamResponse:
        gzip = answers.takes_gzip(request.headers)
        words = f"{query.form} {gzip} {request.query_string}"
        stamp = await self._house.threads.work(partial(self._house.pages.stamp, query, words))
        headers = {"Vary": "Accept, Accept-Encoding, Authorization", **({"ETag": f'"{stamp}"'} if stamp else {})}
        if stamp and stamp in request.headers.get("If-None-Match", ""):
            return await answers.whole(request, 304, b"", headers)
        form = self._form(query)
        headers["Content-Type"] = form.type
        if query.whole:
            return await self._everything(request, query, form, headers, gzip)
        page = await self._house.threads.work(partial(self._house.pages.page, query, own=rendering.encoded(query.form)))
        headers |= _where(request, query, page)
        body = await self._house.threads.work(partial(form.body, page.entries))
        if gzip and answers.worth_compressing(body):
            body = await self._house.threads.work(partial(answers.compress, body))
            headers["Content-Encoding"] = "gzip"
        async with answers.cut_off(request):
            return await answers.whole(request, 200, body, headers)
        raise answers.TooSlow

    def _form(self, query: Query) -> Rendering:
        return Rendering(query, self._house.settings, self._house.shaping)

    async def _everything(
        self, request: web.BaseRequest, query: Query, form: Rendering, headers: dict[str, str], gzip: bool
    ) -> web.StreamResponse:
        house = self._house
        work = house.threads.work
        with contextlib.ExitStack() as stack:
            paths = await work(partial(house.catalogue.named, query.file))
            opened = stack.enter_context(await work(partial(house.catalogue.opened, paths)))
            ranges = await work(partial(house.pages.ranges, query, opened, own=rendering.encoded(query.form)))
            headers["X-After"] = await work(partial(ends, ranges))
            pieces = _rendered(house.pages.everything(query, ranges), form)
            if gzip:
                headers["Content-Encoding"] = "gzip"
                pieces = _squeezed(pieces)
            answer = answers.Answer(request, 200, headers, None)
            async with answers.cut_off(request):
                await answer.begin()
                while not answer.silent and (data := await work(partial(next, pieces, b""))):
                    await answer.write(data)
                return await answer.end()
        raise answers.TooSlow

    async def _follow(self, request: web.BaseRequest, query: Query) -> web.StreamResponse:
        own = rendering.encoded(query.form)
        form = self._form(query)
        headers = {"Content-Type": form.type, "X-Accel-Buffering": "no", "Vary": "Accept, Authorization"}
        start = _start(request, query)
        page = None
        if start.after is None:
            page = await self._house.threads.work(partial(self._house.pages.page, start, own=own))
        places = cursor.decode(page.after if page else start.after or "-", "after")
        following = Following(self._house.catalogue, self._house.pages.sieve(query), query.file, places, own=own)
        answer = answers.Answer(request, 200, headers, None)
        try:
            async with answers.cut_off(request):
                await answer.begin()
                if not answer.silent:
                    if page is not None:
                        await answer.write(await self._house.threads.work(partial(self._first, query, form, page)))
                    await self._go_on(answer, query, form, following)
                return await answer.end()
        finally:
            following.close()
        raise answers.TooSlow

    def _first(self, query: Query, form: Rendering, page: Page) -> bytes:
        if query.events:
            pieces = [form.piece(entry) for entry in page.entries]
            ids = [""] * (len(pieces) - 1) + [page.after]
            return b": begin\n\n" + b"".join(map(rendering.event, pieces, ids))
        return form.body(page.entries) + (_next_line(page.after) if query.form == "page" else b"")

    async def _go_on(self, answer: answers.Answer, query: Query, form: Rendering, following: Following) -> None:
        async for data in self._news(following, partial(_render, query, form, following)):
            await answer.write(data or _heartbeat(query, following))

    async def _news(self, following: Following, render: Render) -> AsyncIterator[bytes]:
        """Give what comes, rendered; nothing when nothing came for a while."""
        house = self._house
        written = time.monotonic()
        while not house.ending.is_set():
            news = house.watcher.news()
            data = await house.threads.work(partial(_step, following, render))
            if data:
                written = time.monotonic()
                yield data
            if following.moved:
                continue
            left = _HEARTBEAT_SECONDS - (time.monotonic() - written)
            if left <= 0:
                written = time.monotonic()
                yield b""
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS if following.holding else left):
                    await news.wait()


def _step(following: Following, render: Render) -> bytes:
    return b"".join(render(tail, entries) for tail, entries in following.step())


def _render(query: Query, form: Rendering, following: Following, tail: Tail, entries: list[Entry]) -> bytes:
    if query.events:
        return b"".join(map(rendering.event, map(form.piece, entries), cursors(following, tail, entries)))
    if query.form == "page":
        for entry in entries:
            entry.at = tail.at(entry)
    data = b"".join(form.piece(entry) + b"\n" for entry in entries)
    return data + (_next_line(following.cursor) if query.form == "page" else b"")


def _heartbeat(query: Query, following: Following) -> bytes:
    """Something that means nothing: to find out that a client is gone, it must be sent something."""
    if query.events:
        return b": nothing new\n\n"
    return _next_line(following.cursor) if query.form == "page" else b"\n"


def _next_line(after: str) -> bytes:
    """Tell the page where to go on from, should the connection break."""
    return rendering.as_json({"next": after}) + b"\n"


def _start(request: web.BaseRequest, query: Query) -> Query:
    """Give what a client that follows is sent first: what it has missed, or what it asks for, or a few lines."""
    missed = request.headers.get("Last-Event-ID") if query.events else None
    if missed:
        return msgspec.structs.replace(query, after=missed, tail=None, limit=None, since=None)
    if query.after is None and query.tail is None and query.since is None:
        return msgspec.structs.replace(query, tail=_TAIL, limit=None)
    return query


def _rendered(pieces: Iterator[list[Entry]], form: Rendering) -> Iterator[bytes]:
    data = form.head
    any_yet = False
    for entries in pieces:
        if entries:
            data += form.between if any_yet else b""
            data += form.between.join(map(form.piece, entries))
            any_yet = True
        if data:
            yield data
        data = b""
    if any_yet or form.form == "json":
        yield form.foot


def _squeezed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    squeeze = zlib.compressobj(5, wbits=31)
    for data in pieces:
        if squeezed := squeeze.compress(data):
            yield squeezed
    yield squeeze.flush()


def _where(request: web.BaseRequest, query: Query, page: Page) -> dict[str, str]:
    """Give the headers that tell where to go on."""
    kept = [(name, value) for name, value in request.query.items() if name not in ("before", "after", "tail", "limit")]
    size = query.tail or query.limit
    kept += [("limit", str(size))] if size else []
    links = []
    if page.more_before:
        links.append(f'</logs?{urlencode([*kept, ("before", page.before)])}>; rel="prev"')
    if page.more_after:
        links.append(f'</logs?{urlencode([*kept, ("after", page.after)])}>; rel="next"')
    backward = query.tail is not None or query.before is not None
    headers = {"X-Before": page.before, "X-After": page.after}
    if page.more_before if backward else page.more_after:
        headers["X-Next"] = page.before if backward else page.after
    if links:
        headers["Link"] = ", ".join(links)
    if page.incomplete:
        headers["X-Incomplete"] = page.incomplete
    return headers
