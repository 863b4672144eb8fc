"""What is counted of records: requests of access logs, levels, and an operator's own metrics."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sidecars.adapter import metrics
from sidecars.adapter.counting import Counting, labels_of
from sidecars.adapter.formats import compile as compiled
from sidecars.adapter.measures import condition
from sidecars.adapter.settings import Metric, Settings
from sidecars.adapter.table import Field, Json, Objects, Segment, Table, Unparsed
from sidecars.core import log
from sidecars.core.errors import WrongSettings
from sidecars.core.settings import load

LINE = '10.0.0.1 - bob [25/Nov/2026:13:00:00 +0000] "{request}" {status} {bytes} "-" "curl"{tail}\n'


def access(request: str = "GET /a HTTP/1.1", status: object = 200, size: object = 10, tail: str = "") -> str:
    return LINE.format(request=request, status=status, bytes=size, tail=tail)


class Counted:
    """Counts in a registry of its own, and what Prometheus would see of it."""

    def __init__(self, *own: Metric, **given: object) -> None:
        self.registry = CollectorRegistry()
        self.counting = Counting(Settings(metrics=own, **given), self.registry)

    def count(self, segments: Sequence[Segment]) -> Counted:
        self.counting.count(segments)
        return self

    def lines(self, format: str, *lines: str) -> Counted:
        return self.count(compiled(format).parse("".join(lines).encode()))

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric by its labels' values, in the order of the labels' names."""
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }


def table(**columns: Sequence[bytes]) -> Table:
    fields = [Field(name, "integer" if name == "status" else "text") for name in columns]
    lines = [b""] * len(next(iter(columns.values())))
    return Table(fields, list(columns.values()), lines, clean=True)


# Access logs


def test_requests_are_counted_by_method_and_class_of_status():
    counted = Counted().lines(
        "nginx",
        access(),
        access(),
        access("POST /b HTTP/1.1", 502),
        access("PROPFIND / HTTP/1.1", 405),
        access("\\x16\\x03", 400),
        access(status=499),
    )
    assert counted.samples("adapter_requests_total") == {
        ("GET", "2xx"): 2,
        ("POST", "5xx"): 1,
        ("OTHER", "4xx"): 2,
        ("GET", "4xx"): 1,
    }
    assert counted.samples("adapter_response_bytes_total") == {(): 60}
    assert counted.samples("adapter_request_duration_seconds_count") == {}


@pytest.mark.parametrize(
    ("request_", "labels"),
    [
        (b"200 GET", ("GET", "2xx")),
        (b"101 GET", ("GET", "1xx")),
        (b"200 ", ("OTHER", "2xx")),
        (b"200 get", ("OTHER", "2xx")),
        (b"200 \xff\n", ("OTHER", "2xx")),
        (b"000 GET", ("GET", "other")),
        (b"999 GET", ("GET", "other")),
        (b" GET", None),
        (b"20 GET", None),
        (b"2000 GET", None),
        (b"-1 GET", None),
        ("²⁰⁰ GET".encode("latin-1", "replace"), None),
    ],
)
def test_labels_of_a_request(request_, labels):
    assert labels_of(request_) == labels


def test_durations_make_a_histogram_and_absent_ones_do_not():
    lines = [access(tail=f" {value}") for value in ("0.004", "0.005", "0.006", "0.300", "0.300", "20.000")]
    counted = Counted().lines("nginx", *lines, access())
    assert counted.samples("adapter_requests_total") == {("GET", "2xx"): 7}
    buckets = counted.samples("adapter_request_duration_seconds_bucket")
    assert [buckets[le, "GET", "2xx"] for le in ("0.005", "0.01", "0.25", "0.5", "10.0", "+Inf")] == [2, 3, 3, 5, 5, 6]
    assert counted.samples("adapter_request_duration_seconds_sum") == {("GET", "2xx"): pytest.approx(20.615)}
    assert counted.samples("adapter_request_duration_seconds_count") == {("GET", "2xx"): 6}


def test_bytes_that_are_absent_are_none():
    counted = Counted().lines("nginx", access(size=5), access(size="-"), access(size=7), access(size="-"))
    assert counted.samples("adapter_response_bytes_total") == {(): 12}


@pytest.mark.parametrize("kind", [Json, Objects])
def test_objects_with_a_status_and_a_method_are_requests(kind):
    records = [
        {"method": "GET", "status": 200, "duration": 35},
        {"method": "GET", "status": "503"},
        {"method": ["GET"], "status": {}},
        {"status": 137},
        {"method": "PUT"},
        {"method": "GET", "status": "ok"},
        {"method": "\ud800" if kind is Objects else "", "status": 200},
        {},
    ]
    counted = Counted().count([objects(kind, records)])
    requests = counted.samples("adapter_requests_total")
    assert requests.pop(("OTHER", "2xx"), 0) == (kind is Objects)
    assert requests == {("GET", "2xx"): 1, ("GET", "5xx"): 1}
    assert counted.samples("adapter_request_duration_seconds_count") == {}


def objects(kind, records):
    if kind is Objects:
        return Objects(records, [b""] * len(records))
    return Json(b"".join(json.dumps(record).encode() + b"\n" for record in records), len(records), frozenset())


