"""The answer to a request that has an end: some records, and where to go on in both directions."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence

import msgspec

from sidecars.adapter.web import blocks, cursor, sources
from sidecars.adapter.web.catalogue import Catalogue
from sidecars.adapter.web.cursor import Place
from sidecars.adapter.web.query import DEFAULT_LIMIT, MOST_RECORDS, Query
from sidecars.adapter.web.refusal import Refusal
from sidecars.adapter.web.scans import Budget, Reader, Scan, merged
from sidecars.adapter.web.sieve import Entry, Shaped, Sieve
from sidecars.adapter.web.sources import Source

# What a filtered request looks through at most, and how much a page holds; both whatever the file's size.
MOST_SCANNED = 64 << 20
MOST_BYTES = 2 << 20
# A last line without a newline is shown once nobody has written for so long: it may be half of one.
_SETTLED_SECONDS = 1.0


class Page(msgspec.Struct):
    """Entries in the order of time, the cursors before and after them, and why there may be more that are wanted."""

    entries: list[Entry]
    before: str
    after: str
    more_before: bool
    more_after: bool
    incomplete: str = ""


class Range(msgspec.Struct):
    """What is looked at of one source."""

    reader: Reader
    begin: int
    end: int


class Pages:
    """Reads pages; in threads."""

    def __init__(self, catalogue: Catalogue, shaping: Shaped, *, redacts: bool) -> None:
        self._catalogue = catalogue
        self._shaping = shaping
        self._redacts = redacts
        self._secret = os.urandom(16)

    def sieve(self, query: Query) -> Sieve:
        """Give a query's filters."""
        return Sieve(query, self._shaping, redacts=self._redacts)

    def page(self, query: Query, *, own: bool) -> Page:
        """Read one page. Where it goes on live, it ends with the last whole line."""
        after = cursor.decode(query.after, "after") if query.after is not None else None
        with self._catalogue.opened(self._catalogue.named(query.file), after) as opened:
            backward = query.tail is not None or query.before is not None
            ranges = self.ranges(query, opened, own=own)
            budget = Budget(MOST_SCANNED)
            sieve = self.sieve(query)
            scans = [Scan(r.reader, sieve, r.begin, r.end, budget, backward=backward) for r in ranges]
            limit = query.tail if query.tail is not None else query.limit
            if limit is None:
                limit = DEFAULT_LIMIT if query.before or query.after else MOST_RECORDS
            entries, incomplete = _gather(scans, limit, backward=backward)
            if query.form == "page":
                _mark(ranges, entries)
            return _page(ranges, scans, entries, incomplete, backward=backward)

    def stamp(self, query: Query, words: str) -> str | None:
        """Give an answer's ETag, made of the files as they are and of what is asked; None where time changes it."""
        if query.relative:
            return None
        told = [words]
        with self._catalogue.opened(self._catalogue.named(query.file)) as opened:
            for source in opened:
                told += [source.path, self._catalogue.format_of(source).name]
                told += map(str, (source.inode, source.begin, settled(source), source.modified()))
        # What a record looks like depends on the settings, so a tag does not outlive the process.
        return hashlib.blake2b(
            "\0".join(told).encode(errors="surrogateescape"), digest_size=12, key=self._secret
        ).hexdigest()

    def ranges(self, query: Query, opened: Sequence[Source], *, own: bool) -> list[Range]:
        """Give what a query looks at, as it is now."""
        before = cursor.decode(query.before, "before") if query.before is not None else None
        after = cursor.decode(query.after, "after") if query.after is not None else None
        ranges = []
        for source in opened:
            reader = self._catalogue.reader(source, own=own)
            end = blocks.last_line_end(source, source.size()) if query.live else settled(source)
            whole = Range(reader, source.begin, end)
            if before is not None:
                whole.end = min(whole.end, _end(source, before))
            if after is not None:
                whole.begin = max(whole.begin, start_after(source, after))
            ranges.append(_dated(whole, query))
        return ranges

    def everything(self, query: Query, ranges: Sequence[Range]) -> Iterator[list[Entry]]:
        """Read all of it, in pieces."""
        budget = Budget(1 << 62)
        sieve = self.sieve(query)
        scans = [Scan(r.reader, sieve, r.begin, r.end, budget, backward=False) for r in ranges]
        piece: list[Entry] = []
        size = 0
        for entry in merged(scans, backward=False):
            piece.append(entry)
            size += len(entry.line)
            if size >= blocks.BLOCK or len(piece) >= DEFAULT_LIMIT:
                yield piece
                piece, size = [], 0
        yield piece


