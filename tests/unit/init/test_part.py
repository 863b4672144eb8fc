"""A part file: what a note of it may say, and what it must not make anybody believe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecars.core.errors import SidecarError
from sidecars.init.errand import Stamp, stamp
from sidecars.init.part import Part, Version

VERSION = Version('"e"', "", 10, ranges=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "part"


def begun(path: Path) -> dict[str, Any]:
    """Fetch four of ten bytes; the note."""
    with Part(str(path), patience=1) as part:
        assert not part.resume("key")
        part.start(VERSION, 5, 5)
        part.put(part.pieces[0], memoryview(b"abcd"))
        part.save()
    return dict(json.loads(Path(f"{path}.json").read_text()))


def test_it_goes_on_where_it_was(path: Path) -> None:
    begun(path)
    with Part(str(path), patience=1) as part:
        assert part.resume("key")
        assert (part.version, part.there) == (VERSION, 4)
        with pytest.raises(SidecarError, match="4 bytes, expected 10"):
            part.finish()
        part.put(part.pieces[0], memoryview(b"e"))
        part.put(part.pieces[1], memoryview(b"fghij"))
        assert part.finish() == 10
        part.publish(str(path.with_name("whole")), 0o640)
    assert path.with_name("whole").read_bytes() == b"abcdefghij"
    assert os.listdir(path.parent) == ["whole"]


UNBELIEVABLE: list[Callable[[dict[str, Any]], object]] = [
    lambda note: note.update(boot="another"),
    lambda note: note.update(boot=""),
    lambda note: note.update(key="another"),
    lambda note: note.update(version_of_this=0),
    lambda note: note.update(pieces=[[0, 5, 6], [5, 10, 0]]),
    lambda note: note.update(pieces=[[0, 5, 5], [6, 10, 0]]),
    lambda note: note.update(pieces=[[0, 5, 5]]),
    lambda note: note.update(pieces=[]),
    lambda note: note.update(pieces=[[0, 11, 5]]),
    lambda note: note.update(pieces="x"),
    lambda note: note.update(pieces=[[0, None, 5]]),
    lambda note: note["version"].update(size=11),
    lambda note: note["version"].update(size=None),
    lambda note: note["version"].update(etag=""),
    lambda note: note["version"].update(ranges=False),
    lambda note: note.pop("version"),
]


@pytest.mark.parametrize("number", range(len(UNBELIEVABLE)))
def test_a_note_that_cannot_be_believed_is_not(path: Path, number: int) -> None:
    note = begun(path)
    UNBELIEVABLE[number](note)
    Path(f"{path}.json").write_text(json.dumps(note))
    with Part(str(path), patience=1) as part:
        assert not part.resume("key")


def test_a_part_that_was_cut_is_not_gone_on_with(path: Path) -> None:
    begun(path)
    os.truncate(path, 3)
    with Part(str(path), patience=1) as part:
        assert not part.resume("key")


def test_a_second_one_waits_its_turn_and_not_for_ever(path: Path) -> None:
    with Part(str(path), patience=1), pytest.raises(SidecarError, match="by another process"):
        Part(str(path), patience=0).__enter__()


def test_nothing_is_left_where_nothing_came(path: Path) -> None:
    with Part(str(path), patience=1) as part:
        part.start(VERSION, 5, 5)
    assert os.listdir(path.parent) == []


def test_a_link_in_its_place_is_not_followed(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError, match="symbolic links"):
        Part(str(path), patience=1).__enter__()
    assert not path.with_name("elsewhere").exists()


def test_a_limit_holds_whatever_was_announced(path: Path) -> None:
    with Part(str(path), patience=1, limit=8) as part:
        part.start(Version(), 5, 5)
        part.put(part.pieces[0], memoryview(b"12345678"))
        with pytest.raises(SidecarError, match="larger than --max-size 8 bytes"):
            part.put(part.pieces[0], memoryview(b"9"))


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "{}", '{"uri": 1}', '{"uri": "a", "x": 1}', '{"uri":"a","place":3}']
)
def test_a_stamp_that_is_none_is_not_read(text: object) -> None:
    assert stamp(text) is None


def test_a_stamp_is_read_as_it_was_written() -> None:
    made = Stamp("http://h/x", "q", "h", '"e"', "m", 0, "s", (1, 2, 3), "b")
    assert stamp(made.text()) == made
    assert stamp(Stamp("a").text()) == Stamp("a")


def test_the_pieces_are_the_whole_file(path: Path) -> None:
    for size in (0, 1, 3, 4, 10, 11):
        with Part(str(path), patience=1) as part:
            part.start(Version("e", "", size, ranges=True), 3, 4)
            sizes = [(piece.begin, piece.end) for piece in part.pieces]
        expected = {0: [], 1: [(0, 1)], 3: [(0, 3)], 4: [(0, 3), (3, 4)], 10: [(0, 3), (3, 7), (7, 10)]}
        assert sizes == expected.get(size, [(0, 3), (3, 7), (7, 11)])