# Levels, records


@pytest.mark.parametrize("kind", [Json, Objects])
def test_levels_are_counted(kind):
    records = [{"level": "info"}, {"level": "info"}, {"level": "error"}, {}, {"level": "loud"}, {"level": 3}]
    counted = Counted().count([objects(kind, records)])
    assert counted.samples("adapter_events_total") == {("info",): 2, ("error",): 1, ("other",): 1}


def test_levels_of_a_table_are_counted_as_they_are_read():
    counted = Counted().lines("klog", "I1125 13:00:00.000000 1 a.go:1] a\n", "E1125 13:00:00.000000 1 a.go:1] b\n")
    assert counted.samples("adapter_events_total") == {("info",): 1, ("error",): 1}


def test_records_and_those_that_do_not_parse_are_counted():
    before = metrics.RECORDS._value.get(), metrics.PARSE_ERRORS._value.get()
    Counted().lines("nginx", access(), "nonsense\n", "more\n")
    assert (metrics.RECORDS._value.get(), metrics.PARSE_ERRORS._value.get()) == (before[0] + 3, before[1] + 2)


@given(st.lists(st.sampled_from(["nginx", "json", "klog", "logfmt", "haproxy", "syslog"])), st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_no_bytes_are_an_error(formats, data):
    own = Metric("own_total", labels=("message", "status"), where=("level!=debug",), field="bytes")
    counted = Counted(own)
    for name in formats:
        counted.count(compiled(name).parse(data.rstrip(b"\n") + b"\n"))
    counted.samples("own_total")


# An operator's own


TABLE = [access(), access("POST /b HTTP/1.1", 502, 30), access("GET /c HTTP/1.1", 404, "-")]
RECORDS = [
    {"method": "GET", "path": "/a", "status": 200, "bytes": 10, "user": "bob"},
    {"method": "POST", "path": "/b", "status": 502, "bytes": 30, "user": "bob"},
    {"method": "GET", "path": "/c", "status": 404, "user": "bob"},
]
CASES = [
    (Metric("a_total"), {(): 3}),
    (Metric("a_total", labels=("method",)), {("GET",): 2, ("POST",): 1}),
    (Metric("a_total", labels=("verb=method", "status")), {("200", "GET"): 1, ("404", "GET"): 1, ("502", "POST"): 1}),
    (Metric("a_total", field="bytes"), {(): 40}),
    (Metric("a_total", where=("status=200",)), {(): 1}),
    (Metric("a_total", where=("status!=200", "method=GET")), {(): 1}),
    (Metric("a_total", where=("status~^[45]",), labels=("path",)), {("/b",): 1, ("/c",): 1}),
    (Metric("a_total", where=("bytes=",)), {(): 1}),
    (Metric("a_total", where=("nothing!=",)), {}),
    (Metric("a_total", labels=("nothing",)), {("",): 3}),
    (Metric("a", type="gauge", field="bytes", labels=("user",)), {("bob",): 30}),
]


@pytest.mark.parametrize("source", ["table", Json, Objects])
@pytest.mark.parametrize(("metric", "expected"), CASES)
def test_own_metrics_are_the_same_whatever_the_records_stand_in(source, metric, expected):
    counted = Counted(metric)
    if source == "table":
        counted.lines("nginx", *TABLE)
    else:
        counted.count([objects(source, RECORDS)])
    assert counted.samples(metric.name) == expected


@pytest.mark.parametrize("buckets", [(), (10, 20)])
def test_an_own_histogram_has_its_buckets_or_the_usual_ones(buckets):
    metric = Metric("size", type="histogram", field="bytes", labels=("method",), buckets=buckets)
    counted = Counted(metric).lines("nginx", *TABLE)
    assert counted.samples("size_sum") == {("GET",): 10, ("POST",): 30}
    found = counted.samples("size_bucket")
    if buckets:
        assert found == {
            ("10.0", "GET"): 1, ("20.0", "GET"): 1, ("+Inf", "GET"): 1,
            ("10.0", "POST"): 0, ("20.0", "POST"): 0, ("+Inf", "POST"): 1,
        }  # fmt: skip
    else:
        assert found["5.0", "GET"] == 0
        assert found["10.0", "GET"] == 1


def test_unparsed_lines_are_records_too():
    counted = Counted(Metric("bad_total", where=("parse_error!=",))).count([Unparsed([b"a", b"b"], "broken")])
    assert counted.samples("bad_total") == {(): 2}


def test_values_that_are_no_numbers_are_left_out_and_a_counter_never_falls():
    records = [{"n": 1}, {"n": -5}, {"n": "2.5"}, {"n": "x"}, {"n": [1]}, {"n": True}, {"n": "NaN"}, {"n": None}]
    counted = Counted(Metric("n_total", field="n"), Metric("n", type="gauge", field="n"))
    counted.count([objects(Objects, records)])
    assert counted.samples("n_total") == {(): 4.5}
    assert counted.samples("n") == {(): 1}


def test_label_values_are_capped_and_the_rest_is_other():
    counted = Counted(Metric("capped_total", labels=("path", "method")), max_label_values=3)
    for batch in range(2):
        counted.lines("nginx", *[access(f"GET /{number} HTTP/1.1") for number in range(batch * 5, 10)])
    found = counted.samples("capped_total")
    assert found == {("GET", "/0"): 1, ("GET", "/1"): 1, ("GET", "/2"): 1, ("GET", "other"): 12}
    said = [event for event in log.recent() if event.get("metric") == "capped_total"]
    assert [(event["event"], event["label"]) for event in said] == [("too many values of a label", "path")]


def test_a_long_value_is_cut_and_a_secret_is_blacked_out():
    counted = Counted(Metric("u_total", labels=("user",)), redact=("email",))
    counted.count([table(user=[b"x" * 100_000, b"bob@example.org", b"bob@example.org"])])
    assert counted.samples("u_total") == {("x" * 200,): 1, ("***",): 2}


def test_the_number_of_series_has_an_end():
    counted = Counted(Metric("s_total", labels=("a", "b")), max_label_values=1000)
    numbers = range(101 * 103)
    counted.count([table(a=[b"%d" % (n % 101) for n in numbers], b=[b"%d" % (n % 103) for n in numbers])])
    found = counted.samples("s_total")
    assert found["other", "other"] == 101 * 103 - 10_000
    assert len(found) == 10_001


WRONG = [
    (Metric("9_total"), "'9_total' is no name"),
    (Metric("a b_total"), "is no name"),
    (Metric("adapter_mine_total"), "begins as those of this program"),
    (Metric("mine"), "needs a name that ends in _total, such as mine_total"),
    (Metric("mine", type="gauge"), "the gauge mine needs a field"),
    (Metric("mine", type="histogram"), "the histogram mine needs a field"),
    (Metric("mine_total", buckets=(1, 2)), "has buckets"),
    (Metric("mine", type="histogram", field="n", buckets=(2, 1)), "expected numbers that rise"),
    (Metric("mine", type="histogram", field="n", buckets=(1, 1)), "expected numbers that rise"),
    (Metric("mine", type="histogram", field="n", labels=("le",)), "'le' is no label"),
    (Metric("mine_total", labels=("user.id",)), "write a FIELD, or NAME=FIELD"),
    (Metric("mine_total", labels=("__a",)), "is no label"),
    (Metric("mine_total", labels=("a=",)), "is no label"),
    (Metric("mine_total", labels=("a", "a=b")), "a label twice: a, a"),
    (Metric("mine_total", where=("status",)), "write FIELD=VALUE"),
    (Metric("mine_total", where=("a~[",)), "no regular expression"),
]


@pytest.mark.parametrize(("metric", "message"), WRONG)
def test_a_metric_that_can_be_none_is_a_wrong_setting(metric, message):
    with pytest.raises(WrongSettings) as caught:
        Counted(metric)
    assert message in str(caught.value)


def test_a_name_that_is_there_twice_is_a_wrong_setting():
    with pytest.raises(WrongSettings, match="mine_total is there twice"):
        Counted(Metric("mine_total"), Metric("mine_total", labels=("a",)))


@pytest.mark.parametrize(
    ("given", "field", "yes", "no"),
    [
        ("a=b", "a", "b", "c"),
        ("a = b=c", "a", "b=c", "b"),
        ("a!=b", "a", "c", "b"),
        ("a~b=c", "a", "xb=cx", "b"),
        ("a~^x$", "a", "x", "xx"),
        ("a=", "a", "", "b"),
    ],
)
def test_conditions(given, field, yes, no):
    found = condition(given)
    assert found.field == field
    assert found.met(yes)
    assert not found.met(no)


def test_own_metrics_come_from_the_config_file(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "metrics:\n"
        "- {name: size, type: histogram, field: bytes, labels: [verb=method], where: [status~^2], buckets: [1, 10]}\n"
    )
    found = load(Settings, prog="a", prefix="ADAPTER_", argv=["--config", str(tmp_path / "config.yaml")], environ={})
    registry = CollectorRegistry()
    Counting(found, registry).count(compiled("nginx").parse("".join(TABLE).encode()))
    assert registry.get_sample_value("size_bucket", {"verb": "GET", "le": "10.0"}) == 1


def test_what_another_process_counted_is_added():
    own = (
        Metric("n_total", labels=("method",)),
        Metric("n", type="gauge", field="bytes"),
        Metric("h", type="histogram", field="bytes"),
    )
    here, there = Counted(*own), Counted(*own)
    lines = [access(tail=" 0.010"), access("POST / HTTP/1.1", 500, 3)]
    levels = [Objects([{"level": "error"}], [b""])]
    for _ in range(2):
        there.lines("nginx", *lines).count(levels)
        records = metrics.RECORDS._value.get()
        here.counting.merge(3, 1, pickle.loads(pickle.dumps(there.counting.take())))
        assert metrics.RECORDS._value.get() == records + 3
    alone = Counted(*own).lines("nginx", *lines, *lines).count(levels).count(levels)
    assert generate_latest(here.registry) == generate_latest(alone.registry)
    assert there.samples("n_total") == {}
