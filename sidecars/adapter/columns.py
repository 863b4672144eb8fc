"""Some fields of all the records of a segment, side by side, for what looks at few of them and at every record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import msgspec

from sidecars.adapter.table import Field, Json, Segment, Table, reader

Value = Hashable
Column = Sequence[Value]
Read = Callable[[Any], object]

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MOST_READERS = 256
_PLAIN = (str, int, float, bool, type(None))


class Columns:
    """Takes the fields of these names out of segments.

    A cell of a Table is its bytes, so that equal ones are read once; elsewhere it is the value, and what is no text and
    no number is its JSON. `read` makes either a value, None where the record does not have the field.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._readers: dict[int, tuple[Field, Read]] = {}
        fields = [(f"f{index}", Any, None) for index in range(len(names))]
        shape = msgspec.defstruct("Some", fields, rename={f"f{i}": name for i, name in enumerate(names)}, gc=False)
        self._decode = msgspec.json.Decoder(shape).decode_lines

    def of(self, segment: Segment) -> list[Column] | None:
        """Give a column for each of the names; None where no record has any of them."""
        if isinstance(segment, Table):
            places = {field.name: index for index, field in enumerate(segment.fields)}
            if places.keys().isdisjoint(self.names):
                return None
            absent = (b"",) * segment.count
            return [segment.columns[places[name]] if name in places else absent for name in self.names]
        return self._values(segment)

    def readers(self, segment: Segment) -> list[Read]:
        """Give what makes values of the cells of each column."""
        if not isinstance(segment, Table):
            return [_itself] * len(self.names)
        fields = {field.name: field for field in segment.fields}
        return [self._reader(fields[name]) if name in fields else _none for name in self.names]

    def _reader(self, field: Field) -> Read:
        # The field is kept with its reader, so that no other one gets its id.
        known = self._readers.get(id(field))
        if known is None:
            if len(self._readers) >= _MOST_READERS:  # formats whose files name their columns make new fields
                self._readers.clear()
            known = self._readers[id(field)] = (field, reader(field))
        return known[1]

    def _values(self, segment: Segment) -> list[Column]:
        indices = range(len(self.names))
        if isinstance(segment, Json):
            try:
                objects = self._decode(segment.data)
            except _BROKEN:
                pass  # some number that msgspec does not take, in one of the lines
            else:
                return [_plain([getattr(each, f"f{index}") for each in objects]) for index in indices]
        records = list(segment.records())
        return [_plain([record.get(name) for record in records]) for name in self.names]


def _plain(values: list[object]) -> list[Value]:
    if all(map(_PLAIN.__contains__, set(map(type, values)))):
        return values
    return [each if type(each) in _PLAIN else _json(each) for each in values]


def _json(value: object) -> str:
    from sidecars.adapter.encode.values import text

    return text(value)


def _itself(value: object) -> object:
    return value


def _none(_: object) -> None:
    return None
