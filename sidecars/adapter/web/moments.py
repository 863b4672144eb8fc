"""Times, as records have them and as people ask for them, as seconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_RELATIVE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d|w)(?: ?ago)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NUMBER = re.compile(r"\d{1,19}(?:\.\d{1,9})?")
# What date(1) prints in the C locale, as the shell loops beside the drop-in do: Wed Nov 25 13:05:51 UTC 2026.
_DATE = re.compile(
    r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) (?:(AM|PM) )?(?:(UTC|GMT|Z) )?(\d{4})"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(4096)
def epoch(text: str) -> float | None:
    """Read a record's time: RFC 3339, or what date(1) prints; a time without a zone is taken for UTC. None: neither."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return _printed_by_date(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _printed_by_date(text: str) -> float | None:
    found = _DATE.fullmatch(text.strip())
    if not found or found[1] not in _MONTHS:
        return None
    hour = int(found[3])
    if found[6]:
        hour = hour % 12 + (12 if found[6] == "PM" else 0)
    try:
        time = datetime(
            int(found[8]), _MONTHS.index(found[1]) + 1, int(found[2]), hour, int(found[4]), int(found[5]), tzinfo=UTC
        )
    except ValueError:
        return None
    return time.timestamp()


def relative(text: str) -> bool:
    """Tell whether a moment depends on when it is asked."""
    return text == "now" or _RELATIVE.fullmatch(text) is not None


def moment(text: str, now: float) -> float:
    """Read a moment that somebody asks for: RFC 3339, a date, seconds or more exact ones since 1970, 10m, 2h ago, now.

    Raises ValueError.
    """
    if text == "now":
        return now
    if found := _RELATIVE.fullmatch(text):
        return now - float(found[1]) * _UNITS[found[2]]
    if _NUMBER.fullmatch(text):
        return _since_1970(float(text))
    # A plus in a query is a space to whoever decodes it, and few people write %2B.
    time = epoch(re.sub(r" (\d\d:?\d\d)$", r"+\1", text))
    if time is None:
        raise ValueError(text)
    return time


def _since_1970(number: float) -> float:
    """Milliseconds, microseconds and nanoseconds are told by their size: 1e11 seconds are the year 5138."""
    while number >= 1e11:
        number /= 1000
    return number
