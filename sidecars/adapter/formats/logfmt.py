"""logfmt: key=value pairs. It has no specification; this is what go-kit, logrus and Heroku write and read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from sidecars.adapter.formats.canonical import Canonical
from sidecars.adapter.formats.columnar import cleaned, ended, unparsed
from sidecars.adapter.formats.fields import typed, unbackslash
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Objects, Record, Segment

# A key without a value is true; a quote that does not end is text.
_PAIR = re.compile(rb'([^\s="]++)(?:(=)(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"(?=\s|\Z)|([^\s]*+)))?+', re.DOTALL)
_FIRST = re.compile(rb'\s*+[A-Za-z_@][^\s="]{0,127}+=')


def pairs(text: bytes) -> Record:
    """Give the pairs of a text. A key that comes again has a list of its values."""
    record: Record = {}
    for key, equals, quoted, bare in _PAIR.findall(text):
        name = key.decode("utf-8", "replace")
        value = _value(equals, quoted, bare)
        before = record.get(name)
        if isinstance(before, list):
            before.append(value)
        else:
            record[name] = [before, value] if name in record else value
    return record


def _value(equals: bytes, quoted: bytes, bare: bytes) -> object:
    if not equals:
        return True
    if not bare:
        return unbackslash(quoted)
    return typed(bare.decode("utf-8", "replace"))


# klog writes a message in quotes, then pairs.
_STRUCTURED = re.compile(
    rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"((?: [^\s="]++=(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|\S*+))++)\s*+', re.DOTALL
)


def structured(record: Record) -> None:
    """Split klog's structured message: `"Pod updated" pod="kube-system/dns" status="ready"`."""
    found = _STRUCTURED.fullmatch(str(record.get("message", "")).encode("utf-8", "replace"))
    if found:
        for name, value in pairs(found[2]).items():
            record.setdefault(name, value)
        record["message"] = unbackslash(found[1])


class Logfmt:
    """Lines of pairs; the first word of a line is one."""

    name = "logfmt"
    parts: str | None = None
    continuation: bytes | None = None

    def __init__(self, times: Times) -> None:
        self._canonical = Canonical(times)

    def context(self, data: bytes, before: object) -> object:
        """Give none."""
        return None

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read lines."""
        data = ended(data)
        if not data:
            return []
        records = [self._record(line) for line in cleaned(data)[:-1].split(b"\n")]
        return of_lines(records, data[:-1].split(b"\n"), self.name)

    def _record(self, line: bytes) -> Record | None:
        return self._canonical(pairs(line)) if _FIRST.match(line) else None


def of_lines(records: Sequence[Record | None], lines: Sequence[bytes], name: str) -> list[Segment]:
    """Give the segments of records, one for each line; None is a line that is not in the format."""
    segments: list[Segment] = []
    for good, run in groupby(zip(records, lines, strict=True), lambda pair: pair[0] is not None):
        both = list(run)
        texts = [line for _, line in both]
        if good:
            segments.append(Objects([record for record, _ in both if record is not None], texts))
        else:
            segments += unparsed(texts, name)
    return segments
