# ruff: noqa: E501  (tables of cases are read best with a case per line)

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.formats import levels
from sidecars.adapter.formats.times import Times, epoch, number, zone
from sidecars.adapter.table import LEVELS

UTC_TIMES = Times(UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00Z"),
        ("2026-01-31t09:30:00.123456789+01:00", "2026-01-31T09:30:00.123456789+01:00"),
        ("2026-01-31 09:30:00,123", "2026-01-31T09:30:00.123Z"),
        ("2026-01-31 09:30:00.5 CET", "2026-01-31T09:30:00.5+01:00"),
        ("2026-01-31  9:30:00", "2026-01-31T09:30:00Z"),
        ("2026/01/31 09:30:00", "2026-01-31T09:30:00Z"),
        ("31/Jan/2026:09:30:00 -0730", "2026-01-31T09:30:00-07:30"),
        ("31/Jan/2026:09:30:00.123", "2026-01-31T09:30:00.123Z"),
        ("[31/Jan/2026:09:30:00 +0000]", "2026-01-31T09:30:00Z"),
        ("Sat Jan 31 09:30:00.123456 2026", "2026-01-31T09:30:00.123456Z"),
        ("Sat Jan 31 09:30:00 EST 2026", "2026-01-31T09:30:00-05:00"),
        ("Sat, 31 Jan 2026 09:30:00 GMT", "2026-01-31T09:30:00Z"),
        ("31 Jan 2026 09:30:00.123", "2026-01-31T09:30:00.123Z"),
        ("20260131 09:30:00.123456", "2026-01-31T09:30:00.123456Z"),
        ("20260131T093000Z", "2026-01-31T09:30:00Z"),
        ("260131  9:30:00", "2026-01-31T09:30:00Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60Z"),
        ("1769851800", "2026-01-31T09:30:00Z"),
        ("1769851800.25", "2026-01-31T09:30:00.25Z"),
        ("1769851800123", "2026-01-31T09:30:00.123Z"),
        ("1769851800123456", "2026-01-31T09:30:00.123456Z"),
        ("1769851800123456789", "2026-01-31T09:30:00.123456789Z"),
        ("2026-02-30T09:30:00Z", None),
        ("2026-01-31T24:30:00Z", None),
        ("2026-01-31", None),
        ("09:30:00", None),
        ("12", None),
        ("", None),
        ("never", None),
        ("9" * 70, None),
    ],
)
def test_a_time_becomes_rfc_3339_as_precise_as_it_is_written(text: str, expected: str | None) -> None:
    assert UTC_TIMES.text(text) == expected


def test_a_time_without_a_zone_is_of_the_one_that_is_stated_with_its_summer_time() -> None:
    berlin = Times(zone("Europe/Berlin"))
    assert berlin.text("2026-01-31 09:30:00") == "2026-01-31T09:30:00+01:00"
    assert berlin.text("2026-07-31 09:30:00") == "2026-07-31T09:30:00+02:00"
    assert Times(zone("-03:30")).text("2026-07-31 09:30:00") == "2026-07-31T09:30:00-03:30"


def test_a_time_without_a_year_is_of_the_last_twelve_months() -> None:
    now = datetime.now(UTC)
    for then in (now - timedelta(days=1), now - timedelta(days=300), now + timedelta(hours=12)):
        read = UTC_TIMES.text(f"{then:%b} {then.day:2} {then:%H:%M:%S}")
        assert read == f"{then:%Y-%m-%dT%H:%M:%S}Z"
    later = now + timedelta(days=40)
    assert str(UTC_TIMES.text(f"{later:%m%d %H:%M:%S}.000001")).startswith(f"{later.year - 1}-{later:%m-%d}")


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, ZoneInfo("Asia/Kolkata")]))
)
def test_a_time_says_the_same_moment_in_every_way_to_write_it(moment: datetime) -> None:
    for text in (moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M:%S.%f%z"), f"{moment:%d/%b/%Y:%H:%M:%S.%f %z}"):
        assert datetime.fromisoformat(str(UTC_TIMES.text(text))) == moment


@given(st.text(max_size=40) | st.from_regex(r"\d{0,20}[-/: ]\w{0,4}[T ]?[\d:.]{0,12}"))
def test_no_text_raises(text: str) -> None:
    read = UTC_TIMES.text(text)
    assert read is None or read[10] == "T"
    epoch(text)


def test_a_number_is_seconds_or_a_thousandth_a_millionth_a_billionth_of_one() -> None:
    assert number(1769851800) == number(1769851800.0) == "2026-01-31T09:30:00Z"
    assert number(1769851800.25) == "2026-01-31T09:30:00.25Z"
    assert number(1769851800250) == "2026-01-31T09:30:00.250Z"
    assert number(float("nan")) is number(-1) is number(0) is number(float("inf")) is None


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("WARN", "warning"), ("Warning", "warning"), ("[error]", "error"), ("E", "error"), ("FATAL", "critical"), ("LOG", "info"),
        ("30", "info"), ("60", "critical"), ("3", "error"), ("7", "debug"), ("trace8", "trace"), ("verbose", "trace"),
        ("emerg", "emergency"), ("Note", "notice"), ("what", None), ("", None), ("99", None),
    ],
)  # fmt: skip
def test_every_word_for_a_level_is_one_of_ours(word: str, level: str | None) -> None:
    assert levels.level(word) == level
    assert level is None or level in LEVELS
