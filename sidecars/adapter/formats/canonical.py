"""Records of programs that name their own fields: the usual names of time, level and message become ours."""

from __future__ import annotations

import json
from typing import NamedTuple

from sidecars.adapter.formats import levels, times
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Record

# In the order in which they are believed. Sources: the defaults of pino, bunyan, winston, zap, zerolog, logrus, slog,
# structlog, python-json-logger, logstash-logback-encoder, log4j2's JsonTemplateLayout, Serilog, ECS, Google's logging.
TIMES = (
    "time", "@timestamp", "timestamp", "ts", "datetime", "asctime", "t", "@t", "Timestamp", "date", "eventTime",
    "event_time", "dt", "timeMillis",
)  # fmt: skip
LEVEL_NAMES = (
    "level", "severity", "lvl", "levelname", "log.level", "loglevel", "log_level", "severity_text", "severityText",
    "SeverityText", "@l", "Level", "LogLevel",
)  # fmt: skip
MESSAGES = ("message", "msg", "log", "event", "@m", "@mt", "short_message", "MESSAGE", "Message", "text", "body")
OURS = ("time", "level", "message")
# Where something is kept that has such a name, and is none.
_ELSE = (("time", "timestamp"), ("level", "severity"), ("message", "body"))
ALIASES = frozenset((*TIMES, *LEVEL_NAMES, *MESSAGES)) - set(OURS)


class _Plan(NamedTuple):
    """Which of an object's names may be its time, level and message."""

    times: tuple[str, ...]
    levels: tuple[str, ...]
    messages: tuple[str, ...]


class Canonical:
    """Gives records whose time, level and message are as all records have them."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def __call__(self, record: Record) -> Record:
        """Give the record with time, level and message as all records have them. What is none keeps another name."""
        names = tuple(record)
        plan = self._plans.get(names) or self._planned(names)
        head: Record = {}
        for ours, aliases, read in (
            ("time", plan.times, self._time),
            ("level", plan.levels, _level),
            ("message", plan.messages, _message),
        ):
            for name in aliases:
                value = read(record[name])
                if value is not None:
                    del record[name]
                    head[ours] = value
                    break
        # Elastic Common Schema, nested.
        if "level" not in head and isinstance(nested := record.get("log"), dict):
            head.update({"level": level} if (level := _level(nested.get("level"))) else {})
        for ours, other in _ELSE:
            if ours in record and (kept := record.pop(ours)) is not None:
                record.setdefault(other, kept)
        return {**head, **record}

    def _planned(self, names: tuple[str, ...]) -> _Plan:
        if len(self._plans) >= 256:
            self._plans.clear()
        plan = _Plan(*(tuple(name for name in known if name in names) for known in (TIMES, LEVEL_NAMES, MESSAGES)))
        self._plans[names] = plan
        return plan

    def _time(self, value: object) -> str | None:
        if isinstance(value, str):
            return self._times.cell(value.encode("utf-8", "replace"))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return times.number(value)
        return None


def _level(value: object) -> str | None:
    if isinstance(value, str):
        return levels.level(value)
    return levels.level(str(value)) if isinstance(value, int) and not isinstance(value, bool) else None


def _message(value: object) -> str | None:
    if isinstance(value, str):
        return value.removesuffix("\n")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return None
