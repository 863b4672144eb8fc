"""Times in text, as fluentd's configuration describes them: Ruby's strptime reads them, its strftime writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Literal

from sidecars.core.errors import WrongSettings

# Later than any log; a day before the end of what datetime holds, for the zones.
_LATEST = 253_402_214_400.0
_DAY = timedelta(days=1)

Read = Callable[[str], float | None]

_DIRECTIVE = re.compile(r"%([-0_^#]*)(:*)(\d*)([A-Za-z%+])")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)?:?(\d\d)?\Z")
_HOURS = {
    "Z": 0, "UTC": 0, "GMT": 0, "UT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8,
    "PDT": -7, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9,
}  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_NAME, _PAIR, _HALF, _ZONE = r"[^\W\d_]+", r" ?\d{1,2}", r"[AaPp]\.?[Mm]\.?", r"[+-]\d\d(?::?\d\d){0,2}|[A-Za-z]+"
# What a directive reads: which part of a time, and how it looks. Source: Ruby's documentation of DateTime.strptime.
_READ = {
    "Y": ("year", r"\d{4}"), "y": ("short_year", r"\d\d"), "j": ("yearday", r"\d{1,3}"),
    "m": ("month", _PAIR), "b": ("month_name", _NAME), "B": ("month_name", _NAME), "h": ("month_name", _NAME),
    "d": ("day", _PAIR), "e": ("day", _PAIR), "a": ("", _NAME), "A": ("", _NAME), "u": ("", r"\d"), "w": ("", r"\d"),
    "H": ("hour", _PAIR), "k": ("hour", _PAIR), "I": ("hour", _PAIR), "l": ("hour", _PAIR),
    "p": ("half", _HALF), "P": ("half", _HALF), "M": ("minute", _PAIR), "S": ("second", _PAIR),
    "L": ("fraction", r"\d+"), "N": ("fraction", r"\d+"), "z": ("zone", _ZONE), "Z": ("zone", _ZONE),
    "s": ("epoch", r"-?\d+"), "Q": ("milliseconds", r"-?\d+"), "n": ("", r"\s+"), "t": ("", r"\s+"), "%": ("", "%"),
}  # fmt: skip
_COMPOSED = {
    "T": "%H:%M:%S", "X": "%H:%M:%S", "F": "%Y-%m-%d", "D": "%m/%d/%y", "x": "%m/%d/%y", "R": "%H:%M", "v": "%e-%b-%Y",
    "r": "%I:%M:%S %p", "c": "%a %b %e %H:%M:%S %Y", "+": "%a %b %e %H:%M:%S %Z %Y",
}  # fmt: skip

# What a time without a format may look like, ISO 8601 apart: access logs, mail, date(1), ctime(3), Ruby, Go, syslog.
_GUESSES = (
    "%d/%b/%Y:%H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %Z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%Y-%m-%d %H:%M:%S %z",
    "%Y/%m/%d %H:%M:%S",
    "%b %d %H:%M:%S",
)


def zone(name: str | None) -> tzinfo | None:
    """Give a zone by its name, such as UTC, Europe/Berlin or +09:00; None for the container's own: local, or no name.

    Raises WrongSettings.
    """
    if name is None or name.lower() == "local":
        return None
    if name.upper() in ("UTC", "Z"):
        return UTC
    offset = _OFFSET.match(name)
    if offset:
        return timezone(timedelta(seconds=_seconds(offset)))
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise WrongSettings(f"time zone {name!r} is not known; use one such as UTC, Asia/Tokyo or +09:00") from error


class Format:
    """Writes times: `Format("%H:%M:%S.%L %:z", zone("+02:00"))(1785579630.123)` is `12:20:30.123 +02:00`.

    Takes what Ruby's strftime takes. A float holds microseconds, so the last three digits of %N are zeros.
    """

    def __init__(self, text: str, zone: tzinfo | None) -> None:
        self._zone = zone
        self._formats, self._digits = _cut_at_fractions(text)
        self._second: int | None = None
        self._texts: list[str] = []

    def __call__(self, moment: float) -> str:
        """Write a time in epoch seconds. Lines come many to the second: all but the fraction is made once for these."""
        second, micros = divmod(round(moment * 1_000_000), 1_000_000)
        if second != self._second:
            local = datetime.fromtimestamp(second, self._zone).astimezone(self._zone)
            self._texts, self._second = [_written(each, local) for each in self._formats], second
        if not self._digits:
            return self._texts[0]
        digits = f"{micros:06}"
        fractions = (digits[:count].ljust(count, "0") for count in self._digits)
        rest = zip(fractions, self._texts[1:], strict=True)
        return self._texts[0] + "".join(part for pair in rest for part in pair)


def _cut_at_fractions(text: str) -> tuple[list[str], list[int]]:
    formats, digits, start = [], [], 0
    for found in _DIRECTIVE.finditer(text):
        _, _, width, letter = found.groups()
        if letter in "LN":
            formats.append(text[start : found.start()])
            digits.append(int(width or {"L": 3, "N": 9}[letter]))
            start = found.end()
    return [*formats, text[start:]], digits


def _written(text: str, local: datetime) -> str:
    return local.strftime(_DIRECTIVE.sub(lambda found: _for_libc(found, local), text))


def _for_libc(found: re.Match[str], local: datetime) -> str:
    """Write the few directives that Ruby has and the C library has not; leave the others to it."""
    _, colons, _, letter = found.groups()
    if letter == "z" and colons:
        offset = local.isoformat()[19:]
        return f"{offset}:00" if len(colons) > 1 and len(offset) == 6 else offset
    if letter == "s":
        return str(int(local.timestamp()))
    return local.strftime("%e-%b-%Y").upper() if letter == "v" else found[0]


def reader(kind: Literal["string", "float", "unixtime"], text: str | None, zone: tzinfo | None) -> Read:
    """Give what reads a time into epoch seconds, or None: by a strptime format, as a number, or by its looks.

    Raises WrongSettings for a format with a directive that is not known.
    """
    if kind != "string":
        return _Numbers(kind == "unixtime", _Guess(zone))
    return _Known(text, zone) if text else _Guess(zone)


class _Known:
    """Reads times of one format. Lines come many to the second: all but the fraction is worked out once for these."""

    def __init__(self, text: str, zone: tzinfo | None) -> None:
        self._match = re.compile(_pattern(text, text, set()), re.IGNORECASE).match
        self._zone = zone
        self._text = ""
        self._moment: float | None = None
        self._parts: dict[str, str | None] = {}
        self._second: float | None = None

    def __call__(self, text: str) -> float | None:
        if text != self._text:
            self._text, self._moment = text, self._read(text)
        return self._moment

    def _read(self, text: str) -> float | None:
        found = self._match(text.strip())
        if found is None:
            return None
        parts = found.groupdict()
        fraction = parts.pop("fraction", None)
        if parts != self._parts:
            self._parts, self._second = parts, self._whole(parts)
        return self._second if self._second is None or not fraction else self._second + float(f"0.{fraction}")

    def _whole(self, parts: Mapping[str, str | None]) -> float | None:
        try:
            return _sane(_moment({name: value for name, value in parts.items() if value}, self._zone))
        except (ValueError, OverflowError):
            return None


class _Guess:
    """Reads times of any usual format, as Ruby's Time.parse does."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self._known = [_Known(text, zone) for text in _GUESSES]

    def __call__(self, text: str) -> float | None:
        try:
            found = datetime.fromisoformat(text.strip())
        except ValueError:
            return next((moment for known in self._known if (moment := known(text)) is not None), None)
        try:
            return _sane((found if found.tzinfo else found.replace(tzinfo=self._zone)).timestamp())
        except (ValueError, OverflowError):
            return None


