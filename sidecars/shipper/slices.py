"""Time slices: where the one begins and ends that a moment lies in, and what it is called in keys."""

from __future__ import annotations

import bisect
import functools
import re
import time
from datetime import UTC, datetime, timedelta, tzinfo

from sidecars.core.errors import WrongSettings
from sidecars.shipper import timestamps
from sidecars.shipper.plan import Layout

_HOUR, _DAY = 3600, 86_400
_EPOCH = datetime(1970, 1, 1)  # of the clock on the wall
_LAST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())

# How fluentd calls slices: the first that is longer has the format. Source: fluent-plugin-s3, timekey_to_timeformat.
_FORMATS = ((60, "%Y%m%d%H%M%S"), (_HOUR, "%Y%m%d%H%M"), (_DAY, "%Y%m%d%H"))
# And how long they are when only their format is given: as long as its finest directive stays the same.
_LENGTHS = {1: "SsTXcrLN", 60: "MR", _HOUR: "HIkl"}
_DIRECTIVE = re.compile(r"%[-0_^#]*:*\d*([A-Za-z%])")


def begin(seconds: float, layout: Layout) -> int:
    """Give the beginning of the slice that a moment lies in, both in epoch seconds; 0 where there are no slices.

        slices of 5 minutes      2026-01-31 09:33:20 -> 09:30:00
        of a day, in Berlin      the midnight of Berlin, also on the days of 23 and 25 hours

    Slices of up to an hour are as long as each other, whatever the clock on the wall does. Longer ones begin by that
    clock: where it shows their beginning twice, the first time; where it skips it, at that moment.
    """
    if not layout.slice:
        return 0
    moment, where = int(seconds // 1), zone(layout.zone)
    wall = moment + _offset(moment, where)
    past = wall % layout.slice
    if layout.slice <= _HOUR:
        return moment - past
    return _moments(wall - past, where)[0]


def end(begin: int, layout: Layout) -> int:
    """Give the moment at which the slice is over that begins then: a day may have 23 or 25 hours."""
    if layout.slice <= _HOUR:
        return begin + layout.slice
    where = zone(layout.zone)
    wall = begin + _offset(begin, where)
    following = wall - wall % layout.slice + layout.slice
    return _moments(min(following, _LAST), where)[1]


def text(begin: int, layout: Layout) -> str:
    """Give a slice's name, the %{time_slice} of keys: 202601310930 of one of 5 minutes."""
    form = layout.slice_format
    if form is None:
        form = next((form for length, form in _FORMATS if layout.slice < length), "%Y%m%d")
    return timestamps.Format(form, zone(layout.zone))(begin)


def seconds_of_format(slice_format: str) -> int:
    """Give the length of slices that fluentd infers from a time_slice_format: %Y%m%d%H -> 3600.

    Source: fluentd, compat_parameters.rb. It refuses those without %d, which are slices of a day here.
    """
    letters = set(_DIRECTIVE.findall(slice_format))
    return next((length for length, finest in _LENGTHS.items() if letters & set(finest)), _DAY)


@functools.lru_cache
def zone(name: str) -> tzinfo:
    """Give a time zone: UTC, local, +09:00, or a name such as Europe/Berlin. Raises WrongSettings."""
    try:
        return timestamps.zone(name) or _Local()
    except (WrongSettings, ValueError) as error:
        raise WrongSettings(f"time zone {name!r} is not known; {_advice(name)}") from error


def _advice(name: str) -> str:
    import difflib  # only a mistake pays for these
    from zoneinfo import available_timezones

    names: dict[str, str] = {}
    for known in sorted(available_timezones()):
        names.setdefault(known.rpartition("/")[2].lower(), known)
        names[known.lower()] = known
    match = difflib.get_close_matches(name.lower(), names, 1)
    return f"did you mean {names[match[0]]}?" if match else "use one such as UTC, Asia/Tokyo or +09:00"


def _offset(moment: int, where: tzinfo) -> int:
    offset = datetime.fromtimestamp(moment, where).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _moments(wall: int, where: tzinfo) -> tuple[int, int]:
    """Give the first and last moment at which the clock on the wall shows so many seconds since 1970.

    For a time that the clock skips, both are the moment at which it does.
    """
    shown = (_EPOCH + timedelta(seconds=wall)).replace(tzinfo=where)
    first, last = int(shown.timestamp()), int(shown.replace(fold=1).timestamp())
    if first <= last:
        return first, last
    skips = bisect.bisect_right(range(last, first), _offset(last, where), key=lambda each: _offset(each, where))
    return last + skips, last + skips


class _Local(tzinfo):
    """The container's own zone, by the C library: TZ in every form that it knows, or /etc/localtime."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(seconds=self._facts(moment).tm_gmtoff)

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return self._facts(moment).tm_zone

    def fromutc(self, moment: datetime) -> datetime:
        # A datetime without zone is of the local one to the library, which knows the first 02:30 from the second.
        return datetime.fromtimestamp(moment.replace(tzinfo=UTC).timestamp()).replace(tzinfo=self)

    def _facts(self, moment: datetime | None) -> time.struct_time:
        return time.localtime(moment.replace(tzinfo=None).timestamp() if moment else None)
