"""An application that calls an API and does not know that it may fail: it tries nothing a second time."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from urllib.parse import urlsplit

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.core.service import Lifecycle
from sidecars.demo.settings import CallerSettings

_PATIENCE = 30.0  # seconds for one answer


class Caller:
    """Call an API, again and again.

    run    one call after another, over one connection
    drain  the call that is under way is the last
    stop   cancelled
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._url = settings.url
        self._every = 1 / settings.rate
        self._count = settings.count
        self._counts = {"requests_total": 0, "errors_total": 0}
        there = urlsplit(settings.url)
        self._path = there.path or "/"
        kind = http.client.HTTPSConnection if there.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(there.hostname or "", there.port, timeout=_PATIENCE)

    async def run(self, life: Lifecycle) -> None:
        """Call until the drain is asked, or as often as the settings say. Raises SidecarError if a call has failed."""
        life.health.started()
        with contextlib.closing(self._connection):
            while not life.drain.is_set() and self._counts["requests_total"] != self._count:
                await asyncio.to_thread(self._call)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(life.drain.wait(), self._every)
        requests, errors = self._counts.values()
        log.info("called", requests=requests, errors=errors)
        if errors:
            raise SidecarError(f"{errors} of {requests} calls of {self._url} came to nothing")

    def undelivered(self) -> str | None:
        """Nothing is kept."""
        return None

    def status(self) -> dict[str, object]:
        """How many calls there were, and how many came to nothing."""
        return {"numbers": self._counts}

    def _call(self) -> None:
        self._counts["requests_total"] += 1
        try:
            self._connection.request("GET", self._path)
            answer = self._connection.getresponse()
            answer.read()
            error = None if answer.status == 200 else f"it answers {answer.status}"
        except (OSError, http.client.HTTPException) as broken:
            self._connection.close()
            error = str(broken)
        if error is not None:
            self._counts["errors_total"] += 1
            log.error("call failed", url=self._url, error=error)
