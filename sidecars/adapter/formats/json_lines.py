"""JSON lines: what is canonical already passes as it is; the usual names of time, level and message are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from sidecars.adapter.formats.canonical import ALIASES, OURS, Canonical
from sidecars.adapter.formats.columnar import cleaned, ended, unparsed
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import LEVELS, Json, Objects, Record, Segment

# What is counted of a request beside its level.
COUNTED: dict[str, Any] = {"method": str, "status": int}
# A portion in which some lines are not canonical is cut into so many pieces, of which the others pass.
_PIECES = 16

_decode = msgspec.json.Decoder(dict[str, Any])
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Passed(Json):
    """Lines that pass as they are, of which only what makes them canonical was read."""

    __slots__ = ()

    def records(self) -> Iterator[Record]:
        """Decode the lines. What msgspec skipped may be a number that it does not take."""
        for line in self.lines:
            record = loaded(line)
            yield {"message": line.decode("utf-8", "replace")} if record is None else record


def _canonical(absent: Collection[str], *, whole: bool) -> Callable[[bytes], list[Any]]:
    """Give what decodes lines that are canonical and have none of these fields, and raises for others.

    Where all of time, level and message must be there (`whole`), no other name is looked for, which is twice as fast;
    what is counted of requests is read with them.
    """
    kinds: tuple[Any, ...] = (Annotated[datetime, msgspec.Meta(tz=True)], Literal[LEVELS], str)
    fields: list[Any] = list(zip(OURS, kinds, strict=True))
    if whole:
        fields += [(name, kind | None, None) for name, kind in COUNTED.items()]
    else:
        fields = [(name, kind | UnsetType, UNSET) for name, kind in fields]
    names = {name: name for name, *_ in fields}
    for number, name in enumerate(sorted({*(() if whole else ALIASES), *absent} - set(OURS))):
        fields.append((f"not_{number}", UnsetType, UNSET))
        names[f"not_{number}"] = name
    shape = msgspec.defstruct("Canonical", fields, rename=names, gc=False)
    return msgspec.json.Decoder(shape).decode_lines


class JsonLines:
    """JSON objects, one per line.

    `special` changes each record of a program whose JSON is its own, before the usual names are looked for. `absent`
    names what an encoder may add: if no object has any of these, they can be put into its text.
    """

    parts: str | None = None
    continuation: bytes | None = None

    def __init__(
        self,
        name: str,
        times: Times,
        absent: Collection[str] = (),
        special: Callable[[Record], None] | None = None,
    ) -> None:
        self.name = name
        self._canonical = Canonical(times)
        self._special = special
        self._ways = [
            (_canonical(names, whole=whole), names, whole)
            for names in dict.fromkeys((frozenset(absent), frozenset[str]()))
            for whole in (True, False)
            if not special and not (whole and COUNTED.keys() & names)
        ]

    def context(self, data: bytes, before: object) -> object:
        """Give none."""
        return None

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read lines."""
        data = ended(data)
        segment = self._passed(data)
        if segment or not data:
            return [segment] if segment else []
        pieces = list(_cut(data)) if self._ways else [data]
        if len(pieces) == 1:
            return self._read(data)
        return [each for piece in pieces for each in self._piece(piece)]

    def _piece(self, data: bytes) -> list[Segment]:
        segment = self._passed(data)
        return [segment] if segment else self._read(data)

    def _passed(self, data: bytes) -> Segment | None:
        """Give the lines as they are, if each is a canonical object."""
        if not self._ways or not data.startswith(b"{") or not data.endswith(b"}\n"):
            return None
        count = data.count(b"\n")
        # Splitting takes hardly longer than counting. Between these ends no line can hold two objects, and no object
        # two lines.
        parts = data.split(Json.BETWEEN)
        if len(parts) != count or not _sound(data):
            return None
        for decode, absent, whole in self._ways:
            try:
                read = decode(data)
            except _BROKEN:
                continue
            if len(read) == count:
                return Passed(data, count, absent, read if whole else None, parts)
        return None

    def _read(self, data: bytes) -> list[Segment]:
        segments: list[Segment] = []
        found = zip(self._objects(data), data[:-1].split(b"\n"), strict=True)
        for good, run in groupby(found, lambda pair: pair[0] is not None):
            pairs = list(run)
            lines = [line for _, line in pairs]
            if good:
                segments.append(Objects([self._own(record) for record, _ in pairs if record is not None], lines))
            else:
                segments += unparsed(lines, self.name)
        return segments

    def _objects(self, data: bytes) -> Sequence[Record | None]:
        try:
            records: list[Record] = _decode.decode_lines(data)
        except _BROKEN:
            records = []
        if len(records) == data.count(b"\n") and data.count(b"\n{") == len(records) - 1:
            return records
        return [loaded(line) for line in cleaned(data)[:-1].split(b"\n")]

    def _own(self, record: Record) -> Record:
        if self._special:
            self._special(record)
        return self._canonical(record)


def _cut(data: bytes) -> Iterator[bytes]:
    start, step = 0, max(4096, len(data) // _PIECES)
    while start < len(data):
        end = data.find(b"\n", min(start + step, len(data) - 1)) + 1
        yield data[start:end]
        start = end


def _sound(data: bytes) -> bool:
    """Tell whether the text is UTF-8 with no half of a surrogate pair: msgspec does not look into what it skips."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    # One byte is searched for at the speed of memory, two are not.
    return b"\\" not in data or b"\\u" not in data or (b"\\ud" not in data and b"\\uD" not in data)


def loaded(line: bytes) -> Record | None:
    """Give the object of one line, None for none: with what is no JSON, but met, such as NaN, as text."""
    try:
        return _decode.decode(line)
    except _BROKEN:
        found = _lenient(line)
    return found if isinstance(found, dict) else None


def _lenient(line: bytes) -> object:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        return _sane(json.loads(line.decode("utf-8", "replace"), parse_constant=str))
    except (ValueError, RecursionError):
        return None


def _sane(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(_sane(name)): _sane(each) for name, each in value.items()}
    return [_sane(each) for each in value] if isinstance(value, list) else value
