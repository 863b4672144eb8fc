"""Records out of a stream's bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.adapter.inputs.assembly import LONGEST, Assembly
from sidecars.core.follow.join import Lines, records


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20) | st.just(b"\n")))
def test_nothing_is_lost_and_every_piece_ends_with_a_line(pieces):
    assembly = Assembly(Lines())
    given = [piece for data in pieces for piece in assembly.take(data)]
    assert all(piece.endswith(b"\n") for piece in given)
    whole = b"".join(pieces)
    assert b"".join(given) + assembly.rest() == whole + (b"\n" if whole and not whole.endswith(b"\n") else b"")


@pytest.mark.parametrize("step", [LONGEST // 16, LONGEST // 3, 5 * LONGEST])
def test_a_line_longer_than_a_mebibyte_goes_out_in_parts_between_characters(step):
    data = b"before\n" + b"a" + "é".encode() * LONGEST + b"\nafter"
    assembly = Assembly(Lines())
    pieces = [piece for begin in range(0, len(data), step) for piece in assembly.take(data[begin : begin + step])]
    pieces.append(assembly.rest())
    assert b"".join(pieces) == data + b"\n"
    assert max(map(len, pieces)) <= LONGEST
    for piece in pieces:
        piece.decode()


def test_a_record_of_several_lines_waits_for_the_next():
    assembly = Assembly(records("java"))
    assert assembly.take(b"one\ntwo\n") == [b"one\n"]
    assert assembly.take(b"\tat a.B.c\n") == []
    assert assembly.line
    assert assembly.lines() == b"two\n\tat a.B.c\n"
    assert not assembly.line


def test_a_line_that_has_not_ended_waits_until_the_end():
    assembly = Assembly(Lines())
    assert assembly.take(b"one\ntw") == [b"one\n"]
    assert not assembly.line
    assert assembly.lines() == b""
    assert assembly.rest() == b"tw\n"
    assert assembly.rest() == b""


def test_the_end_of_a_stream_ends_a_line_whose_part_has_gone_out():
    assembly = Assembly(Lines())
    assert assembly.take(b"x" * LONGEST) == [b"x" * LONGEST]
    assert assembly.rest() == b"\n"
