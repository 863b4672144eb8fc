"""What is written down of each request: a line of the access log, and the last ones that were not passed on."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Peer, written
from sidecars.ambassador.http.counting import Counts

if TYPE_CHECKING:
    from sidecars.ambassador.http.exchange import Exchange
    from sidecars.ambassador.plane import Plane

_MOST_REFUSED = 50
_NOTHING: dict[str, object] = {
    "listener": None, "client": None, "user": None, "method": None, "path": None, "status": None, "received_bytes": 0,
    "sent_bytes": 0, "duration_seconds": 0.0, "upstream": None, "address": None, "upstream_seconds": None, "tries": 0,
}  # fmt: skip
_LONGEST = 200  # bytes of a path that are shown


class Records:
    """The records of one listener. Nothing in them is a secret: of a target they have the path alone.

    refused  the last requests that were not passed on
    """

    def __init__(self, plane: Plane, listener: str, counts: Counts) -> None:
        self.refused: deque[dict[str, object]] = deque(maxlen=_MOST_REFUSED)
        self._access = plane.access
        self._listener = listener
        self._counts = counts

    def ended(self, exchange: Exchange, seconds: float) -> None:
        """A request is over."""
        self._counts.ended(exchange.status, seconds)
        if self._access is not None:
            self._access.write(self._record(exchange, seconds))

    def _record(self, exchange: Exchange, seconds: float) -> dict[str, object]:
        request, target, upload = exchange.request, exchange.target, exchange.upload
        took = exchange.upstream_seconds
        return {
            "listener": self._listener,
            "client": written(exchange.session.connection.peer),
            "user": request.user,
            "method": request.method,
            "path": request.path.decode("utf-8", "replace"),
            "status": exchange.status or None,
            "received_bytes": upload.received if upload else exchange.received,
            "sent_bytes": exchange.sent,
            "duration_seconds": round(seconds, 6),
            "upstream": target.label if target else None,
            "address": written(target.endpoint.address) if target else None,
            "upstream_seconds": None if took is None else round(took, 6),
            "tries": exchange.tries,
            "request_id": request.id,
            "rule": exchange.rule or None,
            "why": exchange.why,
        }

    def refuse(self, exchange: Exchange, status: int, rule: str, detail: str) -> None:
        """A request is not passed on, by this rule."""
        request = exchange.request
        self._refuse(exchange.session.connection.peer, request.method, request.path, status, rule, detail)

    def fault(self, peer: Peer | None, status: int, rule: str, detail: str, id: str | None) -> None:
        """Something came that is no request as one can be understood; its answer has this id."""
        self._counts.ended(status, 0.0)
        self._refuse(peer, None, b"", status, rule, detail)
        if self._access is not None:
            said = {"listener": self._listener, "client": written(peer), "status": status, "rule": rule}
            self._access.write({**_NOTHING, **said, "request_id": id, "why": "refused"})

    def _refuse(self, peer: Peer | None, method: str | None, path: bytes, status: int, rule: str, detail: str) -> None:
        self._counts.refused[rule] = self._counts.refused.get(rule, 0) + 1
        self.refused.append(
            {
                "time": time.time(),
                "listener": self._listener,
                "client": written(peer),
                "method": method,
                "path": path[:_LONGEST].decode("utf-8", "replace"),
                "status": status,
                "rule": rule,
                "detail": detail,
            }
        )
