"""logfmt: key=value pairs, as Heroku's and Go's loggers write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import dumps, text
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Record, Segment

# What would end a key or a value, or a line of it for some reader.
_NO_KEY = re.compile(r"[\s=\"\\\x00-\x20\x7f-\xa0]")
_QUOTED = re.compile(r"[\s=\"\\\x00-\x20\x7f-\xa0]")
# JSON leaves these as they are, though some readers end a line there.
_BREAKS = str.maketrans({code: f"\\u{code:04x}" for code in (0x7F, *range(0x80, 0xA0), 0x2028, 0x2029)})


class Encoder:
    """logfmt: a value is in quotes, escaped as in JSON, where it would not end by itself; what is nested is JSON.

    time=2026-11-23T06:00:00Z level=info message="served in 3 ms" status=200
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode each record as a line."""
        lines = [_line(record) for record in self._shaping.records(segments, origin)]
        return ["".join(lines).encode()]


def _line(record: Record) -> str:
    return " ".join([f"{_key(name)}={_value(value)}" for name, value in record.items() if value is not None]) + "\n"


def _key(name: str) -> str:
    return _NO_KEY.sub("_", text(name)) or "_"


def _value(value: object) -> str:
    word = text(value)
    return word if word and not _QUOTED.search(word) else dumps(word).decode().translate(_BREAKS)