def settled(source: Source) -> int:
    """Give the offset up to which lines can be shown: half of one is not, until nobody has written for a while."""
    size = source.size()
    return size if time.time() - source.modified() > _SETTLED_SECONDS else blocks.last_line_end(source, size)


def start_after(source: Source, places: dict[bytes, Place]) -> int:
    """Give where to go on after a cursor; a file that is another one now is read from its beginning."""
    place = places.get(cursor.key(source.path))
    return place.offset if place and sources.holds(source, place) else source.begin


def _end(source: Source, places: dict[bytes, Place]) -> int:
    """Give where what is before a cursor ends; of a file that it does not know, nothing is before it."""
    place = places.get(cursor.key(source.path))
    if place is None:
        return source.begin
    if not sources.holds(source, place):
        raise Refusal(410, "the file was rotated or truncated after before was given; begin again with tail")
    return place.offset


def _dated(whole: Range, query: Query) -> Range:
    """Leave out what is certainly too old, and what is certainly too new."""
    if query.since is not None:
        whole.begin = whole.reader.seek(whole.begin, whole.end, query.since)
    if query.until is not None and query.since is not None:
        high = whole.reader.seek(whole.begin, whole.end, query.until) + 3 * blocks.BLOCK
        if high < whole.end:
            whole.end = blocks.last_line_end(whole.reader.source, high)
    return whole


def _gather(scans: Sequence[Scan], limit: int, *, backward: bool) -> tuple[list[Entry], str]:
    entries: list[Entry] = []
    size = 0
    incomplete = ""
    if limit:
        for entry in merged(scans, backward=backward):
            entries.append(entry)
            size += len(entry.line)
            if len(entries) >= limit or size >= MOST_BYTES:
                incomplete = "bytes" if size >= MOST_BYTES and len(entries) < limit else ""
                break
        else:
            incomplete = "scanned" if any(scan.cut_short for scan in scans) else ""
    if backward:
        entries.reverse()
    return entries, incomplete


def _mark(ranges: Sequence[Range], entries: Sequence[Entry]) -> None:
    """Note the cursor after each entry in its file."""
    by_path = {r.reader.source.path: r.reader.source for r in ranges}
    for entry in entries:
        entry.at = cursor.encode([sources.place(by_path[entry.origin], entry.end)])


def _page(
    ranges: Sequence[Range], scans: Sequence[Scan], entries: list[Entry], incomplete: str, *, backward: bool
) -> Page:
    firsts = [scan.place if backward else r.begin for r, scan in zip(ranges, scans, strict=True)]
    lasts = [r.end if backward else scan.place for r, scan in zip(ranges, scans, strict=True)]
    return Page(
        entries,
        _cursor(ranges, firsts),
        _cursor(ranges, lasts),
        any(first > r.reader.source.begin for r, first in zip(ranges, firsts, strict=True)),
        any(last < r.end for r, last in zip(ranges, lasts, strict=True)),
        incomplete,
    )


def ends(ranges: Sequence[Range]) -> str:
    """Give the cursor after all of it."""
    return _cursor(ranges, [r.end for r in ranges])


def _cursor(ranges: Sequence[Range], offsets: Sequence[int]) -> str:
    return cursor.encode([sources.place(r.reader.source, at) for r, at in zip(ranges, offsets, strict=True)])
