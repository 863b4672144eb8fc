"""How replies of our own look on the wire, in either version of RESP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

OK = b"+OK\r\n"


def bulk(text: bytes) -> bytes:
    """Write bytes."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def integer(value: int) -> bytes:
    """Write a whole number."""
    return b":%d\r\n" % value


def array(items: Sequence[bytes]) -> bytes:
    """Write an array of what is written already."""
    return b"*%d\r\n" % len(items) + b"".join(items)


def mapping(protocol: int, items: Mapping[bytes, bytes]) -> bytes:
    """Write a map of what is written already: with RESP2, an array of its keys and values."""
    flat = b"".join(bulk(key) + value for key, value in items.items())
    return (b"%%%d\r\n" % len(items) if protocol == 3 else b"*%d\r\n" % (2 * len(items))) + flat


def error(text: str) -> bytes:
    """Write an error; the text begins with its code."""
    return f"-{text}\r\n".encode("ascii", "replace")


def null(protocol: int) -> bytes:
    """Write that there is nothing."""
    return b"_\r\n" if protocol == 3 else b"$-1\r\n"


def text(protocol: int, words: bytes) -> bytes:
    """Write text for people."""
    return b"=%d\r\ntxt:%b\r\n" % (len(words) + 4, words) if protocol == 3 else bulk(words)
