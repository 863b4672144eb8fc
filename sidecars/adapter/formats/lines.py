"""Formats whose records are lines, of which each is read for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from sidecars.adapter.formats.columnar import cleaned, ended, unparsed
from sidecars.adapter.table import Objects, Record, Segment


class LineByLine:
    """A format that `read` knows: it gives the record of a line, None for a line that is not in the format."""

    parts: str | None = None
    continuation: bytes | None = None

    def __init__(self, name: str, read: Callable[[bytes], Record | None]) -> None:
        self.name = name
        self._read = read

    def context(self, data: bytes, before: object) -> object:
        """Give none."""
        return None

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read lines."""
        data = ended(data)
        if not data:
            return []
        records = list(map(self._read, cleaned(data)[:-1].split(b"\n")))
        return of_lines(records, data[:-1].split(b"\n"), self.name)


def of_lines(records: Sequence[Record | None], lines: Sequence[bytes], name: str) -> list[Segment]:
    """Give the segments of records, one for each line; None is a line that is not in the format."""
    segments: list[Segment] = []
    for good, run in groupby(zip(records, lines, strict=True), lambda pair: pair[0] is not None):
        both = list(run)
        texts = [line for _, line in both]
        if good:
            segments.append(Objects([record for record, _ in both if record is not None], texts))
        else:
            segments += unparsed(texts, name)
    return segments
