"""logfmt: key=value pairs. It has no specification; this is what go-kit, logrus and Heroku write and read."""

from __future__ import annotations

import re

from sidecars.adapter.formats.canonical import Canonical
from sidecars.adapter.formats.fields import typed, unbackslash
from sidecars.adapter.formats.lines import LineByLine
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Record

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


def logfmt(times: Times) -> LineByLine:
    """Make the format of lines of pairs; the first word of a line is one."""
    canonical = Canonical(times)
    return LineByLine("logfmt", lambda line: canonical(pairs(line)) if _FIRST.match(line) else None)
