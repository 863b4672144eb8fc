"""Lines as MessagePack: what comes out is what went in, byte for byte."""

from __future__ import annotations

import gzip
import json
import os

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.forward.packing import chunk, pack, pack_json, texts

NOON = 1_795_348_800 * 10**9 + 5
FIELDS = {"file": "/logs/a.log", "pod": "web-0"}

lines = st.lists(st.one_of(st.binary(), st.text().map(str.encode)).map(lambda line: line.replace(b"\n", b"")))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=8)


def unpacked(entries: bytes) -> list[tuple[int, dict[str, object]]]:
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(entries)
    found = list(unpacker)
    assert all(time.code == 0 and len(time.data) == 8 for time, _ in found)
    return [(int.from_bytes(time.data[:4]) * 10**9 + int.from_bytes(time.data[4:]), record) for time, record in found]


def raw(line: object) -> bytes:
    return line.encode() if isinstance(line, str) else bytes(line)  # type: ignore[call-overload,no-any-return]


@given(lines)
def test_every_line_comes_back_byte_for_byte(lines):
    batch = b"".join(line + b"\n" for line in lines)
    records = [record for _, record in unpacked(pack(texts(batch), FIELDS, NOON))]
    assert [raw(record["log"]) for record in records] == lines


@given(lines)
def test_a_line_is_a_string_exactly_when_it_is_utf_8(lines):
    for line, its in zip(texts(b"".join(line + b"\n" for line in lines)), lines, strict=True):
        try:
            assert line == its.decode()
        except UnicodeDecodeError:
            assert line == its


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\n\x00\x0b\x1c\xc2\x85\n", ["a\r", "\x00\x0b\x1c\x85"]),
        (b"\xff\nb\xc3\xa9\n", [b"\xff", "b\xe9"]),
        (b"\xff", [b"\xff"]),
    ],
)
def test_a_batch_splits_at_newlines_only(batch, expected):
    assert texts(batch) == expected


@pytest.mark.parametrize("count", [0, 1, 7, 8, 100, 32767, 32768, 40000])
def test_any_number_of_lines_is_packed(count):
    assert len(unpacked(pack(["x"] * count, FIELDS, NOON))) == count


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65535, 65536, 2**20])
def test_a_line_of_any_length_is_packed(length):
    assert unpacked(pack(["x" * length], {}, NOON)) == [(NOON, {"log": "x" * length})]


def test_each_entry_has_the_time_and_the_fields_before_its_line():
    marks = {**FIELDS, "partial": True, "part": 2}
    assert unpacked(pack(["a", b"\xff"], marks, NOON)) == [
        (NOON, {**marks, "log": "a"}),
        (NOON, {**marks, "log": b"\xff"}),
    ]


def test_a_file_name_that_is_not_utf_8_keeps_its_bytes():
    fields = {"file": os.fsdecode(b"/logs/\xff.log")}
    (_, record), (_, wrapped) = unpacked(pack(["a"], fields, NOON) + pack_json(["a"], fields, NOON))
    assert record == wrapped == {"file": b"/logs/\xff.log", "log": "a"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"level":"info","n":1}', {"file": "/logs/a.log", "pod": "web-0", "level": "info", "n": 1}),
        (b'{"pod":"its own","log":"x"}\r', {"file": "/logs/a.log", "pod": "its own", "log": "x"}),
        (b"{}", FIELDS),
        (b"", {**FIELDS, "log": ""}),
        (b"[1]", {**FIELDS, "log": "[1]"}),
        (b'"text"', {**FIELDS, "log": '"text"'}),
        (b"GET / 200", {**FIELDS, "log": "GET / 200"}),
        (b'{"a":1', {**FIELDS, "log": '{"a":1'}),
        (b'{"a":1} {"b":2}', {**FIELDS, "log": '{"a":1} {"b":2}'}),
        (b'{"a":"\xff"}', {**FIELDS, "log": b'{"a":"\xff"}'}),
        (b'{"a":"\\ud800"}', {**FIELDS, "log": '{"a":"\\ud800"}'}),
        (b'{"a":1e999}', {**FIELDS, "log": '{"a":1e999}'}),
        (b'{"a":18446744073709551616}', {**FIELDS, "log": '{"a":18446744073709551616}'}),
        (b'{"a":' + b"[" * 100_000, {**FIELDS, "log": '{"a":' + "[" * 100_000}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_json_object_is_extended_and_all_else_is_wrapped(line, expected):
    neighbours = [b'{"before":1}\n', line, b'\n{"after":1}\n']
    records = [record for _, record in unpacked(pack_json(texts(b"".join(neighbours)), FIELDS, NOON))]
    assert records == [{**FIELDS, "before": 1}, expected, {**FIELDS, "after": 1}]


@given(st.dictionaries(st.text(), values))
def test_any_json_object_keeps_its_fields(record):
    line = json.dumps(record)
    [(_, packed)] = unpacked(pack_json([line], FIELDS, NOON))
    assert packed in ({**FIELDS, **record}, {**FIELDS, "log": line})


def test_a_chunk_is_a_packed_forward_message_that_asks_for_its_acknowledgement():
    entries = pack(["a", "b"], FIELDS, NOON)
    made = chunk("app", entries, 2)
    assert msgpack.unpackb(made.message) == ["app", entries, {"chunk": made.id, "size": 2}]
    assert chunk("app", entries, 2).id != made.id


def test_a_compressed_chunk_holds_the_same_entries():
    entries = pack(["a", "b"], FIELDS, NOON)
    made = chunk("app", entries, 2, compressed=True)
    tag, packed, option = msgpack.unpackb(made.message)
    assert (tag, option) == ("app", {"chunk": made.id, "size": 2, "compressed": "gzip"})
    assert gzip.decompress(packed) == entries
