"""What detection says."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """What was found: a name for --from, the share of the lines that it parses, how many were looked at, and why.

    `multiline` is what --multiline auto means in it: `all` where a trace would be joined by no format of its own.
    """

    format: str
    share: float
    lines: int
    reason: str
    multiline: str = "auto"
