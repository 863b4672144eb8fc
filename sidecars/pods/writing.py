"""Plain values written as YAML, in the way of the text around them."""

from __future__ import annotations

import re
from typing import Any

WIDTH = 120

# What needs no quotes in a block, and between brackets. There is more, of which nobody is sure at sight.
_PLAIN = re.compile(
    r"[A-Za-z0-9_./$-][A-Za-z0-9_./$()+=@~%*?^-]*(?:[:#][A-Za-z0-9_./$()+=@~%*?^#:-]*[A-Za-z0-9_./)-])?\Z"
)
_PLAIN_IN_FLOW = re.compile(r"[A-Za-z0-9_./$-][A-Za-z0-9_./$()+=@~%*^-]*\Z")
# Texts that one YAML or another takes for something else: 1.1 has octal 0644, sexagesimal 1:30, and yes and no.
_SPECIAL = re.compile(
    r"(?i)(?:~|null|true|false|yes|no|on|off|y|n|-|---|\.\.\.|[-+]?\.?(?:inf|nan)|[-+]?[0-9._:]*(?:e[-+]?[0-9]+)?"
    r"|0[xo][0-9a-f_]+|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*)\Z"
)
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def scalar(value: Any, *, flow: bool = False, quote: str = "") -> str:
    """Write one scalar; with quotes where it needs them, or where the text that it replaces had them.

    "5432" -> '"5432"', "tcp://db:5432" -> 'tcp://db:5432', between brackets '"tcp://db:5432"'
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    if quote == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    plain = (_PLAIN_IN_FLOW if flow else _PLAIN).match(value) and not _SPECIAL.match(value)
    return value if plain and quote != '"' else quoted(value)


def quoted(value: str) -> str:
    """Write a text between double quotes, as YAML and JSON both read it, on one line."""
    return '"' + "".join(_ESCAPES.get(char) or _shown(char) for char in value) + '"'


def _shown(char: str) -> str:
    """What is beyond 16 bits has an escape in YAML and another one in JSON, and needs neither."""
    return char if char.isprintable() or ord(char) > 0xFFFF else f"\\u{ord(char):04x}"


def flow(value: Any, *, json: bool = False) -> str:
    """Write a value on one line: [a, "b:c"], {name: x}; with json as JSON has it, which is YAML as well."""
    if isinstance(value, dict):
        pairs = (f"{flow(key, json=json)}: {flow(each, json=json)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(each, json=json) for each in value) + "]"
    return scalar(value, flow=True, quote='"' if json else "")


def block(value: dict[str, Any], column: int, dash: int) -> str:
    """Write a map as lines, the first without the indentation that puts it at its column, the last without a line end.

    dash  how far the dashes of a list are to the right of its key
    """
    pairs = (f"{scalar(key)}:{after_key(each, column, dash)}" for key, each in value.items())
    return ("\n" + " " * column).join(pairs)


def after_key(value: Any, column: int, dash: int) -> str:
    """Write what follows the colon of a key that stands at this column: ` value`, or lines below it."""
    if isinstance(value, dict) and value:
        inner = column + 2
        return f"\n{' ' * inner}{block(value, inner, dash)}"
    if isinstance(value, list) and value and not _short(value, column):
        return "".join(f"\n{item(each, column + dash, dash)}" for each in value)
    return f" {flow(value)}" if isinstance(value, (dict, list)) else f" {scalar(value)}"


def item(value: Any, column: int, dash: int) -> str:
    """Write an item of a list, its dash at this column, indentation included and without a line end."""
    inner = column + 2
    text = block(value, inner, dash) if isinstance(value, dict) and value else flow(value)
    return f"{' ' * column}- {text}"


def _short(value: list[Any], column: int) -> bool:
    """A list that is written as [a, b]: of scalars, where a line has room for it."""
    scalars = not any(isinstance(each, (dict, list)) for each in value)
    return scalars and column + len("command: ") + len(flow(value)) <= WIDTH
