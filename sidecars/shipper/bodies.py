"""What lines become in objects: a batch at a time, for that is what makes Python fast."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sidecars.core.follow.identity import printable
from sidecars.shipper import slices
from sidecars.shipper.conversions import Record
from sidecars.shipper.parsers import Rows, parser
from sidecars.shipper.plan import Body, Layout, Parse
from sidecars.shipper.timestamps import Format, zone

# A character that JSON does not escape and logs do not have. Batches that have it go the slow way.
_SEPARATOR = "\x7f"

_ISO_8601 = "%Y-%m-%dT%H:%M:%S%:z"
_RFC_3339 = "%Y-%m-%dT%H:%M:%S.%NZ"
# What would end a record of LTSV, or a field of it, early.
_BLANKS = str.maketrans("\t\n\r", "   ")

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


class Lines(msgspec.Struct, gc=False):
    """What goes into the object of one time slice.

    moment     a time in that slice, in epoch seconds; None: the time of reading
    count      how many lines or records these are
    unmatched  how many records of the batch did not match the parser, and are only `{message_key: line}`
    """

    moment: float | None
    data: bytes
    count: int
    unmatched: int = 0


class _Batch(NamedTuple):
    """What was read at once, and where. `records` are what it consists of, unless that is lines."""

    data: bytes | memoryview
    records: Sequence[bytes] | None
    partial: bool
    tag: str
    path: str
    now: float
    extra: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Whether its last line ends in it."""
        return bytes(self.data[-1:]) == b"\n"

    @property
    def part(self) -> int:
        """Which line is only a part of one, if any is: the last if it does not end, else the first."""
        return 0 if self.ended else -1

    def lines(self, errors: str, *, chomp: bool) -> list[str]:
        """Give lines or records without their last newline, and without its CR where fluentd has none either."""
        if self.records is None:
            lines = str(self.data, "utf-8", errors).split("\n")
            if not lines[-1]:
                lines.pop()
        else:
            lines = [str(record, "utf-8", errors).removesuffix("\n") for record in self.records]
        return [line.removesuffix("\r") for line in lines] if chomp else lines


class Renderer(ABC):
    """Makes what goes into objects of what was read."""

    def render(
        self,
        data: bytes | memoryview,
        *,
        records: Sequence[bytes] | None,
        tag: str,
        path: str,
        now: float,
        partial: bool,
        extra: Mapping[str, str],
    ) -> list[Lines]:
        """Render a batch that was read at `now`: its `records`, or its lines if these are None.

        partial  the last line goes on in the next batch, or the first one began in the batch before; such a part is a
                 record of its own, marked by `"partial": true`
        extra    fields to put into each record that does not have them
        """
        if not data:
            return []
        # Names of files may hold bytes that are not UTF-8, and the tag may be made of one.
        known = {name: printable(value) for name, value in extra.items()}
        return self._rendered(_Batch(data, records, partial, printable(tag), printable(path), now, known))

    @abstractmethod
    def _rendered(self, batch: _Batch) -> list[Lines]: ...


def renderer(body: Body, parse: Parse | None, layout: Layout) -> Renderer:
    """Give the renderer of a body. Without `parse`, the lines are no records: the sidecar's own settings want it so.

    Raises WrongSettings for what cannot be parsed or formatted so.
    """
    if parse is not None and parse.kind != "none":
        return _Parsed(body, parse, layout)
    return _Text(body.add_newline) if body.kind == "text" else _Framed(body, parse, layout)


class _Text(Renderer):
    """Bytes as they are: not decoded, not split."""

    def __init__(self, newlines: bool) -> None:
        self._newlines = newlines

    def _rendered(self, batch: _Batch) -> list[Lines]:
        text = bytes(batch.data)
        lines = text.count(b"\n")
        if not self._newlines:
            text = b"".join(record.removesuffix(b"\n") for record in batch.records or text.split(b"\n"))
        return [Lines(None, text, lines)]


