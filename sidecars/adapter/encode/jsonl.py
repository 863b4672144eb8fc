"""JSON lines: of a table without making a single record, by joining its columns with what stands between them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sidecars.adapter.encode.line import Cells, Line
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import dump_lines, dumps
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Field, Json, Segment, Table

_EMPTY_OBJECT = re.compile(rb"\{[ \t\r]*\}[ \t\r]*\n")


class Encoder:
    """JSON lines, with the fields' own names.

        {"time":"2026-11-23T06:00:00Z","client":"10.0.0.1","method":"GET","path":"/","status":200}

    A record's fields come in their order, those that are added last; a field without a value is left out.
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping
        self._cells = Cells()

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
        line = Line(table.count)
        for key, field, cells in columns:
            written, quote = self._cells.json(field, cells, clean=table.clean)
            line.member(b",%b:%b" % (key, quote), written, quote)
        for name, value in added.items():
            line.literal(b",%b:%b" % (dumps(name), dumps(value)))
        return line.join()

    def _json(self, segment: Json, origin: str) -> bytes | None:
        """Give the lines as they are, or with the new fields put before each line's last brace."""
        always, otherwise = self._shaping.added(origin)
        if not all(name in segment.absent or _nowhere(name, segment.data) for name in self._shaping.names):
            return None
        added = always | otherwise
        if not added:
            return segment.data if segment.data.endswith(b"\n") or not segment.data else segment.data + b"\n"
        # What was seen of each has its time, level and message.
        if segment.seen is None and _EMPTY_OBJECT.search(segment.data):
            return None
        return _spliced(segment, dumps(added)[1:])


def _spliced(segment: Json, added: bytes) -> bytes | None:
    """Put members, with the brace after them, in the place of each object's last brace; None if one ends no line."""
    # Splitting and joining is twice as fast here as replacing.
    parts = segment.data.split(Json.BETWEEN) if segment.parts is None else segment.parts
    if len(parts) != segment.count or not segment.data.startswith(b"{") or not segment.data.endswith(b"}\n"):
        return None
    return (b",%b\n{" % added).join([*parts[:-1], b"%b,%b\n" % (parts[-1][:-2], added)])


def _nowhere(name: str, data: bytes) -> bool:
    """Say whether no object can have the name: it stands nowhere, and nothing in the lines is escaped."""
    return dumps(name) not in data and (b"\\" not in data or b"\\u" not in data)
