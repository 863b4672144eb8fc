"""What the Redis protocol looks like on the wire: commands of clients and replies of shards, framed without unpacking.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2 and RESP3), and networking.c of Redis for
what it takes of a client: inline commands, and the texts of its protocol errors.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

_SHORT = 99  # bytes: what one regular expression can frame by itself
_MOST_ARGUMENTS = 1024 * 1024
_LONGEST_INLINE = 64 * 1024
_LONGEST_LINE = 64 * 1024  # of a reply


class Malformed(Exception):  # noqa: N818  (named for what happened)
    """Bytes that are not the Redis protocol; the text is what Redis says of them."""


def _sized() -> str:
    r"""Match a length of up to 99, and so many bytes of any kind: `3\r\nfoo\r\n`, `0\r\n\r\n`.

    A regular expression cannot count; so it has a branch for each length, found by its digits.
    """

    def exactly(length: int) -> str:
        return rf"\r\n.{{{length}}}" if length else r"\r\n"

    def tens(first: int) -> str:
        return f"{first}(?:{exactly(first)}|{'|'.join(f'{last}{exactly(first * 10 + last)}' for last in range(10))})"

    return rf"(?:0{exactly(0)}|{'|'.join(map(tens, range(1, 10)))})\r\n"


_VALUE = rf"\${_sized()}"
# The commands of one read, each with its name and its first key in the form they have on the wire, without copying or
# unpacking more. What is longer, has more arguments, or is not whole yet, is the last match: it is all that is left.
#     (frame, is it *2, is it *3, "3\r\nGET", "3\r\nfoo\r\n", rest)
COMMANDS = re.compile(
    rf"(\*(?:2()|3()|4)\r\n\$(\d\d?\r\n[A-Za-z]++)\r\n\$({_sized()})(?(2)|{_VALUE}(?(3)|{_VALUE})))|(.+)".encode(),
    re.DOTALL,
)
_REPLY = rf"[+:_#,(][^\r\n]{{0,99}}+\r\n|\$-1\r\n|{_VALUE}"
# The replies of one read: each short one; and at the end the rest, if there is a longer one, an error, or an array.
REPLIES = re.compile(rf"{_REPLY}|.+".encode(), re.DOTALL)
REPLY = re.compile(_REPLY.encode(), re.DOTALL)

_COUNT = re.compile(rb"\*(0|-1|[1-9]\d{0,6}+)\r\n")
_LENGTH = re.compile(rb"\$(0|[1-9]\d{0,9}+)\r\n")
_LONGEST_COUNT = 16  # bytes: no count or length is longer


class Scan:
    """A command of a client as far as it has come: what was read of it is not read again when more comes.

    spans  where its words are, counted from where the command begins
    size   its length, once it is whole
    """

    __slots__ = ("inline", "least", "left", "size", "spans")

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.inline: list[bytes] | None = None
        self.left = -1
        self.size = 0
        self.least = 0

    def advance(self, data: bytes | bytearray, start: int, most: int) -> bool:
        """Read on in what begins at `start`; True when the command is whole. Malformed when it can be none."""
        if self.left < 0 and not self._begin(data, start):
            return self.inline is not None
        at, end = start + self.size, len(data)
        while self.left:
            if (found := _LENGTH.match(data, at)) is None:
                self._unreadable(data, at)
                return False
            begin = found.end()
            stop = begin + int(found[1])
            if stop + 2 - start > most:
                raise Malformed("invalid bulk length")
            self.least = stop + 2 - start
            if stop + 2 > end:
                return False
            if data[stop : stop + 2] != b"\r\n":
                raise Malformed("expected a line's end after a bulk string")
            self.spans.append((begin - start, stop - start))
            at = stop + 2
            self.left -= 1
            self.size = at - start
        return True

    def words(self, data: bytes | bytearray, start: int, most: int | None = None) -> list[bytes]:
        """Give the name and the arguments: all that have come, or so many of them at most."""
        if self.inline is not None:
            return self.inline
        return [bytes(data[start + begin : start + end]) for begin, end in self.spans[:most]]

    def _begin(self, data: bytes | bytearray, start: int) -> bool:
        if data[start] != 0x2A:
            self._line(data, start)
            return False
        found = _COUNT.match(data, start)
        if found is None:
            if len(data) - start >= _LONGEST_COUNT or data.find(b"\n", start) >= 0:
                raise Malformed("invalid multibulk length")
            return False
        self.left = max(0, int(found[1]))
        if self.left > _MOST_ARGUMENTS:
            raise Malformed("invalid multibulk length")
        self.size = found.end() - start
        return True

    def _line(self, data: bytes | bytearray, start: int) -> None:
        end = data.find(b"\n", start, start + _LONGEST_INLINE)
        if end < 0:
            if len(data) - start >= _LONGEST_INLINE:
                raise Malformed("too big inline request")
            return
        self.inline = inline(bytes(data[start:end]).removesuffix(b"\r"))
        self.size = end + 1 - start

    def _unreadable(self, data: bytes | bytearray, at: int) -> None:
        if at < len(data) and data[at] != 0x24:
            raise Malformed(f"expected '$', got '{chr(data[at])}'" if 32 < data[at] < 127 else "expected '$'")
        if len(data) - at >= _LONGEST_COUNT or data.find(b"\n", at) >= 0:
            raise Malformed("invalid bulk length")


_WORD = re.compile(rb'\s*(?:"((?:\\.|[^"\\])*)"|\'((?:\\\'|[^\'])*)\'|([^\s"\']+))(?=\s|$)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def inline(line: bytes) -> list[bytes]:
    r"""Split a command that somebody has typed: `SET greeting "hello\n"`. Malformed when its quotes are not closed."""
    words, at = [], 0
    line = line.rstrip()
    while at < len(line):
        if (found := _WORD.match(line, at)) is None:
            raise Malformed("unbalanced quotes in request")
        double, single, bare = found.groups()
        if double is not None:
            words.append(_ESCAPED.sub(_unescaped, double))
        else:
            words.append(single.replace(b"\\'", b"'") if single is not None else bare)
        at = found.end()
    return words


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes([int(found[1], 16)])
    return _ESCAPES.get(found[2], found[2])


def encoded(words: list[bytes]) -> bytes:
    r"""Write a command as clients send it: `*1\r\n$4\r\nPING\r\n`."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class Part(NamedTuple):
    """How far replies were read: up to `at`; `left` values are missing, of the first `skip` bytes, its end included."""

    at: int
    left: int
    skip: int


