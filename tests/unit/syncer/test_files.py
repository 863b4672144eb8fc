"""The error file and the touch file, on a real file system."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sidecars.syncer.files import ErrorFile, touch


def test_an_error_is_one_json_object_that_everybody_may_read(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert ErrorFile("errors/last", str(tmp_path)).write({"Msg": "m", "Err": "é\udcff", "Args": {"n": 1}}) is None
    finally:
        os.umask(before)
    path = tmp_path / "errors" / "last"
    assert json.loads(path.read_text()) == {"Msg": "m", "Err": "é\udcff", "Args": {"n": 1}}
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in path.parent.iterdir()] == ["last"]


def test_the_directory_is_made_one_level_deep_only(tmp_path: Path) -> None:
    trouble = ErrorFile("a/b/last", str(tmp_path)).write_text("no")
    assert trouble is not None
    assert "No such file" in trouble
    assert list(tmp_path.iterdir()) == []


def test_an_absolute_path_may_lie_outside_the_root(tmp_path: Path) -> None:
    file = ErrorFile(str(tmp_path / "elsewhere" / "last"), str(tmp_path / "root"))
    assert file.write_text("bare text") is None
    assert (tmp_path / "elsewhere" / "last").read_text() == "bare text"


def test_a_reader_never_finds_half_of_it(tmp_path: Path) -> None:
    file = ErrorFile("last", str(tmp_path))
    file.write_text("first")
    with open(tmp_path / "last") as reader:
        file.write_text("second")
        assert reader.read() == "first"
    assert (tmp_path / "last").read_text() == "second"


def test_a_failure_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    trouble = ErrorFile("last", str(tmp_path)).write_text("no")
    assert trouble is not None
    assert [each.name for each in tmp_path.iterdir()] == ["last"]


def test_removing_what_is_not_there_is_well(tmp_path: Path) -> None:
    file = ErrorFile("last", str(tmp_path))
    assert file.remove() is None
    file.write_text("error")
    assert file.remove() is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "last").mkdir()
    assert file.remove() is not None


@pytest.mark.parametrize("path", ["lock", "a/b/lock"])
def test_touching_makes_the_file_and_its_directories(path: str, tmp_path: Path) -> None:
    touch(path, str(tmp_path))
    assert (tmp_path / path).read_bytes() == b""


def test_touching_renews_the_times_and_keeps_what_is_inside(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("mine")
    os.utime(tmp_path / "lock", (1, 1))
    touch(str(tmp_path / "lock"), "/nowhere")
    assert (tmp_path / "lock").stat().st_mtime > 1_000_000_000
    assert (tmp_path / "lock").read_text() == "mine"
