"""Blocks of whole records, from the beginning or from the end: nothing is lost, nothing comes twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.web import blocks
from sidecars.core.follow import join

LINES = join.records(None)
TRACES = join.Joined(rb"(?![ \t])")


class Memory:
    """A source that is bytes."""

    path, inode, begin = "memory", 1, 0

    def __init__(self, data: bytes) -> None:
        self.data = data

    def size(self) -> int:
        return len(self.data)

    def modified(self) -> float:
        return 0.0

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks so small that a test needs few bytes."""
    monkeypatch.setattr(blocks, "FIRST", 16)
    monkeypatch.setattr(blocks, "BLOCK", 32)
    monkeypatch.setattr(blocks, "LONGEST", 64)


logs = st.lists(st.sampled_from([b"a", b"bcd", b" more", b"\tat x", b"", b"x" * 30, b"y" * 100]), max_size=30).map(
    lambda lines: b"".join(line + b"\n" for line in lines)
)


@given(logs, st.sampled_from([LINES, TRACES]), st.sampled_from([b"", b"half"]))
def test_blocks_are_all_of_it_in_their_order(data, records, rest):
    source = Memory(data + rest)
    ahead = list(blocks.forward(source, 0, source.size(), records))
    back = list(blocks.backward(source, 0, source.size(), records))[::-1]
    for found in (ahead, back):
        assert b"".join(block for _, block in found) == source.data
        assert [at for at, _ in found] == [sum(len(block) for _, block in found[:n]) for n in range(len(found))]
        assert all(len(block) <= 64 for _, block in found)


@given(st.lists(st.sampled_from([b"one\n", b"two lines\n of it\n", b"x\n\ty\n z\n"]), max_size=20))
def test_no_record_is_torn(parts):
    source = Memory(b"".join(parts))
    for read in (blocks.forward, blocks.backward):
        for _, block in read(source, 0, source.size(), TRACES):
            assert block.endswith(b"\n")
            assert block[:1] not in (b" ", b"\t")


def test_a_file_that_was_truncated_meanwhile_ends():
    source = Memory(b"a\n" * 10)
    assert list(blocks.forward(source, 10, 1000, LINES)) == [(10, b"a\n" * 5)]
    assert list(blocks.backward(source, 500, 1000, LINES)) == []


@pytest.mark.parametrize(("data", "expected"), [(b"a\nb", 2), (b"a\n", 2), (b"", 0), (b"abc", 0), (b"x" * 40, 40)])
def test_the_end_of_the_last_whole_line(data, expected):
    assert blocks.last_line_end(Memory(data), len(data)) == expected
