"""Values as git-sync reads them: Go's durations, booleans and whole numbers."""

from __future__ import annotations

import math
import re
from typing import ClassVar, Self

from sidecars.core.units import DURATION, NUMBER, SPAN, Seconds

_SPANS = re.compile(rf"([+-]?)((?:(?:{NUMBER})(?:ns|us|µs|μs|ms|s|m|h))+)")
# strconv.ParseBool.
BOOLEANS = {**dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
            **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)}  # fmt: skip
_WHOLE = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9][0-9]*|0)")

# Both are 64 bits wide in Go; a duration counts nanoseconds.
_MOST_WHOLE = 2**63
_MOST = _MOST_WHOLE / 1e9


class Duration(Seconds):
    """A duration as Go writes it: `300ms`, `1.5h`, `2h45m`, `0`; in seconds. A bare `10` is none.

    Source: time.ParseDuration of Go's standard library.
    """

    expected: ClassVar[str] = "a duration such as 300ms, 90s or 2h45m"
    metavar: ClassVar[str] = "DURATION"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a duration; ValueError when the text is none."""
        if text in ("0", "+0", "-0"):
            return cls(0)
        match = _SPANS.fullmatch(text)
        if not match:
            raise ValueError(text)
        total = math.fsum(float(number) * DURATION[unit] for number, unit in SPAN.findall(match[2]))
        if total >= _MOST:
            raise ValueError(text)
        return cls(-total if match[1] == "-" else total)


def boolean(text: str) -> bool:
    """Read a boolean by Go's words; ValueError when the text is none."""
    if text not in BOOLEANS:
        raise ValueError(text)
    return BOOLEANS[text]


def whole(text: str) -> int:
    """Read a whole number: decimal, 0x, 0o or 0 (octal), 0b; ValueError when the text is none."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    digits = text.lstrip("+-")
    number = int(digits, 8) if re.fullmatch(r"0[0-7]+", digits) else int(digits, 0)
    if number >= _MOST_WHOLE:
        raise ValueError(text)
    return -number if text.startswith("-") else number
