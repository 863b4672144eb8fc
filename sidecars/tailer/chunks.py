"""Batches as chunks of the forward protocol: their lines packed, with the fields and the tag that they go by."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from sidecars.core.follow.file import Batch
from sidecars.core.follow.identity import printable
from sidecars.core.follow.join import Lines
from sidecars.core.forward import packing
from sidecars.core.forward.destination import tag_for
from sidecars.core.forward.settings import Forward


class Chunks:
    """Makes chunks of batches."""

    def __init__(self, destination: Forward, fields: Mapping[str, str], json: bool) -> None:
        self._destination = destination
        self._fields = fields
        self._pack = packing.pack_json if json else packing.pack
        self._parts: dict[object, int] = {}

    def of(self, batch: Batch) -> packing.Chunk:
        """Pack a batch; batches of one file in their order."""
        data = bytes(batch.data)
        records = batch.file.lane.records
        if isinstance(records, Lines):
            lines: Sequence[str | bytes] = packing.texts(data)
        else:
            lines = [packing.text(record.removesuffix(b"\n")) for record in records.split(data)]
        fields: dict[str, object] = {"file": batch.path, **self._fields}
        if batch.continued or not batch.complete:
            entries = self._packed_parts(batch, lines, fields)
        else:
            entries = self._pack(lines, fields, time.time_ns())
        tag = tag_for(
            self._destination.tag,
            path=printable(batch.path),
            pod=self._fields.get("pod"),
            namespace=self._fields.get("namespace"),
        )
        return packing.chunk(tag, entries, len(lines), compressed=self._destination.compress == "gzip")

    def _packed_parts(self, batch: Batch, lines: Sequence[str | bytes], fields: dict[str, object]) -> bytes:
        """Pack lines of which the first continues one that began before, or the last goes on: these are marked."""
        now = time.time_ns()
        entries = []
        for index, line in enumerate(lines):
            begun = batch.continued and index == 0
            ends = batch.complete or index < len(lines) - 1
            marks: dict[str, object] = {}
            if begun or not ends:
                number = (self._parts.pop(batch.file, 1) if begun else 0) + 1
                marks = {"part": number, "last": ends}
                if not ends:
                    self._parts[batch.file] = number
            entries.append((packing.pack if marks else self._pack)([line], {**fields, **marks}, now))
        return b"".join(entries)
