"""logfmt, CSV and templates: lines that a program or a person reads back."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.encode import encoder
from sidecars.adapter.encode.values import text
from sidecars.adapter.table import Field, Objects, Record, Segment, Table, Unparsed
from sidecars.core.errors import WrongSettings
from tests.unit.adapter.encode.samples import RECORDS, SEGMENTS, SHAPES, few, settings, shaping

_PAIR = re.compile(r'([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s="\\]*)(?: |$)')


def encoded(to: str, *segments: Segment, **given: object) -> str:
    return b"".join(encoder(settings(**given), to).encode(segments, "/logs/a.log")).decode()


def logfmt(line: str) -> list[tuple[str, str]]:
    """Read a line of logfmt, all of it."""
    pairs, position = [], 0
    while position < len(line):
        found = _PAIR.match(line, position)
        assert found, line[position:]
        position = found.end()
        pairs.append((found[1], json.loads(found[2]) if found[2].startswith('"') else found[2]))
    return pairs


@few
@given(st.lists(SEGMENTS, max_size=3), SHAPES)
def test_logfmt_reads_back(segments: list[Segment], shape: dict[str, object]) -> None:
    lines = encoded("logfmt", *segments, **shape).split("\n")[:-1]
    records = list(shaping(**shape).records(segments, "/logs/a.log"))
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        assert len((line + "\n").splitlines()) == 1
        assert [value for _, value in logfmt(line)] == [text(value) for value in record.values() if value is not None]


def test_logfmt_quotes_only_what_must_be() -> None:
    record: Record = {
        "a": 1,
        "b c": "x y",
        "d": "",
        "e": 'q"',
        "f": {"g": [1]},
        "h": True,
        "i": None,
        "j": "é/?-",
        "k": "\x85",
    }
    assert encoded("logfmt", Objects([record], [b""])) == (
        r'a=1 b_c="x y" d="" e="q\"" f="{\"g\":[1]}" h=true j=é/?- k="\u0085"' + "\n"
    )


@few
@given(st.lists(SEGMENTS, min_size=1, max_size=3), SHAPES)
def test_csv_reads_back(segments: list[Segment], shape: dict[str, object]) -> None:
    header, *rows = csv.reader(io.StringIO(encoded("csv", *segments, **shape), newline=""), strict=True)
    records = list(shaping(**shape).records(segments, "/logs/a.log"))
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row == [text(record.get(name)) for name in header]
        assert "message" in header and "parse_error" in header


def test_csv_has_the_columns_asked_for_and_one_header() -> None:
    encode = encoder(settings(columns=("b,a", "none")), "csv").encode
    segment = Objects([{"a": 1, "b": 'x,"y"'}, {"b": "l\r\nm"}], [b"", b""])
    assert encode([segment], "x") == [b'b,a,none\n"x,""y""",1,\n"l\r\nm",,\n']
    assert encode([segment], "x") == [b'"x,""y""",1,\n"l\r\nm",,\n']


def test_csv_without_columns_takes_those_of_the_first_table() -> None:
    table = Table([Field("a"), Field("b")], [[b"1"], [b""]], [b"1"], True)
    lines = encoded("csv", table, Unparsed([b"odd"], "no fit"), add=("c=3",), rename=("b=z",))
    assert lines == "a,z,c,message,parse_error\n1,,3,,\n,,3,odd,no fit\n"


def test_a_csv_header_can_be_left_out() -> None:
    one = encoder(settings(columns=("a",)), "csv")
    one.headed = True  # type: ignore[attr-defined]
    assert one.encode([Objects([{"a": 1}], [b""])], "x") == [b"1\n"]


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{time} {message}", "t a\\nb"),
        ("[{level|info}] {none}{none|-}", "[info] -"),
        ("{{{status}}}{{", "{200}{"),
        ("{nested}{x y}", '{"a":1}z'),
        ("{status|1}|{empty|e}", "200|e"),
    ],
)
def test_a_template_is_filled_in(template: str, line: str) -> None:
    record: Record = {"time": "t", "message": "a\nb", "status": 200, "nested": {"a": 1}, "x y": "z", "empty": ""}
    assert encoded("template", Objects([record], [b""]), template=template) == line + "\n"


@few
@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_a_template_makes_one_line_of_each_record(records: list[Record]) -> None:
    made = encoded("template", Objects(records, [b""] * len(records)), template="{message} {client|-}")
    assert made.count("\n") == len(records)
    assert "\r" not in made


@pytest.mark.parametrize(
    ("template", "error"),
    [
        (None, "has no --template: give one"),
        ("text", "expected a {field} in it"),
        ("{a", "with a { that belongs to no {field}; write {{"),
        ("a}{b}", "with a } that"),
        ("{}", "with a {"),
        ("{a|b|c}", None),
        ("{a}\n", "expected one line"),
    ],
)
def test_a_wrong_template_is_refused(template: str | None, error: str | None) -> None:
    if error is None:
        assert encoded("template", Objects([{}], [b""]), template=template) == "b|c\n"
        return
    with pytest.raises(WrongSettings, match=re.escape(error)):
        encoder(settings(template=template), "template")
