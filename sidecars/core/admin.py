"""The probes' door and the status page: what is answered on each path, and to whom."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import REGISTRY

import sidecars
from sidecars.core import log, metrics
from sidecars.core.door import Answer, Door, LateAnswer, Request, Response, text
from sidecars.core.errors import WrongSettings
from sidecars.core.health import Health
from sidecars.core.settings import Common, shown

_MOST_ROWS = 200  # of a table: a page is asked for each second, and must not hold up the event loop
_PROBES = ("/startupz", "/livez", "/readyz", "/healthz")


class Shown(Protocol):
    """What the pages tell of."""

    def status(self) -> dict[str, object]:
        """Say how the service does, as JSON-able values.

        {"numbers": {"read_bytes_total": 812, "open_files": 1}, "tables": {"files": [{"path": "a", "lag_bytes": 0}]}}

        Names end in their unit, as those of metrics do; the page draws a rate for each that ends in _total.
        """


class Admin:
    """The door's routes over one service's health and status.

    `posts` are answered to POST, `pages` to GET, if the guards let it in. Where `refresh` gives something to await,
    that is done before metrics and pages are read.
    """

    def __init__(
        self,
        service: Shown,
        settings: Common,
        health: Health,
        *,
        name: str,
        posts: dict[str, LateAnswer],
        pages: dict[str, Answer],
        refresh: Callable[[], Awaitable[None] | None],
    ) -> None:
        self.posts = posts
        self.pages = pages
        self._refresh = refresh
        self._service = service
        self._settings = settings
        self._health = health
        self._name = name
        self._since = time.time()
        self._door = Door(self.answer)
        self._gets: dict[str, Answer] = {
            "/startupz": lambda _: _probe(health.why_not_started()),
            "/livez": lambda _: _probe([]),
            "/readyz": lambda _: _probe(health.why_not_ready()),
            "/healthz": lambda _: _probe(health.why_not_delivering()),
            "/metrics": _metrics,
            "/status": self._status,
            "/": self._page,
        }
        metrics.build_info.labels(name, sidecars.__version__).set(1)
        metrics.ready.set_function(lambda: not health.why_not_ready())

    async def open(self) -> None:
        """Listen where --admin says."""
        address = self._settings.admin
        if address is None:
            return
        try:
            addresses = await self._door.open(address.host, address.port)
        except OSError as error:
            raise WrongSettings(_cannot_listen(address, error)) from error
        log.log.info("admin door open", addresses=addresses)

    def close(self) -> None:
        """Listen no more."""
        self._door.close()

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request."""
        known: dict[str, dict[str, LateAnswer]] = {"GET": {**self.pages, **self._gets}, "POST": self.posts}
        allowed = [method for method, routes in known.items() if request.path in routes]
        if not allowed:
            return text(404, f"there is no {request.path[:100]} here")
        if request.method not in allowed:
            methods = ", ".join(["GET, HEAD" if each == "GET" else each for each in allowed])
            return text(405, f"only {methods} works here")._replace(headers=(("Allow", methods),))
        if reason := self._refusal(request):
            return text(403, reason)
        answer = known[request.method][request.path]
        fresh = None if request.method == "POST" or request.path in _PROBES else self._refresh()
        return _after(fresh, answer, request) if fresh else answer(request)

    def _refusal(self, request: Request) -> str | None:
        if request.method == "POST":
            return refusal_of_post(request, self._settings.admin_post)
        if request.path in ("/", "/status") or request.path in self.pages:
            return refusal_of_page(request, self._settings.admin_pages)
        return None

    def _status(self, _: Request) -> Response:
        health = self._health
        told = self._service.status()
        tables = told.get("tables")
        rows: dict[str, list[object]] = tables if isinstance(tables, dict) else {}
        status = {
            "name": self._name,
            "version": sidecars.__version__,
            "pod": self._settings.pod_name,
            "state": health.state,
            "reasons": health.why_not_ready() or health.why_not_delivering(),
            "uptime_seconds": round(time.time() - self._since, 3),
            "settings": shown(self._settings),
            "events": log.recent(),
            **told,
            "tables": {table: each[:_MOST_ROWS] for table, each in rows.items()},
            "more": {table: len(each) - _MOST_ROWS for table, each in rows.items() if len(each) > _MOST_ROWS},
        }
        return Response(200, json.dumps(log.plain(status)).encode(), "application/json")

    def _page(self, _: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        with open(os.path.join(os.path.dirname(__file__), "status.html"), "rb") as file:
            page = file.read().replace(b"{{nonce}}", nonce.encode())
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = (("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer"))
        return Response(200, page, "text/html; charset=utf-8", headers)


def refusal_of_post(request: Request, allowed: bool) -> str | None:
    """Why a POST is refused, or None.

    A page in some browser of the node must not reach it, not even through a name that it makes resolve to 127.0.0.1. A
    browser always says Origin when a page posts, and needs leave, which is never given, to add a header of its own.
    """
    if not allowed:
        return "POST is off; start with --admin-post to allow it"
    if not request.peer.is_loopback:
        return "POST is answered on loopback only"
    if "origin" in request.headers:
        return "POST is refused to web pages: leave out the Origin header"
    if not _unresolved(request.headers.get("host", "")):
        return "POST needs an IP address or localhost as its Host"
    if request.headers.get("x-sidecars") != "1":
        return "POST needs the header X-Sidecars: 1"
    return None


def refusal_of_page(request: Request, pages: str) -> str | None:
    """Why / and /status are refused, or None."""
    if pages == "all":
        return None
    if pages == "off":
        return "the pages are off; start with --admin-pages loopback or all"
    if not request.peer.is_loopback:
        return "the pages are shown on loopback only: use a port-forward, or start with --admin-pages all"
    if not _unresolved(request.headers.get("host", "")):
        return "the pages need an IP address or localhost as the Host"
    return None


def _unresolved(host: str) -> bool:
    """Whether the Host header holds no name that somebody else's DNS answers for."""
    try:
        name = "" if "@" in host else urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _cannot_listen(address: object, error: OSError) -> str:
    advice = "choose a port above 1023" if isinstance(error, PermissionError) else "give a free one, or off"
    return f"cannot listen on --admin {address}: {os.strerror(error.errno or 0)}; {advice}"


def _probe(reasons: list[str]) -> Response:
    return text(503, "\n".join(map(log.plain, reasons))) if reasons else text(200, "ok")


async def _after(fresh: Awaitable[None], answer: LateAnswer, request: Request) -> Response:
    await fresh
    response = answer(request)
    return response if isinstance(response, Response) else await response


def _metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(200, encode(REGISTRY), content_type)
