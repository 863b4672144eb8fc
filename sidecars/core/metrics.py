"""The metrics that every sidecar has."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

build_info = Gauge("sidecar_build_info", "Which program this is; always 1.", ["name", "version"])
ready = Gauge("sidecar_ready", "1 when /readyz answers 200, else 0.")
delivery_errors = Counter("delivery_errors", "Deliveries that failed, by output and error.", ["output", "code"])
oldest_undelivered = Gauge("oldest_undelivered_seconds", "Age of the oldest data that is not delivered; 0 if none is.")
