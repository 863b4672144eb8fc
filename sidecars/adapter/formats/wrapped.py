"""A format within another: what an application wrote, in what a container engine or syslog put around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecars.adapter.table import Format, Objects, Record, Segment, Table, Unparsed

# What stands before the application's own line, so that its continuation is known behind it.
_BEFORE = {"cri": rb"[^ \n]++ (?:stdout|stderr) [^ \n]++ ", "docker": rb'\{"log":"'}


class Wrapped:
    """Records of the outer format whose messages are read by the inner one; of a field of both, the inner one's counts.

    A message that is not in the inner format stays the message of the outer one's record.
    """

    def __init__(self, outer: Format, inner: Format) -> None:
        self.name = f"{outer.name}+{inner.name}"
        self.parts = outer.parts
        before = _BEFORE.get(outer.name)
        own = inner.continuation
        self.continuation = before + rb"(?:" + own + rb")" if before and own else None
        self._outer = outer
        self._inner = inner

    def context(self, data: bytes, before: object) -> object:
        """Give the context of the inner format."""
        messages = [line for segment in self._outer.parse(data) for line in _messages(segment) or ()]
        return self._inner.context(b"".join(line + b"\n" for line in messages), before)

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read whole records."""
        segments: list[Segment] = []
        for segment in self._outer.parse(data):
            messages = _messages(segment)
            if messages is None:
                segments.append(segment)
            elif any(b"\n" in message for message in messages):
                segments += self._each(segment, messages, context)
            else:
                segments += self._all(segment, messages, context)
        return segments

    def _all(self, outer: Segment, messages: Sequence[bytes], context: object) -> list[Segment]:
        """Read messages together, so that the lines of one record are joined."""
        merged: list[Segment] = []
        cut, start = _cutter(outer), 0
        for inner in self._inner.parse(b"\n".join(messages) + b"\n", context):
            sizes = [line.count(b"\n") + 1 for line in inner.lines]
            end = start + sum(sizes)
            merged.append(_merged(cut(start, end), inner, sizes))
            start = end
        return [*merged, cut(start, len(messages))] if start < len(messages) else merged

    def _each(self, outer: Segment, messages: Sequence[bytes], context: object) -> list[Segment]:
        merged: list[Segment] = []
        cut = _cutter(outer)
        for index, message in enumerate(messages):
            alone = cut(index, index + 1)
            inner = self._inner.parse(message + b"\n", context)
            one = len(inner) == 1 and inner[0].count == 1
            merged.append(_merged(alone, inner[0], [1]) if one else alone)
        return merged


def _messages(segment: Segment) -> Sequence[bytes] | None:
    """Give the message of each record, None where there are none to be read."""
    if isinstance(segment, Unparsed):
        return None
    if isinstance(segment, Table):
        names = [field.name for field in segment.fields]
        return segment.columns[names.index("message")] if "message" in names else None
    return [str(record.get("message", "")).encode("utf-8", "replace") for record in segment.records()]


def _cutter(segment: Segment) -> Callable[[int, int], Segment]:
    """Give what cuts records out of a segment."""
    if isinstance(segment, Table):
        table = segment
        return lambda start, end: Table(
            table.fields, [column[start:end] for column in table.columns], table.lines[start:end], table.clean
        )
    records, lines = list(segment.records()), segment.lines
    return lambda start, end: Objects(records[start:end], lines[start:end])


def _merged(outer: Segment, inner: Segment, sizes: Sequence[int]) -> Segment:
    if isinstance(inner, Unparsed):
        return outer
    if isinstance(outer, Table) and isinstance(inner, Table) and len(sizes) == outer.count:
        table = _columns(outer, inner)
        if table:
            return table
    records, lines, start = [], [], 0
    around = list(outer.records())
    for record, size in zip(inner.records(), sizes, strict=True):
        kept: Record = {name: value for name, value in around[start].items() if name != "message"}
        records.append({**kept, **record})
        lines.append(b"\n".join(outer.lines[start : start + size]))
        start += size
    return Objects(records, lines)


def _columns(outer: Table, inner: Table) -> Table | None:
    """Put the columns of both into one table; None where a cell of the outer one must fill a gap of the inner one."""
    inside = {field.name: column for field, column in zip(inner.fields, inner.columns, strict=True)}
    if any(field.name in inside and b"" in inside[field.name] for field in outer.fields if field.name != "message"):
        return None
    kept = [
        (field, column)
        for field, column in zip(outer.fields, outer.columns, strict=True)
        if field.name != "message" and field.name not in inside
    ]
    fields = [field for field, _ in kept]
    columns = [column for _, column in kept]
    return Table([*fields, *inner.fields], [*columns, *inner.columns], outer.lines, outer.clean and inner.clean)
