"""Blocks of whole records, from a source's beginning or from its end, each of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

from sidecars.adapter.web.sources import Source
from sidecars.core.follow import join

FIRST = 64 << 10  # what a short tail needs
BLOCK = 256 << 10
LONGEST = 1 << 20  # of a record; a longer one comes in pieces

Block = tuple[int, bytes]


def forward(source: Source, start: int, end: int, records: join.Records) -> Iterator[Block]:
    """Give the blocks of a range, with the offset of each; what stands before its end is taken for whole."""
    size = BLOCK
    while start < end:
        data = source.read(start, min(start + size, end))
        if not data:
            return  # Truncated meanwhile.
        if start + len(data) < end:
            cut = whole(records, data)
            if cut <= 0 and size < LONGEST:
                size = LONGEST
                continue
            data = data[:cut] if cut > 0 else data[: data.rfind(b"\n") + 1 or len(data)]
        yield start, data
        start += len(data)
        size = BLOCK


def backward(source: Source, begin: int, end: int, records: join.Records) -> Iterator[Block]:
    """Give the blocks of a range, the last one first, with the offset of each."""
    size = FIRST
    while end > begin:
        start = max(begin, end - size)
        data = source.read(start, end)
        if len(data) < end - start:
            return  # Truncated meanwhile.
        skip = head_of(records, data) if start > begin else 0
        if skip >= len(data):
            if size < LONGEST:
                size = LONGEST
                continue
            skip = 0
        yield start + skip, data[skip:]
        end = start + skip
        size = BLOCK


def whole(records: join.Records, data: bytes) -> int:
    """Give the length of the records that are known to be complete, 0 or less if none is."""
    return records.cut(bytearray(data), 0, len(data))


def head_of(records: join.Records, data: bytes) -> int:
    """Give where the first record begins that is whole, in data that begins anywhere: after all of it if none does."""
    line = data.find(b"\n") + 1
    if not line:
        return len(data)
    first = next(records.split(data[line:]), b"")
    if isinstance(records, join.Lines):
        return line
    # The parts of two streams may lie among each other; then the first is no beginning of the data.
    return line + (len(first) if data.startswith(first, line) else 0)


def last_line_end(source: Source, end: int) -> int:
    """Give the offset after the last newline before an offset; the offset itself if there is none for long."""
    start = max(source.begin, end - FIRST)
    found = source.read(start, end).rfind(b"\n")
    if found >= 0:
        return start + found + 1
    return source.begin if start == source.begin else end
