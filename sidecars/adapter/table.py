"""What parsing gives: runs of records, by columns where a format has columns, for then a million lines need no dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import msgspec

# A record as every output understands it: JSON-able values. `time` is RFC 3339 with a zone, `level` one of LEVELS,
# `message` the text for people. A line that did not parse has only `message`, its text, and `parse_error`.
Record = dict[str, object]

LEVELS = ("trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

Kind = Literal["text", "integer", "number", "time", "level", "other"]


class Field(msgspec.Struct, frozen=True):
    """A column: its name, what it holds, and how a cell becomes a value.

    text     the bytes as they stand; `read` undoes the format's own escapes, and is called for cells that may have some
    integer  digits as JSON writes them, so that a cell is its own JSON: no sign, no leading zero
    number   likewise, with a fraction or an exponent
    others   `read` gives the value, None for none; it is called once for each different cell that is remembered

    An empty cell means that the record does not have the field.
    """

    name: str
    kind: Kind = "text"
    read: Callable[[bytes], object] | None = None


class Segment(Protocol):
    """A run of records that follow each other in a file."""

    @property
    def count(self) -> int:
        """How many records."""

    @property
    def lines(self) -> Sequence[bytes]:
        """The bytes of each record, without the newline at its end."""

    def records(self) -> Iterator[Record]:
        """The records, made anew at each call: the caller may change them."""


class Table:
    """Records that have the same columns.

    `columns` has, for each field, the cells of all records. `clean` says that no cell needs an escape of any kind: all
    bytes are printable ASCII, there is no backslash, and no quote inside a text cell.
    """

    __slots__ = ("clean", "columns", "count", "fields", "lines")

    def __init__(
        self, fields: Sequence[Field], columns: Sequence[Sequence[bytes]], lines: Sequence[bytes], clean: bool
    ) -> None:
        self.fields = fields
        self.columns = columns
        self.lines = lines
        self.count = len(lines)
        self.clean = clean

    def records(self) -> Iterator[Record]:
        """Give the records with their values read."""
        names = [field.name for field in self.fields]
        columns = [map(reader(field), cells) for field, cells in zip(self.fields, self.columns, strict=True)]
        for row in zip(*columns, strict=True):
            yield {name: value for name, value in zip(names, row, strict=True) if value is not None}


class Objects:
    """Records that each have fields of their own, already read."""

    __slots__ = ("_records", "count", "lines")

    def __init__(self, records: Sequence[Record], lines: Sequence[bytes]) -> None:
        self._records = records
        self.lines = lines
        self.count = len(records)

    def records(self) -> Iterator[Record]:
        """Give copies of the records."""
        return (dict(record) for record in self._records)


class Json:
    """Lines that are JSON objects in UTF-8 and need no change: time, level and message are as a Record has them.

    `absent` names the fields that none of the objects has, among those that the format was asked about: what adds one
    of these may put it into the text. `seen` is what was read of each object, where that was done: each has a time, a
    level and a message then, and its `level`, `method` and `status` are there to be counted, None where it has none.
    `parts` is the data split at each BETWEEN, where that was done.
    """

    # What stands between two objects that begin and end with their lines.
    BETWEEN = b"}\n{"

    __slots__ = ("absent", "count", "data", "parts", "seen")

    def __init__(
        self,
        data: bytes,
        count: int,
        absent: frozenset[str],
        seen: Sequence[Any] | None = None,
        parts: list[bytes] | None = None,
    ) -> None:
        self.data = data
        self.count = count
        self.absent = absent
        self.seen = seen
        self.parts = parts

    @property
    def lines(self) -> Sequence[bytes]:
        """The lines."""
        return self.data.removesuffix(b"\n").split(b"\n")

    def records(self) -> Iterator[Record]:
        """Decode the lines."""
        yield from msgspec.json.Decoder(Record).decode_lines(self.data)


class Unparsed:
    """Lines that are not in the format: nothing of them is lost."""

    __slots__ = ("count", "error", "lines")

    def __init__(self, lines: Sequence[bytes], error: str) -> None:
        self.lines = lines
        self.count = len(lines)
        self.error = error

    def records(self) -> Iterator[Record]:
        """Give each line's text as the message, with the error."""
        for line in self.lines:
            yield {"message": line.decode("utf-8", "replace"), "parse_error": self.error}


class Format(Protocol):
    """How records of one kind of log are read.

    name          what --from calls it
    continuation  the beginning of a line that belongs to the record before it, as a regular expression; None where each
                  line is a record
    parts         the rule of core/follow/join.py for lines that come in parts: "cri", "docker"; None without
    """

    name: str
    continuation: bytes | None
    parts: str | None

    def context(self, data: bytes, before: object) -> object:
        """Give the context that holds after `data`, which began with `before`: the columns a header names, say.

        None is that of a file's beginning. Nearly every format needs none and gives None. Picklable.
        """

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read whole records, each ended by a newline. Raises nothing, whatever the bytes; loses no line."""


def reader(field: Field) -> Callable[[bytes], object]:
    """Give what makes a value of a cell, None of an empty one."""
    if field.kind == "integer":
        return lambda cell: _whole(cell) if cell else None
    if field.kind == "number":
        return lambda cell: float(cell) if cell else None
    if field.kind != "text":
        return Memo(field.read or _text).__getitem__
    read = field.read or _text
    return lambda cell: read(cell) if cell else None


def _whole(cell: bytes) -> object:
    # Python refuses to read more than some thousands of digits, for that takes quadratic time.
    return int(cell) if len(cell) < 4000 else _text(cell)


def _text(cell: bytes) -> object:
    return cell.decode("utf-8", "replace")


class Memo(dict[bytes, object]):
    """What a function gave for a cell, for the cells seen lately: times and levels come again and again."""

    _MOST = 4096

    def __init__(self, read: Callable[[bytes], object]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, cell: bytes) -> object:
        if len(self) >= self._MOST:
            self.clear()
        value = self[cell] = self._read(cell) if cell else None
        return value
