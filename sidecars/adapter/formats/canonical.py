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
    """Which of an object's names may be its time, level and message; whether a name of ours may be left over."""

    times: tuple[str, ...]
    levels: tuple[str, ...]
    messages: tuple[str, ...]
    odd: bool


class _Texts(dict[str, "str | None"]):
    """Times that were read lately, by their text."""

    def __init__(self, times: Times) -> None:
        super().__init__()
        self._read = times.text

    def __missing__(self, text: str) -> str | None:
        if len(self) > 4096:
            self.clear()
        time = self[text] = self._read(text)
        return time


class Canonical:
    """Gives records whose time, level and message are as all records have them."""

    def __init__(self, times: Times) -> None:
        self._times = _Texts(times)
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def __call__(self, record: Record) -> Record:
        """Give the record with time, level and message as all records have them. What is none keeps another name."""
        names = tuple(record)
        plan = self._plans.get(names) or self._planned(names)
        head: Record = {}
        for name in plan.times:
            value = record[name]
            time = self._times[value] if isinstance(value, str) else _time(value)
            if time is not None:
                head["time"] = time
                del record[name]
                break
        for name in plan.levels:
            level = _level(record[name])
            if level is not None:
                head["level"] = level
                del record[name]
                break
        for name in plan.messages:
            message = _message(record[name])
            if message is not None:
                head["message"] = message
                del record[name]
                break
        if plan.odd:
            _rest(head, record)
        head.update(record)
        return head

    def _planned(self, names: tuple[str, ...]) -> _Plan:
        if len(self._plans) >= 256:
            self._plans.clear()
        times, levels, messages = (
            tuple(name for name in known if name in names) for known in (TIMES, LEVEL_NAMES, MESSAGES)
        )
        odd = "log" in names or any(name in names for name in OURS)
        plan = self._plans[names] = _Plan(times, levels, messages, odd)
        return plan


def _rest(head: Record, record: Record) -> None:
    """Find the level that Elastic Common Schema nests, and give what is no time, level or message another name."""
    if "level" not in head and isinstance(nested := record.get("log"), dict):
        head.update({"level": level} if (level := _level(nested.get("level"))) else {})
    for ours, other in _ELSE:
        if ours in record and (kept := record.pop(ours)) is not None:
            record.setdefault(other, kept)


def _time(value: object) -> str | None:
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