class _Framed(Renderer):
    """A line as the only field that differs from that of the next: one encode for a whole batch.

    Then what separates two lines becomes what stands between two records.
    """

    def __init__(self, body: Body, parse: Parse | None, layout: Layout) -> None:
        self._body = body
        self._native = parse is None
        self._key = body.message_key if parse is None else parse.message_key
        self._ltsv = body.kind == "ltsv"
        self._columns = _Columns(body, layout) if body.kind == "out_file" else None
        own = body.kind == "json" and parse is None and body.time_format is None
        self._time = Format(_RFC_3339, zone("UTC")) if own else _time_format(body, layout)

    def _rendered(self, batch: _Batch) -> list[Lines]:
        if not batch.partial and batch.records is None:
            text = str(batch.data, "utf-8", "replace")
            if _SEPARATOR not in text and (self._native or "\r" not in text):
                return [self._at_once(text.removesuffix("\n"), *self._frame(batch, {}))]
        return [self._one_by_one(batch)]

    def _at_once(self, text: str, start: bytes, end: bytes) -> Lines:
        values = self._value(text.replace("\n", _SEPARATOR))
        quote = b"" if self._ltsv else b'"'
        between = quote + end + b"\n" + start + quote
        whole = b"".join((start, values.replace(_SEPARATOR.encode(), between), end, b"\n"))
        return Lines(None, whole, text.count("\n") + 1)

    def _one_by_one(self, batch: _Batch) -> Lines:
        lines = batch.lines("replace", chomp=not self._native)
        start, end = self._frame(batch, {})
        ends = [end] * len(lines)
        if batch.partial:
            _, ends[batch.part] = self._frame(batch, {"partial": True})
        rendered = (b"%b%b%b\n" % (start, self._value(line), end) for line, end in zip(lines, ends, strict=True))
        return Lines(None, b"".join(rendered), len(lines))

    def _value(self, text: str) -> bytes:
        return text.translate(_BLANKS).encode() if self._ltsv else _encode(text)

    def _frame(self, batch: _Batch, marks: Record) -> tuple[bytes, bytes]:
        """Give what stands before a line, and what after it."""
        before, after = self._fields(batch)
        after |= marks
        if self._ltsv:
            return f"{self._key}:".encode(), f"\t{_ltsv(after)}".encode() if after else b""
        columns = self._columns.of(batch, [None])[None] if self._columns else b""
        start = _encode(before)[:-1] + b"," * bool(before) + _encode(self._key) + b":"
        return columns + start, (b"," if after else b"") + _encode(after)[1:]

    def _fields(self, batch: _Batch) -> tuple[Record, Record]:
        """Give the fields before the line, and those after it, as fluentd would put them there."""
        body, time = self._body, self._time(batch.now)
        own = {name: value for name, value in body.fields.items() if body.kind == "json"}
        if self._native and body.kind == "json":
            known = {body.time_key or "time": time, body.tag_key or "tag": batch.tag, "file": batch.path}
            return _without(self._key, {**known, **batch.extra, **own}), {}
        added = {**batch.extra, **own}
        added |= {body.tag_key: batch.tag} if body.tag_key else {}
        added |= {body.time_key: time} if body.time_key else {}
        return {}, _without(self._key, added)


