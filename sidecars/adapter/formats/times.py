"""The times that logs have, as RFC 3339: as precise as they are written, with the zone they say or that is stated."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

from sidecars.adapter.table import Memo
from sidecars.core.errors import WrongSettings

_MONTHS = {
    name: f"{number:02}"
    for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)  # noqa: SIM905
}
_HOURS = {
    "Z": 0, "UTC": 0, "GMT": 0, "UT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8,
    "PDT": -7, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9, "IST": 5.5,
}  # fmt: skip
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])([01]\d|2[0-3])(?::?([0-5]\d))?", re.ASCII)
_DAY = timedelta(days=1)

_CLOCK = r"(?P<clock>[ \d]?\d:\d\d:\d\d)(?:[.,](?P<fraction>\d+))?"
_ZONE = r"(?: ?(?P<zone>[+-]\d\d(?::?\d\d)?|[A-Za-z]{1,5}))?"
_MONTH = r"(?P<month>[A-Za-z]{3})[a-z]*"
# In the order of how often they are met.
_SHAPES = tuple(
    re.compile(shape, re.ASCII)
    for shape in (
        # 2026-01-31T09:30:00.123+01:00   2026/01/31 09:30:00   2026-01-31 09:30:00,123 CET
        rf"(?P<year>\d{{4}})[-/.](?P<month>\d\d)[-/.](?P<day>\d\d)(?:[Tt_]|  ?){_CLOCK}{_ZONE}",
        # 31/Jan/2026:09:30:00 +0100   31/Jan/2026:09:30:00.123
        rf"(?P<day>\d\d?)/{_MONTH}/(?P<year>\d{{4}}):{_CLOCK}{_ZONE}",
        # Sat Jan 31 09:30:00.123 2026   Jan 31 09:30:00   Sat Jan 31 09:30:00 UTC 2026
        rf"(?:[A-Za-z]{{3}} +)?{_MONTH} +(?P<day>\d\d?) {_CLOCK}(?: (?P<zone>[A-Z]{{3,4}}))?(?: (?P<year>\d{{4}}))?",
        # 31 Jan 2026 09:30:00.123   Sat, 31 Jan 2026 09:30:00 +0000   31-Jan-2026 09:30:00
        rf"(?:[A-Za-z]{{3}}, +)?(?P<day>\d\d?)[ -]{_MONTH}[ -](?P<year>\d{{4}}) {_CLOCK}{_ZONE}",
        # klog's 0131 09:30:00.123456, glog's 20260131 09:30:00.123456
        rf"(?P<year>\d{{4}})?(?P<month>\d\d)(?P<day>\d\d) {_CLOCK}",
        # 20260131T093000Z
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T(?P<clock>\d{6})(?:[.,](?P<fraction>\d+))?" + _ZONE,
        # mysqld's 260131  9:30:00
        rf"(?P<short>\d\d)(?P<month>\d\d)(?P<day>\d\d) +{_CLOCK}",
    )
)
# What is right already; nine digits at most, as nobody reads more.
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = re.compile(r"(\d{1,20})(?:\.(\d{1,9})\d*)?", re.ASCII)

Read = Callable[[bytes], "str | None"]


class Moment(NamedTuple):
    """A time to the second: what stands before its fraction, and its zone."""

    text: str
    zone: str


class _Many(Memo):
    # A portion of a mebibyte has up to so many different times, which are asked for twice.
    _MOST = 1 << 14


def zone(name: str) -> tzinfo:
    """Give a zone by its name, such as UTC, Europe/Berlin, +02:00, or local. Raises WrongSettings."""
    if name.upper() in ("UTC", "Z", ""):
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset:
        return timezone(_offset(offset))
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(_local() if name.lower() == "local" else name)
    except (KeyError, ValueError, OSError) as error:
        raise WrongSettings(
            f"--time-zone is {name!r}, which is not known; use one such as UTC, +02:00, Asia/Tokyo"
        ) from error


def _local() -> str:
    return os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2] or "UTC"


class Times:
    """Reads times; those that do not say their zone are of `zone`, those without a year of the last twelve months."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._moments: dict[tuple[str | None, ...], Moment | None] = {}
        self.cell: Read = _Many(self._cell).__getitem__  # type: ignore[assignment]

    def _cell(self, cell: bytes) -> str | None:
        return self.text(cell.decode("ascii", "replace"))

    def text(self, text: str) -> str | None:
        """Give the time in a text as RFC 3339; None for what is none."""
        if len(text) > 64:
            return None
        right = _RFC3339.fullmatch(text)
        if right and self._right(right.groups()):
            return text
        text = text.strip(" []")
        for shape in _SHAPES:
            found = shape.fullmatch(text)
            if found:
                return self._found(found.groupdict())
        return epoch(text)

    def _right(self, groups: tuple[str, ...]) -> bool:
        """Tell whether there is such a time, and its zone is written as all are: UTC is Z."""
        if groups not in self._moments:
            self._remember(groups, dict(zip(("year", "month", "day", "clock", "zone"), groups, strict=True)))
        moment = self._moments[groups]
        return moment is not None and moment.zone == groups[-1]

    def _remember(self, key: tuple[str | None, ...], parts: dict[str, str | None]) -> None:
        if len(self._moments) > 4096:
            self._moments.clear()
        self._moments[key] = self._moment(parts)

    def _found(self, parts: dict[str, str | None]) -> str | None:
        fraction = parts.pop("fraction", None)
        key = tuple(parts.values())
        if key not in self._moments:
            self._remember(key, parts)
        moment = self._moments[key]
        if moment is None:
            return None
        return f"{moment.text}.{fraction[:9]}{moment.zone}" if fraction else f"{moment.text}{moment.zone}"

    def _moment(self, parts: dict[str, str | None]) -> Moment | None:
        try:
            return self._checked(parts)
        except (ValueError, OverflowError):
            return None

    def _checked(self, parts: dict[str, str | None]) -> Moment:
        clock = (parts["clock"] or "").strip()
        hour, minute, second = clock.split(":") if ":" in clock else (clock[:2], clock[2:4], clock[4:])
        month = parts["month"] or ""
        month = month if month.isdigit() else _MONTHS.get(month.lower(), "")
        year = parts.get("year") or (f"20{parts['short']}" if parts.get("short") else None)
        # A leap second is a second that datetime does not know.
        there = (int(month), int(parts["day"] or ""), int(hour), int(minute), min(int(second), 59))
        if int(second) > 60:
            raise ValueError(second)
        local = datetime(int(year), *there) if year else self._guessed(there)
        where = self._where(parts.get("zone"), local)
        text = f"{local.year:04}-{local.month:02}-{local.day:02}T{local.hour:02}:{local.minute:02}:{int(second):02}"
        return Moment(text, where)

    def _guessed(self, there: tuple[int, int, int, int, int]) -> datetime:
        """Put into the present year, or into the one before it: at its turn, December's lines are of that one."""
        now = datetime.now(self._zone).replace(tzinfo=None)
        for year in range(now.year, now.year - 8, -1):
            try:
                local = datetime(year, *there)
            except ValueError:
                # The 29th of February is in one year of four.
                continue
            if local <= now + _DAY:
                return local
        raise ValueError(there)

    def _where(self, named: str | None, local: datetime) -> str:
        if not named:
            return _written(local.replace(tzinfo=self._zone).utcoffset())
        if named in ("Z", "z", "+0000", "+00:00", "UTC"):
            return "Z"
        offset = _OFFSET.fullmatch(named)
        if offset:
            return _written(_offset(offset))
        if named.upper() in _HOURS:
            return _written(timedelta(hours=_HOURS[named.upper()]))
        return _written(local.replace(tzinfo=self._zone).utcoffset())


