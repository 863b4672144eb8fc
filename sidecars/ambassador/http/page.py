"""What the status page shows of HTTP mode: requests by class, each listener, and the last refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from sidecars.ambassador.metrics import quantile
from sidecars.ambassador.plan import Counted

Row = dict[str, object]

_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_MOST = 50  # refusals
_SUMS = ("http_in_flight", "http_refused_total", "http_retries_total", "http_retry_budget", "http_upgrades_total")


def numbers(counted: Counted) -> dict[str, float]:
    """Add up over the listeners; the page draws a rate for each number whose name ends in _total."""
    classes = {f"http_{each}_total": _sum(counted, "http_requests_total", None, each) for each in _CLASSES}
    return classes | {name: _sum(counted, name) for name in _SUMS if name in counted}


def rows(counted: Counted) -> list[Row]:
    """Give a row for each listener that serves HTTP."""
    listeners = {labels[0] for name in ("http_requests_total", "http_in_flight") for labels in counted.get(name, {})}
    return [_row(counted, listener) for listener in sorted(listeners)]


def refusals(told: list[Row]) -> list[Row]:
    """Give the last refusals of all processes, the newest first, with the time as people read it."""
    newest = sorted(told, key=lambda row: cast(float, row["time"]), reverse=True)[:_MOST]
    return [row | {"time": _written(cast(float, row["time"]))} for row in newest]


def _row(counted: Counted, listener: str) -> Row:
    row: Row = {"listener": listener}
    for each in _CLASSES:
        row[f"requests_{each}"] = _sum(counted, "http_requests_total", listener, each)
    row["in_flight"] = _sum(counted, "http_in_flight", listener)
    row["refused"] = _by_label(counted, "http_refused_total", listener)
    row["retries"] = _by_label(counted, "http_retries_total", listener)
    row["denied_retries"] = _by_label(counted, "http_retries_denied_total", listener)
    row["retry_budget"] = _sum(counted, "http_retry_budget", listener)
    histogram = counted.get("http_upstream_seconds", {}).get((listener,))
    if isinstance(histogram, list):
        row["upstream_p50_seconds"], row["upstream_p99_seconds"] = quantile(histogram, 0.5), quantile(histogram, 0.99)
    return row


def _sum(counted: Counted, name: str, listener: str | None = None, label: str | None = None) -> float:
    """Add up a metric, of one listener and with one other label where these are given."""
    return sum(
        cast(float, value)
        for labels, value in counted.get(name, {}).items()
        if listener in (None, labels[0]) and label in (None, labels[-1])
    )


def _by_label(counted: Counted, name: str, listener: str) -> str:
    """Write what a listener has counted by its other label, the most first: "jwt 12, path 3"."""
    values = {labels[1]: cast(float, value) for labels, value in counted.get(name, {}).items() if labels[0] == listener}
    most = sorted(values.items(), key=lambda each: -each[1])
    return ", ".join(f"{label} {value:g}" for label, value in most if value)


def _written(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
