"""What was counted, as metrics; workers, which have no door, do not pay for Prometheus' library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from prometheus_client.samples import Sample

from sidecars.ambassador.metrics import BUCKETS, METRICS, bounded
from sidecars.ambassador.plan import Counted


class Collected(Collector):
    """Tells Prometheus what a function counts, at each scrape."""

    def __init__(self, counted: Callable[[], Counted]) -> None:
        self._counted = counted

    def show_in(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Have the registry, by default that of the admin door, tell these numbers too."""
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Say nothing beforehand: to count is not asked for at the start."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give each metric, with or without samples yet."""
        report = self._counted()
        for name, kind in METRICS.items():
            full = f"ambassador_{name}"
            metric = Metric(full.removesuffix("_total") if kind.type == "counter" else full, kind.help, kind.type)
            for labels, value in bounded(report.get(name, {})).items():
                metric.samples += _samples(full, dict(zip(kind.labels, labels, strict=True)), value)
            yield metric


def _samples(name: str, labels: dict[str, str], value: float | list[float]) -> list[Sample]:
    if not isinstance(value, list):
        return [Sample(name, labels, value)]
    counts = list(accumulate(value[:-1]))
    bounds = [str(float(bound)) for bound in BUCKETS] + ["+Inf"]
    buckets = [
        Sample(f"{name}_bucket", {**labels, "le": bound}, count) for bound, count in zip(bounds, counts, strict=True)
    ]
    return [*buckets, Sample(f"{name}_count", labels, counts[-1]), Sample(f"{name}_sum", labels, value[-1])]
