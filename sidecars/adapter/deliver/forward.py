"""Records as chunks of the forward protocol."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from sidecars.adapter.deliver.metrics import Delivered
from sidecars.adapter.deliver.pipeline import Pipeline
from sidecars.adapter.encode.instants import nanoseconds
from sidecars.adapter.portion import Portion
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Record
from sidecars.core.follow.identity import printable
from sidecars.core.forward import packing
from sidecars.core.forward.destination import tag_for
from sidecars.core.forward.settings import Forward
from sidecars.core.forward.shipping import Shipping
from sidecars.core.health import Health


def shipping(
    name: str, destination: Forward, settings: Settings, pipeline: Pipeline, delivered: Delivered, health: Health
) -> Shipping[Portion]:
    """Make the output that sends each portion as one chunk, under the tag of its origin."""

    def chunk(portion: Portion) -> packing.Chunk:
        entries, count = packing.pack_records(_timed(pipeline.records(portion)))
        delivered.made(portion)
        tag = tag_for(
            destination.tag,
            path=printable(portion.origin),
            pod=settings.pod_name,
            namespace=settings.pod_namespace,
        )
        return packing.chunk(tag, entries, count, compressed=destination.compress == "gzip")

    return Shipping(name, destination, chunk, delivered, health)


def _timed(records: Iterable[Record]) -> Iterator[tuple[int, Record]]:
    """Give each record with its own time, or the present one where it has none that can be read."""
    now = time.time_ns()
    for record in records:
        own = nanoseconds(record.get("time"))
        yield now if own is None else own, record