def _offset(found: re.Match[str]) -> timedelta:
    sign, hours, minutes = found.groups()
    return (-1 if sign == "-" else 1) * timedelta(hours=int(hours), minutes=int(minutes or 0))


def _written(offset: timedelta | None) -> str:
    minutes = round((offset or timedelta()).total_seconds() / 60)
    if not minutes:
        return "Z"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def epoch(text: str) -> str | None:
    """Give the time of a number since 1970 as RFC 3339: seconds, milli-, micro- or nanoseconds, told by its size.

    None for a number that is no time of the years 1973 to 2286, and for no number.
    """
    found = _EPOCH.fullmatch(text)
    if not found:
        return None
    whole, fraction = found[1], found[2] or ""
    # 9 or 10 digits are seconds from 1973 to 2286; each three more are the next smaller unit.
    digits = len(whole)
    if digits not in (9, 10, 12, 13, 15, 16, 18, 19):
        return None
    cut = digits - (digits - 9) // 3 * 3
    seconds, fraction = whole[:cut], (whole[cut:] + fraction)[:9]
    then = datetime.fromtimestamp(int(seconds), UTC)
    return f"{then:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"


def number(value: float) -> str | None:
    """Give the time of a JSON number since 1970, as `epoch` does."""
    return epoch(str(value) if isinstance(value, int) else f"{value:.6f}".rstrip("0").rstrip("."))
