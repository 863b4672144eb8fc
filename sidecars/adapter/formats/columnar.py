"""Formats that one regular expression reads: all lines of a portion by one call, into columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, overload

from sidecars.adapter.formats import fields
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Field, Objects, Record, Segment, Table, Unparsed
from sidecars.core.errors import WrongSettings

Rows = Sequence[Sequence[bytes]]

EMPTY = "empty line"
# What is kept of a cell that is no time or level after all, under another name.
_ELSE = {"time": "timestamp", "level": "severity"}
# Terminals' colours and other control sequences: ECMA-48, 5.4.
_ANSI = re.compile(rb"\x1b\[[0-9;:?]*+[ -/]*+[@-~]")
_BOM = b"\xef\xbb\xbf"
_PRINTABLE = bytes(range(0x20, 0x7F)) + b"\n"
# Rows that are turned into columns at once: enough to be fast, few enough for the memory.
_BLOCK = 1 << 14

# The rest of a record: to the end of the line, a carriage return before it left out, and of lines that continue it.
_REST = r"[^\r\n]*+(?:\r++(?!\n)[^\r\n]*+)*+"
_REST_OF_RECORD = r"[^\r\n]*+(?:(?:\r++(?!\n)|\r*+\n(?!\Z)(?=CONTINUED))[^\r\n]*+)*+"


class Row(NamedTuple):
    """A format as one row of a table.

    pattern       groups are named as their fields; pieces such as {INT} are those of fields.py
    special       what reads a field that is not as others of its name; None: it is text
    unescape      what undoes the escapes of its text cells
    head          the beginning of a line that begins a record, where other lines continue the one before them
    quotes        whether text cells may hold a quote that is not escaped
    also          further fields that are read of a group: name of the group, name of the field, what reads it
    refine        what changes the records of tables whose bytes have `marks`: what no column can say
    """

    name: str
    pattern: str
    special: Mapping[str, fields.Read | None] | None = None
    unescape: fields.Read | None = None
    head: str | None = None
    quotes: bool = True
    also: tuple[tuple[str, str, fields.Read], ...] = ()
    refine: Callable[[Record], None] | None = None
    marks: bytes = b""


class Lines(Sequence[bytes]):
    """The lines of a portion, cut when they are asked for: most outputs never ask."""

    __slots__ = ("_count", "_cut", "_data")

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self._count = count
        self._cut: list[bytes] | None = None

    def _lines(self) -> list[bytes]:
        if self._cut is None:
            self._cut = self._data.removesuffix(b"\n").split(b"\n")
        return self._cut

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        return self._lines()[index]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines())


def ended(data: bytes) -> bytes:
    """Give data whose last line is ended, as all of a portion's are."""
    return data if not data or data.endswith(b"\n") else data + b"\n"


def cleaned(data: bytes) -> bytes:
    """Give the bytes without a byte order mark at the beginning and terminals' colours. It has as many lines."""
    if data.startswith(_BOM):
        data = data[3:]
    # One byte is searched for at the speed of memory, two are not.
    return _ANSI.sub(b"", data) if b"\x1b" in data else data


def clean(data: bytes, quotes: bool = True) -> bool:
    """Tell whether cells of these bytes need no escape of any kind, as Table has it."""
    return (
        data.isascii() and b"\\" not in data and not (quotes and b'"' in data) and not data.translate(None, _PRINTABLE)
    )


def unparsed(lines: Sequence[bytes], name: str) -> list[Segment]:
    """Give lines that are not in a format; empty ones are called so."""
    return [
        Unparsed(list(run), EMPTY if empty else f"not in the format {name}")
        for empty, run in groupby(lines, lambda line: not line.strip())
    ]


