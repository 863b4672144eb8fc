"""What is one record: a line, or several that belong together such as a stack trace."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Protocol

from sidecars.core.errors import WrongSettings

# Lines that continue the record before them, from the shapes the runtimes print. Everything else begins a record.
# Sources: java.lang.Throwable.printStackTrace; Python's traceback module; Go's runtime/traceback.go; .NET's
# Exception.ToString, AggregateException.ToString; Node's lib/internal/util/inspect.js and src/node_errors.cc; Ruby's
# eval_error.c, Logger::Formatter and Rails' ActionDispatch::DebugExceptions; PHP's Zend/zend_exceptions.c, Monolog's
# LineFormatter; Rust's library/std/src/panicking.rs, anyhow.
_INDENTED = rb"[ \t]"
_EMPTY = rb"\r?$"
_PLACES = [rb"\d" * line + rb":" + rb"\d" * column for line in range(1, 6) for column in range(1, 4)]
# The line before names the place of a panic, src/main.rs:17:5:, and this one, whatever it is, says what it was. Python
# looks behind for a fixed length only, so there is one expression for each.
_AFTER_PLACE = rb"|".join(
    rb"(?<=:" + end + rb")(?:" + rb"|".join(rb"(?<=\.rs:" + place + rb":" + end + rb")" for place in _PLACES) + rb")"
    for end in (rb"\n", rb"\r\n")
)
_CONTINUATIONS = {
    "java": (
        _INDENTED,
        rb"Caused by:",
        rb"Suppressed:",
        rb"\.\.\. \d+ (?:more|common frames omitted)",
        rb"(?:[\w$]+\.)+[\w$]*(?:Exception|Error|Throwable)\b",
    ),
    "python": (
        _INDENTED,
        _EMPTY,
        rb"Traceback \(most recent call last\):",
        rb"During handling of the above exception",
        rb"The above exception was the direct cause",
        rb"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit|Warning|StopIteration|Group)(?::|\r?$)",
    ),
    "go": (
        _INDENTED,
        _EMPTY,
        rb"goroutine \d+ ",
        rb"\[signal ",
        rb"created by ",
        rb"exit status \d",
        rb"panic\(.*\)\r?$",
        # path/package.(*Type).method(...). Possessive: a line of a million dots must not be tried from each dot.
        rb"(?=\S+?\.)[\w.~+%/\[\]-]++(?:\(\*?[\w.\[\]]++\)[\w.\[\]-]*+)?\(.*\)\r?$",
    ),
    "dotnet": (
        _INDENTED,
        _EMPTY,
        rb"--- End of (?:inner exception )?stack trace",
        rb"---> ",
        # Namespace.Outer+Inner`1[Argument], then its message.
        rb"(?:\w+[.+])+\w*Exception(?:`\d+\[.*\])?(?::| \(0x|\r?$)",
    ),
    "node": (
        _INDENTED,
        _EMPTY,
        rb"[\]}]\r?$",
        rb"(?:Uncaught )?[\w$.]*(?:Error|Exception)(?: \[\w+\])?(?::|\r?$)",
        rb"(?:Thrown at|Emitted 'error' event (?:on \S+ instance )?at):\r?$",
        rb"Node\.js v\d",
    ),
    "ruby": (
        _INDENTED,
        _EMPTY,
        # A frame alone; where an error's message follows it, it is the first line.
        rb"[^\s:]+:\d+:in [`'][^'\n]*'\r?$",
        rb"(?:[A-Z]\w*::)*[A-Z]\w* \(.*\):\r?$",
        rb"(?:Causes|Caused by):",
    ),
    "php": (
        _INDENTED,
        _EMPTY,
        rb"(?:PHP )?Stack trace:",
        rb"PHP +\d+\. ",
        rb"#\d+ ",
        rb"Next [\w\\]+(?:: | in )",
        rb"\[(?:stacktrace|previous exception)\]",
        rb"\"\} *\r?$",
    ),
    "rust": (
        _INDENTED,
        _EMPTY,
        rb"stack backtrace:",
        rb"note: (?:run with|Some details are omitted)",
        rb"(?:Caused by|Location):",
        rb"thread caused non-unwinding panic",
        _AFTER_PLACE,
    ),
}
_CONTINUATIONS["all"] = tuple(dict.fromkeys(each for some in _CONTINUATIONS.values() for each in some))


_FLAGS = re.compile(rb"^(?:\(\?([aiLmsux]+)\))+")
_LETTERS = {re.ASCII: b"a", re.IGNORECASE: b"i", re.LOCALE: b"L", re.MULTILINE: b"m", re.DOTALL: b"s", re.VERBOSE: b"x"}


class Records(Protocol):
    """How bytes are cut into records."""

    def cut(self, buffer: bytearray, start: int, end: int) -> int:
        """Give the position after the last record that is known to be complete; `start` or less if none is."""

    def split(self, data: bytes) -> Iterator[bytes]:
        """Give the records of data that `cut` has cut, each with its newlines."""


class Lines:
    """Each line is a record."""

    def cut(self, buffer: bytearray, start: int, end: int) -> int:
        """Give the position after the last newline."""
        return buffer.rfind(b"\n", start, end) + 1

    def split(self, data: bytes) -> Iterator[bytes]:
        """Give the lines. bytes.splitlines would split at a lone CR too."""
        start = 0
        while end := data.find(b"\n", start) + 1:
            yield data[start:end]
            start = end
        if start < len(data):
            yield data[start:]


class Joined:
    """A record begins at a line that matches `first`, and goes on until the next such line."""

    def __init__(self, first: bytes) -> None:
        self._first = re.compile(rb"^" + first, re.MULTILINE)

    def cut(self, buffer: bytearray, start: int, end: int) -> int:
        """Give the beginning of the last record: only the line after a record tells that it has ended."""
        line_end = buffer.rfind(b"\n", start, end)
        while line_end > start:
            line = buffer.rfind(b"\n", start, line_end) + 1
            if line <= start:
                return 0
            if self._first.match(buffer, line, end):
                return line
            line_end = line - 1
        return 0

    def split(self, data: bytes) -> Iterator[bytes]:
        """Give the records; what comes before the first beginning is one too."""
        starts = [match.start() for match in self._first.finditer(data) if 0 < match.start() < len(data)]
        ends = [*starts, len(data)] if data else []
        yield from (data[start:end] for start, end in zip([0, *starts], ends, strict=False))


class Parts:
    """A record is a line, or several of one stream whose last is marked: what a container printed as one long line.

    `line` has the groups `stream`, and `last` where the record ends; what it does not match is a record by itself.
    `whole` tells, quickly, that bytes hold no part at all.
    """

    def __init__(self, line: bytes, whole: Callable[[bytes | bytearray, int, int], bool]) -> None:
        self._expression = line
        self._whole = whole

    @functools.cached_property
    def _line(self) -> re.Pattern[bytes]:
        return re.compile(self._expression)  # only who has parts pays for it

    def cut(self, buffer: bytearray, start: int, end: int) -> int:
        """Give the end of the last line after which no stream waits for the rest of a record."""
        end = buffer.rfind(b"\n", start, end) + 1
        if end <= start or self._whole(buffer, start, end):
            return end
        waiting: set[bytes] = set()
        cut = 0
        while start < end:
            stream, last = self._read(buffer, start, end)
            (waiting.discard if last else waiting.add)(stream)
            start = buffer.find(b"\n", start, end) + 1
            if not waiting:
                cut = start
        return cut

    def _read(self, data: bytes | bytearray, start: int, end: int) -> tuple[bytes, bool]:
        match = self._line.match(data, start, end)
        return (match["stream"] or b"", match["last"] is not None) if match else (b"", True)

    def split(self, data: bytes) -> Iterator[bytes]:
        """Give the records as they end, the lines of each together; at last those that have not ended."""
        lines = _LINES.split(data)
        if self._whole(data, 0, len(data)):
            yield from lines
            return
        parts: dict[bytes, list[bytes]] = {}
        for line in lines:
            stream, last = self._read(line, 0, len(line))
            if not last:
                parts.setdefault(stream, []).append(line)
            else:
                yield b"".join((*parts.pop(stream, ()), line))
        yield from map(b"".join, parts.values())


def _no_cri_part(data: bytes | bytearray, start: int, end: int) -> bool:
    return data.find(b" stdout P", start, end) < 0 and data.find(b" stderr P", start, end) < 0


def _no_docker_part(data: bytes | bytearray, start: int, end: int) -> bool:
    """Tell whether each line has the newline, escaped, at the end of its text; not a backslash and an n."""
    ended = data.count(b'\\n","stream":"', start, end) - data.count(b'\\\\n","stream":"', start, end)
    return ended == data.count(b"\n", start, end)


_LINES = Lines()
# Sources: kubelet, pkg/kubelet/kuberuntime/logs/logs.go, parseCRILog; moby, daemon/logger/jsonfilelog/jsonlog.
_PARTS = {
    "cri": Parts(rb"[^ \n]++ (?P<stream>stdout|stderr) (?:P|(?P<last>F))(?=[ :\r\n])", _no_cri_part),
    "docker": Parts(
        rb'\{"log":"(?:[^"\\\n]++|\\[^n\n]|\\n(?!"))*+(?P<last>\\n)?"(?:,"stream":"(?P<stream>\w*)")?', _no_docker_part
    ),
}


def continuation(rule: str) -> bytes:
    """Give the expression of the beginning of a line that continues the record before it, to be used with MULTILINE.

    `rule` is a preset's name, or a regular expression that the first line of each record matches; groups of the
    latter that are referred to by number must come first in whatever the result is put into. Raises re.error.
    """
    if rule in _CONTINUATIONS:
        return rb"(?:" + rb"|".join(_CONTINUATIONS[rule]) + rb")"
    first = rule.encode()
    flags = re.compile(first).flags
    # Flags such as (?i) may stand at the beginning of an expression only, so they are given to the group. A comment at
    # the end of a verbose one would hide the end of the group, were that not on a line of its own.
    letters = b"".join(letter for flag, letter in _LETTERS.items() if flags & flag)
    end = b"\n))" if flags & re.VERBOSE else b"))"
    return rb"(?!(?" + letters + rb":" + _FLAGS.sub(b"", first) + end


def records(rule: str | None) -> Records:
    """Give the way to cut: None for lines, `cri` or `docker` for parts of lines, else as `continuation` takes it.

    Raises re.error for an expression that does not compile.
    """
    if rule is None:
        return _LINES
    return _PARTS.get(rule) or Joined(rb"(?!" + continuation(rule) + rb")")


def check(multiline: str) -> None:
    """Raise WrongSettings for a rule that `records` cannot use, and for a word that is nearly a preset's name."""
    if multiline.isalpha() and multiline not in _CONTINUATIONS:
        from difflib import get_close_matches  # only who has no preset pays for it

        near = get_close_matches(multiline.lower(), PRESETS, 1, 0.7)
        if near:
            raise WrongSettings(f"--multiline is {multiline!r}; did you mean {near[0]}? Write ^{multiline} if not")
    try:
        re.compile(multiline)
    except re.error as error:
        where = f" at character {error.colno}" if error.colno else ""
        raise WrongSettings(
            f"--multiline is {multiline!r}, expected {_NAMES} or a regular expression: {error.msg}{where}"
        ) from error
    try:
        records(multiline)
    except re.error as error:
        raise WrongSettings(
            f"--multiline is {multiline!r}, which cannot begin a line: {error.msg}; rewrite it"
        ) from error


PRESETS = tuple(_CONTINUATIONS)
_NAMES = ", ".join(PRESETS)
