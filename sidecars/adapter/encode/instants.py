"""Points in time as numbers: exact, for a float of seconds since 1970 has no nanoseconds left."""

from __future__ import annotations

import re
import time
from datetime import datetime
from functools import lru_cache

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:)(\d\d)(?:[.,](\d{1,9})\d*)?(Z|z|[+-]\d\d:?\d\d)", re.ASCII)


def nanoseconds(time: object) -> int | None:
    """Give the nanoseconds since 1970 of an RFC 3339 time, 2026-11-23T06:00:00.000000001+01:00; None if it is none."""
    found = _RFC3339.fullmatch(time) if isinstance(time, str) else None
    if found is None:
        return None
    minute = _minute(found[1], found[4])
    # A leap second is the 60th.
    return None if minute is None else (minute + int(found[2])) * 10**9 + int((found[3] or "0").ljust(9, "0"))


@lru_cache(maxsize=1024)
def _minute(text: str, zone: str) -> int | None:
    try:
        return int(datetime.fromisoformat(f"{text.upper()}00{zone.upper().replace('Z', '+00:00')}").timestamp())
    except (ValueError, OverflowError):
        return None


def now() -> str:
    """Give the present time in RFC 3339, to the millisecond."""
    present = time.time_ns()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(present // 10**9))}.{present % 10**9 // 10**6:03}Z"
