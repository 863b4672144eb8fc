"""What describes a format, told by its looks: an expression, a grok pattern, a log_format, a LogFormat."""

from __future__ import annotations

import re
from typing import Literal

from sidecars.adapter.formats import grok, templates
from sidecars.adapter.formats.columnar import Columnar
from sidecars.adapter.formats.expressions import Expression
from sidecars.adapter.formats.json_lines import JsonLines
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Format

_GROUP = re.compile(r"\(\?P?<[A-Za-z_]")
_VARIABLE = re.compile(r"\$\{?[a-z]\w*")
_DIRECTIVE = re.compile(r"%[<>!\d,]*(?:\{[^}]+\})?[a-zA-Z]")


def described(
    text: str, times: Times, continuation: bytes | Literal["own"] | None, absent: frozenset[str]
) -> Format | None:
    """Give the format that a text describes, None if it describes none. Raises WrongSettings."""
    continued = continuation if isinstance(continuation, bytes) else None
    if grok.REFERENCE.search(text) and not re.search(r"%\{[^}:]+\}[a-zA-Z]\b", text):
        expression, groups = grok.expanded(text)
        return Expression(expression, times, continued, groups, "grok")
    if _GROUP.search(text):
        return Expression(text, times, continued)
    if _VARIABLE.search(text):
        row = templates.nginx(text)
        return JsonLines("json", times, absent) if row is None else Columnar(row, times, continued)
    if _DIRECTIVE.search(text):
        return Columnar(templates.apache(text), times, continued)
    return None