class _Numbers:
    """Reads epoch seconds; should there be something else, then by its looks."""

    def __init__(self, whole: bool, other: Read) -> None:
        self._whole = whole
        self._other = other

    def __call__(self, text: str) -> float | None:
        try:
            moment = _sane(float(text))
        except ValueError:
            return self._other(text)
        return float(math.floor(moment)) if self._whole and moment is not None else moment


def number(value: object) -> float | None:
    """Give a number as epoch seconds, None if it is no number or no time that a log can have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if _sane(value) is not None else None


def _sane(moment: float) -> float | None:
    return moment if 0 <= moment < _LATEST else None


def _pattern(text: str, whole: str, seen: set[str]) -> str:
    """Translate a strptime format into a regular expression with a group for each part of a time."""
    pieces, start = [], 0
    for found in _DIRECTIVE.finditer(text):
        pieces += [_literal(text[start : found.start()]), _directive(found, whole, seen)]
        start = found.end()
    return "".join((*pieces, _literal(text[start:])))


def _literal(text: str) -> str:
    return r"\s*".join(re.escape(word) for word in re.split(r"\s+", text))


def _directive(found: re.Match[str], whole: str, seen: set[str]) -> str:
    _, _, width, letter = found.groups()
    if letter in _COMPOSED:
        return _pattern(_COMPOSED[letter], whole, seen)
    if letter not in _READ:
        raise WrongSettings(f"time format {whole!r} has {found[0]}, which cannot be read; use %Y %m %d %H %M %S %z")
    part, looks = _READ[letter]
    if part == "fraction" and width:
        looks = rf"\d{{{width}}}"
    if not part or part in seen:
        return f"(?:{looks})"
    seen.add(part)
    return f"(?P<{part}>{looks})"


def _moment(found: Mapping[str, str], zone: tzinfo | None) -> float:
    """Put together what was found. Raises ValueError, OverflowError when there is no such time."""
    if "epoch" in found:
        return int(found["epoch"])
    if "milliseconds" in found:
        return int(found["milliseconds"]) / 1000
    named = found.get("zone")
    where = _named_zone(named) if named else zone
    # A leap second, 60, is no second that datetime knows.
    seconds = int(found.get("second", 0))
    return _day(found, where).replace(hour=_hour(found), minute=int(found.get("minute", 0))).timestamp() + seconds


def _hour(found: Mapping[str, str]) -> int:
    hour = int(found.get("hour", 0))
    if "half" not in found:
        return hour
    return hour % 12 + (12 if found["half"][0] in "pP" else 0)


def _day(found: Mapping[str, str], zone: tzinfo | None) -> datetime:
    """Give the midnight that begins the day. What is not said is taken from today, or is the first."""
    today = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    today = today if zone else today.replace(tzinfo=None)
    if "yearday" in found:
        return today.replace(year=_year(found, today.year), month=1, day=1) + (int(found["yearday"]) - 1) * _DAY
    if not found.keys() & {"year", "short_year", "month", "month_name", "day"}:
        return today
    dated = found.keys() & {"year", "short_year"}
    month = _month(found) or (1 if dated else today.month)
    day = today.replace(year=_year(found, today.year), month=month, day=int(found.get("day", 1)))
    # At the turn of the year, syslog's "Dec 31 23:59:59" is of the year that has ended.
    return day if dated or day <= today + _DAY else day.replace(year=day.year - 1)


def _year(found: Mapping[str, str], default: int) -> int:
    if "short_year" in found:
        short = int(found["short_year"])
        return short + (1900 if short > 68 else 2000)
    return int(found.get("year", default))


def _month(found: Mapping[str, str]) -> int | None:
    if "month_name" in found:
        return _MONTHS.index(found["month_name"][:3].lower()) + 1
    return int(found["month"]) if "month" in found else None


def _named_zone(text: str) -> tzinfo:
    offset = _OFFSET.match(text)
    if offset:
        return timezone(timedelta(seconds=_seconds(offset)))
    if text.upper() not in _HOURS:
        raise ValueError(text)
    return timezone(timedelta(hours=_HOURS[text.upper()]))


def _seconds(offset: re.Match[str]) -> int:
    sign, hours, minutes, seconds = offset.groups()
    return (-1 if sign == "-" else 1) * (int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0))
