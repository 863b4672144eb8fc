from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.encode import encoder
from sidecars.adapter.encode.instants import nanoseconds
from sidecars.adapter.table import Objects, Record, Segment, Table
from tests.unit.adapter.encode.samples import FIELDS, JSON, SEGMENTS, SHAPES, few, settings, shaping

Body = dict[str, Any]


def bodies(*segments: Segment, origin: str = "/logs/shop.log", **given: object) -> list[Body]:
    return [json.loads(body) for body in encoder(settings(**given), "otlp").encode(segments, origin)]


def parts(body: Body) -> tuple[dict[str, Any], list[Body]]:
    """The resource's attributes, and the records."""
    (resource,) = body["resourceLogs"]
    (scope,) = resource["scopeLogs"]
    assert scope["scope"]["name"] == "log-adapter"
    return values(resource["resource"]["attributes"]), scope["logRecords"]


def values(pairs: list[Body]) -> dict[str, Any]:
    assert all(set(pair) == {"key", "value"} for pair in pairs)
    return {pair["key"]: value(pair["value"]) for pair in pairs}


def value(any_value: Body) -> Any:
    """Read an AnyValue as a receiver does."""
    match list(any_value.items()):
        case []:
            return None
        case [("intValue", str(digits))]:
            return int(digits)
        case [("doubleValue", (float() | int() | "NaN" | "Infinity" | "-Infinity") as number)]:
            return float(number)
        case [(("stringValue", str(one)) | ("boolValue", bool(one)))]:
            return one
        case [("arrayValue", {"values": list(several)})]:
            return [value(each) for each in several]
        case [("kvlistValue", {"values": list(several)})]:
            return values(several)
    raise AssertionError(any_value)


def record(fields: Record, line: bytes = b"raw", **given: object) -> Body:
    (body,) = bodies(Objects([fields], [line]), **given)
    ((only,),) = parts(body)[1:]
    return only


def test_an_access_log_has_the_names_of_the_semantic_conventions() -> None:
    only = record(
        {
            "time": "2026-11-23T06:00:00.000000001Z", "client": "10.0.0.1", "method": "GET", "path": "/a?b=1",
            "protocol": "HTTP/1.1", "status": 200, "bytes": 5, "referrer": "r", "user_agent": "u", "duration": 0.25,
        },
        b"the line",
    )  # fmt: skip
    assert only["timeUnixNano"] == "1795413600000000001"
    assert only["observedTimeUnixNano"].isdigit()
    assert only["body"] == {"stringValue": "the line"}
    assert values(only["attributes"]) == {
        "client.address": "10.0.0.1",
        "http.request.method": "GET",
        "url.path": "/a",
        "url.query": "b=1",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "http.response.body.size": 5,
        "http.request.header.referer": ["r"],
        "user_agent.original": "u",
        "http.server.request.duration": 0.25,
    }


@pytest.mark.parametrize(("level", "number"), [("trace", 1), ("info", 9), ("warning", 13), ("error", 17), ("odd", 0)])
def test_levels_become_severities(level: str, number: int) -> None:
    only = record({"level": level, "message": "m", "trace_id": "ab" * 16, "span_id": "odd"})
    assert (only["severityNumber"], only["severityText"]) == (number, level)
    assert only["body"] == {"stringValue": "m"}
    assert only["traceId"] == "ab" * 16
    assert values(only["attributes"]) == {"span_id": "odd"}


def test_the_resource_says_where_records_come_from() -> None:
    given = {"pod_name": "web-0", "pod_namespace": "shop", "node_name": "n", "paths": ("/logs/*",)}
    (body,) = bodies(Objects([{"message": "m"}], [b""]), add=("deployment.environment=test", "app=a"), **given)
    resource, (only,) = parts(body)
    assert resource == {
        "service.name": "shop",
        "k8s.pod.name": "web-0",
        "k8s.namespace.name": "shop",
        "k8s.node.name": "n",
        "deployment.environment": "test",
    }
    assert values(only["attributes"]) == {"app": "a", "log.file.path": "/logs/shop.log"}
    (body,) = bodies(Objects([{"message": "m"}], [b""]), add=("service.name=mine",), origin="stdin")
    assert parts(body)[0] == {"service.name": "mine"}
    assert not values(parts(body)[1][0]["attributes"])


def test_a_request_holds_at_most_a_thousand_records() -> None:
    table = Table([FIELDS["referrer"]], [[b"x"] * 2500], [b"x"] * 2500, True)
    assert [len(parts(body)[1]) for body in bodies(table)] == [1000, 1000, 500]


@few
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_attributes_are_typed(fields: Record) -> None:
    fields = {f"x{name}": value for name, value in fields.items() if value is not None}
    assert values(record(fields)["attributes"]) == {name: expected(value) for name, value in fields.items()}


def expected(value: Any) -> Any:
    match value:
        case int() if value >= 2**63:
            return str(value)
        case list():
            return [expected(each) for each in value]
        case dict():
            return {name: expected(each) for name, each in value.items()}
    return value


@few
@given(st.lists(SEGMENTS, max_size=3), SHAPES)
def test_every_record_becomes_one(segments: list[Segment], shape: dict[str, object]) -> None:
    records = list(shaping(**shape).records(segments, "/logs/shop.log"))
    made = [each for body in bodies(*segments, **shape) for each in parts(body)[1]]
    assert len(made) == len(records)
    for one, fields in zip(made, records, strict=True):
        attributes = values(one["attributes"])
        assert "timeUnixNano" in one or nanoseconds(fields.get("time")) is None
        if isinstance(fields.get("client"), str):
            assert attributes["client.address"] == fields["client"]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.123456789+01:00", 123456789),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
        ("2016-12-31T23:59:60Z", 1483228800 * 10**9),
        ("2026-11-23 06:00:00,5-0000", 1795413600_500_000_000),
        ("2026-11-23T06:00:00", None),
        ("2026-13-23T06:00:00Z", None),
        ("", None),
        (5, None),
    ],
)
def test_instants_are_exact(text: object, instant: int | None) -> None:
    assert nanoseconds(text) == instant
