# ruff: noqa: E501  (tables of cases are read best with a case per line)

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.adapter import formats
from sidecars.adapter.table import LEVELS, Record, Table, Unparsed
from sidecars.core.errors import WrongSettings
from tests.unit.adapter.formats.cases import CASES, COMBINED, lines_of, records, unparsed

# The names that have no parts or headers, whose lines are not segments, or come in another order.
PLAIN = [name for name in formats.NAMES if name not in ("csv", "tsv", "w3c", "iis", "cri", "docker")]


@pytest.mark.parametrize(("name", "data", "expected"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_line_is_read_as_its_program_means_it(name: str, data: bytes, expected: Record) -> None:
    (record,) = records(name, data + b"\n")
    assert expected.items() <= record.items()
    assert "parse_error" not in record


@pytest.mark.parametrize(("name", "data", "expected"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_carriage_return_before_the_newline_is_no_part_of_the_last_field(
    name: str, data: bytes, expected: Record
) -> None:
    (record,) = records(name, data.replace(b"\n", b"\r\n") + b"\r\n")
    last = list(records(name, data + b"\n")[0].items())[-1]
    if "\n" not in str(last[1]):
        assert record[last[0]] == last[1]


@pytest.mark.parametrize("name", ["nginx", "text", "log4j", "json", "logfmt", "syslog"])
def test_a_byte_order_mark_and_colours_are_not_read(name: str) -> None:
    line = next(data for each, data, _ in CASES if each == name) if name != "json" else b'{"a":1}'
    (plain,) = records(name, line + b"\n")
    (marked,) = records(name, b"\xef\xbb\xbf\x1b[32m" + line + b"\x1b[0m\n")
    assert marked == plain


@pytest.mark.parametrize("name", PLAIN)
def test_an_empty_line_is_kept_in_its_place(name: str) -> None:
    segments = formats.compile(name).parse(b"\n  \n")
    assert lines_of(segments) == b"\n  \n"
    assert segments[0].records().__next__()["parse_error"] == "empty line"


def test_a_line_that_is_not_in_the_format_stays_between_those_that_are() -> None:
    data = COMBINED + b"\nsegfault\n\n" + COMBINED + b"\n"
    segments = formats.compile("nginx").parse(data)
    assert [type(segment) for segment in segments] == [Table, Unparsed, Unparsed, Table]
    assert lines_of(segments) == data
    assert [record.get("parse_error") for record in records("nginx", data)] == [
        None,
        "not in the format nginx",
        "empty line",
        None,
    ]


@pytest.mark.parametrize("name", PLAIN)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_no_bytes_are_lost_and_none_raise(name: str, data: st.DataObject) -> None:
    seeds = [line for each, case, _ in CASES if each == name for line in case.split(b"\n")] or [b"{}"]
    pieces = st.one_of(
        st.binary(max_size=40),
        st.sampled_from(seeds),
        st.sampled_from([b"\n", b'"', b"\\", b"\r\n", b"\xff", b"\0", b" "]),
    )
    given_bytes = b"".join(data.draw(st.lists(pieces, max_size=12)))
    segments = formats.compile(name).parse(given_bytes)
    assert lines_of(segments) == (
        given_bytes + b"\n" if given_bytes and not given_bytes.endswith(b"\n") else given_bytes
    )
    for segment in segments:
        found = list(segment.records())
        assert len(found) == segment.count == len(segment.lines)
        assert all(record.get("level") in (None, *LEVELS) for record in found)
        if isinstance(segment, Table) and segment.clean:
            texts = [
                cell
                for field, column in zip(segment.fields, segment.columns, strict=True)
                if field.kind == "text"
                for cell in column
            ]
            assert all(b'"' not in cell and b"\\" not in cell and cell.isascii() for cell in texts)


@pytest.mark.parametrize(
    "name", ["csv", "tsv", "w3c", "iis", "cri", "docker", "cri+text", "docker+json", "syslog+nginx"]
)
@given(
    data=st.binary(max_size=120)
    | st.lists(
        st.sampled_from(
            [
                b"#Fields: a b\n",
                b"x y\n",
                b'"',
                b"2026-01-31T09:30:00Z stdout P a\n",
                b"2026-01-31T09:30:00Z stdout F b\n",
                b'{"log":"x","stream":"a"}\n',
                b"a,b\n",
            ]
        ),
        max_size=8,
    ).map(b"".join)
)
@settings(max_examples=25, deadline=None)
def test_formats_with_headers_and_parts_raise_nothing_and_lose_nothing_else(name: str, data: bytes) -> None:
    segments = formats.compile(name).parse(data)
    kept = lines_of(segments).split(b"\n")
    for line in data.split(b"\n")[1:]:
        assert line in kept or line.lstrip(b"\xef\xbb\xbf").startswith(b"#") or name in ("csv", "tsv")
    assert sum(len(segment.lines) for segment in segments) == sum(segment.count for segment in segments)


@pytest.mark.parametrize(
    ("name", "colour"),
    [("nginx", b""), ("nginx", b"\x1b[0m"), ("log4j", b"\x1b[0m"), ("docker+nginx", b"")],
)
def test_a_portion_of_many_lines_loses_none(name: str, colour: bytes) -> None:
    line = next(data for each, data, _ in CASES if each == name.rpartition("+")[2]).split(b"\n")[0]
    inner = line.replace(b'"', b'\\"')
    wrap = b'{"log":"%b\\n","stream":"a","time":"2026-01-31T09:30:00Z"}\n'
    pair = wrap % inner + wrap % b"odd" if "+" in name else line + colour + b"\nodd\n"
    data = pair * 9_000
    segments = formats.compile(name, continuation=None).parse(data)
    assert lines_of(segments) == data
    assert sum(segment.count for segment in segments) == 18_000


def test_parts_of_a_line_are_joined_by_stream() -> None:
    data = (
        b"2026-01-31T09:30:00Z stdout P one \n2026-01-31T09:30:01Z stderr F other\n2026-01-31T09:30:02Z stdout P and \n"
        b"2026-01-31T09:30:03Z stdout F two\n"
    )
    assert [record["message"] for record in records("cri", data)] == ["other", "one and two"]


def test_the_header_of_a_file_names_the_columns_of_what_follows() -> None:
    fields = formats.compile("iis")
    head = b"#Fields: date time c-ip\n2026-01-31 09:30:00 192.0.2.1\n"
    context = fields.context(head, None)
    (segment,) = fields.parse(b"2026-01-31 09:30:01 192.0.2.2\n#Fields: time\n", context)
    assert list(segment.records()) == [{"time": "2026-01-31T09:30:01Z", "client": "192.0.2.2"}]
    table = formats.compile("csv")
    (segment,) = table.parse(b"1,2\n", table.context(b"a,b\n", None))
    assert list(segment.records()) == [{"a": 1, "b": 2}]


def test_a_row_of_csv_that_has_other_columns_is_not_read() -> None:
    assert unparsed(formats.compile("csv").parse(b'a,b\n1,2\n1\n"x\n3,4\n')) == [b"1", b'"x']


def test_continuation_is_off_or_what_the_user_says() -> None:
    data = b"2026-01-31 09:30:00,1 [m] INFO a.B - x\n  more\n"
    assert len(records("log4j", data)) == 1
    assert len(records("log4j", data, continuation=None)) == 2
    assert records("text", b"a\n> b\nc\n", continuation=b"> ") == [{"message": "a\n> b"}, {"message": "c"}]
    assert formats.compile("text", continuation=b"> ").continuation == b"> "
    assert [
        each["message"]
        for each in records(
            "cri", b"2026-01-31T09:30:00Z stdout F a\n2026-01-31T09:30:00Z stdout F > b\n", continuation=b"> "
        )
    ] == ["a\n> b"]


def test_times_without_a_zone_are_of_the_one_that_is_stated() -> None:
    line = b"2026/07/31 09:30:00 [error] 1#2: x\n"
    assert records("nginx-error", line, zone="Europe/Berlin")[0]["time"] == "2026-07-31T09:30:00+02:00"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ngnix", "did you mean nginx?"), ("", "use one of"), ("nginx+json", "no format"), ("cri+csv", "behind cri+"), ("cri+", "behind cri+"),
        ("(?P<a>[)", "position 6"), ("(?P<a>(x+)+)$", "exponential"), ("a(b)(?P<c>", "position"), ("$a$b", "nothing stands between"),
        ("%Z %{Referer}i", "no directive"), ("%{NOPE:x}", "no pattern"), ("%{INT:x:bool}", "no type"),
    ],
)  # fmt: skip
def test_what_is_no_format_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(WrongSettings, match=says.replace("+", r"\+").replace("?", r"\?")):
        formats.compile(text)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(WrongSettings, match="Mars/Olympus"):
        formats.compile("nginx", zone="Mars/Olympus")


_NASTY = [
    b"a",
    b" ",
    b'"',
    b"\\",
    b"-",
    b"[",
    b"]",
    b"0",
    b":",
    b",",
    b"=",
    b'a b=" ',
    b'\\"',
    b"(",
    b"\t",
    b"\xff",
    b"\x1b[",
    b"\r",
    b", client:",
    b"- ",
    b"-/",
    b"\n\t",
    b'"," ',
]

_PROGRAM = """
import sys
from sidecars.adapter import formats
from tests.unit.adapter.formats.cases import CASES
from tests.unit.adapter.formats.test_formats import _NASTY
seeds = {name: [b""] for name in formats.NAMES}
for name, data, _ in CASES:
    line = data.split(b"\\n")[-1]
    seeds.setdefault(name, []).extend(line[:size] for size in (len(line) // 4, len(line) // 2, len(line) - 2))
for name, heads in seeds.items():
    format = formats.compile(name)
    for index, nasty in enumerate(_NASTY):
        format.parse(heads[index % len(heads)] + nasty * ((1 << 16) // len(nasty)) + b"\\n")
    format.parse(heads[-1] + b" " * (1 << 20) + b"\\n")
"""


def test_a_line_of_a_mebibyte_takes_no_format_for_ever() -> None:
    # Each would take hours where time grows with the square of the length.
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=120, cwd=os.getcwd())
