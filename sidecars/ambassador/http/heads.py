"""The heads of requests and responses, read whole: httptools' door. Its parser is llhttp, that of Node.

A head is given from its first byte to the empty line that ends it, so that the parser never sees a body: where a body
ends is for framing.py to say, which counts, and knows what comes after it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import httptools

from sidecars.ambassador.http.request import Headers
from sidecars.core.errors import SidecarError

END = b"\r\n\r\n"
_EMPTY = (b"", b"\r", b"\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Malformed(SidecarError):  # noqa: N818  (named for what is so)
    """It is not HTTP as we take it; the text is for the other side's developer.

    status  what a request is answered
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Read(NamedTuple):
    """A head.

    subject  "GET", or the status
    text     the target, or the reason
    old      it is HTTP/1.0
    headers  as they came
    told     those whose names were asked for, in small letters; what was sent twice is joined by commas
    """

    subject: str | int
    text: bytes
    old: bool
    headers: Headers
    told: dict[bytes, bytes]


class _Reader:
    """What the parser tells of one head."""

    __slots__ = ("complete", "headers", "telling", "text", "told")

    def __init__(self) -> None:
        self.begin(frozenset())

    def begin(self, telling: frozenset[bytes]) -> None:
        self.headers: Headers = []
        self.told: dict[bytes, bytes] = {}
        self.telling = telling
        self.text = b""
        self.complete = False

    def on_url(self, part: bytes) -> None:
        self.text += part

    on_status = on_url

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")  # the parser keeps the spaces at its end
        self.headers.append((name, value))
        low = name.lower()
        if low in self.telling:
            self.told[low] = self.told[low] + b", " + value if low in self.told else value

    def on_headers_complete(self) -> None:
        self.complete = True


_reader = _Reader()


def read_request(data: bytes, telling: frozenset[bytes]) -> Read:
    """Read the head of a request, and tell the headers of these names. Raises Malformed."""
    line = data[: data.find(b"\r\n")]
    version = line[-9:]  # with the space: without it, the parser takes the whole for a target of HTTP/0.9
    if line[:1] in _EMPTY:  # the parser leaves these out, and others do not
        raise Malformed(400, "the request line is malformed")
    if version not in (b" HTTP/1.1", b" HTTP/1.0"):
        raise _unversioned(line)
    reader = _reader
    reader.begin(telling)
    # A new one each time, for a few tenths of a microsecond: the last waits for a body, or takes nothing after a close.
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise _malformed(error) from None
    if not reader.complete:
        raise Malformed(400, "the head is malformed")
    return Read(parser.get_method().decode("ascii"), reader.text, version[-1:] == b"0", reader.headers, reader.told)


def _unversioned(line: bytes) -> Malformed:
    if line[-9:-3] == b" HTTP/" and line[-3:-2].isdigit():
        return Malformed(505, "the version is not HTTP/1.1 or HTTP/1.0")
    return Malformed(400, "the request line is malformed")


def _malformed(error: httptools.HttpParserError) -> Malformed:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return Malformed(501, "the method is not known")
    return Malformed(400, "the head is malformed")


def read_response(data: bytes, telling: frozenset[bytes]) -> Read:
    """Read the head of a response, and tell the headers of these names. Raises Malformed."""
    if data[:7] != b"HTTP/1." or data[7:8] not in (b"0", b"1"):
        raise Malformed(502, "the answer is not HTTP/1.1 or HTTP/1.0")
    reader = _reader
    reader.begin(telling)
    parser = httptools.HttpResponseParser(reader)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Malformed(502, f"the answer is malformed: {error}") from None
    if not reader.complete:
        raise Malformed(502, "the answer is malformed")
    status = parser.get_status_code()
    # The parser lets both pass, and who gets them may read them as something else.
    if status < 100 or _CONTROL.search(reader.text):
        raise Malformed(502, "the answer's first line is malformed")
    return Read(status, reader.text, data[7:8] == b"0", reader.headers, reader.told)
