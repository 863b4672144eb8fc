"""JSON lines: of a table without making a single record, by joining its columns with what stands between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat

from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import dump_lines, dumps
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Field, Json, Segment, Table

_EMPTY_OBJECT = re.compile(rb"\{[ \t\r]*\}[ \t\r]*\n")
_TRAILING = re.compile(rb"(?<=\})[ \t\r]++\n")


class Encoder:
    """JSON lines, with the fields' own names.

        {"time":"2026-11-23T06:00:00Z","client":"10.0.0.1","method":"GET","path":"/","status":200}

    A record's fields come in their order, those that are added last; a field without a value is left out.
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping
        self._memos: dict[Field, _Memo] = {}

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode each segment the fastest way that it allows."""
        return [self._segment(segment, origin) for segment in self._shaping.segments(segments)]

    def _segment(self, segment: Segment, origin: str) -> bytes:
        if isinstance(segment, Table):
            fast = self._table(segment, origin)
        elif isinstance(segment, Json):
            fast = self._json(segment, origin)
        else:
            fast = None
        return dump_lines(self._shaping.shaped(segment.records(), origin)) if fast is None else fast

    def _table(self, table: Table, origin: str) -> bytes | None:
        """Join columns and literals; None where a record's own value decides what is added, or two fields are one."""
        always, otherwise = self._shaping.added(origin)
        columns: list[tuple[bytes, Field, Sequence[bytes]]] = []
        taken = set()
        for field, cells in zip(table.fields, table.columns, strict=True):
            name = self._shaping.name(field.name)
            if name is None or name in always or not any(cells):
                continue
            if name in taken or (name in otherwise and not all(cells)):
                return None
            taken.add(name)
            columns.append((dumps(name), field, cells))
        added = always | {name: value for name, value in otherwise.items() if name not in taken}
        line = _Line(table.count)
        for key, field, cells in columns:
            self._column(line, key, field, cells, table.clean)
        for name, value in added.items():
            line.literal(b",%b:%b" % (dumps(name), dumps(value)))
        return line.join()

    def _column(self, line: _Line, key: bytes, field: Field, cells: Sequence[bytes], clean: bool) -> None:
        if field.kind in ("integer", "number"):
            line.member(b",%b:" % key, cells, b"")
        elif field.kind != "text":
            line.member(b",%b:" % key, list(map(self._memo(field).__getitem__, cells)), b"")
        elif clean or _clean(cells):
            line.member(b',%b:"' % key, cells, b'"')
        else:
            line.member(b",%b:" % key, list(map(_written(field), cells)), b"")

    def _memo(self, field: Field) -> _Memo:
        memo = self._memos.get(field)
        if memo is None:
            if len(self._memos) >= 256:
                self._memos.clear()
            memo = self._memos[field] = _Memo(field)
        return memo

    def _json(self, segment: Json, origin: str) -> bytes | None:
        """Give the lines as they are, or with the new fields put before each line's last brace."""
        always, otherwise = self._shaping.added(origin)
        names = [*self._shaping.renames, *self._shaping.drops, *always, *otherwise]
        if not all(name in segment.absent or _nowhere(name, segment.data) for name in names):
            return None
        data = segment.data if segment.data.endswith(b"\n") or not segment.data else segment.data + b"\n"
        added = always | otherwise
        if not added:
            return data
        if _EMPTY_OBJECT.search(data):
            return None
        if data.count(b"}\n") != segment.count:
            data = _TRAILING.sub(b"\n", data)
        if data.count(b"}\n") != data.count(b"\n"):
            return None
        return data.replace(b"}\n", b"," + dumps(added)[1:] + b"\n")


class _Line:
    """The parts of a line, as they are collected: literals, which all lines share, and columns.

    Every member begins with a comma; that of a line's first becomes the brace.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: list[Iterable[bytes]] = []
        self._literal = b""
        self._braced = False

    def literal(self, text: bytes) -> None:
        """Add what all lines have."""
        if not self._parts and not self._literal:
            text, self._braced = b"{" + text[1:], True
        self._literal += text

    def member(self, before: bytes, cells: Sequence[bytes], after: bytes) -> None:
        """Add cells that are their own JSON, with what stands before and after them; nothing for an empty one."""
        if not all(cells):
            self._column([cell and before + cell + after for cell in cells])
        elif _alike(cells):
            self.literal(before + cells[0] + after)
        else:
            self.literal(before)
            self._column(cells)
            self._literal = after

    def _column(self, cells: Iterable[bytes]) -> None:
        if self._literal:
            self._parts.append(repeat(self._literal, self._count))
        self._literal = b""
        self._parts.append(cells)

    def join(self) -> bytes:
        """Give all lines."""
        end = self._literal + b"}\n"
        if not self._parts:
            return (end if self._braced else b"{}\n") * self._count
        lines = b"".join(chain.from_iterable(zip(*self._parts, repeat(end, self._count), strict=False)))
        return lines if self._braced else _opened(lines)


def _opened(lines: bytes) -> bytes:
    """Put the brace where a line has a comma first, or nothing: JSON has no newline but those between the lines."""
    data = (b"\n" + lines).replace(b"\n,", b"\n{").replace(b"\n}", b"\n{}")
    return data[1:]


def _alike(cells: Sequence[bytes]) -> bool:
    first = cells[0]
    return first == cells[-1] and first == cells[len(cells) // 2] and cells.count(first) == len(cells)


def _clean(cells: Sequence[bytes]) -> bool:
    """Say whether no cell of a text column needs an escape: it is ASCII that can be printed, without \\ and \"."""
    joined = b"".join(cells)
    return joined.isascii() and b"\\" not in joined and b'"' not in joined and joined.decode().isprintable()


class _Memo(dict[bytes, bytes]):
    """The JSON of cells seen lately; nothing for a cell without a value."""

    _MOST = 4096

    def __init__(self, field: Field) -> None:
        super().__init__()
        self._json = _written(field)

    def __missing__(self, cell: bytes) -> bytes:
        if len(self) >= self._MOST:
            self.clear()
        text = self[cell] = self._json(cell)
        return text


def _written(field: Field) -> Callable[[bytes], bytes]:
    read = field.read

    def written(cell: bytes) -> bytes:
        if not cell:
            return b""
        value = read(cell) if read else cell.decode("utf-8", "replace")
        return b"" if value is None else dumps(value)

    return written


def _nowhere(name: str, data: bytes) -> bool:
    """Say whether no object can have the name: it stands nowhere, and nothing in the lines is escaped."""
    return dumps(name) not in data and b"\\u" not in data
