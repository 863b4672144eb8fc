"""--format json: each line as one object, whatever is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecars.core.follow.file import Batch, File, open_file
from sidecars.core.follow.identity import TAIL_BYTES
from sidecars.core.follow.join import records
from sidecars.core.follow.lane import Lane, Source
from sidecars.tailer.rendering import Json, Raw

OURS = ("time", "file", "pod", "namespace")
MEBIBYTE = 2**20


def objects(data: bytes) -> list[dict[str, Any]]:
    """Read every line of an output, as strictly as JSON is meant."""
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.decode().split("\n")[:-1]]


def whole(rows: list[dict[str, Any]], *, ended: bool = True) -> list[str]:
    """Give the lines of one file, those in parts put together again. One that has not ended has no last part."""
    lines: list[str] = []
    part = 0
    for row in rows:
        if part:
            lines[-1] += row["log"]
        else:
            lines.append(row["log"])
        assert row.get("part", 0) == (part + 1 if "part" in row or part else 0)
        part = row["part"] if not row.get("last", True) else 0
    assert bool(part) != ended
    return lines


def batches(path: Path, room: int = MEBIBYTE, multiline: str | None = None) -> Iterator[Batch]:
    """Read a file as the follower does, to its end and with the last line out."""
    file = File(str(path), open_file(str(path)))
    source = Source((str(path),), records=records(multiline))
    Lane(str(path), source, literal=True, since=0).add(file)
    buffers = [bytearray(room + TAIL_BYTES), bytearray(room + TAIL_BYTES)]
    try:
        for force in (False, True):
            file.force = force
            while batch := file.read(buffers[0], room, source.records):
                buffers.reverse()
                yield batch
                file.force = force
    finally:
        file.close()


def rendered(
    renderer: Json | Raw, path: Path, data: bytes, room: int = MEBIBYTE, multiline: str | None = None
) -> bytes:
    path.write_bytes(data)
    return b"".join(bytes(piece) for batch in batches(path, room, multiline) for piece in renderer.render(batch))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "a.log"


# The process


def test_each_line_is_wrapped_with_time_file_pod_and_namespace(once, logs):
    (logs / "a.log").write_bytes(b'GET /\n\n "quoted" \\ back\t\x00\x1b\x7f\nnot ended')
    rows = objects(
        once("--format=json", logs / "a.log", environ={"POD_NAME": "web-0", "POD_NAMESPACE": "shop"}),
    )
    assert [row["log"] for row in rows] == ["GET /", "", ' "quoted" \\ back\t\x00\x1b\x7f', "not ended"]
    for row in rows:
        assert {name: row[name] for name in OURS[1:]} == {
            "file": str(logs / "a.log"),
            "pod": "web-0",
            "namespace": "shop",
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["time"])
        assert list(row)[:5] == [*OURS, "log"]
    # A restart would go on with the line that has not ended.
    assert [(row.get("part"), row.get("last")) for row in rows[-2:]] == [(None, None), (1, False)]


def test_pod_and_namespace_are_left_out_where_they_are_not_known(once, logs):
    (logs / "a.log").write_bytes(b"line\n")
    unknown = {"POD_NAME": "", "POD_NAMESPACE": ""}
    [row] = objects(once("--format=json", logs / "a.log", environ=unknown))
    assert list(row) == ["time", "file", "log"]


def test_objects_are_extended_and_their_own_fields_win(once, logs):
    lines = [
        '{"level":"info","msg":"hi"}',
        '{"time":"then","file":1,"pod":null,"namespace":{},"log":"own"}',
        "{}",
        ' {"not":"at the beginning"}',
        '{"nested":{"time":"inner","a":[1,{"b":null}]},"é":"\\u00e9\\ud83d\\ude00"}',
        '{"invalid":',
        "[1,2]",
        '"string"',
    ]
    (logs / "a.log").write_text("\n".join(lines) + "\n")
    own, taken, empty, spaced, nested, *others = objects(
        once("--format=json", logs / "a.log", environ={"POD_NAME": "web-0"})
    )
    assert (own["level"], own["msg"], own["pod"], own["file"]) == ("info", "hi", "web-0", str(logs / "a.log"))
    assert "log" not in own
    assert taken == {"time": "then", "file": 1, "pod": None, "namespace": {}, "log": "own"}
    assert empty.keys() == {"time", "file", "pod"}
    assert spaced["log"] == lines[3]
    assert nested["nested"] == {"time": "inner", "a": [1, {"b": None}]}
    assert nested["é"] == "é😀"
    assert [row["log"] for row in others] == lines[5:]


def test_a_line_longer_than_a_batch_goes_out_in_parts(once, logs):
    text = "é€😀" * 400_000
    (logs / "a.log").write_text(f"before\n{text}\nafter\n{text}")
    rows = objects(once("--format=json", logs / "a.log"))
    assert whole(rows, ended=False) == ["before", text, "after", text]
    assert max(row.get("part", 0) for row in rows) > 3


def test_a_line_longer_than_max_line_goes_out_in_parts_of_at_most_that_size(once, logs):
    lines = ["short", "x" * 100, "x" * 101, "é" * 1000, "{" + "y" * 200, json.dumps({"a": "z" * 200}), "short"]
    (logs / "a.log").write_text("\n".join(lines) + "\n")
    rows = objects(once("--format=json", "--max-line=100", logs / "a.log"))
    assert whole(rows) == lines
    assert all(len(row["log"].encode()) <= 100 for row in rows)
    assert [row["log"] for row in rows if "part" not in row] == ["short", "x" * 100, "short"]


def test_joined_records_keep_their_newlines(once, logs):
    text = "[1] one\nmore\n\n[2] two\n[3] {\nmore"
    (logs / "a.log").write_text(text)
    rows = objects(once("--format=json", r"--multiline=\[", logs / "a.log"))
    assert [row["log"] for row in rows] == ["[1] one\nmore\n", "[2] two", "[3] {\nmore"]


def test_a_hostile_file_name_is_a_string(once, logs):
    name = b'a","log":"forged\n\xff.log'
    with open(bytes(logs) + b"/" + name, "wb") as file:
        file.write(b"line\n")
    [row] = objects(once("--format=json", logs))
    assert row["log"] == "line"
    assert row["file"] == f'{logs}/a","log":"forged\n\\xff.log'


def test_a_partial_line_and_its_rest_are_parts_of_one(tail, logs):
    with open(logs / "a.log", "wb", buffering=0) as file:
        tailer = tail("--format=json", "--partial-timeout=100ms", logs / "a.log")
        for text, count in ((b"first ", 1), (b"second ", 2), (b"third\nnext\n", 4)):
            file.write(text)
            tailer.until(lambda count=count: tailer.read().count(b"\n") >= count)
    rows = objects(tailer.drained())
    assert [(row.get("part"), row.get("last")) for row in rows] == [(1, False), (2, False), (3, True), (None, None)]
    assert whole(rows) == ["first second third", "next"]


# The renderers, where the input is open


CHARACTERS = st.one_of(
    st.characters(exclude_characters="\n", exclude_categories=("Cs",)), st.sampled_from('{}",:\\\x7f')
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(CHARACTERS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS) | st.sampled_from(OURS), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text(CHARACTERS) | st.sampled_from([*OURS, "log"]), VALUES, max_size=5).map(
    lambda value: json.dumps(value, ensure_ascii=False).replace("\n", "")
)
# What looks like JSON, and mostly is none.
NEARLY = st.builds(
    lambda text, at, extra: text[: at % (len(text) + 1)] + extra + text[at % (len(text) + 1) :],
    OBJECTS,
    st.integers(0, 200),
    st.text(CHARACTERS, max_size=3),
)
LINES = st.lists(st.text(CHARACTERS, max_size=40) | OBJECTS | NEARLY, max_size=8)
quickly = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def expected(line: str) -> dict[str, Any] | str:
    """Give the object that a line is, or the line."""

    def no_constant(_: str) -> None:
        raise ValueError

    if not line.startswith("{"):
        return line
    try:
        value = json.loads(line, parse_constant=no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no character
    except (ValueError, RecursionError):
        return line
    return value if isinstance(value, dict) else line


@quickly
@given(lines=LINES)
@example(lines=['{"a":"\x01"}'])
@example(lines=['{"a":"\\x"}', '{"a":01}', '{"a":1.}', '{"a":"\\u12"}', '{"\x1f":1}', '{"a":\ufeff1}', '{"a":NaN}'])
@example(lines=['{"t\\u0069me":1}', '{"time":1,"time":2}', '{"a":1} ', '{"a":1}\r', '{"a":1}{"b":2}', '{"a":1}\x0b'])
@example(lines=['{"a":' * 100_000])
@example(lines=['","log":"', '\\"', "\x7f", "a\x7fb"])
@example(lines=['{"a":1e999}', '{"a":"\\ud800"}', '{"a":123456789012345678901234567890}'])
def test_every_line_comes_out_as_valid_json(file, lines):
    known = {"pod": "web-0"}
    rows = objects(rendered(Json(known, None), file, "".join(line + "\n" for line in lines).encode()))
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        own = expected(line)
        ours = {"time": row["time"], "file": str(file), **known}
        assert row == (ours | own if isinstance(own, dict) else {**ours, "log": line})


@quickly
@given(lines=LINES, room=st.integers(16, 400), limit=st.none() | st.integers(1, 60), ended=st.booleans())
@example(lines=["aaa"], room=16, limit=1, ended=True)
@example(lines=["😀€é"], room=16, limit=1, ended=True)
def test_lines_in_parts_come_together_again(file, lines, room, limit, ended):
    data = "\n".join(lines).encode() + b"\n" * (ended and bool(lines))
    rows = objects(rendered(Json({}, limit), file, data, room))
    texts = data.decode().split("\n")
    if not texts[-1]:
        texts.pop()
    if not any(isinstance(expected(line), dict) for line in texts):
        assert whole(rows, ended=data.endswith(b"\n") or not data) == texts
    characters = 4  # a character longer than the limit stays whole
    assert all(len(row["log"].encode()) <= max(limit, characters) for row in rows if limit and "part" in row)


@quickly
@given(data=st.binary(max_size=300), multiline=st.sampled_from([None, "java", "[a-z]"]))
def test_bytes_that_are_not_utf_8_become_replacement_characters(file, data, multiline):
    rows = objects(rendered(Json({}, None), file, data, multiline=multiline))
    lines = data.decode("utf-8", "replace").split("\n")
    if not lines[-1]:
        lines.pop()
    if not any(isinstance(expected(line), dict) for line in lines):
        assert "\n".join(row["log"] for row in rows) == "\n".join(lines)


@quickly
@given(data=st.binary(max_size=300), room=st.integers(8, 400))
def test_raw_bytes_come_out_as_they_are_wherever_batches_end(file, data, room):
    assert rendered(Raw(None), file, data, room) == data


@quickly
@given(data=st.binary(max_size=300), room=st.integers(8, 400), multiline=st.sampled_from([None, "[a-z]"]))
def test_a_label_is_put_before_each_line_and_nowhere_else(file, data, room, multiline):
    written = rendered(Raw(lambda _: "L"), file, data, room, multiline)
    lines = data.split(b"\n")
    last = lines.pop()
    unlabelled = [line.removeprefix(b"L: ") for line in written.split(b"\n")]
    if multiline is None:
        assert written == b"".join(b"L: " + line + b"\n" for line in lines) + (b"L: " + last if last else b"")
    else:
        assert b"\n".join(unlabelled).replace(b"\\n", b"\n") == data.replace(b"\\n", b"\n")
