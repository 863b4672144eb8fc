"""Which requests may be sent again, and when."""

from __future__ import annotations

import random
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import Retry

if TYPE_CHECKING:
    from sidecars.ambassador.http.exchange import Exchange
    from sidecars.ambassador.http.framing import Reply

# What changes nothing by being made twice. Source: RFC 9110, section 9.2.2.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_MOST_DOUBLINGS = 30


class Retrying:
    """The tries of one request beside the first."""

    __slots__ = ("_count", "_exchange")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._count = 0

    def after_answer(self, answer: Reply) -> float | None:
        """Count a try instead of passing this answer on, and give the seconds to wait; None where there may be none."""
        serving = self._exchange.serving
        retry = serving.http.retry
        if answer.status not in retry.statuses:
            return None
        wait = asked_to_wait(answer.headers, time.time())
        if wait is not None and wait > retry.max_backoff:
            serving.deny("retry_after")
            return None
        return self._counted("status", wait) if self._may(wait=wait or 0.0) else None

    def after_failure(self, why: str, *, unsent: bool, stale: bool) -> float | None:
        """Count a try after this one came to nothing, and give the seconds to wait; None where there may be none.

        unsent  nothing has been sent
        stale   a connection that had waited was at its end: the first time, that is none of the tries
        """
        exchange = self._exchange
        free = stale and not exchange.resent
        if why == "bad_response" or not self._may(unsent=unsent, free=free):
            return None
        if free:
            exchange.resent = True
            self._count -= 1
        return self._counted("stale" if stale else why, 0.0 if stale else None)

    def _may(self, *, unsent: bool = False, free: bool = False, wait: float = 0.0) -> bool:
        exchange = self._exchange
        serving, now, upload = exchange.serving, exchange.session.loop.now, exchange.upload
        retry = serving.http.retry
        if not retry.tries or not (unsent or exchange.request.method in IDEMPOTENT):
            return False
        if not unsent and upload is not None and upload.kept is None:
            denied = "body"
        elif self._count >= retry.tries and not free:
            denied = "tries"
        elif now + wait >= exchange.until:
            denied = "time"
        elif not serving.budget.take(now):
            denied = "budget"
        else:
            return True
        serving.deny(denied)
        return False

    def _counted(self, why: str, wait: float | None) -> float:
        exchange = self._exchange
        serving = exchange.serving
        serving.counts.retries[why] = serving.counts.retries.get(why, 0) + 1
        self._count += 1
        if wait is not None:
            return wait
        # Nobody is spared by waiting before one is asked that was not asked yet.
        if serving.placing.untried(exchange):
            return 0.0
        return backoff(serving.http.retry, self._count, random.random())  # noqa: S311  (jitter)


def backoff(retry: Retry, count: int, random: float) -> float:
    """Give the seconds to wait before the try of this number: doubled each time, with jitter down to a half.

    random  a number from 0 to 1
    """
    whole = min(float(retry.max_backoff), retry.backoff * 2.0 ** min(count - 1, _MOST_DOUBLINGS))
    return float(whole * (0.5 + random / 2))


def asked_to_wait(headers: Headers, now: float) -> float | None:
    """Give the seconds that Retry-After says; None if it says nothing that can be understood.

    now  seconds since 1970
    """
    value = next((value for name, value in headers if name.lower() == b"retry-after"), None)
    if value is None:
        return None
    if value.isdigit():
        return float(value[:12])
    try:
        when = parsedate_to_datetime(value.decode("latin-1"))
    except (ValueError, OverflowError):
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
