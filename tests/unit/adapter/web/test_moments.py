"""Times, as records have them and as people ask for them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.web.moments import epoch, moment, relative

NOON = 1769860800.0  # 2026-01-31T12:00:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00:00.5Z", NOON + 0.5),
        ("2026-01-31T12:00:00.123456789Z", NOON + 0.123456),
        ("2026-01-31T13:00:00+01:00", NOON),
        ("2026-01-31 12:00:00", NOON),
        ("2026-01-31", NOON - 43200),
        ("Sat Jan 31 12:00:00 UTC 2026", NOON),
        ("Sat Jan 31 12:00:00 2026", NOON),
        ("Sat Jan 31 12:00:00 PM UTC 2026", NOON),
        ("Sat Jan 31 12:00:00 AM UTC 2026", NOON - 43200),
        ("Sun Feb  1 12:00:00 UTC 2026", NOON + 86400),
        ("Sun Feb 31 12:00:00 UTC 2026", None),
        ("Sat Jan 31 12:00:00 CET 2026", None),
        ("", None),
        ("noon", None),
    ],
)
def test_the_time_of_a_record(text, expected):
    assert epoch(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOON),
        ("10m", NOON - 600),
        ("2h ago", NOON - 7200),
        ("1.5s", NOON - 1.5),
        ("1d", NOON - 86400),
        ("1769860800", NOON),
        ("10", 10),
        ("1769860800.25", NOON + 0.25),
        ("1769860800000", NOON),
        ("1769860800000000000", NOON),
        ("2026-01-31T13:00:00 01:00", NOON),
    ],
)
def test_a_moment_that_is_asked_for(text, expected):
    assert moment(text, NOON) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "soon", "-5m", "10 minutes", "5x", "99999999999m", "1e9"])
def test_what_is_no_moment(text):
    with pytest.raises((ValueError, OverflowError)):
        moment(text, NOON)


@given(st.text(max_size=40))
def test_no_text_does_more_than_be_wrong(text):
    epoch(text)
    with contextlib.suppress(ValueError, OverflowError):
        moment(text, NOON)


def test_what_depends_on_when_it_is_asked():
    assert [relative(text) for text in ("10m", "now", "2026-01-31", "1769860800")] == [True, True, False, False]
