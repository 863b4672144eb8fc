"""What ambassador counts: planes and the decider keep plain numbers, which add up; collector.py shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple, Protocol, cast

from sidecars.ambassador.plan import Counted

# Seconds: the upper bounds of a histogram's buckets. The last bucket of a report is for what is longer than all.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

# Each label's values come from settings or from a fixed list, never from what clients and upstreams send. Should a
# part of the program break that, a metric's samples end here, and the rest is added up as OTHER.
MOST_SAMPLES = 2000
OTHER = "(other)"


class Kind(NamedTuple):
    """A metric: its type, what it says, and its labels."""

    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]


_LISTENER = ("listener",)
_UPSTREAM = ("listener", "upstream")

METRICS: dict[str, Kind] = {
    "connections_total": Kind("counter", "Connections accepted.", _LISTENER),
    "connections": Kind("gauge", "Open connections of clients, waiting ones included.", _LISTENER),
    "waiting": Kind("gauge", "Connections that wait for a place.", _LISTENER),
    "ended_total": Kind("counter", "Connections that ended, by why.", ("listener", "reason")),
    "received_bytes_total": Kind("counter", "Bytes from clients.", _LISTENER),
    "sent_bytes_total": Kind("counter", "Bytes to clients.", _LISTENER),
    "upstream_connections_total": Kind("counter", "Connections made to an upstream.", _UPSTREAM),
    "upstream_connections": Kind("gauge", "Open connections to an upstream.", _UPSTREAM),
    "upstream_failures_total": Kind(
        "counter", "Connections to an upstream that failed, by why.", ("listener", "upstream", "reason")
    ),
    "upstream_connect_seconds": Kind("histogram", "How long upstreams take to accept, with TLS.", _LISTENER),
    "retries_total": Kind("counter", "Tries of another upstream after one did not accept.", _LISTENER),
    "upstream_up": Kind("gauge", "The addresses of an upstream that take connections.", _UPSTREAM),
    "ejections_total": Kind("counter", "How often an address was left out, for its failures.", _UPSTREAM),
    "resolve_failures_total": Kind("counter", "How often the addresses of a name could not be found.", ("name",)),
    "redis_command_seconds": Kind("histogram", "From a command's arrival to its answer.", ("listener", "command")),
    "redis_errors_total": Kind("counter", "Errors answered, by kind.", ("listener", "kind")),
    "redis_upstream_requests_total": Kind("counter", "Commands sent to a shard.", _UPSTREAM),
    "redis_upstream_responses_total": Kind("counter", "Answers of a shard.", _UPSTREAM),
    "redis_upstream_request_bytes_total": Kind("counter", "Bytes sent to a shard.", _UPSTREAM),
    "redis_upstream_response_bytes_total": Kind("counter", "Bytes received from a shard.", _UPSTREAM),
    "redis_upstream_queue": Kind("gauge", "Commands that wait for a shard's answer.", _UPSTREAM),
    "redis_fragments_total": Kind("counter", "Parts that commands were split in, over the shards.", _LISTENER),
    "http_requests_total": Kind("counter", "Requests answered, by their status's class.", ("listener", "class")),
    "http_in_flight": Kind("gauge", "Requests that are not answered whole yet.", _LISTENER),
    "http_refused_total": Kind("counter", "Requests that were answered here, by the rule.", ("listener", "rule")),
    "http_retries_total": Kind("counter", "Tries beside the first, by why.", ("listener", "reason")),
    "http_retries_denied_total": Kind(
        "counter", "Tries that would have been made, by what forbade it.", ("listener", "reason")
    ),
    "http_retry_budget": Kind("gauge", "How many tries the budget has left now.", _LISTENER),
    "http_upstream_seconds": Kind("histogram", "From a try's begin to the head of its answer.", _LISTENER),
    "http_seconds": Kind("histogram", "From a request's head to the end of its answer.", _LISTENER),
    "http_idle_connections": Kind("gauge", "Connections to an upstream kept for the next request.", _UPSTREAM),
    "http_upgrades_total": Kind("counter", "Connections that became another protocol's, as WebSocket.", _LISTENER),
    "access_log_dropped_total": Kind("counter", "Lines of the access log that nobody took in time.", ()),
    "reloads_total": Kind("counter", "How often settings were read anew, by what came of it.", ("result",)),
    "workers": Kind("gauge", "Processes that carry connections now.", ()),
    "worker_deaths_total": Kind("counter", "Processes that died, and were started again.", ()),
}


def added(reports: Iterable[Counted]) -> Counted:
    """Add up what several have counted, gauges too: the open connections of all are those of each."""
    total: Counted = {}
    for report in reports:
        for name, values in report.items():
            sums = total.setdefault(name, {})
            for labels, value in values.items():
                sums[labels] = _sum(sums[labels], value) if labels in sums else value
    return total


def _sum(one: float | list[float], other: float | list[float]) -> float | list[float]:
    if isinstance(one, list):
        return [a + b for a, b in zip(one, cast(list[float], other), strict=True)]
    return one + cast(float, other)


class Dropping(Protocol):
    """What lets something go when too much waits."""

    dropped: int


def with_dropped(report: Counted, access: Dropping | None) -> Counted:
    """Add what the access log, if there is one, has let go."""
    if access:
        report["access_log_dropped_total"] = {(): access.dropped}
    return report


def lasting(report: Counted) -> Counted:
    """Give what stays counted of a process that is gone: all but what was open."""
    return {name: values for name, values in report.items() if name in METRICS and METRICS[name].type != "gauge"}


def quantile(histogram: list[float], share: float) -> float | None:
    """Give the bucket's bound, in seconds, under which this share of what was measured lies; None if nothing was."""
    counts = list(accumulate(histogram[:-1]))
    if not counts or not counts[-1]:
        return None
    wanted = share * counts[-1]
    return next((bound for bound, count in zip(BUCKETS, counts, strict=False) if count >= wanted), BUCKETS[-1])


def bounded(values: Mapping[tuple[str, ...], float | list[float]]) -> Mapping[tuple[str, ...], float | list[float]]:
    """Give at most so many samples, the rest added up under one name."""
    if len(values) <= MOST_SAMPLES:
        return values
    kept: dict[tuple[str, ...], float | list[float]] = {}
    for labels, value in values.items():
        place = labels if len(kept) < MOST_SAMPLES - 1 else (OTHER,) * len(labels)
        kept[place] = _sum(kept[place], value) if place in kept else value
    return kept
