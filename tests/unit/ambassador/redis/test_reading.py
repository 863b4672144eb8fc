"""Commands and replies are framed exactly as a reader that unpacks them would, whatever pieces they come in."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.ambassador.redis.fanning import elements
from sidecars.ambassador.redis.reading import COMMANDS, REPLIES, REPLY, Malformed, Scan, encoded, follow, inline

MOST = 1 << 20
few = settings(max_examples=60, deadline=None)
words = st.lists(st.binary(max_size=130), min_size=1, max_size=6)
simple = st.from_regex(rb"[+\-:_#,(][a-z0-9 ]{0,20}\r\n", fullmatch=True)
blobs = st.tuples(st.sampled_from([b"$", b"=", b"!"]), st.binary(max_size=130)).map(
    lambda blob: b"%b%d\r\n%b\r\n" % (blob[0], len(blob[1]), blob[1])
)
null = st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"%0\r\n"])


def aggregate(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    lists = st.tuples(st.sampled_from([b"*", b"~", b">"]), st.lists(inner, max_size=4)).map(
        lambda made: b"%b%d\r\n%b" % (made[0], len(made[1]), b"".join(made[1]))
    )
    maps = st.lists(st.tuples(inner, inner), max_size=3).map(
        lambda pairs: b"%%%d\r\n%b" % (len(pairs), b"".join(map(b"".join, pairs)))
    )
    attributes = st.tuples(inner, inner, inner).map(lambda made: b"|1\r\n" + b"".join(made))
    return lists | maps | attributes


replies = st.recursive(simple | blobs | null, aggregate, max_leaves=12)


@few
@given(st.lists(words, min_size=1, max_size=5), st.lists(st.integers(1, 60), max_size=20))
def test_commands_are_read_whatever_pieces_they_come_in(commands: list[list[bytes]], cuts: list[int]) -> None:
    data, read, at, scan = b"".join(map(encoded, commands)), [], 0, Scan()
    came = 0
    for size in [*cuts, len(data)]:
        came = min(len(data), came + size)
        while at < came and scan.advance(data[:came], at, MOST):
            read.append(scan.words(data, at))
            at += scan.size
            scan = Scan()
    assert (read, at) == (commands, len(data))


@few
@given(st.lists(words, min_size=1, max_size=8), st.integers(0, 30))
def test_the_fast_expression_takes_nothing_but_whole_commands_with_their_first_key(
    commands: list[list[bytes]], cut: int
) -> None:
    data = b"".join(map(encoded, commands))
    data = data[: len(data) - cut]
    at = 0
    for (frame, _, _, name, key, rest), command in zip(COMMANDS.findall(data), [*commands, []], strict=False):
        if rest:
            assert data[at:] == rest
            break
        assert frame == encoded(command)
        assert (b"$" + name + b"\r\n", b"$" + key) == (encoded(command[:1])[4:], encoded(command[1:2])[4:])
        at += len(frame)


@few
@given(
    st.binary(max_size=80) | st.lists(st.sampled_from([b"*1", b"$", b"\r\n", b"3", b"-1", b"GET", b"*"])).map(b"".join)
)
def test_no_bytes_do_worse_than_being_malformed(data: bytes) -> None:
    scan = Scan()
    try:
        while data and scan.advance(data, 0, MOST):
            assert 0 < scan.size <= len(data)
            if scan.inline is None:
                frame = data[: scan.size]
                assert not scan.spans or frame == encoded(scan.words(data, 0))
            data, scan = data[scan.size :], Scan()
    except Malformed:
        pass
    for frame, *_, rest in COMMANDS.findall(data):
        if not rest:
            scan = Scan()
            assert scan.advance(frame, 0, MOST) and scan.size == len(frame)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"*a\r\n", "invalid multibulk length"),
        (b"*00000000000000001", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\x00", "expected '$'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$007\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999\r\n", "invalid bulk length"),
        (b"*1\r\n$1\r\nabc", "expected a line's end after a bulk string"),
        (b"x" * 70_000, "too big inline request"),
        (b"SET 'a\r\n", "unbalanced quotes in request"),
    ],
)
def test_what_is_malformed_is_told_as_redis_tells_it(data: bytes, text: str) -> None:
    with pytest.raises(Malformed, match=f"^{text}".replace("$", r"\$")):
        Scan().advance(data, 0, MOST)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"PING", [b"PING"]),
        (b"  SET  a b ", [b"SET", b"a", b"b"]),
        (rb'SET a "b c\n\x00\""', [b"SET", b"a", b'b c\n\x00"']),
        (rb"SET a 'it\'s'", [b"SET", b"a", b"it's"]),
        (b'SET a ""', [b"SET", b"a", b""]),
        (b"", []),
    ],
)
def test_an_inline_command_is_split_as_redis_splits_it(line: bytes, expected: list[bytes]) -> None:
    assert inline(line) == expected


@few
@given(replies, replies, st.lists(st.integers(1, 40), max_size=30))
def test_a_reply_ends_where_it_ends_whatever_pieces_it_comes_in(one: bytes, other: bytes, cuts: list[int]) -> None:
    data, left, skip, tail, taken, came = one + other, 1, 0, b"", 0, 0
    for size in [*cuts, len(data)]:
        piece = tail + data[came : came + size]
        came += size
        part = follow(piece, 0, left, skip)
        taken += part.at
        left, skip, tail = part.left, part.skip, piece[part.at :]
        if not left:
            break
    assert taken == len(one)


@few
@given(st.randoms(use_true_random=False), st.integers(30, 140))
def test_a_long_list_ends_where_it_ends_whatever_is_among_its_elements(source: Random, count: int) -> None:
    def element() -> bytes:
        value = source.randbytes(source.choice((0, 3, 3, 3, 98, 99, 100, 130)))
        long, nested = b"$%d\r\n%b\r\n" % (len(value), value), b"*40\r\n" + b":7\r\n" * 40
        return source.choice((b":1\r\n", b"+OK\r\n", b"$-1\r\n", long, long, long, nested, b"-ERR no\r\n"))

    data = b"*%d\r\n" % count + b"".join(element() for _ in range(count))
    cut = source.randrange(len(data))
    one = follow(data[:cut], 0)
    assert follow(data[one.at :] + b":2\r\n", 0, one.left, one.skip) == (len(data) - one.at, 0, 0)


@few
@given(st.lists(replies, min_size=1, max_size=6))
def test_short_replies_are_found_at_once_and_the_rest_is_left(made: list[bytes]) -> None:
    data = b"".join(made)
    found = REPLIES.findall(data)
    assert b"".join(found) == data
    short = [piece for piece in found if REPLY.fullmatch(piece)]
    whole = [made_one for made_one, piece in zip(made, short, strict=False)]
    assert short == whole


@few
@given(st.binary(max_size=60))
def test_no_bytes_of_a_shard_do_worse_than_being_malformed(data: bytes) -> None:
    try:
        part = follow(data, 0)
    except Malformed:
        return
    assert 0 <= part.at <= len(data)


@few
@given(st.lists(replies, max_size=6))
def test_an_array_is_taken_apart(made: list[bytes]) -> None:
    assert elements(b"*%d\r\n%b" % (len(made), b"".join(made))) == made


@pytest.mark.parametrize("reply", [b"+OK\r\n", b"*2\r\n:1\r\n", b"*1\r\n:1\r\n:2\r\n", b"*1\r\n$3\r\nab"])
def test_what_is_no_array_is_not_taken_for_one(reply: bytes) -> None:
    with pytest.raises(Malformed):
        elements(reply)
