"""Segments of arbitrary cells and records, for every encoder's tests."""

from __future__ import annotations

import functools
import json
from typing import Any

import hypothesis
from hypothesis import strategies as st

from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import LEVELS, Field, Json, Objects, Record, Segment, Table, Unparsed

# Other tests share the machine: an example may take long, and there are many tests with some.
few = hypothesis.settings(max_examples=30, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
many = hypothesis.settings(few, max_examples=70)


@functools.cache
def settings(**given: Any) -> Settings:
    """Settings as a command has them, with `to` where what is given asks for it."""
    to = "template" if "template" in given else "csv" if "columns" in given else "jsonl"
    return Settings(**{"paths": ("/logs/a.log",), "to": to, **given})


def shaping(**given: Any) -> Shaping:
    return Shaping(settings(**given))


def unescaped(cell: bytes) -> str:
    """What nginx's formats do with a text cell."""
    return cell.replace(b"\\x22", b'"').decode("utf-8", "replace")


def text_or_none(cell: bytes) -> object:
    return None if cell == b"?" else [cell.decode("utf-8", "replace")]


NAMES = ("client", "user", "path", "message", "pod", "x y", 'q"')
FIELDS = {
    **{name: Field(name, "text", unescaped) for name in NAMES},
    "referrer": Field("referrer"),
    "status": Field("status", "integer"),
    "duration": Field("duration", "number"),
    "time": Field("time", "time", lambda cell: f"2026-11-23T06:00:{int(cell) % 60:02}Z"),
    "level": Field("level", "level", lambda cell: LEVELS[int(cell) % len(LEVELS)]),
    "extra": Field("extra", "other", text_or_none),
}
_CLEAN = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='\\"'), max_size=8).map(
    str.encode
)
_DIRTY = st.one_of(st.binary(max_size=8), st.sampled_from([b"\\x22", b'"', b"\n", b"\x7f", "é".encode()]))
_INTEGER = st.integers(0, 10**25).map(lambda number: b"%d" % number)
_NUMBER = st.floats(0, 1e9, allow_nan=False).map(lambda number: json.dumps(number).encode())
_SMALL = st.integers(0, 99).map(lambda number: b"%d" % number)


def _cells(field: Field, clean: bool) -> st.SearchStrategy[bytes]:
    kinds = {"integer": _INTEGER, "number": _NUMBER, "time": _SMALL, "level": _SMALL}
    return kinds.get(field.kind, _CLEAN if clean else st.one_of(_CLEAN, _DIRTY))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    clean = draw(st.booleans())
    fields = [
        FIELDS[name] for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True, min_size=1, max_size=6))
    ]
    count = draw(st.integers(1, 5))
    columns = []
    for field in fields:
        cell = _cells(field, clean)
        whole = st.lists(cell.filter(bool), min_size=count, max_size=count)
        some = st.lists(st.one_of(st.just(b""), cell), min_size=count, max_size=count)
        same = cell.map(lambda cell: [cell] * count)
        columns.append(draw(st.one_of(whole, some, same, st.just([b""] * count))))
    lines = [b" ".join(row) for row in zip(*columns, strict=True)] or [b"line"] * count
    return Table(fields, columns, lines, clean)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
RECORDS: st.SearchStrategy[Record] = st.dictionaries(
    st.one_of(
        st.sampled_from([*NAMES, "status", "time", "level", "host", "duration", "labels", "http"]), st.text(max_size=5)
    ),
    JSON,
    max_size=6,
)


def objects(records: list[Record]) -> Objects:
    return Objects(records, [json.dumps(record).encode() for record in records])


def lines_of(records: list[Record], ending: str = "\n") -> Json:
    data = "".join(json.dumps(record, ensure_ascii=False) + ending for record in records)
    return Json(data.encode("utf-8", "replace"), len(records), frozenset())


SEGMENTS: st.SearchStrategy[Segment] = st.one_of(
    tables(),
    st.lists(RECORDS, min_size=1, max_size=3).map(objects),
    st.lists(st.binary(max_size=20), min_size=1, max_size=3).map(lambda lines: Unparsed(lines, "no fit")),
)
SHAPES = st.fixed_dictionaries(
    {
        "rename": st.sampled_from([(), ("client=ip",), ("user=path",), ("path=user", "user=path"), ("time=pod",)]),
        "drop": st.sampled_from([(), ("referrer",), ("ip", "level"), ("time", "client")]),
        "add": st.sampled_from([(), ("app=shop",), ("user=me", "note={name}"), ("service.name=shop",), ("pod=mine",)]),
        "pod_name": st.sampled_from([None, "web-0"]),
        "paths": st.sampled_from([("/logs/a.log",), ("/logs/*.log",)]),
    }
)


def normal(value: object) -> object:
    """A value as JSON can say it."""
    return json.loads(json.dumps(value, default=str))
