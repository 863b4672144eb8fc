"""What the text of a parameter means, by fluentd's types; a number with an unknown unit is refused, not taken for 0.

Source: fluentd's lib/fluent/config/types.rb.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

_SIZE = re.compile(r"(\d+)([kmgt]?)b?", re.IGNORECASE)
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIME = re.compile(r"(\d+)([smhd])|(\d+(?:\.\d+)?)")
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# A parameter that is only named is on. A comment after it is its value, for fluentd too, and means the same.
_FLAGS = {"true": True, "yes": True, "": True, "false": False, "no": False}


class Reader(NamedTuple):
    """How a text is read, by a function that raises ValueError, and what is expected of it, in words."""

    read: Callable[[str], object]
    expected: str


def size(text: str) -> int:
    """Read bytes: 512k, 8m, 1g, in powers of 1024."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * _SIZES[found[2].lower()]


def seconds(text: str) -> float:
    """Read a time: 10s, 5m, 1h, 1d, or seconds, also with a fraction."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return float(found[3]) if found[3] else float(int(found[1]) * _TIMES[found[2]])


def flag(text: str) -> bool:
    """Read true or false, yes or no, or nothing, which is true."""
    if text.startswith("#"):
        return True
    if text not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text]


def array(text: str) -> tuple[str, ...]:
    """Read JSON, or texts with commas between."""
    if not text.startswith("["):
        return tuple(re.split(r"\s*,\s*", text.strip())) if text.strip() else ()
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(text)
    return tuple(found)


def mapping(text: str) -> dict[str, str]:
    """Read JSON, or `name:value` with commas between."""
    if text.startswith("{"):
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError(text)
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
    pairs = [pair.partition(":") for pair in array(text)]
    if not all(colon for _, colon, _ in pairs):
        raise ValueError(text)
    return {name: value for name, _, value in pairs}


def _filled(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _index_format(text: str) -> str:
    if not re.fullmatch(r"%(?:0\d*)?[dxX]", text):
        raise ValueError(text)
    return text


def chosen(*words: str) -> Reader:
    """Make a reader of one of these words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Reader(read, f"one of {', '.join(words)}")


def between(least: int, most: int) -> Reader:
    """Make a reader of whole numbers that are not less and not more than these."""

    def read(text: str) -> int:
        if not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return Reader(read, f"a whole number from {least} to {most}")


TEXT = Reader(str, "a text")
FILLED = Reader(_filled, "a text that is not empty; was it written with a variable that is not set?")
SIZE = Reader(size, "bytes, or 512k, 8m, 1g")
TIME = Reader(seconds, "seconds, or 10s, 5m, 1h, 1d")
FLAG = Reader(flag, "true or false")
INTEGER = Reader(int, "a whole number")
NUMBER = Reader(float, "a number")
ARRAY = Reader(array, 'texts, as ["a", "b"] or a,b')
MAPPING = Reader(mapping, 'pairs, as {"a": "b"} or a:b,c:d')
INDEX_FORMAT = Reader(_index_format, "%d, %04d, %x or %X")
