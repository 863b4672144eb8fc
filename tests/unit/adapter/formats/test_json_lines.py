# ruff: noqa: E501  (a line of a log, and what is in it, are read best side by side)

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.adapter import formats
from sidecars.adapter.formats.canonical import Canonical
from sidecars.adapter.formats.times import Times, zone
from sidecars.adapter.table import Json, Objects, Unparsed
from tests.unit.adapter.formats.cases import lines_of, records

CANONICAL = b'{"time":"2026-01-31T09:30:00.123+01:00","level":"info","message":"x","n":[1,{"a":null}]}\n'
JSON = formats.compile("json", absent=["pod", "file"])


def test_canonical_lines_pass_as_they_are() -> None:
    (segment,) = JSON.parse(CANONICAL * 3)
    assert isinstance(segment, Json)
    assert segment.data == CANONICAL * 3
    assert segment.count == 3
    assert segment.absent == {"pod", "file"}


def test_a_line_with_time_level_and_message_passes_whatever_else_has_such_a_name() -> None:
    line = b'{"time":"2026-11-25T09:30:00Z","level":"info","message":"m","ts":1,"severity":"x","msg":"y","log":{"level":"e"}}'
    (segment,) = JSON.parse(line + b"\n")
    assert isinstance(segment, Json)
    assert list(segment.records()) == [Canonical(Times(zone("UTC")))(json.loads(line))]


def test_what_is_counted_is_read_with_the_rest_unless_it_is_to_be_absent() -> None:
    line = b'{"time":"2026-01-31T09:30:00Z","level":"info","message":"x","status":404,"method":"GET"}\n'
    (segment,) = JSON.parse(line * 2)
    assert isinstance(segment, Json)
    assert [(each.level, each.method, each.status) for each in segment.seen or ()] == [("info", "GET", 404)] * 2
    (segment,) = formats.compile("json", absent=["status"]).parse(line)
    assert isinstance(segment, Json)
    assert segment.absent == frozenset()
    (segment,) = formats.compile("json", absent=["status"]).parse(CANONICAL)
    assert isinstance(segment, Json)
    assert "status" in segment.absent


def test_what_an_encoder_adds_is_absent_only_if_no_line_has_it() -> None:
    (segment,) = JSON.parse(CANONICAL + b'{"pod":"a"}\n')
    assert isinstance(segment, Json)
    assert segment.absent == frozenset()
    (segment,) = formats.compile("json", absent=["env"]).parse(CANONICAL)
    assert isinstance(segment, Json)
    assert "env" in segment.absent


@pytest.mark.parametrize(
    "line",
    [
        b'{"ts":1}', b'{"msg":"x"}', b'{"level":"WARN"}', b'{"time":"2026-01-31 09:30"}', b'{"message":1}', b'{"severity":null}',
        b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":NaN}', b'{"time":"2026-01-31T09:30:00"}', b"{}{}", b"[]", b"", b' {"a":1}',
        b'{"a":1}\r', b'{"message":null}',
    ],
)  # fmt: skip
def test_a_line_that_is_not_canonical_does_not_pass_unseen(line: bytes) -> None:
    for segment in JSON.parse(CANONICAL + line + b"\n"):
        assert not isinstance(segment, Json) or line not in segment.data


def test_a_few_lines_that_are_not_canonical_do_not_stop_the_others() -> None:
    data = CANONICAL * 500 + b'{"msg":"odd"}\n' + CANONICAL * 500
    segments = JSON.parse(data)
    assert lines_of(segments) == data
    assert sum(segment.count for segment in segments if isinstance(segment, Json)) > 800


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ('{"level":30,"time":1769851800123,"pid":1,"msg":"hi"}', {"time": "2026-01-31T09:30:00.123Z", "level": "info", "message": "hi", "pid": 1}),
        ('{"@timestamp":"2026-01-31T09:30:00Z","log.level":"WARN","message":"hi"}', {"time": "2026-01-31T09:30:00Z", "level": "warning", "message": "hi"}),
        ('{"@timestamp":"2026-01-31T09:30:00Z","log":{"level":"error"},"message":"hi"}', {"time": "2026-01-31T09:30:00Z", "level": "error", "message": "hi", "log": {"level": "error"}}),
        ('{"asctime":"2026-01-31 09:30:00,123","levelname":"ERROR","message":"hi"}', {"time": "2026-01-31T09:30:00.123Z", "level": "error", "message": "hi"}),
        ('{"severity":"NOTICE","event":"hi","timestamp":"2026-01-31T09:30:00Z"}', {"time": "2026-01-31T09:30:00Z", "level": "notice", "message": "hi"}),
        ('{"log":"{\\"a\\":1}\\n"}', {"message": '{"a":1}'}),
        ('{"time":"soon","level":"loud","message":{"a":1}}', {"timestamp": "soon", "severity": "loud", "body": {"a": 1}}),
        ('{"time":12.5,"ts":1769851800}', {"time": "2026-01-31T09:30:00Z", "timestamp": 12.5}),
        ('{"a":NaN,"b":-Infinity,"c":1e999}', {"a": "NaN", "b": "-Infinity", "c": "inf"}),
        ('{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ('{"a":"\\ud800"}', {"a": "?"}),
        ('{"message":7}', {"message": "7"}),
    ],
)  # fmt: skip
def test_the_usual_names_of_time_level_and_message_are_known(line: str, record: dict[str, object]) -> None:
    (found,) = records("json", line.encode() + b"\n")
    assert found == record
    msgspec.json.encode(found)


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"9" * 10_000 + b"}",
        b"nonsense",
        b'"text"',
    ],
)
def test_what_is_no_object_or_too_deep_stays_as_it_is(line: bytes) -> None:
    segments = JSON.parse(line + b"\n")
    assert lines_of(segments) == line + b"\n"
    for segment in segments:
        assert isinstance(segment, Unparsed | Json | Objects)
        assert len(list(segment.records())) == 1


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "user id", "ünï"]), _values, max_size=4), st.booleans())
@settings(max_examples=80, deadline=None)
def test_an_object_without_known_names_is_what_it_was(record: dict[str, object], ascii_only: bool) -> None:
    line = json.dumps(record, ensure_ascii=ascii_only).encode()
    assert records("json", line + b"\n" + CANONICAL)[0] == json.loads(line)


@given(
    st.lists(
        st.sampled_from(
            [
                CANONICAL,
                b'{"msg":"x"}\n',
                b"{}\n",
                b"{}{}\n",
                b"{\n",
                b"}\n",
                b"\n",
                b'{"a":\n',
                b"1}\n",
                b"[]\n",
                b'"\n',
                b"\xff\n",
                b" {}\n",
                b"{} \n",
            ]
        )
        | st.binary(max_size=8),
        max_size=8,
    ).map(b"".join)
)
@settings(max_examples=200, deadline=None)
def test_no_line_is_lost_or_joined_to_another(data: bytes) -> None:
    segments = JSON.parse(data)
    assert lines_of(segments) == (data + b"\n" if data and not data.endswith(b"\n") else data)
    for segment in segments:
        assert len(list(segment.records())) == segment.count == len(segment.lines)
