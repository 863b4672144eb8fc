"""Values of fields become what a parser's `types` say, as fluentd converts them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.shipper import expressions
from sidecars.shipper.plan import Parse
from sidecars.shipper.timestamps import number, reader, zone

Record = dict[str, object]

_INTEGER = re.compile(r"\s*([+-]?\d+(?:_\d+)*)", re.ASCII)
_FLOAT = re.compile(r"\s*([+-]?\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d+)?)", re.ASCII)

# Python refuses to convert numbers of more than 4,300 digits from text.
_DIGITS = 1000


def conversion(settings: Parse) -> Callable[[Record], None] | None:
    """Give what converts a record in place: null values first, then types. None if there is nothing to convert."""
    converts = {name: _converter(name, kind) for name, kind in settings.types.items()}
    is_null = _null_test(settings)
    if not converts and is_null is None:
        return None

    def convert(record: Record) -> None:
        if is_null is not None:
            for name, value in record.items():
                if isinstance(value, str) and is_null(value):
                    record[name] = None
        for name, converted in converts.items():
            value = record.get(name)
            if value is not None and value is not False:
                record[name] = converted(value)

    return convert


def _null_test(settings: Parse) -> Callable[[str], bool] | None:
    if settings.null_value_pattern is None:
        return (lambda value: not value) if settings.null_empty_string else None
    pattern = expressions.compiled(settings.null_value_pattern).pattern
    empty = settings.null_empty_string
    return lambda value: bool(pattern.search(value)) or (empty and not value)


def _converter(name: str, definition: str) -> Callable[[object], object]:
    """Give the conversion of a field, from a definition such as `integer`, `array:;` or `time:%Y-%m-%d`."""
    kind, _, option = definition.partition(":")
    match kind:
        case "string":
            return lambda value: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        case "integer":
            return to_integer
        case "float":
            return _float
        case "bool":
            return lambda value: str(value).lower() in ("true", "yes", "1")
        case "array":
            return lambda value: _split(str(value), option or ",")
        case "time":
            return _timed(option)
    raise WrongSettings(f"type of field {name!r} is {definition!r}; use string, integer, float, bool, time or array")


def to_integer(value: object) -> int:
    """Convert as Ruby's to_i does: the digits at the beginning, 0 without any. Digits beyond the thousandth are cut."""
    if isinstance(value, int | float):
        return int(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS:
        return int(value)
    found = _INTEGER.match(str(value))
    return int(found[1][:_DIGITS]) if found else 0


def _float(value: object) -> float:
    """Convert as Ruby's to_f does: the number at the beginning, 0.0 without any."""
    found = _FLOAT.match(str(value))
    return float(found[1]) if found else 0.0


def _split(value: str, delimiter: str) -> list[str]:
    """Split as Ruby does, which leaves empty strings at the end out."""
    parts = value.split(delimiter)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def _timed(option: str) -> Callable[[object], float | None]:
    """Read by `[ZONE:]FORMAT`, where the format may be float or unixtime, to epoch seconds; null where that fails."""
    head, percent, tail = option.partition("%")
    if not percent:
        head, _, tail = option.rpartition(":")
    where, text = (head.removesuffix(":"), percent + tail) if head.endswith(":") or not percent else (None, option)
    kind: Any = text if text in ("float", "unixtime") else "string"
    read = reader(kind, text if kind == "string" else None, zone(where or None))

    def convert(value: object) -> float | None:
        moment = read(value) if isinstance(value, str) else number(value)
        return int(moment) if moment is not None and moment.is_integer() else moment

    return convert
