"""CSV, quoted as RFC 4180 says."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import text
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Segment, Table

# Without --columns these are there in any case, so that what did not parse is not lost.
_ALWAYS = ("message", "parse_error")


class Encoder:
    """CSV: a header, then a line per record; a value with a newline goes on in the next line, in quotes.

    The header comes once, before the first record that this encoder makes; `headed` says whether it has come, and
    may be set to leave it out. Without --columns the columns are those of the first table or record, and message and
    parse_error. Fields that are no column are left out.
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping
        self._columns = list(dict.fromkeys(word.strip() for words in settings.columns for word in words.split(",")))
        self.headed = False

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode each record as a row."""
        if not self._columns:
            self._columns = self._first(segments, origin)
        if not self._columns:
            return []
        columns = self._columns
        records = self._shaping.records(segments, origin)
        rows = [[text(record.get(name)) for name in columns] for record in records]
        if not self.headed:
            rows.insert(0, columns)
            self.headed = True
        return [_csv(rows)]

    def _first(self, segments: Sequence[Segment], origin: str) -> list[str]:
        """Give the columns of a stream that begins with these records."""
        always, otherwise = self._shaping.added(origin)
        for segment in segments:
            if isinstance(segment, Table) and segment.count:
                names = [self._shaping.name(field.name) for field in segment.fields]
                return list(dict.fromkeys([*filter(None, names), *always, *otherwise, *_ALWAYS]))
        for record in self._shaping.records(segments, origin):
            return list(dict.fromkeys([*record, *_ALWAYS]))
        return []


class _Lines(list[str]):
    """What the csv module writes to: a line at each call."""

    write = list.append


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    lines = _Lines()
    # With "\n" as its line's end the csv module of some Pythons leaves a value with "\r" bare.
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return "".join([line[:-2] + "\n" for line in lines]).encode()
