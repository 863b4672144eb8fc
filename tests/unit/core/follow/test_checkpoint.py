from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from sidecars.core.follow.checkpoint import Document, JsonStore
from sidecars.core.follow.identity import Position
from sidecars.core.log import stderr
from tests.unit.core.follow.opened import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "stdout.json"


@pytest.fixture
def positions(tmp_path: Path) -> list[Position]:
    with opened(tmp_path / "a.log", b"one\ntwo\n") as file:
        file.start_at(4, partial=True)
        return [file.position()]


def saved(path: Path, positions: list[Position]) -> JsonStore:
    store = JsonStore(str(path))
    store.save(positions)
    return store


def said(capfd: pytest.CaptureFixture[str]) -> str:
    stderr.flush(10)
    return capfd.readouterr().err


def aside(path: Path) -> list[Path]:
    return list(path.parent.glob("stdout.json.corrupt-*"))


def test_what_was_saved_is_loaded(path: Path, positions: list[Position]) -> None:
    before = time.time_ns()
    document = saved(path, positions).load()
    assert document is not None
    assert document.files == positions
    assert before <= document.saved <= time.time_ns()


def test_nothing_was_saved_before_the_first_start(path: Path) -> None:
    assert JsonStore(str(path)).load() is None
    assert list(path.parent.iterdir()) == []


def test_the_last_of_many_is_loaded_and_nothing_else_is_left(path: Path, positions: list[Position]) -> None:
    store = saved(path, positions)
    store.save([])
    document = store.load()
    assert document is not None
    assert document.files == []
    assert os.listdir(path.parent) == ["stdout.json"]


def test_no_line_of_a_log_lies_readable_in_it(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "a.log", b"password=hunter2\n") as file:
        file.start_at(17)
        saved(path, [file.position()])
    assert b"hunter2" not in path.read_bytes()


def empty(document: Document | None) -> bool:
    """An earlier process there was, but nothing is known of it: this is no first start, and nothing is skipped."""
    return document is not None and not document.files


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\0\0\0", b"[]", b"null", b'{"version": 1}', b'{"version": "1", "saved": 0, "files": []}', b"\xff"],
)
def test_one_that_is_corrupt_is_set_aside_and_said(
    path: Path, positions: list[Position], content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path.write_bytes(content)
    store = JsonStore(str(path))
    assert empty(store.load())
    [kept] = aside(path)
    assert kept.read_bytes() == content
    assert "starting anew" in said(capfd)
    store.save(positions)
    document = store.load()
    assert document is not None
    assert document.files == positions


def test_a_part_of_one_is_corrupt_wherever_it_was_cut(path: Path, positions: list[Position]) -> None:
    saved(path, positions)
    content = path.read_bytes()
    for size in range(len(content) - 1):
        path.write_bytes(content[:size])
        assert empty(JsonStore(str(path)).load())


@pytest.mark.parametrize("version", [0, 2, 99])
def test_one_of_another_version_is_set_aside(
    path: Path, positions: list[Position], version: int, capfd: pytest.CaptureFixture[str]
) -> None:
    saved(path, positions)
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "version": version}))
    assert empty(JsonStore(str(path)).load())
    assert len(aside(path)) == 1
    assert f"version is {version}" in said(capfd)


def test_one_that_is_a_directory_is_set_aside(path: Path, positions: list[Position]) -> None:
    path.mkdir()
    store = JsonStore(str(path))
    assert empty(store.load())
    store.save(positions)
    assert store.load() is not None


def test_what_a_later_program_adds_to_it_is_no_harm(path: Path, positions: list[Position]) -> None:
    saved(path, positions)
    document = json.loads(path.read_bytes())
    document["files"][0]["later"] = document["later"] = 1
    path.write_text(json.dumps(document))
    loaded = JsonStore(str(path)).load()
    assert loaded is not None
    assert loaded.files == positions


def test_a_directory_that_is_gone_is_an_error_that_names_it(tmp_path: Path, positions: list[Position]) -> None:
    with pytest.raises(OSError, match=r"none/stdout\.json"):
        JsonStore(str(tmp_path / "none" / "stdout.json")).save(positions)
