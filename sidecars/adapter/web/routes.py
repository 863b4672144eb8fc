"""What is answered on each path of --listen; the only room that speaks aiohttp, with answers.py and streams.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from sidecars.adapter.web import answers, welcome
from sidecars.adapter.web.guard import check_origin
from sidecars.adapter.web.refusal import Refusal, shown
from sidecars.adapter.web.streams import Streams
from sidecars.core.follow.identity import printable
from sidecars.core.log import log

if TYPE_CHECKING:
    from sidecars.adapter.web.server import Web

MOST_POSTED = 1 << 20
_BODY_SECONDS = 30.0
_SCRIPTS = ("app", "filter", "histogram", "list", "row", "source")
_ASSETS = {
    **{f"/{name}.js": "text/javascript; charset=utf-8" for name in _SCRIPTS},
    "/style.css": "text/css; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}
_PAGE = os.path.join(os.path.dirname(__file__), "page")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Routes:
    """The paths, and who may ask for them."""

    def __init__(self, house: Web) -> None:
        self._house = house
        self._streams = Streams(house)
        self._server = web.Server(self.answer, access_log=None, keepalive_timeout=15.0, handler_cancellation=True)
        self.answering: Callable[[asyncio.BaseTransport | None], contextlib.AbstractContextManager[None]]
        self._routes: dict[str, dict[str, Handler]] = {
            "/": {"GET": self._welcome},
            "/logs": {"GET": self._streams.logs, **({"POST": self._post} if house.post else {})},
            "/files": {"GET": self._files},
            "/health": {"GET": self._health},
            "/api": {"GET": self._api},
            **{path: {"GET": self._asset} for path in _ASSETS},
        }

    def speaker(self) -> Callable[[], asyncio.Protocol]:
        """Give what makes the protocol of a connection."""
        return self._server

    async def shut(self, grace: float) -> None:
        """Let begun answers finish, then drop the clients."""
        await self._server.shutdown(grace)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, whatever it is."""
        with self.answering(request.transport):
            try:
                return await self._handler(request)(request)
            except (ConnectionError, answers.TooSlow, TimeoutError):
                return web.Response()  # The client is gone; nobody reads this.
            except (Refusal, OSError) as error:
                return await _refused(request, error)
            except Exception:  # noqa: BLE001  (the top: one request's failure is not the server's)
                log.exception("request failed", path=request.path)
                return await _refused(request, Refusal(500, "this is a bug of ours; the log of log-adapter says more"))

    def _handler(self, request: web.BaseRequest) -> Handler:
        self._check(request)
        path = request.path
        methods = self._routes.get(path)
        if methods is None:
            raise Refusal(404, f"there is no {shown(path)} here; there are {', '.join(welcome.ENDPOINTS)}")
        method = "GET" if request.method == "HEAD" else request.method
        if method in methods:
            return methods[method]
        if path == "/logs" and method == "POST":
            raise Refusal(405, "POST is off; start with --post to take lines", {"Allow": "GET, HEAD"})
        allowed = ", ".join("GET, HEAD" if each == "GET" else each for each in methods)
        raise Refusal(405, f"{shown(method)} does not work here; {allowed} do", {"Allow": allowed})

    def _check(self, request: web.BaseRequest) -> None:
        """Ask for credentials; not for probes, and not for a page that is there to ask for a token."""
        if request.path == "/health" or (self._house.guard.token_only and (request.path in (*_ASSETS, "/"))):
            return
        self._house.guard.check(request.headers)

    async def _welcome(self, request: web.BaseRequest) -> web.StreamResponse:
        vary = {"Vary": "Accept"}
        if "text/html" in request.headers.get("Accept", ""):
            return await self._file(request, "index.html", {"Content-Type": "text/html; charset=utf-8", **vary})
        body = welcome.text(request.headers.get("Host", "")[:200]).encode()
        return await answers.whole(request, 200, body, {"Content-Type": "text/plain; charset=utf-8", **vary})

    async def _asset(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._file(request, request.path[1:], {"Content-Type": _ASSETS[request.path]})

    async def _file(self, request: web.BaseRequest, name: str, headers: dict[str, str]) -> web.StreamResponse:
        body = await self._house.threads.work(partial(_read, os.path.join(_PAGE, name)))
        return await answers.whole(request, 200, body, headers)

    async def _api(self, request: web.BaseRequest) -> web.StreamResponse:
        return await answers.told(request, 200, welcome.api())

    async def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        well, reasons = self._house.health() if self._house.health else (True, [])
        return await answers.told(request, 200 if well else 503, {"ok": well, "reasons": reasons})

    async def _files(self, request: web.BaseRequest) -> web.StreamResponse:
        self._house.catalogue.refresh()
        return await answers.told(request, 200, await self._house.threads.work(self._list))

    def _list(self) -> list[dict[str, object]]:
        catalogue = self._house.catalogue
        told: list[dict[str, object]] = []
        for path in catalogue.paths[:10_000]:
            with catalogue.opened([path]) as opened:
                row: dict[str, object] = {"name": printable(path), "there": bool(opened)}
                for source in opened:
                    row |= {"size": source.size(), "modified": source.modified()}
                    row["format"] = catalogue.format_of(source).name
                told.append(row)
        return told

    async def _post(self, request: web.BaseRequest) -> web.StreamResponse:
        check_origin(request.headers)
        body = await _body(request)
        if body and not body.endswith(b"\n"):
            body += b"\n"
        if body and self._house.post and not self._house.post(body):
            raise Refusal(429, "the queue is full: send it again in a second", {"Retry-After": "1"})
        return await answers.told(request, 202, {"taken_bytes": len(body)})


async def _refused(request: web.BaseRequest, error: Refusal | OSError) -> web.StreamResponse:
    """Say why there is no answer; where one was begun, let its end be missing."""
    if answers.begun(request):
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    if isinstance(error, OSError):
        error = Refusal(503, f"the log cannot be read: {error.strerror}; try again later", {"Retry-After": "5"})
    return await answers.told(request, error.status, {"error": error.reason}, error.headers)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def _body(request: web.BaseRequest) -> bytes:
    """Read what is posted, up to the limit. Raises Refusal."""
    limit = Refusal(413, f"the body is longer than {MOST_POSTED} bytes; send it in parts", {"Connection": "close"})
    if (request.content_length or 0) > MOST_POSTED:
        raise limit
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > MOST_POSTED:
                    raise limit
    except TimeoutError as error:
        raise Refusal(408, f"the body did not come within {_BODY_SECONDS:g} s", {"Connection": "close"}) from error
    return bytes(body)