_MANY = 32


@cache
def _many() -> re.Pattern[bytes]:
    """Match so many short replies at once: the elements of long lists."""
    return re.compile(rf"(?:{_REPLY}){{{_MANY}}}+".encode(), re.DOTALL)


_SIMPLE = frozenset(b"+-:_#,(")
_BLOBS = frozenset(b"$=!")
_ARRAYS = frozenset(b"*~>")


def follow(data: bytes, at: int, left: int = 1, skip: int = 0) -> Part:  # noqa: C901  (each value of each reply)
    """Read on in a reply: `left` counts the values that are to come, those in arrays and maps as well.

    What stands at `at` afterwards is the beginning of a line that is not whole, or nothing. Malformed when it is no
    reply. Streamed strings and aggregates, which RESP3 speaks of and no server sends, are taken for malformed.
    """
    end = len(data)
    again = left  # a long value among short ones: no look for many of these before so few are left
    while left:
        if _MANY <= left <= again and not skip:
            if found := _many().match(data, at):
                at = found.end()
                left -= _MANY
                again = left
                continue
            again = left - _MANY
        if skip:
            if at + skip > end:
                return Part(end, left, skip - (end - at))
            at += skip
            skip = 0
            left -= 1
            continue
        line = data.find(b"\r\n", at, at + _LONGEST_LINE)
        if line < 0:
            if end - at >= _LONGEST_LINE:
                raise Malformed("a line is too long")
            return Part(at, left, 0)
        kind = data[at]
        if kind in _SIMPLE:
            left -= 1
            at = line + 2
            continue
        try:
            size = int(data[at + 1 : line])
        except ValueError:
            raise Malformed("a length is no number") from None
        at = line + 2
        if kind in _BLOBS:
            if size < 0:
                left -= 1
            else:
                skip = size + 2
        elif kind in _ARRAYS:
            left += max(size, 0) - 1
            again = left
        elif kind == 0x25:  # %: a map
            left += 2 * max(size, 0) - 1
        elif kind == 0x7C:  # |: attributes of the value that follows
            left += 2 * max(size, 0)
        else:
            raise Malformed("a reply begins with none of its signs")
    return Part(at, 0, 0)
