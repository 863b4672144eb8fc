"""JSON of any value a record may have: always valid, whatever a log or a format's reader gave."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()
# What msgspec cannot write: integers of more than 64 bits, halves of surrogate pairs, types that JSON does not know,
# and objects that are nested too deep.
_REFUSED = (UnicodeError, OverflowError, TypeError, ValueError, RecursionError)
_DEEPEST = 100


def dumps(value: object) -> bytes:
    """Encode a value as JSON in one line. Numbers that are not finite become null; integers of any size stay exact."""
    try:
        return _encoder.encode(value)
    except _REFUSED:
        return _encoder.encode(encodable(value))


def dump_lines(records: Iterable[object]) -> bytes:
    """Encode records as JSON, each ended by a newline."""
    records = list(records)
    try:
        return _encoder.encode_lines(records)
    except _REFUSED:
        return b"".join(dumps(record) + b"\n" for record in records)


def encodable(value: object, depth: int = 0) -> Any:
    """Give what msgspec can encode and what says the same."""
    match value:
        case None | bool():
            return value
        case int():
            return value if -(1 << 63) <= value < 1 << 64 else msgspec.Raw(_digits(value))
        case float():
            return value if math.isfinite(value) else None
        case dict() if depth < _DEEPEST:
            return {whole(str(key)): encodable(inner, depth + 1) for key, inner in value.items()}
        case list() | tuple() if depth < _DEEPEST:
            return [encodable(inner, depth + 1) for inner in value]
        case bytes():
            return value.decode("utf-8", "replace")
        case dict() | list() | tuple():
            return "..."
    return whole(str(value))


def whole(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 does not know, by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _digits(value: int) -> bytes:
    try:
        return b"%d" % value
    except ValueError:  # Python writes no more than 4,300 digits; who reads JSON has no more use for them
        return b"null"


def text(value: object) -> str:
    """Give a value as it stands in a line of text: a string as it is, all else as JSON writes it, null as nothing."""
    if isinstance(value, str):
        return whole(value)
    return "" if value is None else dumps(value).decode()
