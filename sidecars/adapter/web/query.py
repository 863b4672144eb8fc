"""What a request for /logs asks: which records, of which files, in which form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

import msgspec

from sidecars.adapter.table import LEVELS
from sidecars.adapter.web.moments import moment, relative
from sidecars.adapter.web.refusal import Refusal, shown

FORMS = ("json", "ndjson", "raw", "ecs", "logfmt", "csv", "page")
MOST_RECORDS = 10_000
DEFAULT_LIMIT = 1_000

# Other names for levels, as people type them.
_ALIASES = {"warn": "warning", "err": "error", "fatal": "critical", "crit": "critical", "emerg": "emergency"}
_LONGEST = 500  # characters of a value
_MOST_CONDITIONS = 20


class Condition(msgspec.Struct, frozen=True):
    """A field must be so. `operator` is one of = != >= <= > <; the value of the first two may hold * for anything."""

    field: str
    operator: str
    value: str


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked; None and empty where nothing is said."""

    tail: int | None = None
    limit: int | None = None
    before: str | None = None
    after: str | None = None
    since: float | None = None
    until: float | None = None
    levels: frozenset[str] | None = None
    text: str = ""
    conditions: tuple[Condition, ...] = ()
    file: str | None = None
    form: str = "json"
    live: bool = False
    events: bool = False
    relative: bool = False

    @property
    def filtered(self) -> bool:
        """Whether records are left out because of what they say."""
        return bool(self.text or self.conditions or self.levels is not None or self.dated)

    @property
    def dated(self) -> bool:
        """Whether records are left out because of their time."""
        return self.since is not None or self.until is not None

    @property
    def whole(self) -> bool:
        """Whether everything is asked for, however much it is."""
        return not (self.filtered or self.tail is not None or self.limit is not None or self.before or self.after)


def read(parameters: Iterable[tuple[str, str]], accept: str, now: float) -> Query:
    """Read a request's parameters and its Accept header. Raises Refusal, with status 400.

    A parameter that is no name below is a condition: status=500, status>=500, method!=GET, path=/api/*. A field with a
    name of the list is reached as field.NAME.
    """
    found: dict[str, object] = {}
    conditions: list[Condition] = []
    for name, value in parameters:
        if len(value) > _LONGEST or len(name) > _LONGEST:
            raise Refusal(400, f"{shown(name)} has more than {_LONGEST} characters; give fewer")
        reader = _READERS.get(name)
        if reader is None:
            conditions.append(_condition(name, value))
        elif name in found:
            raise Refusal(400, f"{name} is given twice; keep one")
        else:
            found[name] = reader(name, value, now)
            if name in ("since", "until"):
                found["relative"] = bool(found.get("relative")) or relative(value)
    if len(conditions) > _MOST_CONDITIONS:
        raise Refusal(400, f"{len(conditions)} fields are asked for, at most {_MOST_CONDITIONS} can be; give fewer")
    return _consistent(found, tuple(conditions), accept)


def _consistent(found: dict[str, object], conditions: tuple[Condition, ...], accept: str) -> Query:
    names = {"q": "text", "level": "levels", "format": "form", "follow": "live"}
    values = {names.get(name, name): value for name, value in found.items()}
    events = "text/event-stream" in accept
    if events:
        values["live"] = True
    if "form" not in values:
        lines = events or bool(values.get("live")) or "application/x-ndjson" in accept
        values["form"] = "ndjson" if lines else "json"
    query = msgspec.convert({**values, "conditions": conditions, "events": events}, Query)
    for one, other in (("tail", "after"), ("tail", "before"), ("before", "after"), ("tail", "limit")):
        if one in found and other in found:
            raise Refusal(400, f"{one} and {other} contradict each other; keep one")
    if query.live and (query.before or query.until is not None):
        raise Refusal(400, "follow=1 has no end: leave out before and until")
    if query.live and query.form == "json":
        raise Refusal(400, "format=json is one array, which following never ends; give format=ndjson")
    return query


def _condition(name: str, value: str) -> Condition:
    match = re.fullmatch(r"(.+?)(!|>|<)?", name, re.DOTALL)
    if match is None:
        raise Refusal(400, "a parameter has no name; write NAME=VALUE")
    field, operator = match[1], {"!": "!=", ">": ">=", "<": "<="}.get(match[2] or "", "=")
    # duration>0.5 has no = at all.
    if not value and not match[2] and (plain := re.fullmatch(r"(.+?)([<>])(.+)", name, re.DOTALL)):
        field, operator, value = plain[1], plain[2], plain[3]
    if operator[0] in "<>" and not _number(value):
        raise Refusal(400, f"{field}{operator}{value[:80]}: {shown(value)} is no number; compare text with = or !=")
    explicit = field.removeprefix("field.")
    near = _meant(field)
    if explicit == field and near:
        raise Refusal(
            400, f"{shown(field)} is unknown; did you mean {near}? A field of that name is field.{field[:80]}"
        )
    return Condition(explicit, operator, value)


def _meant(name: str) -> str | None:
    """Give the parameter that a name is a slip of the fingers for; fields such as line and later are none."""
    turned = [known for known in _READERS if sorted(known) == sorted(name)]
    return next(iter(turned or difflib.get_close_matches(name, _READERS, 1, 0.85)), None)


def _number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,18}(?:\.\d{1,18})?", text) is not None


def _count(most: int) -> Callable[[str, str, float], int]:
    def read(name: str, value: str, _: float) -> int:
        if not (value.isascii() and value.isdigit()) or int(value) > most:
            raise Refusal(400, f"{name} is {shown(value)}, expected a number from 0 to {most}")
        return int(value)

    return read


def _time(name: str, value: str, now: float) -> float:
    try:
        return moment(value, now)
    except (ValueError, OverflowError) as error:
        raise Refusal(
            400,
            f"{name} is {shown(value)}, expected a time as 2026-01-31T09:30:00Z, seconds since 1970, or 10m, 2h ago",
        ) from error


def _levels(name: str, value: str, _: float) -> frozenset[str]:
    """One level means it and all that are worse; several, or one and a comma, mean just these."""
    words = [_ALIASES.get(word, word) for word in value.lower().replace(" ", "").split(",")]
    named = [word for word in words if word]
    if not named or any(word not in LEVELS for word in named):
        raise Refusal(400, f"{name} is {shown(value)}, expected one of {', '.join(LEVELS)}, or a list of them")
    return frozenset(LEVELS[LEVELS.index(named[0]) :] if len(words) == 1 else named)


def _form(name: str, value: str, _: float) -> str:
    form = {"jsonl": "ndjson", "text": "raw"}.get(value, value)
    if form not in FORMS:
        raise Refusal(400, f"{name} is {shown(value)}, expected one of {', '.join(FORMS[:-1])}")
    return form


def _yes(name: str, value: str, _: float) -> bool:
    if value.lower() not in ("", "1", "true", "yes", "0", "false", "no"):
        raise Refusal(400, f"{name} is {shown(value)}, expected 1 or 0")
    return value.lower() in ("", "1", "true", "yes")


def _text(name: str, value: str, _: float) -> str:
    return value


_READERS: dict[str, Callable[[str, str, float], object]] = {
    "tail": _count(MOST_RECORDS),
    "limit": _count(MOST_RECORDS),
    "before": _text,
    "after": _text,
    "since": _time,
    "until": _time,
    "level": _levels,
    "q": _text,
    "file": _text,
    "format": _form,
    "follow": _yes,
}
