"""Which records a request wants, by what they say."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sidecars.adapter.table import LEVELS, Record, Segment
from sidecars.adapter.web.query import Condition, Query


class Shaped(Protocol):
    """What becomes of fields before they leave; encode.shaping.Shaping is it."""

    def records(self, segments: Sequence[Segment], origin: str) -> Iterator[Record]:
        """Give the records as they leave, one for each that was read, in their order."""

    def redacted(self, text: str) -> str:
        """Black out what is to be in a text."""

    def name(self, name: str) -> str | None:
        """Give the name that a field has afterwards; None when it is left out."""


class Entry:
    """One record: as it leaves, its raw bytes, its time, and where it stands in which source.

    `own` is the record before it was shaped, for those encoders that shape it themselves; None where nobody asks.
    `at` is the cursor after it, for the page.
    """

    __slots__ = ("at", "end", "line", "origin", "own", "record", "start", "time")

    def __init__(self, origin: str, start: int, end: int, line: bytes, record: Record, own: Record | None) -> None:
        self.origin = origin
        self.start = start
        self.end = end
        self.line = line
        self.record = record
        self.own = own
        self.time = 0.0
        self.at = ""


Test = Callable[[Entry], bool]


class Sieve:
    """A query's filters.

    Everything is compared with what leaves, blacked out as it is: else a filter would tell, guess by guess, what is
    hidden.
    """

    def __init__(self, query: Query, shaping: Shaped, *, redacts: bool) -> None:
        self._needle = b"" if redacts or not query.text.isascii() else query.text.lower().encode()
        self._tests: list[Test] = []
        if query.dated:
            self._tests.append(_between(query.since, query.until))
        if query.levels is not None:
            self._tests.append(_of_levels(query.levels, Names(shaping)))
        if query.text:
            self._tests.append(self._holds if self._needle else _holds_text(query.text, shaping))
        self._tests += [_meets(condition) for condition in query.conditions]

    def hopeless(self, data: bytes) -> bool:
        """Tell whether no record of a block can be wanted, without reading it."""
        return bool(self._needle) and self._needle not in data.lower()

    def wanted(self, entries: list[Entry]) -> list[Entry]:
        """Give those that are wanted."""
        for test in self._tests:
            entries = [entry for entry in entries if test(entry)]
        return entries

    def _holds(self, entry: Entry) -> bool:
        return self._needle in entry.line.lower()


class Names:
    """What the fields that mean something are called after the renaming."""

    def __init__(self, shaping: Shaped) -> None:
        self.time = shaping.name("time") or ""
        self.level = shaping.name("level") or ""
        self.status = shaping.name("status") or ""

    def severity(self, record: Record) -> str | None:
        """Give a record's level; an access log has none, and its status stands for one."""
        level = record.get(self.level)
        if isinstance(level, str):
            return level
        status = record.get(self.status)
        if not isinstance(status, int):
            return None
        return "error" if status >= 500 else "warning" if status >= 400 else "info"


def _between(since: float | None, until: float | None) -> Test:
    first = float("-inf") if since is None else since
    last = float("inf") if until is None else until
    return lambda entry: first <= entry.time <= last


def _of_levels(levels: frozenset[str], names: Names) -> Test:
    known = frozenset(LEVELS)

    def test(entry: Entry) -> bool:
        level = names.severity(entry.record)
        return level in levels and level in known

    return test


def _holds_text(text: str, shaping: Shaped) -> Test:
    needle = text.casefold()
    return lambda entry: needle in shaping.redacted(entry.line.decode("utf-8", "replace")).casefold()


def _meets(condition: Condition) -> Test:
    name, value = condition.field, condition.value
    if condition.operator[0] in "<>":
        return _compares(name, condition.operator, float(value))
    equals = condition.operator == "="
    if "*" in value:
        # fnmatch's other signs, ? and [, stand for themselves. What it makes of a star never goes back: it is linear.
        escaped = re.sub(r"([?\[])", r"[\1]", re.sub(r"\*+", "*", value))
        matches = re.compile(fnmatch.translate(escaped)).match
        return lambda entry: (matches(text_of(field(entry.record, name))) is not None) is equals
    return lambda entry: (text_of(field(entry.record, name)) == value) is equals


def _compares(name: str, operator: str, bound: float) -> Test:
    def test(entry: Entry) -> bool:
        value = field(entry.record, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if operator == ">=":
            return value >= bound
        if operator == "<=":
            return value <= bound
        return value > bound if operator == ">" else value < bound

    return test


def field(record: Record, name: str) -> object:
    """Give a field's value, also of one inside another as outer.inner; None for none."""
    if name in record:
        return record[name]
    value: object = record
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def text_of(value: object) -> str:
    """Give a value as it is typed in a query: true, 200, GET; empty for none."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
