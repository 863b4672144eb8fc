from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecars.core.follow.checkpoint import Document
from sidecars.shipper.chunk import Chunk
from sidecars.shipper.ledger import open_ledger
from sidecars.shipper.plan import Body, Destination, Layout, Output
from sidecars.shipper.spool import Line, Spool, due

WHOLE = Line(inode=7, continued=False, complete=True)


def output(**layout: object) -> Output:
    return Output(name="s3", destination=Destination(bucket="b"), layout=Layout(**layout), body=Body())


class Opened:
    """A spool over a directory, and the chunks it has sealed."""

    def __init__(self, directory: Path, made: Output) -> None:
        ledger, _ = open_ledger(str(directory))
        self.output = made
        self.spool = Spool(str(directory), ledger, {made.name: made}, None)
        self.sealed: list[Chunk] = []
        self.spool.sealed = self.sealed.append
        self.recovered = self.spool.recover()

    def append(self, data: bytes, moment: float = 1000.0, tag: str = "t", line: Line = WHOLE) -> None:
        self.spool.append(self.output, tag, moment, data, data.count(b"\n"), line)

    def content(self, chunk: Chunk) -> bytes:
        with open(self.spool.path(chunk), "rb") as file:
            return gzip.decompress(file.read(chunk.length))


def test_what_is_saved_is_there_after_a_crash_and_the_rest_is_not(tmp_path: Path) -> None:
    first = Opened(tmp_path, output())
    first.append(b"saved\n")
    first.spool.save([], 1)
    first.append(b"lost with the process\n")
    first.spool.seal(None)  # it is in the chunk's file, and no record tells
    second = Opened(tmp_path, output())
    second.append(b"read again\n")
    second.spool.seal(None)
    second.spool.save([], 2)
    [chunk] = second.sealed
    assert second.content(chunk) == b"saved\nread again\n"
    assert (chunk.lines, chunk.raw_bytes) == (2, len(b"saved\nread again\n"))


def test_files_that_no_record_names_are_removed(tmp_path: Path) -> None:
    first = Opened(tmp_path, output())
    first.append(b"never recorded\n")
    first.spool.seal(None)
    assert len(list((tmp_path / "chunks").iterdir())) == 1
    Opened(tmp_path, output())
    assert not list((tmp_path / "chunks").iterdir())


def test_offsets_are_those_of_the_last_save(tmp_path: Path) -> None:
    first = Opened(tmp_path, output())
    assert first.spool.load() is None
    first.spool.save([], 42)
    loaded = Opened(tmp_path, output()).spool.load()
    assert isinstance(loaded, Document)
    assert loaded.begun == 42


def test_each_slice_and_tag_has_its_chunk(tmp_path: Path) -> None:
    opened = Opened(tmp_path, output(slice=60))
    for moment in (0.0, 59.9, 60.0):
        for tag in ("a", "b"):
            opened.append(b"x\n", moment, tag)
    assert sorted((chunk.tag, chunk.slice) for chunk in opened.spool.kept()) == [
        ("a", 0),
        ("a", 60),
        ("b", 0),
        ("b", 60),
    ]


def test_tags_share_a_chunk_where_they_are_told_to(tmp_path: Path) -> None:
    opened = Opened(tmp_path, output(slice=60, by_tag=False))
    for tag in ("a", "b"):
        opened.append(b"x\n", 0.0, tag)
    assert len(opened.spool.kept()) == 1


def test_an_object_does_not_grow_beyond_its_size(tmp_path: Path) -> None:
    made = output(chunk_size=1000, compress="none")
    opened = Opened(tmp_path, made)
    for _ in range(10):
        opened.append(b"x" * 399 + b"\n")
        opened.spool.save([], 0)
    opened.spool.seal(None)
    opened.spool.save([], 0)
    opened.spool.settle()
    assert [chunk.length for chunk in opened.sealed] == [800] * 5


