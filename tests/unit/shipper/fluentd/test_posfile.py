"""fluentd's file of offsets."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sidecars.shipper.fluentd import posfile


def test_each_file_has_its_offset_and_inode(tmp_path: Path) -> None:
    file = tmp_path / "app.pos"
    file.write_text(
        "/var/log/a b.log\t00000000000001f4\t00000000000a3b4c\n"
        "/var/log/new.log\t0000000000000000\t0000000000000000\n"
        "/var/log/old.log\tffffffffffffffff\t0000000000000007\n"
        "/var/log/2.log\t0000000000000010\t0000000B\n"
    )
    assert posfile.read(str(file)) == ([("/var/log/a b.log", 500, 0xA3B4C), ("/var/log/2.log", 16, 11)], [])


def test_of_several_lines_for_a_file_the_last_counts(tmp_path: Path) -> None:
    file = tmp_path / "app.pos"
    file.write_text("/a\t01\t05\n/a\t02\t06\n/a\t03\t05\n/b\t01\t07\n/b\tffffffffffffffff\t07\n")
    assert posfile.read(str(file)) == ([("/a", 2, 6), ("/a", 3, 5)], [])


def test_a_damaged_line_is_told_of_and_the_others_count(tmp_path: Path) -> None:
    file = tmp_path / "app.pos"
    file.write_bytes(b"/a\t01\n\n\0\0\0\0\n/b\t0000000000000010\t0000000000000005\n/c\t01\txy\n/d\t0000000000000011")
    entries, damaged = posfile.read(str(file))
    assert entries == [("/b", 16, 5)]
    assert damaged == [
        f"{file}:{number}: it is not a path, an offset and an inode with tabs between" for number in (1, 3, 5, 6)
    ]


def test_a_path_may_be_any_bytes(tmp_path: Path) -> None:
    file = tmp_path / "app.pos"
    file.write_bytes(b"/\xff\xe9.log\t0000000000000010\t0000000000000005\n")
    assert posfile.read(str(file)) == ([(os.fsdecode(b"/\xff\xe9.log"), 16, 5)], [])


@given(st.binary())
def test_any_bytes_are_read(tmp_path_factory: object, content: bytes) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "any.pos"  # type: ignore[attr-defined]
    file.write_bytes(content)
    entries, damaged = posfile.read(str(file))
    assert len(entries) + len(damaged) <= content.count(b"\n") + 1
