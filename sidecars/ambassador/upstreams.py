"""The admin door's pages about upstreams: how each does, and an operator's word that one shall rest."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, cast
from urllib.parse import parse_qs

from sidecars.ambassador.metrics import quantile
from sidecars.ambassador.plan import Counted
from sidecars.core.door import Answer, LateAnswer, Request, Response, text
from sidecars.core.errors import SidecarError
from sidecars.core.log import plain

PAGE = "/upstreams"
_WORDS: dict[str, Literal["up", "draining", "disabled"]] = {
    "enable": "up", "drain": "draining", "disable": "disabled",
}  # fmt: skip

Row = dict[str, object]


class Deciding(Protocol):
    """What of the decider is asked here."""

    def shown(self) -> list[Row]:
        """Give a row for each endpoint, with its listener and its upstream."""

    def set_state(self, route: str, name: str, state: Literal["up", "draining", "disabled"]) -> None:
        """Let an upstream, or one of its endpoints, rest, or take it in again. Raises SidecarError for no such one."""


class Upstreams:
    """GET /upstreams; POST /upstreams/drain, /disable and /enable?listener=:5432&upstream=db-0:5432.

    `applied` is awaited before a POST is answered: whoever connects after that meets what was asked for.
    """

    def __init__(
        self, decider: Deciding, counted: Callable[[], Counted], applied: Callable[[], Awaitable[None]]
    ) -> None:
        self._decider = decider
        self._counted = counted
        self._applied = applied

    def pages(self) -> dict[str, Answer]:
        """Give what is read."""
        return {PAGE: self._page}

    def posts(self) -> dict[str, LateAnswer]:
        """Give what is commanded."""
        return {f"{PAGE}/{word}": self._command(state) for word, state in _WORDS.items()}

    def rows(self) -> list[Row]:
        """Give each endpoint's row, with what the planes have counted of its upstream."""
        counted = self._counted()
        return [_with_counts(row, counted) for row in self._decider.shown()]

    def _page(self, _: Request) -> Response:
        counted = self._counted()
        listeners: dict[str, list[Row]] = {}
        for row in self._decider.shown():
            row = _with_counts(row, counted)
            listeners.setdefault(str(row.pop("listener")), []).append(row)
        told = [
            {"listener": listener, **_latency(listener, counted), "upstreams": rows}
            for listener, rows in listeners.items()
        ]
        return Response(200, json.dumps(plain({"listeners": told})).encode() + b"\n", "application/json")

    def _command(self, state: Literal["up", "draining", "disabled"]) -> LateAnswer:
        return lambda request: self._set(request, state)

    async def _set(self, request: Request, state: Literal["up", "draining", "disabled"]) -> Response:
        asked = parse_qs(request.query)
        match asked.get("listener"), asked.get("upstream"):
            case [listener], [upstream]:
                pass
            case _:
                return text(400, "say which one: ?listener=...&upstream=..., as /upstreams names them")
        try:
            self._decider.set_state(listener, upstream, state)
        except (SidecarError, LookupError):
            known = sorted({f"listener={row['listener']}&upstream={row['upstream']}" for row in self._decider.shown()})
            return text(404, f"there is no such upstream; there are {'; '.join(known)[:2000]}")
        await self._applied()
        return text(200, state)


def _with_counts(row: Row, counted: Counted) -> Row:
    labels = (str(row["listener"]), str(row["upstream"]))
    told = dict(row)
    for name in ("upstream_connections", "upstream_connections_total"):
        value = counted.get(name, {}).get(labels)
        if value is not None:
            told[name.removeprefix("upstream_")] = value
    failures = counted.get("upstream_failures_total", {})
    told["failures_total"] = sum(cast(float, value) for key, value in failures.items() if key[:2] == labels)
    return told


def _latency(listener: str, counted: Counted) -> Row:
    histogram = counted.get("upstream_connect_seconds", {}).get((listener,))
    if not isinstance(histogram, list):
        return {}
    return {"connect_p50_seconds": quantile(histogram, 0.5), "connect_p99_seconds": quantile(histogram, 0.99)}
