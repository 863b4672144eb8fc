from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.encode import encoder
from sidecars.adapter.table import Field, Json, Objects, Record, Segment, Table, Unparsed
from tests.unit.adapter.encode.samples import RECORDS, SEGMENTS, SHAPES, few, lines_of, many, settings, shaping, tables

ORIGIN = "/logs/a.log"


def encoded(*segments: Segment, **shape: object) -> bytes:
    return b"".join(encoder(settings(**shape), "jsonl").encode(segments, ORIGIN))


def read(data: bytes) -> list[Record]:
    """Read as strict readers do: one object per line, no name twice."""

    def once(pairs: list[tuple[str, object]]) -> Record:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    assert data.endswith(b"\n") or not data
    return [json.loads(line, object_pairs_hook=once) for line in data.decode().split("\n")[:-1]]


@many
@given(tables(), SHAPES)
def test_a_table_says_what_its_records_say(table: Table, shape: dict[str, object]) -> None:
    assert read(encoded(table, **shape)) == list(shaping(**shape).records([table], ORIGIN))


@few
@given(st.lists(SEGMENTS, max_size=3), SHAPES)
def test_segments_follow_each_other(segments: list[Segment], shape: dict[str, object]) -> None:
    assert read(encoded(*segments, **shape)) == list(shaping(**shape).records(segments, ORIGIN))


@few
@given(st.lists(RECORDS, min_size=1, max_size=4), SHAPES, st.sampled_from(["\n", " \n", "\r\n"]))
def test_json_lines_get_what_is_added(records: list[Record], shape: dict[str, object], ending: str) -> None:
    segment = lines_of(records, ending)
    assert read(encoded(segment, **shape)) == list(shaping(**shape).records([segment], ORIGIN))


def test_json_lines_that_need_no_change_are_not_touched() -> None:
    data = b'{ "a" : 1.0e0 }\n{"b":[]}\n'
    assert encoded(Json(data, 2, frozenset())) == data


def test_an_added_field_is_spliced_before_the_last_brace() -> None:
    data = b'{"a":{}}\n{"b":"}"}\n'
    assert encoded(Json(data, 2, frozenset({"app"})), add=("app=s",)) == b'{"a":{},"app":"s"}\n{"b":"}","app":"s"}\n'


def test_a_name_that_is_escaped_in_a_line_is_still_replaced() -> None:
    data = rb'{"\u0061pp":1}' + b"\n"
    assert read(encoded(Json(data, 1, frozenset()), add=("app=s",))) == [{"app": "s"}]


def test_numbers_that_json_does_not_know_are_still_json() -> None:
    records: list[Record] = [{"n": math.nan, "i": [-math.inf], "big": 10**30, "small": -(10**30)}]
    assert read(encoded(Objects(records, [b""]))) == [{"n": None, "i": [None], "big": 10**30, "small": -(10**30)}]


def test_a_number_of_a_table_keeps_its_digits() -> None:
    table = Table([Field("n", "integer"), Field("d", "number")], [[b"1" * 40], [b"0.10"]], [b""], True)
    assert encoded(table) == b'{"n":%b,"d":0.10}\n' % (b"1" * 40)


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": "\ud83d"}, {1: {2: 3}}, b"\xff", [[[]]] * 3, {"deep": None}])
def test_whatever_a_record_holds_is_encoded(value: object) -> None:
    for _ in range(2000):
        value = [value]
    (record,) = read(encoded(Objects([{"v": value}], [b""])))
    assert list(record) == ["v"]


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    assert read(encoded(Objects([{"v": "a\ud800b"}], [b""]))) == [{"v": "a\ufffdb"}]


def test_bytes_that_are_not_utf_8_become_replacement_characters() -> None:
    table = Table([Field("v")], [[b"a\xffb"]], [b""], False)
    assert read(encoded(table, Unparsed([b"\xff"], "no"))) == [
        {"v": "a\ufffdb"},
        {"message": "\ufffd", "parse_error": "no"},
    ]


def test_fields_keep_their_order_and_added_ones_come_last() -> None:
    table = Table([Field("b"), Field("a")], [[b"1"], [b"2"]], [b""], True)
    assert encoded(table, add=("c=3",), rename=("b=z",)) == b'{"z":"1","a":"2","c":"3"}\n'


def test_a_column_that_is_nearly_the_same_keeps_what_is_not() -> None:
    table = Table([Field("a")], [[b"x", b"y", b"x", b"x", b"x"]], [b""] * 5, True)
    assert [record["a"] for record in read(encoded(table))] == ["x", "y", "x", "x", "x"]


@pytest.mark.parametrize("cell", [b"\x01", b"\n", b"\t", b"\x1b[0m", b"\\", b'"', "\u2028".encode()])
def test_a_cell_that_needs_an_escape_gets_it(cell: bytes) -> None:
    table = Table([Field("a"), Field("b")], [[cell, b"c"], [b"b", b"b"]], [b""] * 2, False)
    assert read(encoded(table)) == [{"a": cell.decode(), "b": "b"}, {"a": "c", "b": "b"}]


def test_of_two_fields_with_one_name_the_last_is_taken() -> None:
    table = Table([Field("a"), Field("b")], [[b"1", b"2"], [b"", b"4"]], [b""] * 2, True)
    assert read(encoded(table, rename=("a=b",))) == [{"b": "1"}, {"b": "4"}]
