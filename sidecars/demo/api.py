"""An API of somebody else's, which fails now and then: what the ambassador is there for."""

from __future__ import annotations

import json
from random import Random

from sidecars.core.door import Door, Request, Response, text
from sidecars.core.service import Lifecycle
from sidecars.demo.serving import serving
from sidecars.demo.settings import ApiSettings

_MOST_IN_A_ROW = 2
_FAILURES = ((502, "the server behind this one has gone"), (503, "too busy"))


class Api:
    """Give the price of tea, or fail.

    run    answer
    drain  stop listening
    stop   cancelled: the same
    """

    def __init__(self, settings: ApiSettings) -> None:
        self._listen = settings.listen
        self._failing = Failing(settings.fail / 100, Random())  # noqa: S311  (it is no secret)

    async def run(self, life: Lifecycle) -> None:
        """Serve until the drain is asked. Raises SidecarError."""
        async with serving(Door(self._answer), self._listen, life):
            await life.drain.wait()

    def undelivered(self) -> str | None:
        """Nothing is kept."""
        return None

    def status(self) -> dict[str, object]:
        """How many requests there were, and how many failed."""
        return {"numbers": self._failing.counts}

    def _answer(self, request: Request) -> Response:
        if request.path == "/counts":
            return Response(200, json.dumps(self._failing.counts).encode() + b"\n", "application/json")
        failure = self._failing.next()
        if failure is not None:
            return text(*failure)
        price = {"tea": "green", "price": 4.2}
        return Response(200, json.dumps(price).encode() + b"\n", "application/json")


class Failing:
    """Which requests fail: by chance, and never more than two in a row, as where some of several servers are ill."""

    def __init__(self, share: float, random: Random) -> None:
        self._share = share
        self._random = random
        self._row = 0
        self.counts = {"requests_total": 0, "failed_total": 0}

    def next(self) -> tuple[int, str] | None:
        """Give the failure of one more request; None if it is well."""
        self.counts["requests_total"] += 1
        if self._row == _MOST_IN_A_ROW or self._random.random() >= self._share:
            self._row = 0
            return None
        self._row += 1
        self.counts["failed_total"] += 1
        return self._random.choice(_FAILURES)