def test_what_no_longer_fits_is_sealed_too(tmp_path: Path) -> None:
    opened = Opened(tmp_path, output(chunk_size=1000, compress="none"))
    opened.append(b"x" * 799 + b"\n")
    opened.spool.save([], 0)
    opened.append(b"y" * 799 + b"\n")
    opened.spool.seal(None)
    opened.spool.save([], 0)
    assert [chunk.length for chunk in opened.sealed] == [800, 800]


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVEN HERE: needs root, as CI has it")
def test_on_a_full_volume_what_is_recorded_can_go(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", volume], check=True)
    try:
        opened = Opened(volume, output(compress="none"))
        opened.append(b"recorded\n")
        opened.spool.save([], 1)
        with open(volume / "filling", "wb", buffering=0) as filling, contextlib.suppress(OSError):
            while True:
                filling.write(b"x" * 4096)
        os.truncate(volume / "filling", (volume / "filling").stat().st_size - (256 << 10))  # what the ledger needs
        opened.append(b"waiting\n" * 100_000)
        with pytest.raises(OSError, match="No space left"):
            opened.spool.save([], 2)
        opened.spool.seal(None)
        opened.spool.settle()
        assert [chunk.lines for chunk in opened.sealed] == [1]
        (volume / "filling").unlink()
        opened.spool.seal(None)
        opened.spool.save([], 2)
        assert [chunk.lines for chunk in opened.sealed] == [1, 100_000]
        opened.spool.close()
    finally:
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_a_line_in_parts_stays_in_one_chunk(tmp_path: Path) -> None:
    opened = Opened(tmp_path, output(chunk_size=1000, slice=60, compress="none"))
    opened.append(b"x" * 900, 59.0, line=Line(7, False, False))
    opened.spool.save([], 0)
    opened.append(b"y" * 900 + b"\n", 61.0, line=Line(7, True, True))
    opened.spool.save([], 0)
    [chunk] = opened.spool.kept()
    assert chunk.length == 1801


def test_a_line_of_another_file_does_not_join_one_that_has_not_ended(tmp_path: Path) -> None:
    opened = Opened(tmp_path, output())
    opened.append(b"unfinished", line=Line(7, False, False))
    opened.append(b"another\n", line=Line(8, False, True))
    opened.spool.seal(None)
    opened.spool.save([], 0)
    assert opened.content(opened.sealed[0]) == b"unfinished\nanother\n"


def test_a_chunk_of_another_compression_takes_no_more_lines(tmp_path: Path) -> None:
    first = Opened(tmp_path, output())
    first.append(b"gzip\n")
    first.spool.save([], 0)
    second = Opened(tmp_path, output(compress="none"))
    assert [second.content(chunk) for chunk in second.recovered] == [b"gzip\n"]


def test_a_chunk_whose_file_is_gone_is_said_and_forgotten(tmp_path: Path) -> None:
    first = Opened(tmp_path, output())
    first.append(b"x\n")
    first.spool.save([], 0)
    for path in (tmp_path / "chunks").iterdir():
        path.unlink()
    with capture_logs() as said:
        second = Opened(tmp_path, output())
    assert second.spool.kept() == []
    assert [event["lines"] for event in said if "chunk is not on disk" in event["event"]] == [1]


@pytest.mark.parametrize(
    ("layout", "now", "expected"),
    [
        ({"slice": 60}, 1059.9, False),
        ({"slice": 60}, 1060.0, False),
        ({"slice": 60}, 1080.0, True),
        ({"slice": 60, "wait": 30}, 1109.9, False),
        ({"slice": 60, "wait": 30}, 1110.0, True),
        ({"slice": 0}, 1e12, False),
        ({"slice": 0, "age": 5}, 1054.9, False),
        ({"slice": 0, "age": 5}, 1055.0, True),
    ],
)
def test_a_chunk_is_sealed_by_the_clock(layout: dict[str, object], now: float, expected: bool) -> None:
    chunk = Chunk(id="0" * 32, output="s3", kind="gzip/text", tag="", slice=1020, opened=1050.0, file="x")
    assert due(chunk, output(**layout), now) is expected


def test_a_chunk_of_a_slice_long_past_waits_as_long_as_others() -> None:
    chunk = Chunk(id="0" * 32, output="s3", kind="gzip/text", tag="", slice=60, opened=1050.0, file="x")
    assert not due(chunk, output(slice=60, wait=30), 1079.0)
    assert due(chunk, output(slice=60, wait=30), 1080.0)
