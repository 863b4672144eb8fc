from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.core.follow.file import Batch, File, Truncated, open_file
from sidecars.core.follow.identity import NO_HEAD, TAIL_BYTES, head_of
from sidecars.core.follow.join import Lines, records
from tests.unit.core.follow.opened import opened

ROOM = 64


class Reader:
    """Reads a file in batches of a small room; keeps copies, for a batch is valid until the next one only."""

    def __init__(self, file: File, room: int = ROOM, multiline: str | None = None) -> None:
        self.file, self.room, self.records = file, room, records(multiline)
        self.batches: list[Batch] = []
        self.parts: list[bytes] = []

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    def read(self) -> bytes:
        """Read all that can go out now; give it."""
        count = len(self.parts)
        while batch := self.file.read(bytearray(self.room + TAIL_BYTES), self.room, self.records):
            self.batches.append(batch)
            self.parts.append(bytes(batch.data))
        return b"".join(self.parts[count:])

    def force(self) -> bytes:
        self.file.force = True
        return self.read()


@settings(max_examples=150, deadline=None)
@given(
    chunks=st.lists(st.binary(max_size=300) | st.sampled_from([b"\n", b"\r\n", b"\0" * 100, b"\xff\n"]), max_size=12),
    room=st.integers(8, 200),
    multiline=st.sampled_from([None, "java", "python", "go", r"\d"]),
)
def test_any_bytes_in_any_pieces_pass_unchanged(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], room: int, multiline: str | None
) -> None:
    path = tmp_path_factory.mktemp("file") / "a.log"
    with opened(path, b"") as file, path.open("ab", buffering=0) as writer:
        reader = Reader(file, room, multiline)
        for chunk in chunks:
            writer.write(chunk)
            reader.read()
        content = b"".join(chunks)
        assert content.startswith(reader.data)
        reader.force()
        assert reader.data == content
        for batch, part in zip(reader.batches, reader.parts, strict=True):
            assert content[batch.start : batch.end] == part
            assert len(part) <= room
            assert batch.complete == part.endswith(b"\n")
            assert batch.continued == (batch.start > 0 and content[batch.start - 1 : batch.start] != b"\n")
            assert batch.tail == content[max(0, batch.end - TAIL_BYTES) : batch.end]
            assert batch.head == head_of(file.fd, batch.head.size)


def test_a_last_line_is_held_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\ntw") as file, path.open("ab", buffering=0) as writer:
        reader = Reader(file)
        assert reader.read() == b"one\n"
        assert file.held_since is not None
        assert reader.read() == b""
        writer.write(b"o\n")
        assert reader.read() == b"two\n"
        assert reader.read() == b""
        assert file.held_since is None


def test_a_held_line_goes_out_when_it_is_told_to_and_the_rest_continues_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\ntw") as file, path.open("ab", buffering=0) as writer:
        reader = Reader(file)
        reader.read()
        assert reader.force() == b"tw"
        assert not reader.batches[-1].complete
        file.acknowledge(reader.batches[-1])
        assert file.position().partial
        writer.write(b"o\nthr")
        assert reader.read() == b"o\n"
        assert reader.batches[-1].continued
        assert reader.batches[-1].complete
        assert file.held_since is not None  # what was told once is not told for ever
        file.acknowledge(reader.batches[-1])
        assert not file.position().partial


def test_a_line_longer_than_a_batch_passes_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"x" * 150) as file, path.open("ab", buffering=0) as writer:
        reader = Reader(file)
        assert reader.read() == b"x" * 128
        assert file.overlong
        assert [(batch.continued, batch.complete) for batch in reader.batches] == [(False, False), (True, False)]
        writer.write(b"x" * 20 + b"\nshort\n")
        assert reader.read() == b"x" * 42 + b"\nshort\n"
        assert not file.overlong
        assert reader.batches[-1].complete


def test_parts_of_a_line_are_cut_between_characters(tmp_path: Path) -> None:
    for text in ("é" * 100, "€" * 100, "\U0001f600" * 100, "a€" * 100, "aé\U0001f600" * 60):
        with opened(tmp_path / "a.log", text.encode() + b"\n") as file:
            reader = Reader(file, 63)
            reader.read()
            assert "".join(part.decode() for part in reader.parts) == text + "\n"


@pytest.mark.parametrize("byte", [b"\x80", b"\xbf", b"\xc3", b"\xff", b"\0"])
def test_a_long_line_that_is_not_utf_8_goes_on(tmp_path: Path, byte: bytes) -> None:
    with opened(tmp_path / "a.log", byte * 1000 + b"\n") as file:
        reader = Reader(file)
        assert reader.read() == byte * 1000 + b"\n"
        assert max(map(len, reader.parts)) <= ROOM


# Truncation


@pytest.mark.parametrize(
    "content",
    [b"", b"o", b"one\n", b"one\ntw0\n", b"ONE\nTWO\n", b"x" * 5000],
    ids=["empty", "1", "4", "8", "case", "5000"],
)
def test_content_that_is_another_one_is_noticed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\ntwo\n") as file:
        reader = Reader(file)
        reader.read()
        path.write_bytes(content)  # the same inode, cut and written anew
        with pytest.raises(Truncated):
            reader.read()
        generation = file.generation
        assert file.restart() == 0
        assert file.generation == generation + 1
        assert reader.read() + reader.force() == content
        assert not any(batch.continued for batch in reader.batches[1:2])


