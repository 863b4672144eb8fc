"""Reading one source for a request: blocks become entries, and those that are wanted wait to be taken."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from sidecars.adapter.reading import records_of
from sidecars.adapter.table import Format, Record
from sidecars.adapter.web import blocks
from sidecars.adapter.web.moments import epoch
from sidecars.adapter.web.sieve import Entry, Names, Shaped, Sieve
from sidecars.adapter.web.sources import Source

HEAD_BYTES = 64 << 10


class Reader:
    """Reads blocks of one source in its format. `own`: entries keep the record as it was before it was shaped."""

    def __init__(self, source: Source, format: Format, shaping: Shaped, *, own: bool = False) -> None:
        self.source = source
        self.records = records_of(format)
        self._format = format
        self._shaping = shaping
        self._time = Names(shaping).time
        self._own = own
        self._next: tuple[int, object] = (source.begin, None)
        self._head: object = None
        self._headed = False

    def parse(self, start: int, data: bytes) -> list[Entry]:
        """Read a block of whole records that stands at this offset; the last one may lack its newline."""
        ended = data if data.endswith(b"\n") else data + b"\n"
        context = self._context(start)
        segments = self._format.parse(ended, context)
        self._next = (start + len(data), self._format.context(ended, context))
        lines = chain.from_iterable(segment.lines for segment in segments)
        own = chain.from_iterable(segment.records() for segment in segments) if self._own else repeat(None)
        shaped = self._shaping.records(segments, self.source.path)
        entries = list(self._place(zip(lines, shaped, own, strict=False), start, data))
        self._date(entries)
        return entries

    def _place(self, rows: Iterator[tuple[bytes, Record, Record | None]], start: int, data: bytes) -> Iterator[Entry]:
        """Find where each record stands: one after the other, unless a format leaves out lines, as headers."""
        at, origin = 0, self.source.path
        for line, record, own in rows:
            if not data.startswith(line, at):
                at = max(at, data.find(line, at))
            end = min(at + len(line) + 1, len(data))
            yield Entry(origin, start + at, start + end, line, record, own)
            at = end

    def _date(self, entries: list[Entry]) -> None:
        """Give each its time. One that has none has that of the one before it, or after it, or of the file."""
        name = self._time
        known = None
        early = 0
        for number, entry in enumerate(entries):
            text = entry.record.get(name)
            time = epoch(text) if isinstance(text, str) else None
            known = time if time is not None else known
            if known is None:
                early = number + 1
            else:
                entry.time = known
        rest = entries[early].time if early < len(entries) else self.source.modified()
        for entry in entries[:early]:
            entry.time = rest

    def _context(self, start: int) -> object:
        """Give what holds at an offset: what came before told it if that was read, else the file's head."""
        if self._next[0] == start:
            return self._next[1]
        if start <= self.source.begin:
            return None
        if not self._headed:
            head = self.source.read(self.source.begin, min(start, self.source.begin + HEAD_BYTES))
            self._head = self._format.context(head[: head.rfind(b"\n") + 1], None)
            self._headed = True
        return self._head

    def time_near(self, offset: int) -> float | None:
        """Give the time of a record that stands after an offset, None if none near it has one."""
        data = self.source.read(offset, offset + blocks.FIRST)
        begin = blocks.head_of(self.records, data)
        for entry in self.parse(offset + begin, data[begin:])[:50] if begin < len(data) else ():
            text = entry.record.get(self._time)
            if isinstance(text, str) and (time := epoch(text)) is not None:
                return time
        return None

    def seek(self, begin: int, end: int, moment: float) -> int:
        """Give an offset shortly before the first record of a moment, or one after it, by looking here and there.

        The file is taken to be in the order of its times, but for a quarter of a MiB.
        """
        low, high = begin, end
        while high - low > blocks.BLOCK:
            middle = (low + high) // 2
            time = self.time_near(middle)
            if time is None:
                return begin  # What has no times there is not skipped unread.
            low, high = (middle, high) if time < moment else (low, middle)
        return max(begin, low - blocks.BLOCK)


class Budget:
    """How many bytes a request may still look through."""

    def __init__(self, most: int) -> None:
        self.left = most


class Scan:
    """The wanted entries of one source, in one direction; `place` is where those that were not taken begin."""

    def __init__(self, reader: Reader, sieve: Sieve, begin: int, end: int, budget: Budget, *, backward: bool) -> None:
        self.reader = reader
        self.cut_short = False
        self._sieve = sieve
        self._budget = budget
        self._backward = backward
        read = blocks.backward if backward else blocks.forward
        self._blocks = read(reader.source, begin, end, reader.records)
        self._ready: collections.deque[Entry] = collections.deque()
        self._reached = end if backward else begin

    def peek(self) -> Entry | None:
        """Give the next entry, None when there is none or the budget is spent."""
        while not self._ready:
            if self._budget.left <= 0:
                self.cut_short = True
                return None
            block = next(self._blocks, None)
            if block is None:
                return None
            self._take(*block)
        return self._ready[0]

    def _take(self, start: int, data: bytes) -> None:
        self._budget.left -= len(data)
        self._reached = start if self._backward else start + len(data)
        if not self._sieve.hopeless(data):
            wanted = self._sieve.wanted(self.reader.parse(start, data))
            self._ready.extend(reversed(wanted) if self._backward else wanted)

    def pop(self) -> None:
        """Take the entry that peek gave."""
        self._ready.popleft()

    @property
    def place(self) -> int:
        """Where a later request goes on."""
        if not self._ready:
            return self._reached
        return self._ready[0].end if self._backward else self._ready[0].start


def merged(scans: Sequence[Scan], *, backward: bool) -> Iterator[Entry]:
    """Take the entries of several scans in the order of their times."""
    while True:
        best: tuple[float, Scan, Entry] | None = None
        for scan in scans:
            entry = scan.peek()
            if entry is None:
                continue
            rank = -entry.time if backward else entry.time
            if best is None or rank < best[0]:
                best = (rank, scan, entry)
        if best is None:
            return
        best[1].pop()
        yield best[2]
