"""The heads of requests and responses, read whole: httptools' door. Its parser is llhttp, that of Node.

A head is given from its first byte to the empty line that ends it, so that the parser never sees a body: where a body
ends is for framing.py to say, which counts, and knows what comes after it.
"""

from __future__ import annotations

import re

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


class _Reader:
    """What the parser tells of one head."""

    __slots__ = ("complete", "headers", "text")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.text = b""  # the target, or the reason
        self.complete = False

    def on_url(self, part: bytes) -> None:
        self.text += part

    on_status = on_url

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser keeps a value's spaces at its end.
        self.headers.append((name, value.rstrip(b" \t")) if value[-1:] in (b" ", b"\t") else (name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


_reader = _Reader()


def read_request(data: bytes) -> tuple[str, bytes, bytes, Headers]:
    """Read the head of a request: its method, target, version ("1.1") and headers.

    Raises Malformed.
    """
    line = data[: data.find(b"\r\n")]
    version = line[-9:]  # with the space: without it, the parser takes the whole for a target of HTTP/0.9
    if line[:1] in _EMPTY:  # the parser leaves these out, and others do not
        raise Malformed(400, "the request line is malformed")
    if version not in (b" HTTP/1.1", b" HTTP/1.0"):
        raise _unversioned(line)
    reader = _reader
    headers: Headers = []
    reader.headers, reader.text, reader.complete = headers, b"", False
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
    return parser.get_method().decode("ascii"), reader.text, version[6:], headers


def _unversioned(line: bytes) -> Malformed:
    if line[-9:-3] == b" HTTP/" and line[-3:-2].isdigit():
        return Malformed(505, "the version is not HTTP/1.1 or HTTP/1.0")
    return Malformed(400, "the request line is malformed")


def _malformed(error: httptools.HttpParserError) -> Malformed:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return Malformed(501, "the method is not known")
    return Malformed(400, "the head is malformed")


def read_response(data: bytes) -> tuple[int, bytes, bytes, Headers]:
    """Read the head of a response: its status, reason, version ("1.1") and headers.

    Raises Malformed.
    """
    if data[:7] != b"HTTP/1." or data[7:8] not in (b"0", b"1"):
        raise Malformed(502, "the answer is not HTTP/1.1 or HTTP/1.0")
    reader = _reader
    headers: Headers = []
    reader.headers, reader.text, reader.complete = headers, b"", False
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
    return status, reader.text, data[5:8], headers
