from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.encode import encoder
from sidecars.adapter.encode.ecs import split_trace
from sidecars.adapter.encode.ecs_table import Documents
from sidecars.adapter.encode.instants import nanoseconds
from sidecars.adapter.table import Field, Objects, Record, Segment, Table
from tests.unit.adapter.encode.samples import FIELDS, SEGMENTS, SHAPES, few, many, settings, shaping, tables

TIME = "2026-11-23T06:00:00.25Z"


def documents(*segments: Segment, **given: object) -> list[dict[str, Any]]:
    data = b"".join(encoder(settings(**given), "ecs").encode(segments, "/logs/a.log"))
    assert data.endswith(b"\n") or not data
    return [json.loads(line, object_pairs_hook=once) for line in data.decode().split("\n")[:-1]]


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of members none of which comes twice."""
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def document(record: Record, line: bytes = b"raw", **given: object) -> dict[str, Any]:
    (only,) = documents(Objects([{"time": TIME, **record}], [line]), **given)
    return only


def test_an_access_log_has_the_names_of_the_schema() -> None:
    record: Record = {
        "client": "10.0.0.1", "user": "joe", "method": "GET", "path": "/a?b=1", "protocol": "HTTP/1.1", "status": 200,
        "bytes": 5, "referrer": "r", "user_agent": "u", "duration": 0.25, "host": "h", "upstream": "1.1.1.1:80",
    }  # fmt: skip
    assert document(record, b"the line") == {
        "@timestamp": TIME,
        "message": "the line",
        "ecs.version": "8.11.0",
        "source": {"address": "10.0.0.1", "ip": "10.0.0.1"},
        "user": {"name": "joe"},
        "http": {
            "request": {"method": "GET", "referrer": "r"},
            "version": "1.1",
            "response": {"status_code": 200, "body": {"bytes": 5}},
        },
        "url": {"original": "/a?b=1", "path": "/a", "query": "b=1"},
        "user_agent": {"original": "u"},
        "event": {"duration": 250_000_000},
        "host": {"name": "h"},
        "labels": {"upstream": "1.1.1.1:80"},
    }


def test_a_log_line_begins_as_the_ecs_loggers_write_it() -> None:
    record: Record = {"level": "warning", "message": "m", "logger": "l", "thread": "main", "pid": 7}
    data = encoder(settings(pod_name="web-0"), "ecs").encode([Objects([{"time": TIME, **record}], [b""])], "x")
    assert b"".join(data) == (
        b'{"@timestamp":"2026-11-23T06:00:00.25Z","log.level":"warning","message":"m","ecs.version":"8.11.0",'
        b'"log":{"logger":"l"},"process":{"thread":{"name":"main"},"pid":7},"kubernetes":{"pod":{"name":"web-0"}}}\n'
    )


@pytest.mark.parametrize(
    ("record", "member"),
    [
        ({"client": "unix:"}, {"source": {"address": "unix:"}}),
        ({"status": "200"}, {"labels": {"status": "200"}}),
        ({"protocol": "TCP"}, {"network": {"protocol": "tcp"}}),
        ({"thread": 7}, {"process": {"thread": {"id": 7}}}),
        ({"a": {"b": {"c.d": 1}}, "e.f": [1]}, {"labels": {"a_b_c_d": 1, "e_f": [1]}}),
        ({"a": [{"b": 1}]}, {"labels": {"a": '[{"b":1}]'}}),
        ({"http": {"request": {"id": "i"}}, "method": "GET"}, {"http": {"request": {"id": "i", "method": "GET"}}}),
        ({"trace.id": "t", "labels": {"x": "y"}}, {"trace": {"id": "t"}, "labels": {"x": "y"}}),
        ({"service": "shop"}, {"service": {"name": "shop"}}),
        ({"ecs.version": "1.6.0", "tags": ["a"]}, {"tags": ["a"]}),
        ({"parse_error": "no fit"}, {"error": {"message": "no fit"}}),
        ({"duration": True, "line": True}, {"labels": {"duration": True, "line": True}}),
    ],
)
def test_what_the_schema_does_not_know_becomes_a_label(record: Record, member: dict[str, Any]) -> None:
    assert document({"message": "m", **record}) == {
        "@timestamp": TIME, "message": "m", "ecs.version": "8.11.0", **member
    }  # fmt: skip


def test_what_has_no_time_gets_the_present_one() -> None:
    (only,) = documents(Objects([{"time": "Mon 5", "message": "m"}], [b""]))
    assert nanoseconds(only["@timestamp"]) is not None
    assert only["labels"] == {"time": "Mon 5"}


@pytest.mark.parametrize(
    ("message", "first", "trace"),
    [
        ("one line at x", "one line at x", ""),
        ("two\nlines", "two\nlines", ""),
        ("failed\njava.lang.E: x\n\tat a.B(C.java:1)", "failed", "java.lang.E: x\n\tat a.B(C.java:1)"),
        ('Traceback (most recent call last):\n  File "a", line 1\nE: x', "Traceback (most recent call last):", "all"),
        ("panic: x\n\ngoroutine 1 [running]:", "panic: x", "all"),
        ("TypeError: x\n    at f (a.js:1:2)", "TypeError: x", "all"),
    ],
)
def test_a_stack_trace_stands_beside_the_message(message: str, first: str, trace: str) -> None:
    assert split_trace(message) == (first, message if trace == "all" else trace)


@many
@given(tables(), SHAPES)
def test_a_table_says_what_its_records_say(table: Table, shape: dict[str, object]) -> None:
    alone = Objects(list(table.records()), table.lines)
    assert timeless(documents(table, **shape)) == timeless(documents(alone, **shape))


def test_a_table_of_an_access_log_is_not_made_by_records() -> None:
    names = ("time", "client", "user", "path", "referrer", "status", "duration")
    cells = [[b"1", b"2"], [b"::1", b"-"], [b"", b"joe"], [b"/a?b", b"/c"], [b"r", b""], [b"1", b"2"], [b"0.5", b""]]
    table = Table([FIELDS[name] for name in names], cells, [b'a "b"', b"c"], True)
    made = Documents(shaping(pod_name="web-0")).encode(table, "x")
    assert json.loads(made.split(b"\n")[1]) == {
        "@timestamp": "2026-11-23T06:00:02Z",
        "message": "c",
        "ecs.version": "8.11.0",
        "source": {"address": "-"},
        "user": {"name": "joe"},
        "url": {"original": "/c", "path": "/c"},
        "http": {"response": {"status_code": 2}},
        "kubernetes": {"pod": {"name": "web-0"}},
    }


def test_two_fields_with_one_label_are_no_object_with_a_name_twice() -> None:
    fields = [FIELDS["time"], Field("a.b"), Field("a_b")]
    made = documents(Table(fields, [[b"1", b"1"], [b"x", b"x"], [b"y", b""]], [b"line", b"line"], True))
    assert [one["labels"] for one in made] == [{"a_b": "y"}, {"a_b": "x"}]


def timeless(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the present time, which what has no time gets."""
    return [
        one | {"@timestamp": one["@timestamp"].startswith("2026-11-23T06:00:") and one["@timestamp"]} for one in made
    ]


@pytest.mark.parametrize(
    "piece", ["\n", " ", " \n", "\t", "\n at", "\n from a:1", "a.Error ", "Caused by", "\ngoroutine 1", "\n  File"]
)
def test_a_hostile_message_takes_no_longer_than_another(piece: str) -> None:
    message = "a\n" + piece * (1_000_000 // len(piece))
    began = time.process_time()
    split_trace(message)
    split_trace(piece * 1000 + "\n at x")
    assert time.process_time() - began < 2


@few
@given(st.lists(SEGMENTS, max_size=3), SHAPES)
def test_every_record_becomes_one_document(segments: list[Segment], shape: dict[str, object]) -> None:
    records = list(shaping(**shape).records(segments, "/logs/a.log"))
    made = documents(*segments, **shape)
    assert len(made) == len(records)
    for one, record in zip(made, records, strict=True):
        assert isinstance(one["message"], str)
        assert one["@timestamp"]
        if isinstance(record.get("user_agent"), str):
            assert one["user_agent"]["original"] == record["user_agent"]
        if isinstance(record.get("status"), int):
            assert record["status"] in (one.get("http", {}).get("response", {}).get("status_code"), True, False)
