"""Formats that a user describes by a regular expression with named groups, or by a grok pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sidecars.adapter.formats import backtracking, fields, levels
from sidecars.adapter.formats.columnar import checked, clean, cleaned, ended, runs, unparsed
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Field, Segment, Unparsed
from sidecars.core.errors import WrongSettings

_RUBY_NAME = re.compile(r"(?<!\\)\(\?<(?=[A-Za-z_])")
# A group of nothing but digits is a number.
_DIGITS = re.compile(r"\(\?P?<(\w+)>(?:\\d|\[0-9\]|\[\d.\]|\[0-9.\])(?:[+*]|\{[\d,]+\})[+?]?\)")
# The longest line for an expression whose time grows with the square, or a higher power, of the line's length: about a
# second for the worst of lines. Longer ones go out as they are.
_LONGEST = {2: 16 << 10}
_LONGEST_ELSE = 2 << 10


def _number(cell: bytes) -> object:
    text = cell.decode("utf-8", "replace")
    return None if text == "-" else fields.typed(text)


def _float(cell: bytes) -> object:
    value = _number(cell)
    return float(value) if isinstance(value, int) else value


_READ = {"integer": _number, "number": _float}


def compiled(text: str) -> re.Pattern[bytes]:
    """Compile an expression; Ruby's way to name groups is taken too. Raises WrongSettings with the place."""
    try:
        return re.compile(_RUBY_NAME.sub("(?P<", text).encode())
    except (re.error, RecursionError, OverflowError) as error:
        raise WrongSettings(f"--from is {text!r}, which does not compile: {error}") from error


class Expression:
    """Lines in which an expression is found; the groups that have names are the fields.

    What is found counts, not whether it is the whole line: anchor it with ^ and $ for that. Lines that continue a
    record are put behind its message. An expression that can take exponential time is refused; for one whose time can
    grow with a power of the line's length, lines beyond a length are not read.
    """

    parts: str | None = None

    def __init__(
        self,
        text: str,
        times: Times,
        continued: bytes | None = None,
        groups: Mapping[str, tuple[str, str]] | None = None,
        name: str = "expression",
    ) -> None:
        self.name = name
        self.continuation = continued
        pattern = compiled(text)
        if not pattern.groupindex:
            raise WrongSettings(f"--from is {text!r}, which names no group; write (?P<message>.*) for a field")
        self._search = pattern.search
        self._longest = _longest(text, pattern.pattern)
        self._continued = re.compile(continued, re.MULTILINE).match if continued else None
        self._at = [number - 1 for number in pattern.groupindex.values()]
        digits = set(_DIGITS.findall(text))
        named = [
            (groups or {}).get(group, (group, "integer" if group in digits else "")) for group in pattern.groupindex
        ]
        self._fields = [_field(field, kind, times) for field, kind in named]
        self._checks = tuple(index for index, field in enumerate(self._fields) if field.kind in ("time", "level"))
        self._message = next((index for index, field in enumerate(self._fields) if field.name == "message"), None)

    def context(self, data: bytes, before: object) -> object:
        """Give none."""
        return None

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read whole records."""
        data = ended(data)
        if not data:
            return []
        text = cleaned(data)
        raw, records = self._joined(data[:-1].split(b"\n"), text[:-1].split(b"\n"))
        rows = [self._row(record) for record in records]
        tidy = clean(text)
        segments: list[Segment] = []
        for start, end, failed in runs([row is None for row in rows]):
            lines = raw[start:end]
            segments += self._failed(lines) if failed else self._table(rows[start:end], lines, tidy)
        return segments

    def _joined(self, raw: list[bytes], texts: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        if self._continued is None:
            return raw, texts
        lines: list[list[bytes]] = []
        records: list[list[bytes]] = []
        for line, text in zip(raw, texts, strict=True):
            if lines and self._continued(text):
                lines[-1].append(line)
                records[-1].append(text)
            else:
                lines.append([line])
                records.append([text])
        return [b"\n".join(each) for each in lines], [b"\n".join(each) for each in records]

    def _row(self, record: bytes) -> list[bytes] | None:
        line, newline, rest = record.partition(b"\n")
        if self._longest and len(line) > self._longest:
            return None
        found = self._search(line.removesuffix(b"\r"))
        if found is None:
            return None
        groups = found.groups(b"")
        row = [groups[index] for index in self._at]
        if newline and self._message is not None:
            row[self._message] += newline + rest
        return row

    def _table(self, rows: Sequence[list[bytes] | None], lines: list[bytes], tidy: bool) -> list[Segment]:
        columns = list(zip(*(row for row in rows if row is not None), strict=True))
        return checked(self._fields, columns, lines, tidy, self._checks)

    def _failed(self, lines: list[bytes]) -> list[Segment]:
        if not self._longest:
            return unparsed(lines, self.name)
        segments: list[Segment] = []
        for start, end, long in runs([len(line) > self._longest for line in lines]):
            if long:
                segments.append(Unparsed(lines[start:end], f"longer than {self._longest} bytes"))
            else:
                segments += unparsed(lines[start:end], self.name)
        return segments


def _longest(text: str, pattern: bytes) -> int | None:
    try:
        power = backtracking.degree(pattern)
    except backtracking.Danger as error:
        raise WrongSettings(
            f"--from is {text!r}, in which a repetition within a repetition can take exponential time; "
            "make the inner one possessive, such as [a-z]++"
        ) from error
    return None if power < 2 else _LONGEST.get(power, _LONGEST_ELSE)


def _field(name: str, kind: str, times: Times) -> Field:
    if name in ("time", "timestamp", "@timestamp"):
        return Field("time", "time", times.cell)
    if name in ("level", "severity", "loglevel", "log.level", "lvl"):
        return Field("level", "level", levels.read)
    if kind == "text":
        return Field(name)
    known = fields.field(name, times)
    if kind or known.kind in ("integer", "number"):
        # The group may match anything: only a number that is written as JSON writes it is one.
        return Field(name, "other", _READ[kind or known.kind])
    return Field(name)