def test_a_file_that_is_cut_is_delivered_to_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\ntwo\n") as file:
        reader = Reader(file)
        reader.read()
        file.acknowledge(reader.batches[-1])
        assert file.undelivered == 0
        path.write_bytes(b"three\n")
        file.restart()
        assert file.undelivered == 6
        # What was delivered is of the old content: this is what a checkpoint must say until the new one is delivered.
        assert file.position().offset == 8
        reader.read()
        file.acknowledge(reader.batches[-1])
        assert (file.position().offset, file.undelivered) == (6, 0)


def test_a_late_acknowledgement_of_the_old_content_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\ntwo\n") as file:
        reader = Reader(file)
        reader.read()
        path.write_bytes(b"three\nfour\n")
        file.restart()
        file.acknowledge(reader.batches[-1])
        assert file.undelivered == 11


class CutWhileRead(Lines):
    """The file is cut and refilled between the read and the look after it."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, content

    def cut(self, buffer: bytearray, start: int, end: int) -> int:
        self._path.write_bytes(self._content)
        return super().cut(buffer, start, end)


def test_bytes_that_were_read_before_the_cut_go_out_if_nothing_new_can_be_among_them(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\ntwo\n") as file:
        batch = file.read(bytearray(ROOM + TAIL_BYTES), ROOM, CutWhileRead(path, b""))
        assert batch is not None
        assert bytes(batch.data) == b"one\ntwo\n"
        with pytest.raises(Truncated):
            file.read(bytearray(ROOM + TAIL_BYTES), ROOM, Lines())


def test_old_and_new_content_never_go_out_as_one(tmp_path: Path) -> None:
    """A read copies page by page, and the file was written anew meanwhile: up to some page the buffer is old."""
    path = tmp_path / "a.log"
    old, new = b"old line\n" * 2000, b"new text\n" * 2000
    room = len(old)
    mixed = old[: 2 * 4096] + new[2 * 4096 :]
    path.write_bytes(mixed)
    with opened(path) as file:
        batch = file.read(bytearray(room + TAIL_BYTES), room, CutWhileRead(path, new))
        assert batch is not None
        assert bytes(batch.data) == old[: 2 * 4096]
        assert batch.complete == (old[2 * 4096 - 1] == 10)


# Holes


def test_a_hole_and_the_zeros_of_its_last_block_are_skipped_after_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"x" * 9_999 + b"\n")
        with opened(path) as file:
            reader = Reader(file, 1 << 16)
            reader.read()
            os.truncate(path, 0)
            writer.write(b"after\n")
            assert path.stat().st_blocks * 512 < 10_000, "this file system has no holes: the test shows nothing"
            with pytest.raises(Truncated):
                reader.read()
            assert file.restart() == 10_000
            assert reader.read() == b"after\n"
            assert reader.batches[-1].start == 10_000


def test_zeros_after_the_old_end_are_not_of_the_hole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"x" * 9_999 + b"\n")
        with opened(path) as file:
            reader = Reader(file, 1 << 16)
            reader.read()
            os.truncate(path, 0)
            writer.write(b"\0\0after\n")
            assert file.restart() == 10_000
            assert reader.read() == b"\0\0after\n"


def test_a_hole_that_comes_after_the_cut_was_seen_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"x" * 9_999 + b"\n")
        with opened(path) as file:
            reader = Reader(file, 1 << 16)
            reader.read()
            os.truncate(path, 0)
            assert file.restart() == 0
            writer.write(b"after\n")
            assert file.skip_hole() == 10_000
            assert reader.read() == b"after\n"


def test_a_file_that_is_all_hole_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\n") as file:
        reader = Reader(file, 1 << 16)
        reader.read()
        os.truncate(path, 0)
        os.truncate(path, 20_000)
        assert file.restart() == 0
        assert reader.force() == bytes(20_000)


# Descriptors


def test_a_closed_file_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\n") as file, path.open("ab", buffering=0) as writer:
        reader = Reader(file)
        reader.read()
        file.close()
        writer.write(b"two\n")
        assert file.reopen(str(path))
        assert reader.read() == b"two\n"


def test_another_file_under_the_path_is_not_reopened(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\n") as file:
        path.rename(tmp_path / "a.log.1")
        path.write_bytes(b"two\n")
        file.close()
        assert not file.reopen(str(path))
        assert not file.open
        assert file.reopen(str(tmp_path / "a.log.1"))


def test_a_new_file_with_the_same_inode_is_not_reopened(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"one\n") as file:
        birth, inode = file.born, file.inode
        file.close()
        for _ in range(2000):
            path.unlink()
            path.write_bytes(b"one\n")
            with opened(path) as other:
                if other.inode == inode and other.born != birth:
                    assert not file.reopen(str(path))
                    return
        pytest.skip("this file system gives no inode away twice: nothing of it is tested here")


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.close(open_file(str(tmp_path / "fifo")))


def test_a_file_that_begins_at_its_end_knows_what_precedes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"x" * 300 + b"\n") as file, path.open("ab", buffering=0) as writer:
        file.start_at(301)
        reader = Reader(file)
        assert reader.read() == b""
        assert file.undelivered == 0
        writer.write(b"new\n")
        assert reader.read() == b"new\n"


def test_an_empty_file_has_no_head(tmp_path: Path) -> None:
    with opened(tmp_path / "a.log", b"") as file:
        file.start_at(0)
        assert file.head == NO_HEAD
        assert file.position().tail_bytes == 0
