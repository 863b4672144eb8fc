"""What is told of endpoints: connections that fail, and answers that are none."""

from __future__ import annotations

from sidecars.ambassador.plan import Endpoint, Outcome
from sidecars.ambassador.settings import Upstream
from sidecars.ambassador.tally import Tally

ENDPOINT = Endpoint("a", 0, ("127.0.0.1", 1))
UPSTREAM = Upstream(address="a:1")


def test_a_connection_makes_well_what_could_not_be_connected_to():
    told: list[Outcome] = []
    tally = Tally("r", told.append)
    tally.made(UPSTREAM, ENDPOINT, 0.1)
    tally.failed(UPSTREAM, ENDPOINT, "refused", "Connection refused")
    tally.made(UPSTREAM, ENDPOINT, 0.1)
    tally.made(UPSTREAM, ENDPOINT, 0.1)
    assert [each.ok for each in told] == [False, True]


def test_only_a_good_answer_makes_well_what_has_answered_badly():
    told: list[Outcome] = []
    tally = Tally("r", told.append)
    for _ in range(2):
        tally.poor(UPSTREAM, ENDPOINT, "status", "answered 503")
        tally.made(UPSTREAM, ENDPOINT, 0.1)
    tally.well(ENDPOINT)
    tally.well(ENDPOINT)
    assert [each.ok for each in told] == [False, False, True]
    assert tally.counted()["upstream_failures_total"] == {("r", "a:1", "status"): 2}
