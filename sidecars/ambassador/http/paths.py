"""What a path means, whatever way it is written: so that what a rule has allowed is what the upstream will serve."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLAIN = re.compile(rb"/|(?:/(?!\.)[A-Za-z0-9._~!$&'()*+,=:@-]+)+/?")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_RAW = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/%-]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What ends a path, goes up in it, or is its separator somewhere: no name has it, and servers differ in what they make
# of it.
_NEVER = frozenset(b"/\\\x7f") | frozenset(range(32))
# The same, and a dot, for who decodes twice.
_TWICE = re.compile(rb"%25(?:2[ef]|5c|[01][0-9a-f]|7f)", re.IGNORECASE)


class BadPath(ValueError):  # noqa: N818  (named for what it is)
    """A path that two servers may understand differently; the text says why."""


def normal(path: bytes) -> bytes:
    """Give a path in the one form that rules are compared with, and that is sent on.

        b"/a/./b/../%63?" is not given: the query is no part of it
        b"/a/./b/../%63%c3%a9" -> b"/a/c%C3%A9"

    Percent-encoded unreserved characters are decoded, others stay encoded, with capital digits; dot segments are
    resolved. b"*" stays. Raises BadPath for what may hide a segment: encoded slashes, backslashes and control
    characters, once or twice, empty segments, `..;`, and going up above the root.

    Source: RFC 3986, sections 5.2.4 and 6.2.2.
    """
    if _PLAIN.fullmatch(path) or path == b"*":
        # Segments such as a..b are harmless; those that begin with a dot are looked at below.
        return path
    if not path.startswith(b"/"):
        raise BadPath("does not begin with a slash")
    if b"\\" in path:
        raise BadPath("has a backslash")
    if b"#" in path:
        raise BadPath("has a fragment")
    if _TWICE.search(path):
        raise BadPath("is encoded twice")
    return _resolved(_RAW.sub(_encoded, _ESCAPE.sub(_decoded, path)))


def _decoded(escape: re.Match[bytes]) -> bytes:
    if escape[1] is None:
        raise BadPath("has a % that is no escape")
    byte = int(escape[1], 16)
    if byte in _NEVER:
        raise BadPath(f"has an encoded {'slash' if byte in b'/' else 'backslash or control character'}")
    return bytes([byte]) if byte in _UNRESERVED else b"%" + escape[1].upper()


def _encoded(raw: re.Match[bytes]) -> bytes:
    return b"%%%02X" % raw[0][0]


def _resolved(path: bytes) -> bytes:
    segments: list[bytes] = []
    *inner, last = path.split(b"/")[1:]
    for segment in inner:
        if not segment:
            raise BadPath("has an empty segment")
        _step(segments, segment)
    _step(segments, last)
    if last in (b".", b"..", b"") and segments:
        segments.append(b"")
    return b"/" + b"/".join(segments)


def _step(segments: list[bytes], segment: bytes) -> None:
    name, semicolon, _ = segment.partition(b";")
    if semicolon and name in (b"", b".", b".."):
        # Servlet containers take the parameters away first, and the segment is another one then.
        raise BadPath("has a segment of parameters alone, or of dots and parameters")
    if segment == b"..":
        if not segments:
            raise BadPath("goes up above the root")
        segments.pop()
    elif segment not in (b"", b"."):
        segments.append(segment)


def pattern(text: str) -> bytes:
    r"""Give the regular expression of an allowed path; ValueError when it is none.

        pattern("/v1/*/items/**") -> rb"/v1/[^/]+/items(?:/.*)?"

    A * is a segment, or any part of one beside other text; ** at the end is any rest, also none.
    """
    if not text.startswith("/"):
        raise ValueError("begins with something else than /")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment, which is no part of a path")
    base, rest = (text.removesuffix("/**"), rb"(?:/.*)?") if text.endswith("/**") else (text, b"")
    if "**" in base:
        raise ValueError("has ** before its end; * is one segment")
    wanted = normal(base.encode()) if base else b""
    parts = [rb"[^/]+" if each == b"*" else re.escape(each).replace(rb"\*", rb"[^/]*") for each in wanted.split(b"/")]
    return b"/".join(parts) + rest


class Allowed:
    """The paths that may be asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._match = re.compile(b"|".join(map(pattern, texts)), re.DOTALL).fullmatch

    def permits(self, path: bytes) -> bool:
        """Whether a path in its normal form is one of them."""
        return self._match(path) is not None
