"""Lines of the operator's own making."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import text
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Record, Segment
from sidecars.core.errors import WrongSettings

_PART = re.compile(r"(\{\{|\}\})|\{([^{}|]+)(?:\|([^{}]*))?\}|([{}])")
_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r"})


class Encoder:
    """A line per record: {field} is its value, {field|default} has one for records without the field, {{ is a brace.

        '{time} {level|-} {message}'

    A newline in a value becomes `\\n`. Raises WrongSettings for --template without a field, or with a brace too many.
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping
        if settings.template is None:
            raise WrongSettings("--to template has no --template: give one, such as '{time} {level} {message}'")
        self._parts = list(_parts(settings.template))
        if not any(name for _, name, _ in self._parts):
            raise WrongSettings(f"--template is {settings.template!r}, expected a {{field}} in it")

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode each record as a line."""
        return ["".join(map(self._line, self._shaping.records(segments, origin))).encode()]

    def _line(self, record: Record) -> str:
        return "".join([literal + _value(record, name, default) for literal, name, default in self._parts]) + "\n"


def _parts(template: str) -> Iterator[tuple[str, str, str]]:
    """Split a template into literals, each with the field after it and that field's default."""
    if "\n" in template or "\r" in template:
        raise WrongSettings(f"--template is {template!r}, expected one line")
    literal, position = "", 0
    for found in _PART.finditer(template):
        literal += template[position : found.start()]
        position = found.end()
        brace, name, default, stray = found.groups()
        if stray:
            raise WrongSettings(
                f"--template is {template!r}, with a {stray} that belongs to no {{field}}; write {stray * 2} for one"
            )
        if brace:
            literal += brace[0]
        else:
            yield literal, name, default or ""
            literal = ""
    yield literal + template[position:], "", ""


def _value(record: Record, name: str, default: str) -> str:
    return text(record.get(name)).translate(_BREAKS) or default if name else ""
