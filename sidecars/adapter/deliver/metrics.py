"""What is counted of deliveries."""

from __future__ import annotations

from prometheus_client import Counter

from sidecars.adapter.deliver.pipeline import Pipeline
from sidecars.adapter.portion import Portion

DELIVERED_RECORDS = Counter("adapter_delivered_records_total", "Records delivered.", ["output"])
DELIVERED_BYTES = Counter("adapter_delivered_bytes_total", "Bytes delivered, as they were read.", ["output"])
REJECTED_RECORDS = Counter(
    "adapter_rejected_records_total", "Records that a destination took and says it has thrown away.", ["output"]
)
TRUNCATED_RECORDS = Counter(
    "adapter_truncated_records_total", "Records too large for their destination, of which it got a part.", ["output"]
)


class Delivered:
    """One output's count: of each portion when it is made what is sent, added up when it is acknowledged."""

    def __init__(self, name: str, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._counts: dict[Portion, int] = {}
        self._records = DELIVERED_RECORDS.labels(name)
        self._bytes = DELIVERED_BYTES.labels(name)

    def made(self, portion: Portion) -> None:
        """Note how many records it has: what the pipeline has read last."""
        self._counts[portion] = self._pipeline.count

    def __call__(self, portion: Portion) -> None:
        """Count it as delivered."""
        self._records.inc(self._counts.pop(portion))
        self._bytes.inc(len(portion.data))