class _Parsed(Renderer):
    """Records that a parser makes of lines."""

    def __init__(self, body: Body, parse: Parse, layout: Layout) -> None:
        self._body = body
        self._layout = layout
        self._parser = parser(parse)
        self._time = _time_format(body, layout)
        self._columns = _Columns(body, layout)
        self._fields = body.fields if body.kind == "json" else {}
        # Structs cannot take fields; where none are to be added, they are twice as fast as dicts.
        self._bare = body.kind in ("json", "out_file") and not (self._fields or body.time_key or body.tag_key)

    def _rendered(self, batch: _Batch) -> list[Lines]:
        text = self._body.kind == "text"
        lines = batch.lines("surrogateescape" if text else "replace", chomp=True)
        if self._bare and not batch.extra and not batch.partial:
            rows = self._parser.encodable(lines)
        else:
            rows = self._parser.rows(lines)
            self._extend(rows, batch)
        pieces = [
            Lines(moment, self._encoded(each, part, batch), len(part))
            for moment, each, part in self._slices(rows, lines, batch.now)
        ]
        if text and not batch.ended:
            # The line goes on in the next batch, and in the object.
            pieces[-1].data = pieces[-1].data.removesuffix(b"\n")
        pieces[0].unmatched = rows.unmatched
        return pieces

    def _extend(self, rows: Rows, batch: _Batch) -> None:
        added = {**batch.extra, **self._fields}
        tag_key, time_key = self._body.tag_key, self._body.time_key
        for moment, record in zip(rows.moments, rows.records, strict=True):
            for name, value in added.items():
                record.setdefault(name, value)
            if tag_key:
                record[tag_key] = batch.tag
            if time_key:
                record[time_key] = self._time(batch.now if moment is None else moment)
        if batch.partial:
            rows.records[batch.part]["partial"] = True

    def _slices(self, rows: Rows, lines: list[str], now: float) -> list[tuple[float | None, Rows, list[str]]]:
        if not self._body.by_event_time:
            return [(None, rows, lines)]
        moments = [now if moment is None else moment for moment in rows.moments]
        begins = {second: slices.begin(second, self._layout) for second in {moment // 1 for moment in moments}}
        if len(set(begins.values())) == 1:
            return [(moments[0], rows, lines)]
        indexes: dict[int, list[int]] = {}
        for index, moment in enumerate(moments):
            indexes.setdefault(begins[moment // 1], []).append(index)
        return [(moments[each[0]], _chosen(rows, each), [lines[index] for index in each]) for each in indexes.values()]

    def _encoded(self, rows: Rows, lines: list[str], batch: _Batch) -> bytes:
        kind = self._body.kind
        if kind == "text":
            return self._texts(rows, lines)
        if kind == "ltsv":
            return "".join(f"{_ltsv(record)}\n" for record in rows.records).encode()
        encoded: bytes = _encode_lines(rows.records)
        return encoded if kind == "json" else self._columns.before(encoded, rows.moments, batch)

    def _texts(self, rows: Rows, lines: list[str]) -> bytes:
        """Give the one field that is wanted; of a record that does not have it, the line (fluentd: an empty one)."""
        key, end = self._body.message_key, "\n" if self._body.add_newline else ""
        texts = (_shown(record.get(key, line)) for record, line in zip(rows.records, lines, strict=True))
        return "".join(f"{text}{end}" for text in texts).encode("utf-8", "surrogateescape")


class _Columns:
    """What fluentd's out_file format has before a record: the time, the tag, and a delimiter after each."""

    def __init__(self, body: Body, layout: Layout) -> None:
        self._time = _time_format(body, layout) if body.output_time else None
        self._tag = body.output_tag
        self._delimiter = body.delimiter

    def of(self, batch: _Batch, moments: Iterable[float | None]) -> dict[float | None, bytes]:
        """Give the columns of records with these times, by time."""
        # A tag made of a file's name must not end the line or the column.
        tag = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in batch.tag)
        rest = f"{tag}{self._delimiter}" if self._tag else ""
        write, end = self._time, self._delimiter
        if write is None:
            return dict.fromkeys(moments, rest.encode())
        return {
            each: f"{write(batch.now if each is None else each)}{end}{rest}".encode() for each in dict.fromkeys(moments)
        }

    def before(self, encoded: bytes, moments: Sequence[float | None], batch: _Batch) -> bytes:
        """Put its columns before each of the encoded records, one of which ends at each newline."""
        columns = self.of(batch, moments)
        if len(set(columns.values())) == 1:
            same = columns[moments[0]]
            return same + encoded[:-1].replace(b"\n", b"\n" + same) + b"\n"
        parts = [b""] * (2 * len(moments))
        parts[::2] = map(columns.__getitem__, moments)
        parts[1::2] = encoded.splitlines(keepends=True)
        return b"".join(parts)


def _time_format(body: Body, layout: Layout) -> Format:
    return Format(body.time_format or _ISO_8601, zone(body.zone or layout.zone))


def _chosen(rows: Rows, indexes: Iterable[int]) -> Rows:
    return Rows([rows.moments[index] for index in indexes], [rows.records[index] for index in indexes], 0)


def _without(name: str, fields: Mapping[str, object]) -> Record:
    return {each: value for each, value in fields.items() if each != name}


def _ltsv(record: Mapping[str, Any]) -> str:
    return "\t".join(f"{name}:{_shown(value)}".translate(_BLANKS) for name, value in record.items())


def _shown(value: object) -> str:
    """Give a value as text; null is empty."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
