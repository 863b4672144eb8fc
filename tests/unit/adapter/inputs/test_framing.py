"""Syslog messages in a stream: RFC 6587, told apart for each message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.adapter.inputs.framing import LONGEST, Framing, flat

CASES = [
    (b"<1>a\n<2>b\n", b"<1>a\n<2>b\n"),
    (b"<1>a\r\n<2>b\r\n", b"<1>a\n<2>b\n"),
    (b"<1>a\0<2>b\0", b"<1>a\n<2>b\n"),  # Python's SysLogHandler
    (b"4 <1>a5 <2>bb", b"<1>a\n<2>bb\n"),
    (b"5 <1>a\n5 <2>b\n", b"<1>a\n<2>b\n"),  # a newline that is counted, too
    (b"9 <1>a\nb\ncd", b"<1>a b cd\n"),
    (b"<1>a\n4 <2>b<3>c\n", b"<1>a\n<2>b\n<3>c\n"),
    (b"4 <1>a<2>12 monkeys\n", b"<1>a\n<2>12 monkeys\n"),
    (b"12 monkeys\n13 more\n", b"12 monkeys\n13 more\n"),
    (b"\n\n<1>a\n\n\n<2>b\n\n", b"<1>a\n<2>b\n"),
    (b"<1>no end", b"<1>no end\n"),
    (b"20 <1>no end", b"<1>no end\n"),
    (b"12", b"12\n"),
    (b"4 <1>\n", b""),
]


@pytest.mark.parametrize(("stream", "expected"), [case for case in CASES if case[1]])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_messages_are_told_apart_however_the_stream_is_cut(stream, expected, step):
    framing = Framing()
    lines = b"".join(framing.take(stream[begin : begin + step]) for begin in range(0, len(stream), step))
    assert lines + framing.rest() == expected


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"<1>a", b"<1>a\n"),
        (b"<1>a\n", b"<1>a\n"),
        (b"<1>a\0", b"<1>a\n"),
        (b"<1>a\nb\r\nc", b"<1>a b c\n"),
        (b"", b""),
        (b"\n", b""),
        (b"<1> a \xff", b"<1> a \xff\n"),
    ],
)
def test_a_datagram_is_one_line(datagram, expected):
    assert flat(datagram) == expected


@pytest.mark.parametrize("begin", [b"%d <1>" % (3 * LONGEST + 3), b"<1>"])
def test_a_message_longer_than_a_mebibyte_becomes_several_and_is_never_held_whole(begin):
    framing = Framing()
    lines = framing.take(begin)
    longest = 0
    for _ in range(3 * 16):
        lines += framing.take(b"x" * (LONGEST // 16))
        longest = max(longest, len(framing))
    lines += framing.take(b"\n<2>next\n")
    records = lines.split(b"\n")
    assert b"".join(records[:-2]) == b"<1>" + b"x" * 3 * LONGEST
    assert max(map(len, records)) <= LONGEST
    assert records[-2:] == [b"<2>next", b""]
    assert longest <= LONGEST


def test_newlines_in_a_long_counted_message_end_nothing():
    text = b"<1>" + (b"x" * 999 + b"\n") * 2600
    stream = b"%d %b<2>next\n" % (len(text), text)
    framing = Framing()
    lines = b"".join(framing.take(stream[begin : begin + 65536]) for begin in range(0, len(stream), 65536))
    assert [len(line) for line in lines.splitlines()] == [LONGEST, LONGEST, len(text) - 2 * LONGEST - 1, 7]


def test_what_has_gone_out_early_is_not_counted_again():
    framing = Framing()
    assert framing.take(b"10 <1>abc") == b""
    assert framing.rest() == b"<1>abc\n"
    assert framing.take(b"defg<2>next\n") == b"defg\n<2>next\n"


messages = st.binary(min_size=1, max_size=30).map(lambda text: b"<5>" + text.translate(None, b"\n\0\r") + b".")


@settings(deadline=None)
@given(st.lists(st.tuples(messages, st.booleans()), max_size=10), st.integers(1, 40))
def test_what_is_framed_either_way_comes_back(framed, step):
    stream = b"".join(b"%d %b" % (len(text), text) if counted else text + b"\n" for text, counted in framed)
    framing = Framing()
    lines = b"".join(framing.take(stream[begin : begin + step]) for begin in range(0, len(stream), step))
    assert lines + framing.rest() == b"".join(text + b"\n" for text, _ in framed)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50)))
def test_no_bytes_are_an_error_and_lines_are_whole(pieces):
    framing = Framing()
    lines = b"".join(map(framing.take, pieces)) + framing.rest()
    assert not lines or lines.endswith(b"\n")
    assert len(framing) == 0