class Columnar:
    """A format whose records are rows of groups.

    Reads lines that do not match as they are, in their place.
    """

    parts: str | None = None

    def __init__(self, row: Row, times: Times, continued: bytes | None) -> None:
        pattern = fields.expanded(row.pattern)
        rest = _REST_OF_RECORD.replace("CONTINUED", continued.decode("latin-1")) if continued is not None else _REST
        self._joined = continued is not None and "{REST}" in pattern
        self.name = row.name
        self.continuation = continued if self._joined else None
        body = pattern.replace("{REST}", rest).encode("latin-1")
        whole = rb"(%b\r?)\n" if self._joined else rb"%b\r?\n"
        try:
            self._pattern = re.compile(whole % body + rb"|([^\n]*+\n)", re.MULTILINE)
        except (re.error, RecursionError, OverflowError) as error:
            raise WrongSettings(
                f"{row.name} and --multiline do not go together: {error}; write it otherwise"
            ) from error
        names = sorted(self._pattern.groupindex, key=self._pattern.groupindex.__getitem__)
        self._at = [self._pattern.groupindex[name] - 1 for name in names]
        self._fields = [fields.field(name, times, row.unescape, row.special) for name in names]
        for group, name, read in row.also:
            self._at.append(self._pattern.groupindex[group] - 1)
            self._fields.append(Field(name, "other", read))
        self._refine, self._marks = row.refine, row.marks
        self._checks = tuple(index for index, field in enumerate(self._fields) if field.kind in _ELSE)
        self._quotes = row.quotes

    def context(self, data: bytes, before: object) -> object:
        """Give none."""
        return None

    def accepts(self, data: bytes) -> bool:
        """Tell whether the first record of cleaned data is in this format."""
        found = self._pattern.match(data)
        return found is not None and found.lastindex is not None and not found[self._pattern.groups]

    def parse(self, data: bytes, context: object = None, *, text: bytes | None = None) -> list[Segment]:
        """Read whole records; `text` is what was cleaned of `data`, where that is known."""
        data = ended(data)
        text = cleaned(data) if text is None else text
        segments = self._read(data, text)
        if self._refine is None or self._marks not in text:
            return segments
        return [_refined(segment, self._refine) for segment in segments]

    def _read(self, data: bytes, text: bytes) -> list[Segment]:
        rows: Rows = self._pattern.findall(text)
        tidy = clean(text, self._quotes)
        if len(rows) <= _BLOCK and not self._joined:
            return self._block(rows, Lines(data, len(rows)), tidy)
        lines = self._cut(rows, data) if self._joined else data[:-1].split(b"\n")
        return [
            segment
            for start in range(0, len(rows), _BLOCK)
            for segment in self._block(rows[start : start + _BLOCK], lines[start : start + _BLOCK], tidy)
        ]

    def _cut(self, rows: Rows, data: bytes) -> list[bytes]:
        """Give the bytes of each record, of several lines maybe: as they were before they were cleaned."""
        lines = data[:-1].split(b"\n")
        cut, start = [], 0
        for row in rows:
            end = start + (1 if row[-1] else row[0].count(b"\n") + 1)
            cut.append(lines[start] if end == start + 1 else b"\n".join(lines[start:end]))
            start = end
        return cut

    def _block(self, rows: Rows, lines: Sequence[bytes], tidy: bool) -> list[Segment]:
        if not rows:
            return []
        columns = list(zip(*rows, strict=True))
        if not any(columns[-1]):
            return self._tables(columns, lines, tidy)
        segments: list[Segment] = []
        for start, end, failed in runs([bool(cell) for cell in columns[-1]]):
            if failed:
                segments += unparsed(lines[start:end], self.name)
            else:
                segments += self._tables([column[start:end] for column in columns], lines[start:end], tidy)
        return segments

    def _tables(self, columns: Sequence[Sequence[bytes]], lines: Sequence[bytes], tidy: bool) -> list[Segment]:
        return checked(self._fields, [columns[index] for index in self._at], lines, tidy, self._checks)


def _refined(segment: Segment, refine: Callable[[Record], None]) -> Segment:
    if not isinstance(segment, Table):
        return segment
    records = list(segment.records())
    for record in records:
        refine(record)
    return Objects(records, segment.lines)


def checked(
    fields: Sequence[Field],
    columns: Sequence[Sequence[bytes]],
    lines: Sequence[bytes],
    tidy: bool,
    checks: Sequence[int],
) -> list[Segment]:
    """Give tables in which each time and level is one: where it is none, its text is in `timestamp` or `severity`."""
    rest = iter(checks)
    for index in rest:
        read = fields[index].read
        odd = {cell for cell in set(columns[index]) if cell and read and read(cell) is None}
        if odd:
            break
    else:
        return [Table(fields, columns, lines, tidy)]
    other = list(fields)
    other[index] = Field(_ELSE[fields[index].name])
    later = tuple(rest)
    return [
        segment
        for start, end, failed in runs([cell in odd for cell in columns[index]])
        for segment in checked(
            other if failed else fields, [column[start:end] for column in columns], lines[start:end], tidy, later
        )
    ]


def runs(marks: Sequence[bool]) -> Iterator[tuple[int, int, bool]]:
    """Give where equal marks follow each other: start, end, and the mark."""
    start = 0
    for mark, run in groupby(marks):
        end = start + sum(1 for _ in run)
        yield start, end, mark
        start = end


class Choice:
    """Several forms of one format, told apart per line: the form of the first line is tried first for all."""

    parts: str | None = None

    def __init__(self, name: str, forms: Sequence[Columnar]) -> None:
        self.name = name
        self.continuation = next((form.continuation for form in forms if form.continuation), None)
        self._forms = forms
        for form in forms:
            form.name = name

    def context(self, data: bytes, before: object) -> object:
        """Give none."""
        return None

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read whole records."""
        data = ended(data)
        text = cleaned(data)
        first = next((form for form in self._forms if form.accepts(text)), self._forms[0])
        segments = first.parse(data, text=text)
        for form in self._forms:
            if form is not first:
                segments = list(_again(segments, form))
        return segments


def _again(segments: Sequence[Segment], form: Columnar) -> Iterator[Segment]:
    for segment in segments:
        if isinstance(segment, Unparsed) and segment.error != EMPTY:
            yield from form.parse(b"\n".join(segment.lines) + b"\n")
        else:
            yield segment
