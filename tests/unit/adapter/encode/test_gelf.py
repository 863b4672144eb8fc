from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.encode import encoder
from sidecars.adapter.table import Objects, Record, Segment
from tests.unit.adapter.encode.samples import SEGMENTS, SHAPES, few, settings, shaping


def messages(*segments: Segment, **given: object) -> list[dict[str, Any]]:
    return [json.loads(message) for message in encoder(settings(**given), "gelf").encode(segments, "/logs/a.log")]


def message(record: Record, line: bytes = b"raw", **given: object) -> dict[str, Any]:
    (only,) = messages(Objects([record], [line]), **given)
    return only


def test_an_access_log_is_its_line_with_fields() -> None:
    record: Record = {"time": "2026-11-23T06:00:00.25Z", "client": "10.0.0.1", "status": 200, "duration": 0.5}
    assert message(record, b"the line", pod_name="web-0") == {
        "version": "1.1",
        "host": "web-0",
        "short_message": "the line",
        "timestamp": 1795413600.25,
        "level": 6,
        "_client_ip": "10.0.0.1",
        "_status": 200,
        "_duration": 0.5,
        "_pod": "web-0",
    }


def test_a_message_of_several_lines_is_the_full_one() -> None:
    only = message({"message": "\nfirst\n  second", "level": "critical", "host": "h"})
    assert only == {
        "version": "1.1", "host": "h", "short_message": "first", "full_message": "\nfirst\n  second", "level": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        ({"id": 1}, {"_id_": 1}),
        ({"a b/ü": "x"}, {"_a_b__": "x"}),
        (
            {"ok": True, "none": None, "big": 2**70, "n": {"a": [1]}},
            {"_ok": "true", "_big": str(2**70), "_n": '{"a":[1]}'},
        ),
        ({"time": "odd", "level": 5}, {"_time": "odd"}),
        ({"host": {"name": "h"}}, {}),
    ],
)
def test_additional_fields_are_texts_or_numbers(record: Record, fields: dict[str, Any]) -> None:
    only = message({"message": "", **record})
    assert {name: value for name, value in only.items() if name.startswith("_")} == fields
    assert only["short_message"] == "-"


def test_without_a_pod_the_host_is_this_machine() -> None:
    assert message({})["host"] == socket.gethostname()


@few
@given(st.lists(SEGMENTS, max_size=3), SHAPES)
def test_every_message_is_valid(segments: list[Segment], shape: dict[str, object]) -> None:
    made = messages(*segments, **shape)
    assert len(made) == len(list(shaping(**shape).records(segments, "/logs/a.log")))
    for one in made:
        assert one["version"] == "1.1"
        assert one["host"] and one["short_message"].strip()
        assert one["level"] in range(8)
        assert isinstance(one.get("timestamp", 0.0), float)
        ours = {"version", "host", "short_message", "full_message", "timestamp", "level"}
        for name in one.keys() - ours:
            assert re.fullmatch(r"_[\w.\-]*", name, re.ASCII) and name != "_id"
            assert type(one[name]) in (str, int, float)
