from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecars.demo import rotation
from sidecars.demo.rotation import RotatedLog, copytruncate, log4j, logrotate

RECORDS = [f"record {number:04}\n".encode() for number in range(100)]


@pytest.mark.parametrize("rotate", [logrotate, log4j, copytruncate])
def test_every_record_is_in_one_of_the_files_in_order(tmp_path: Path, rotate: rotation.Rotate) -> None:
    log = RotatedLog(str(tmp_path / "a.log"), rotate, size=100, keep=50)
    rotations = sum(log.write(record) for record in RECORDS)
    log.close()
    old = sorted(tmp_path.glob("a.log.*"), key=lambda path: -int(path.suffix[1:]))
    current = [tmp_path / "a.log"] if (tmp_path / "a.log").exists() else []
    assert rotations == len(old) > 10
    assert b"".join(path.read_bytes() for path in old + current) == b"".join(RECORDS)


@pytest.mark.parametrize("rotate", [logrotate, log4j, copytruncate])
def test_no_more_files_are_kept_than_allowed(tmp_path: Path, rotate: rotation.Rotate) -> None:
    log = RotatedLog(str(tmp_path / "a.log"), rotate, size=100)
    for record in RECORDS:
        log.write(record)
    log.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"a.log", "a.log.1", "a.log.2"}


def filled(tmp_path: Path, rotate: rotation.Rotate) -> RotatedLog:
    """A log that the next record rotates."""
    log = RotatedLog(str(tmp_path / "a.log"), rotate, size=30)
    assert not log.write(RECORDS[0])
    assert not log.write(RECORDS[1])
    return log


def test_logrotate_leaves_the_writer_with_the_renamed_file_until_it_reopens(tmp_path: Path) -> None:
    log = filled(tmp_path, logrotate)
    assert log.write(RECORDS[2])
    assert not (tmp_path / "a.log").exists()
    assert (tmp_path / "a.log.1").read_bytes() == b"".join(RECORDS[:3])
    log.write(RECORDS[3])
    log.close()
    assert (tmp_path / "a.log").read_bytes() == RECORDS[3]


def test_log4j_opens_the_new_file_at_once(tmp_path: Path) -> None:
    log = filled(tmp_path, log4j)
    assert log.write(RECORDS[2])
    log.close()
    assert (tmp_path / "a.log").read_bytes() == RECORDS[2]
    assert (tmp_path / "a.log.1").read_bytes() == b"".join(RECORDS[:2])


def test_copytruncate_keeps_the_inode_and_leaves_no_hole(tmp_path: Path) -> None:
    log = filled(tmp_path, copytruncate)
    inode = os.stat(tmp_path / "a.log").st_ino
    assert log.write(RECORDS[2])
    log.close()
    assert os.stat(tmp_path / "a.log").st_ino == inode
    assert (tmp_path / "a.log").read_bytes() == RECORDS[2]
    assert (tmp_path / "a.log.1").read_bytes() == b"".join(RECORDS[:2])


def test_a_deleted_log_is_made_anew(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "a.log"), log4j, size=1000)
    log.write(RECORDS[0])
    (tmp_path / "a.log").unlink()
    log.write(RECORDS[1])
    log.close()
    assert (tmp_path / "a.log").read_bytes() == RECORDS[1]
