"""Which requests may be sent again, and when."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import Retry

# What changes nothing by being made twice. Source: RFC 9110, section 9.2.2.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_MOST_DOUBLINGS = 30


def backoff(retry: Retry, tries: int, random: float) -> float:
    """Give the seconds to wait before the next try, after so many: doubled each time, with jitter down to a half.

    random  a number from 0 to 1
    """
    whole = min(float(retry.max_backoff), retry.backoff * 2.0 ** min(tries - 1, _MOST_DOUBLINGS))
    return float(whole * (0.5 + random / 2))


def asked_to_wait(headers: Headers, now: float) -> float | None:
    """Give the seconds that Retry-After says; None if it says nothing that can be understood.

    now  seconds since 1970
    """
    value = next((value for name, value in headers if name.lower() == b"retry-after"), None)
    if value is None:
        return None
    if value.isdigit() and value.isascii():
        return float(value[:12])
    try:
        when = parsedate_to_datetime(value.decode("latin-1"))
    except (ValueError, OverflowError):
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
