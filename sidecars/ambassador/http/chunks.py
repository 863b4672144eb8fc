"""Bodies in chunks, read and written. Sources: RFC 9112, section 7.1; RFC 9110, section 6.5.

Not by llhttp, which reads the next message as well when it comes in the same piece, and does not say where the body
ends: a test holds what is taken here against it.
"""

from __future__ import annotations

import re

from sidecars.ambassador.http.heads import Malformed
from sidecars.ambassador.http.request import Headers, plain

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))
_NEXT = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})\r\n")
_TRAILER = re.compile(rb"(%b):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n" % _TOKEN)
_MOST_LINE = 1024  # bytes of a chunk's first line, with what nobody understands after the size


class Chunks:
    """A chunked body, as it comes: strict, since whoever reads it otherwise would find another message in it.

    done      it has ended
    trailers  what came after the last chunk
    """

    __slots__ = ("_end", "_left", "_line", "_most", "done", "trailers")

    def __init__(self, most_trailers: int) -> None:
        self.done = False
        self.trailers: Headers = []
        self._most = most_trailers  # bytes of them
        self._left = 0  # bytes of this chunk that are still to come
        self._line = b""  # the beginning of a line
        # What the next line is: the end of a chunk, the beginning of one (None), or a trailer.
        self._end: bool | None = None

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Take what came: give the content in it, and how many bytes belong to this body. Raises Malformed."""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._end = True
            elif self._end and not self._line and (found := _NEXT.match(data, at)):
                # The usual, in one step: small chunks are many.
                at = found.end()
                self._left = int(found[1], 16)
                self._end = None if self._left else False
            else:
                at = self._feed_line(data, at)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), at

    def _feed_line(self, data: bytes, at: int) -> int:
        newline = data.find(b"\n", at) + 1
        line = self._line + data[at : newline or None]
        if self._end is True and line[:2] not in (b"\r", b"\r\n"):
            raise Malformed(400, "a chunk is longer than it says")
        if len(line) > (_MOST_LINE if self._end is None else self._most):
            raise Malformed(400, "the line before a chunk, or a trailer, is too long")
        if not newline:
            self._line = line
            return len(data)
        self._line = b""
        self._take(line)
        return newline

    def _take(self, line: bytes) -> None:
        if self._end is True:
            self._end = None
        elif self._end is None:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise Malformed(400, "the size of a chunk is malformed")
            self._left = int(found[1], 16)
            if not self._left:
                self._end = False
        elif line == b"\r\n":
            self.done = True
        else:
            found = _TRAILER.fullmatch(line)
            if found is None:
                raise Malformed(400, "a trailer is malformed")
            self._most -= len(line)
            self.trailers.append((found[1], found[2]))


# What may not come after the content: it would change what was done before. Source: RFC 9110, section 6.5.1.
_NOT_TRAILING = frozenset(
    {
        b"transfer-encoding", b"content-length", b"host", b"trailer", b"connection", b"keep-alive", b"te", b"upgrade",
        b"content-encoding", b"content-type", b"content-range", b"content-location", b"cache-control", b"expect",
        b"max-forwards", b"pragma", b"range", b"if-match", b"if-none-match", b"if-modified-since", b"age", b"expires",
        b"if-unmodified-since", b"if-range", b"authorization", b"cookie", b"set-cookie", b"www-authenticate", b"date",
        b"proxy-authorization", b"proxy-authenticate", b"proxy-connection", b"forwarded", b"location", b"vary",
        b"retry-after",
    }
)  # fmt: skip


def chunk(content: bytes) -> bytes:
    """Write a chunk; of nothing, nothing, since that would be the last one."""
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""


def last_chunk(trailers: Headers) -> bytes:
    """Write the end of a chunked body, with those trailers that may be one."""
    if not trailers:
        return b"0\r\n\r\n"
    lines = [b"%b: %b\r\n" % pair for pair in trailers if _may_trail(plain(pair[0]))]
    return b"0\r\n%b\r\n" % b"".join(lines)


def _may_trail(name: bytes) -> bool:
    # What is known of the client is said at the head.
    return name not in _NOT_TRAILING and not name.startswith((b"x-forwarded-", b"x-real-", b"x-request-id"))
