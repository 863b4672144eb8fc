# ruff: noqa: E501  (a line of a log, and what is in it, are read best side by side)

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.adapter import formats
from sidecars.core.follow import join
from tests.unit.adapter.formats.cases import CASES, COMBINED, unparsed

SAMPLES = os.path.join(os.path.dirname(__file__), "../../../samples")
NAMES = sorted(name.removesuffix(".log") for name in os.listdir(SAMPLES) if name.endswith(".log"))

PLAIN = b"2026-11-25 09:30:00 ERROR failed"


def sample(name: str) -> bytes:
    with open(os.path.join(SAMPLES, f"{name}.log"), "rb") as file:
        return file.read()


def test_there_is_a_sample_of_nearly_every_format() -> None:
    assert {"nginx", "nginx-error", "apache", "apache-error", "haproxy", "redis", "postgres"} <= set(NAMES)
    assert set(formats.NAMES) - set(NAMES) == {"syslog", "text", "traefik-json"}


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_named_and_all_its_lines_are_read(name: str) -> None:
    data = sample(name)
    verdict = formats.detect(data, f"{name}.log")
    assert verdict.format == ("syslog" if name.startswith("syslog") else name)
    assert verdict.share == 1.0
    assert unparsed(formats.compile(verdict.format).parse(data)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_record_of_a_sample_has_a_time_or_a_level(name: str) -> None:
    for segment in formats.compile(name).parse(sample(name)):
        for record in segment.records():
            assert {"time", "level"} & record.keys(), record


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("/logs/httpd/access_log", COMBINED, "apache"), ("a.log", COMBINED, "nginx"), ("a.log", COMBINED + b"\nnonsense\n" + COMBINED, "nginx"),
        ("a.log", b"2026-01-31T09:30:00Z stdout F " + COMBINED, "cri+nginx"),
        ("a.log", rb'{"log":"{\"msg\":\"x\"}\n","stream":"stdout","time":"2026-01-31T09:30:00Z"}', "docker+json"),
        ("a.log", b"hello\nworld", "text"), ("a.log", b"", "text"), ("a.log", b"\n\n", "text"), ("a.log", b"\xff\xfe\0\0", "text"),
        ("a.log", b"To be, or not to be\nthat is, the question", "text"), ("a.log", b"\xef\xbb\xbf" + b'{"a":1}', "json"),
        ("a.log", PLAIN, "text"), ("a.log", PLAIN + b"\nwithout a time", "text"), ("a.log", b"2026-01-31T09:30:00Z stdout F " + PLAIN, "cri+text"),
        ("a.log", PLAIN + b"\njava.io.IOException: x\n\tat shop.Orders.place(Orders.java:7)", "log4j"), ("a.log", PLAIN + b"\n\tat shop.Orders.place(Orders.java:7)", "log4j"),
        ("a.log", PLAIN + b"\nTraceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 1", "python"),
        ("a.log", b"2026-11-25 09:30:00,123 - shop - ERROR - failed", "python"), ("a.log", b"2026-11-25 09:30:00,123 [main] ERROR shop.Orders - failed", "log4j"),
    ],
)  # fmt: skip
def test_the_verdict_is_what_a_person_would_say(name: str, data: bytes, format: str) -> None:
    verdict = formats.detect(data + b"\n", name)
    assert verdict.format == format
    assert verdict.reason


@pytest.mark.parametrize(
    ("name", "data", "record"), [case for case in CASES if case[0] in NAMES and case[0] != "hash"][:12]
)
def test_a_line_of_the_documentation_is_named(name: str, data: bytes, record: object) -> None:
    assert formats.detect(data + b"\n").format.startswith(name.partition("-")[0]) or name in ("apache", "apache-common")


def test_nothing_is_lost_of_lines_with_a_time_and_a_level_whatever_program_wrote_them() -> None:
    verdict = formats.detect(PLAIN + b"\n")
    found = formats.compile(verdict.format, continuation=join.continuation(verdict.multiline))
    (segment,) = found.parse(PLAIN + b"\n\tat shop.Orders.place(Orders.java:7)\nwithout a time\n")
    assert list(segment.records()) == [
        {"time": "2026-11-25T09:30:00Z", "level": "error", "message": "failed\n\tat shop.Orders.place(Orders.java:7)"},
        {"message": "without a time"},
    ]


@given(st.binary(max_size=300) | st.lists(st.sampled_from([data for _, data, _ in CASES]), max_size=4).map(b"\n".join))
@settings(max_examples=40, deadline=None)
def test_detection_never_raises(head: bytes) -> None:
    verdict = formats.detect(head)
    formats.compile(verdict.format).parse(head)
