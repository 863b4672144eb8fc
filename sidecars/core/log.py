"""One line per event on stderr, for machines (JSON) or people (text), written without ever holding up the program."""

from __future__ import annotations

import collections
import json
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from sidecars.core.errors import redacted

# structlog imports these wherever they are installed, which costs each start 50 ms and 6 MiB; nothing here uses them.
_UNWANTED = ("rich", "greenlet")
_hidden = {name: sys.modules.get(name) for name in _UNWANTED}
sys.modules.update(dict.fromkeys(_UNWANTED))  # type: ignore[arg-type]
import structlog  # noqa: E402

for _name, _module in _hidden.items():
    if _module is None:
        del sys.modules[_name]
    else:
        sys.modules[_name] = _module

Fields = structlog.typing.EventDict

_LONGEST_VALUE = 4096
_LONGEST_TRACEBACK = 16_384


class Stderr:
    """The process's stderr, written by one thread, so that a reader that has stalled never stalls the event loop.

    Lines wait in memory while nobody reads, up to a number of bytes; those that come then are counted and let go.
    """

    def __init__(self, most_waiting: int = 1024 * 1024) -> None:
        self._most_waiting = most_waiting
        self._news = threading.Condition()
        self._lines: collections.deque[bytes] = collections.deque()
        self._waiting = 0
        self._dropped = 0
        self._writer: threading.Thread | None = None
        # Python sets sys.stderr to None when descriptor 2 is closed at the start. The number may then be given to one
        # of our files or sockets, so it is not written to.
        self._open = sys.__stderr__ is not None

    def write(self, line: str) -> None:
        """Hand over one line, without its newline."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._news:
            if not self._open:
                return
            if self._waiting + len(data) > self._most_waiting:
                self._dropped += 1
                return
            if self._dropped:
                self._append(_loss(self._dropped))
                self._dropped = 0
            self._append(data)
            self._news.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until what was handed over is written, but no longer than the given time."""
        with self._news:
            self._news.wait_for(lambda: not self._waiting, seconds)

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._waiting += len(line)
        if self._writer is None:
            self._writer = threading.Thread(target=self._run, name="stderr", daemon=True)
            self._writer.start()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            _write_all(2, line)
            with self._news:
                self._waiting -= len(line)
                self._news.notify_all()


def _loss(count: int) -> bytes:
    event = {"time": _now(), "level": "warning", "event": "log events dropped", "count": count}
    return json.dumps(event).encode() + b"\n"


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass  # There is nobody left to tell.


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: object, longest: int = _LONGEST_VALUE) -> Any:
    """Make a value fit to be shown, as JSON: bounded, without secrets, well-formed whatever it came from."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            text = value[:longest].decode(errors="backslashreplace")
        case Mapping():
            return {str(plain(str(key))): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case _:
            text = str(value)
    if len(text) > longest:
        text = text[:longest] + "..."
    return _conceal(redacted(text)).encode(errors="backslashreplace").decode()


def as_json(event: Fields) -> str:
    """Render an event as one line of ASCII.

    {"time": "2026-01-31T09:30:00.123Z", "level": "info", "event": "draining", "reason": "SIGTERM"}
    """
    return json.dumps(event)


def as_text(event: Fields) -> str:
    r"""Render an event for a person, with nothing in it that a terminal would obey.

    2026-01-31T09:30:00.123Z warning connection lost upstream=db:5432 error='no route\x1b[2J'
    """
    event = dict(event)
    traceback = event.pop("exception", None)
    head = f"{event.pop('time')} {event.pop('level'):<7} {_shown(event.pop('event'), spaces=True)}"
    line = " ".join([head, *(f"{_shown(key)}={_shown(value)}" for key, value in event.items())])
    if traceback:
        line += "".join(f"\n    {_shown(each, spaces=True)}" for each in traceback.splitlines())
    return line


def _shown(value: object, spaces: bool = False) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    bare = text.isprintable() and (spaces or not any(sign in text for sign in " =\"'"))
    return text if bare and text else repr(text)


class _Recent:
    """The last warnings and errors, for the status page."""

    def __init__(self, count: int) -> None:
        self.events: collections.deque[Fields] = collections.deque(maxlen=count)

    def __call__(self, _logger: object, _method: str, event: Fields) -> Fields:
        if event["level"] in ("warning", "error", "critical"):
            self.events.append(event)
        return event


def _stamped(_logger: object, method: str, event: Fields) -> Fields:
    """Put time, level and event first, and make every value plain."""
    level = {"warn": "warning", "exception": "error"}.get(method, method)
    stamped: Fields = {"time": _now(), "level": level, "event": plain(event.pop("event", ""))}
    traceback = event.pop("exception", None)
    stamped.update((key, plain(value)) for key, value in event.items() if key not in stamped)
    if traceback:
        stamped["exception"] = plain(traceback, _LONGEST_TRACEBACK)
    return stamped


class _FromLibraries(logging.Handler):
    """What libraries say through the standard library's logging becomes events like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        trouble = record.exc_info if record.exc_info and record.exc_info[0] else None
        log.log(record.levelno // 10 * 10, record.getMessage(), logger=record.name, exc_info=trouble)


class _Lines:
    """What structlog calls a logger: each level's method gets the rendered line."""

    def _write(self, line: str) -> None:
        stderr.write(line)

    debug = info = warning = error = critical = exception = log = msg = _write


_conceal: Callable[[str], str]
stderr = Stderr()
_recent = _Recent(20)
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def recent() -> list[Fields]:
    """The last 20 warnings and errors, oldest first."""
    return list(_recent.events)


def configure(
    level: str = "info",
    format: Literal["json", "text"] | None = None,
    conceal: Callable[[str], str] = lambda text: text,
    render: Callable[[Fields], str] | None = None,
) -> None:
    """Say which events are written, and how; without a format, as text if stderr is a terminal, else as JSON.

    `conceal` takes out of a text what must not be shown, besides the userinfo of URLs. `render` makes the line of an
    event where no format is asked for, as a drop-in's contract may want it.
    """
    global _conceal
    _conceal = conceal
    number = getattr(logging, level.upper())
    text = format == "text" or (format is None and sys.__stderr__ is not None and os.isatty(2))
    if render is None or format is not None:
        render = as_text if text else as_json
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _stamped,
            _recent,
            lambda _logger, _method, event: render(event),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(),
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=max(number, logging.WARNING), force=True)


def set_level(level: str) -> None:
    """Let events through from another level on, and change nothing else."""
    number = getattr(logging, level.upper())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))
    logging.getLogger().setLevel(max(number, logging.WARNING))


# Whoever logs before the settings are read must not meet structlog's own default: it prints to stdout, which is data.
configure()
