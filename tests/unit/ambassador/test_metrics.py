"""What was counted, added up and shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sidecars.ambassador.collector import Collected
from sidecars.ambassador.metrics import BUCKETS, METRICS, MOST_SAMPLES, OTHER, added, bounded, lasting, quantile

_SPACES = len(BUCKETS) + 2  # with what is longer than all of them, and the sum
_HISTOGRAM = st.lists(st.integers(0, 100).map(float), min_size=_SPACES, max_size=_SPACES)


def shown(counted):
    registry = CollectorRegistry()
    Collected(lambda: counted).show_in(registry)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(each.name, *sorted(each.labels.items())): each.value for family in families for each in family.samples}


def test_reports_add_up_label_by_label():
    one = {"connections_total": {(":1",): 2, (":2",): 1}, "upstream_connect_seconds": {(":1",): [1.0] * _SPACES}}
    other = {"connections_total": {(":1",): 40}, "retries_total": {(":1",): 1}, "upstream_connect_seconds": {}}
    assert added([one, other]) == {
        "connections_total": {(":1",): 42, (":2",): 1},
        "upstream_connect_seconds": {(":1",): [1.0] * _SPACES},
        "retries_total": {(":1",): 1},
    }
    assert one["connections_total"][":1",] == 2, "a report that was added is left as it was"


@given(st.lists(_HISTOGRAM, min_size=1, max_size=5))
def test_histograms_add_up_bucket_by_bucket(histograms):
    total = added({"upstream_connect_seconds": {("a",): each}} for each in histograms)
    assert total["upstream_connect_seconds"]["a",] == [sum(column) for column in zip(*histograms, strict=True)]


def test_of_a_process_that_is_gone_what_was_open_is_not_kept():
    report = {"connections": {(":1",): 3}, "connections_total": {(":1",): 9}, "upstream_connections": {("a", "b"): 3}}
    assert lasting(report) == {"connections_total": {(":1",): 9}}


def test_every_metric_is_announced_before_anything_was_counted():
    text = generate_latest(registry := CollectorRegistry()).decode()
    Collected(dict).show_in(registry)
    text = generate_latest(registry).decode()
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == {
        f"ambassador_{name}" for name in METRICS
    }


def test_a_histogram_is_shown_as_prometheus_wants_it():
    values = [0.0] * _SPACES
    values[0], values[2], values[-2], values[-1] = 5.0, 2.0, 1.0, 12.5
    seen = shown({"upstream_connect_seconds": {(":1",): values}})
    name = "ambassador_upstream_connect_seconds"
    assert seen[f"{name}_bucket", ("le", "0.0001"), ("listener", ":1")] == 5
    assert seen[f"{name}_bucket", ("le", "0.00025"), ("listener", ":1")] == 5
    assert seen[f"{name}_bucket", ("le", "10.0"), ("listener", ":1")] == 7
    assert seen[f"{name}_bucket", ("le", "+Inf"), ("listener", ":1")] == 8
    assert seen[f"{name}_count", ("listener", ":1")] == 8
    assert seen[f"{name}_sum", ("listener", ":1")] == 12.5


def test_counters_and_gauges_are_shown_with_their_labels():
    seen = shown({"ended_total": {(":1", "client"): 3}, "connections": {(":1",): 1}, "workers": {(): 2}})
    assert seen["ambassador_ended_total", ("listener", ":1"), ("reason", "client")] == 3
    assert seen["ambassador_connections", ("listener", ":1")] == 1
    assert seen["ambassador_workers",] == 2


@given(st.integers(1, 2 * MOST_SAMPLES))
def test_a_metric_never_has_more_samples_than_allowed_and_loses_nothing(count):
    values = bounded({(f"l{number}", "x"): 1 for number in range(count)})
    assert len(values) <= MOST_SAMPLES
    assert sum(values.values()) == count
    assert ((OTHER, OTHER) in values) == (count > MOST_SAMPLES)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0: 1}, 0.5, 0.0001),
        ({0: 50, 3: 50}, 0.5, 0.0001),
        ({0: 50, 3: 50}, 0.51, 0.001),
        ({0: 98, 9: 2}, 0.99, 0.1),
        ({0: 1, 15: 99}, 0.99, 10),  # longer than all buckets: at least the longest
    ],
)
def test_a_quantile_is_the_bound_of_the_bucket_it_lies_in(counts, share, expected):
    assert quantile([float(counts.get(place, 0)) for place in range(_SPACES)], share) == expected
