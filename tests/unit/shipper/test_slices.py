"""Time slices: aligned in their zone, named as fluentd names them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.shipper import slices
from sidecars.shipper.plan import Layout

ZONES = ("UTC", "+09:00", "-03:30", "Europe/Berlin", "America/New_York", "America/Havana", "America/Sao_Paulo",
         "Asia/Beirut", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe")  # fmt: skip
LENGTHS = (1, 10, 60, 300, 900, 3600, 5400, 7200, 21_600, 43_200, 86_400, 604_800)


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The container's zone is Berlin, by a rule, as TZ may be where there is no database of zones."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "zone", "at", "begins", "ends"),
    [
        (300, "UTC", "2026-01-31T09:33:20Z", "2026-01-31T09:30:00Z", "2026-01-31T09:35:00Z"),
        (300, "UTC", "2026-01-31T09:35:00Z", "2026-01-31T09:35:00Z", "2026-01-31T09:40:00Z"),
        (1, "UTC", "2026-01-31T09:33:20.9Z", "2026-01-31T09:33:20Z", "2026-01-31T09:33:21Z"),
        (3600, "+05:30", "2026-01-31T10:29:00+05:30", "2026-01-31T10:00:00+05:30", "2026-01-31T11:00:00+05:30"),
        (3600, "Asia/Kolkata", "2026-01-31T10:29:00+05:30", "2026-01-31T10:00:00+05:30", "2026-01-31T11:00:00+05:30"),
        (86400, "UTC", "2026-01-31T23:59:59Z", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
        (86400, "+09:00", "2026-01-31T01:00:00+09:00", "2026-01-31T00:00:00+09:00", "2026-02-01T00:00:00+09:00"),
        (21600, "-0800", "2026-01-31T07:00:00-08:00", "2026-01-31T06:00:00-08:00", "2026-01-31T12:00:00-08:00"),
        # A day of 23 hours, and one of 25.
        (86400, "Europe/Berlin", "2026-03-29T12:00+02:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
        (86400, "Europe/Berlin", "2026-10-25T23:30+01:00", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),
        # 02:00 to 03:00 comes twice: two slices of an hour, but one of two hours, which is then three hours long.
        (3600, "Europe/Berlin", "2026-10-25T02:30+02:00", "2026-10-25T02:00+02:00", "2026-10-25T03:00+02:00"),
        (3600, "Europe/Berlin", "2026-10-25T02:30+01:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"),
        (7200, "Europe/Berlin", "2026-10-25T02:30+01:00", "2026-10-25T02:00+02:00", "2026-10-25T04:00+01:00"),
        # The end of the slice comes twice.
        (5400, "America/New_York", "2026-11-01T01:15-05:00", "2026-11-01T00:00-04:00", "2026-11-01T01:30-05:00"),
        # 02:00 to 03:00 does not come.
        (7200, "Europe/Berlin", "2026-03-29T03:30+02:00", "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"),
        # Midnight does not come; midnight comes twice; and a whole day does not come.
        (86400, "America/Sao_Paulo", "2018-11-04T05:00-02:00", "2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"),
        (86400, "America/Havana", "2026-11-01T12:00-05:00", "2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00"),
        (86400, "Pacific/Apia", "2011-12-29T12:00-10:00", "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00"),
    ],
)
def test_a_slice_is_aligned_in_its_zone(seconds: int, zone: str, at: str, begins: str, ends: str) -> None:
    layout = Layout(slice=seconds, zone=zone)
    begin = slices.begin(datetime.fromisoformat(at).timestamp(), layout)
    assert datetime.fromtimestamp(begin, UTC) == datetime.fromisoformat(begins)
    assert datetime.fromtimestamp(slices.end(begin, layout), UTC) == datetime.fromisoformat(ends)


# Around changes of the clock in all these zones, and anywhere else.
CHANGES = ("2026-03-29T01:00Z", "2026-10-25T01:00Z", "2026-03-08T07:00Z", "2026-11-01T05:00Z", "2018-11-04T03:00Z",
           "2018-02-18T02:00Z", "2026-03-28T22:00Z", "2011-12-30T10:00Z", "2026-04-04T15:00Z")  # fmt: skip
MOMENTS = st.floats(0, 4e9) | st.tuples(st.sampled_from(CHANGES), st.integers(-90_000, 90_000)).map(
    lambda pair: float(moment(pair[0]) + pair[1])
)


@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from(LENGTHS))
def test_every_moment_lies_in_its_slice(at: float, zone: str, seconds: int) -> None:
    layout = Layout(slice=seconds, zone=zone)
    begin = slices.begin(at, layout)
    assert begin <= at < slices.end(begin, layout)


@given(st.floats(0, 4e9), st.sampled_from(ZONES), st.sampled_from(LENGTHS))
def test_a_slice_begins_in_itself(at: float, zone: str, seconds: int) -> None:
    layout = Layout(slice=seconds, zone=zone)
    begin = slices.begin(at, layout)
    # Only where a slice of an hour meets a change by less than an hour is there another in between.
    assert slices.begin(begin, layout) == begin or zone == "Australia/Lord_Howe"


def test_without_slices_all_begin_at_0() -> None:
    assert slices.begin(1769851800.5, Layout(slice=0)) == 0


def test_the_last_moment_of_logs_has_a_slice() -> None:
    layout = Layout(slice=604_800, zone="-12:00")
    begin = slices.begin(253_402_214_399.0, layout)
    assert begin < 253_402_214_399 < slices.end(begin, layout)


@pytest.mark.parametrize(
    ("seconds", "slice_format", "zone", "text"),
    [
        (10, None, "UTC", "20260131093000"),
        (59, None, "UTC", "20260131093000"),
        (60, None, "UTC", "202601310930"),
        (300, None, "UTC", "202601310930"),
        (3600, None, "UTC", "2026013109"),
        (86_399, None, "UTC", "2026013109"),
        (86_400, None, "UTC", "20260131"),
        (604_800, None, "UTC", "20260131"),
        (300, "%Y-%m-%dT%H%M%z", "+09:00", "2026-01-31T1830+0900"),
        (300, "dt=%F/%H", "America/New_York", "dt=2026-01-31/04"),
        (300, "%s %Z", "Asia/Tokyo", "1769851800 JST"),
        (300, "", "UTC", ""),
        (0, None, "UTC", "20260131093000"),
    ],
)
def test_a_slice_is_named_as_fluentd_names_it(seconds: int, slice_format: str | None, zone: str, text: str) -> None:
    layout = Layout(slice=seconds, slice_format=slice_format, zone=zone)
    assert slices.text(moment("2026-01-31T09:30:00Z"), layout) == text


@pytest.mark.parametrize(
    ("slice_format", "seconds"),
    [
        ("%Y%m%d%H%M%S", 1),
        ("%Y%m%d%H%M", 60),
        ("%Y%m%d%H", 3600),
        ("%Y%m%d", 86_400),
        ("%Y%m", 86_400),
        ("%F/%-H", 3600),
        ("%F %R", 60),
        ("%FT%T", 1),
        ("%Y%m%d-100%%S", 86_400),
        ("", 86_400),
    ],
)
def test_a_format_tells_the_length_of_its_slices(slice_format: str, seconds: int) -> None:
    assert slices.seconds_of_format(slice_format) == seconds


@pytest.mark.usefixtures("in_berlin")
@given(st.floats(0, 2e9), st.sampled_from(LENGTHS))
def test_the_local_zone_is_that_of_the_c_library(at: float, seconds: int) -> None:
    if at < moment("1996-12-01T00:00Z"):  # before that, Berlin had other rules than the one that is set here
        at += moment("1996-12-01T00:00Z")
    named, local = Layout(slice=seconds, zone="Europe/Berlin"), Layout(slice=seconds, zone="local")
    begin = slices.begin(at, named)
    assert slices.begin(at, local) == begin
    assert slices.end(begin, local) == slices.end(begin, named)
    assert slices.text(begin, local) == slices.text(begin, named)


@pytest.mark.usefixtures("in_berlin")
def test_the_local_zone_knows_the_hour_that_comes_twice() -> None:
    layout = Layout(slice=3600, zone="local", slice_format="%H:%M %z %Z")
    texts = [slices.text(slices.begin(moment(at), layout), layout) for at in ("2026-10-25T00:30Z", "2026-10-25T01:30Z")]
    assert texts == ["02:00 +0200 CEST", "02:00 +0100 CET"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Tokio", "did you mean Asia/Tokyo?"),
        ("+25:00", "use one such as UTC, Asia/Tokyo or +09:00"),
        ("", "use one such as UTC, Asia/Tokyo or +09:00"),
        ("../../etc/passwd", "use one such as UTC, Asia/Tokyo or +09:00"),
        ("Mitteleuropäische\0Zeit", "use one such as UTC, Asia/Tokyo or +09:00"),
    ],
)
def test_a_zone_that_is_not_known_is_refused_with_the_nearest(name: str, advice: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        slices.zone(name)
    assert str(refused.value) == f"time zone {name!r} is not known; {advice}"
