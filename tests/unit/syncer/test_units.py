"""Values are read as Go reads them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.syncer.units import BOOLEANS, Duration, boolean, whole

DURATIONS = [
    ("0", 0), ("+0", 0), ("-0", 0), ("300ms", 0.3), ("1.5h", 5400), ("2h45m", 9900), ("1h0m0.5s", 3600.5), (".5s", 0.5),
    ("5.s", 5), ("10ns", 1e-8), ("7us", 7e-6), ("7µs", 7e-6), ("7μs", 7e-6), ("-1.5s", -1.5), ("+2m", 120),
    ("2562047h", 2562047 * 3600), ("1m1m", 120),
]  # fmt: skip
NO_DURATIONS = [
    "",
    "10",
    "1.5",
    "soon",
    "5 s",
    " 5s",
    "5d",
    "s",
    ".s",
    "-",
    "1h-2m",
    "5S",
    "2562048h",
    "1e3s",
    "0x1s",
    "٣s",
]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert Duration.read(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(text)}$"):
        Duration.read(text)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, milliseconds: int) -> None:
    text = f"{hours}h{minutes}m{milliseconds}ms"
    assert Duration.read(text) == pytest.approx(hours * 3600 + minutes * 60 + milliseconds / 1000)


def test_booleans_are_those_of_go() -> None:
    assert [text for text, value in BOOLEANS.items() if value] == ["1", "t", "T", "TRUE", "true", "True"]
    assert [text for text, value in BOOLEANS.items() if not value] == ["0", "f", "F", "FALSE", "false", "False"]
    for text in ("", "yes", "no", "on", "off", "tRue", " true", "2"):
        with pytest.raises(ValueError, match=rf"^{re.escape(text)}$"):
            boolean(text)


WHOLE = [
    ("0", 0), ("7", 7), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0X1f", 31), ("-0x10", -16), ("0o17", 15), ("017", 15),
    ("0b101", 5), ("00", 0), ("9223372036854775807", 2**63 - 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), WHOLE)
def test_a_whole_number_is_read(text: str, number: int) -> None:
    assert whole(text) == number


@pytest.mark.parametrize("text", ["", "1.0", "08", "0x", "1 ", "one", "--1", "1e3", "9223372036854775808", "٣"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(text)}$"):
        whole(text)
