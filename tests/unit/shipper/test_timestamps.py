from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.shipper.timestamps import Format, number, reader, zone

MOMENT = 1785579630.123456  # 2026-08-01 10:20:30.123456 UTC, a Saturday


# What Ruby 3.1 gives for these was asked of it.
@pytest.mark.parametrize(
    ("format_", "where", "text"),
    [
        ("%Y-%m-%dT%H:%M:%S%:z", "UTC", "2026-08-01T10:20:30+00:00"),
        ("%Y-%m-%dT%H:%M:%S%:z", "Asia/Tokyo", "2026-08-01T19:20:30+09:00"),
        ("%d/%b/%Y:%H:%M:%S %z", "America/New_York", "01/Aug/2026:06:20:30 -0400"),
        ("%s.%L|%N|%3N|%6N|%12N", "UTC", "1785579630.123|123456000|123|123456|123456000000"),
        ("%::z", "+05:30", "+05:30:00"),
        ("%e|%k|%l|%p|%P|%y|%C|%j|%u|%w", "UTC", " 1|10|10|AM|am|26|20|213|6|6"),
        ("%-d|%_m|%^a|%^B|%10Y|%03d", "UTC", "1| 8|SAT|AUGUST|0000002026|001"),
        ("%F %T|%D|%R|%r|%c|%x|%X|%v", "UTC", "2026-08-01 10:20:30|08/01/26|10:20|10:20:30 AM|"
         "Sat Aug  1 10:20:30 2026|08/01/26|10:20:30| 1-AUG-2026"),
        ("%%L %%%L é", "UTC", "%L %123 é"),
        ("%Z", "America/New_York", "EDT"),
    ],
)  # fmt: skip
def test_a_time_is_written_as_ruby_writes_it(format_, where, text):
    assert Format(format_, zone(where))(MOMENT) == text


@given(st.integers(0, 4_000_000_000_000_000))
def test_what_was_written_is_read_to_the_microsecond(micros):
    text = Format("%Y-%m-%dT%H:%M:%S.%6N%:z", zone("Asia/Kolkata"))(micros / 1_000_000)
    assert datetime.fromisoformat(text) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert reader("string", "%Y-%m-%dT%H:%M:%S.%N%z", None)(text) == pytest.approx(micros / 1_000_000, abs=1e-6)


@pytest.mark.parametrize(
    ("format_", "text", "moment"),
    [
        ("%d/%b/%Y:%H:%M:%S %z", "01/Aug/2026:12:20:30 +0200", 1785579630),
        ("%Y-%m-%dT%H:%M:%S.%N%z", "2026-08-01T19:20:30.250+09:00", 1785579630.25),
        ("%Y-%m-%d %H:%M:%S,%L", "2026-08-01 10:20:30,125", 1785579630.125),
        ("%Y-%m-%d %H:%M:%S.%3N more", "2026-08-01 10:20:30.125 more", 1785579630.125),
        ("%a %b %d %H:%M:%S %Z %Y", "Sat Aug  1 10:20:30 UTC 2026", 1785579630),
        ("%b  %e %Y %I:%M:%S %p", "Aug 1 2026 10:20:30 AM", 1785579630),
        ("%b %d %Y %I:%M:%S %p", "Aug 1 2026 12:00:00 AM", 1785542400),
        ("%FT%TZ", "2026-08-01T10:20:30Z", 1785579630),
        ("%y%m%d %H%M%S", "260801 102030", 1785579630),
        ("%Y-%j", "2026-213", 1785542400),
        ("%s", "1785579630", 1785579630),
        ("%s.%L", "1785579630.5", 1785579630.5),
        ("%Q", "1785579630500", 1785579630.5),
        ("%Y-%m-%d %H:%M:%S", "2026-06-30 23:59:60", 1782864000),
        ("%Y-%m-%d", "2026-08-01 and more", 1785542400),
        ("%Y-%m-%d", "2026-13-01", None),
        ("%Y-%m-%d %Z", "2026-08-01 XYZ", None),
        ("%Y-%m-%d", "0000-01-01", None),
        ("%s", "9" * 5000, None),
        ("%d/%b/%Y", "32/Aug/2026", None),
        ("%d/%b/%Y", "01/Foo/2026", None),
        (None, "2026-08-01T10:20:30Z", 1785579630),
        (None, "2026-08-01 10:20:30.5", 1785579630.5),
        (None, "2026-08-01 12:20:30 +0200", 1785579630),
        (None, "01/Aug/2026:10:20:30 +0000", 1785579630),
        (None, "Sat, 01 Aug 2026 10:20:30 GMT", 1785579630),
        (None, "Sat Aug  1 10:20:30 UTC 2026", 1785579630),
        (None, "2026/08/01 10:20:30", 1785579630),
        (None, "soon", None),
        (None, "", None),
    ],
)
def test_a_time_is_read_by_its_format_or_its_looks(format_, text, moment):
    assert reader("string", format_, UTC)(text) == moment


def test_a_time_without_offset_is_of_the_zone():
    assert reader("string", "%Y-%m-%d %H:%M:%S", zone("+02:00"))("2026-08-01 12:20:30") == 1785579630
    assert reader("string", None, zone("Europe/Berlin"))("2026-08-01 12:20:30") == 1785579630


def test_a_day_without_year_is_of_the_past_year_rather_than_of_the_future():
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    read = reader("string", "%b %d", UTC)
    assert read(f"{today:%b %d}") == today.timestamp()
    later = next(day for number in (3, 4) if (day := today + timedelta(days=number)).strftime("%m%d") != "0229")
    past = datetime.fromtimestamp(read(f"{later:%b %d}") or 0, UTC)
    assert past < today
    assert (past.month, past.day) == (later.month, later.day)


@pytest.mark.parametrize(
    ("kind", "text", "moment"),
    [
        ("float", "1785579630.5", 1785579630.5),
        ("unixtime", "1785579630.5", 1785579630),
        ("float", "2026-08-01T10:20:30Z", 1785579630),
        ("float", "nan", None),
        ("float", "inf", None),
        ("float", "-5", None),
        ("float", "1785579630123", None),
    ],
)
def test_epoch_seconds_are_read_from_text(kind, text, moment):
    assert reader(kind, None, UTC)(text) == moment


@pytest.mark.parametrize("value", [True, None, "5", [], 10**400, -1, float("nan"), 1785579630123])
def test_what_is_no_time_that_a_log_can_have_is_none(value):
    assert number(value) is None


@given(st.text(), st.sampled_from([None, "%Y-%m-%d %H:%M:%S.%N %z", "%b %d %H:%M:%S", "%j %Y", "%s", "%d/%b/%Y %I%p"]))
def test_any_text_is_a_time_or_none(text, format_):
    moment = reader("string", format_, None)(text)
    assert moment is None or moment >= 0


def test_an_unknown_directive_or_zone_is_refused():
    with pytest.raises(WrongSettings, match="time format '%Y %U' has %U, which cannot be read"):
        reader("string", "%Y %U", None)
    with pytest.raises(WrongSettings, match="time zone 'Europe/Atlantis' is not known"):
        zone("Europe/Atlantis")
    with pytest.raises(WrongSettings, match="is not known"):
        zone("../../etc/passwd")
