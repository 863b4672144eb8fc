"""What was counted becomes numbers and rows for people."""

from __future__ import annotations

from sidecars.ambassador.http import page
from sidecars.ambassador.metrics import BUCKETS
from sidecars.ambassador.plan import Counted

HISTOGRAM = [0.0] * (len(BUCKETS) + 1)
COUNTED: Counted = {
    "http_requests_total": {(":1", "2xx"): 7, (":1", "5xx"): 1, (":2", "2xx"): 2},
    "http_in_flight": {(":1",): 1, (":2",): 0, (":3",): 0},
    "http_refused_total": {(":1", "jwt"): 2, (":1", "path"): 5, (":2", "path"): 0},
    "http_retries_total": {(":1", "503"): 1},
    "http_retry_budget": {(":1",): 3.5, (":2",): 3},
    "http_upstream_seconds": {(":1",): [*HISTOGRAM[:3], 8, *HISTOGRAM[4:], 0.1]},
}


def test_requests_are_added_up_by_their_class_over_the_listeners() -> None:
    assert page.numbers(COUNTED) == {
        "http_2xx_total": 9, "http_3xx_total": 0, "http_4xx_total": 0, "http_5xx_total": 1, "http_in_flight": 1,
        "http_refused_total": 7, "http_retries_total": 1, "http_retry_budget": 6.5,
    }  # fmt: skip


def test_each_listener_has_a_row_that_says_the_rules_and_the_reasons_the_most_first() -> None:
    one, two, three = page.rows(COUNTED)
    assert one == {
        "listener": ":1", "requests_2xx": 7, "requests_3xx": 0, "requests_4xx": 0, "requests_5xx": 1, "in_flight": 1,
        "refused": "path 5, jwt 2", "retries": "503 1", "denied_retries": "", "retry_budget": 3.5,
        "upstream_p50_seconds": BUCKETS[3], "upstream_p99_seconds": BUCKETS[3],
    }  # fmt: skip
    assert (two["listener"], two["requests_2xx"], two["refused"]) == (":2", 2, "")
    assert three["listener"] == ":3"


def test_the_last_refusals_of_all_processes_are_told_the_newest_first() -> None:
    told: list[page.Row] = [{"time": 1.0 + number, "rule": "jwt", "worker": number % 2 + 1} for number in range(80)]
    rows = page.refusals(told)
    assert len(rows) == 50
    assert rows[0] == {"time": "1970-01-01T00:01:20.000Z", "rule": "jwt", "worker": 2}
