"""The formats that have names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sidecars.adapter.formats import access, plain
from sidecars.adapter.formats.columnar import Choice, Columnar, Row
from sidecars.adapter.formats.json_lines import JsonLines
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Format

Continuation = bytes | None | Literal["own"]

# Formats of which each form is a row of a table; the forms of the first line is tried first.
ROWS: dict[str, tuple[Row, ...]] = {
    "nginx": access.NGINX,
    "text": (plain.TEXT,),
    "hash": (plain.HASH,),
}

# Formats that need more than a table.
MADE: dict[str, Callable[[str, Times, Continuation, frozenset[str]], Format]] = {
    "json": lambda name, times, continuation, absent: JsonLines(name, times, absent),
}

# What people call them too.
ALIASES = {
    "nginx-combined": "nginx",
    "combined": "apache",
    "none": "text",
    "raw": "text",
    "plain": "text",
    "jsonl": "json",
    "ndjson": "json",
    "json-lines": "json",
}

NAMES = tuple(sorted((*ROWS, *MADE)))


def made(name: str, times: Times, continuation: Continuation, absent: frozenset[str]) -> Format:
    """Make the format of this name, one of NAMES."""
    if name in MADE:
        return MADE[name](name, times, continuation, absent)
    return of_rows(name, ROWS[name], times, continuation)


def of_rows(name: str, rows: tuple[Row, ...], times: Times, continuation: Continuation) -> Format:
    """Make the format that some rows describe."""
    forms = [Columnar(row, times, _continued(row, continuation)) for row in rows]
    return forms[0] if len(forms) == 1 else Choice(name, forms)


def _continued(row: Row, continuation: Continuation) -> bytes | None:
    if not isinstance(continuation, str):
        return continuation
    return f"(?!{_expanded(row.head)})".encode("latin-1") if row.head else None


def _expanded(head: str) -> str:
    from sidecars.adapter.formats.fields import expanded

    return expanded(head)
