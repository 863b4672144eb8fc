"""What is one record: a line, or several that belong together such as a stack trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from sidecars.core.errors import WrongSettings

# Lines that continue the record before them, from the shapes the runtimes print. Everything else begins a record.
# Sources: java.lang.Throwable.printStackTrace; Python's traceback module; Go's runtime/traceback.go.
_INDENTED = rb"[ \t]"
_CONTINUATIONS = {
    "java": rb"|".join(
        (
            _INDENTED,
            rb"Caused by:",
            rb"Suppressed:",
            rb"\.\.\. \d+ (?:more|common frames omitted)",
            rb"(?:[\w$]+\.)+[\w$]*(?:Exception|Error|Throwable)\b",
        )
    ),
    "python": rb"|".join(
        (
            _INDENTED,
            rb"\r?$",
            rb"Traceback \(most recent call last\):",
            rb"During handling of the above exception",
            rb"The above exception was the direct cause",
            rb"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit|Warning|StopIteration|Group)(?::|\r?$)",
        )
    ),
    "go": rb"|".join(
        (
            _INDENTED,
            rb"\r?$",
            rb"goroutine \d+ ",
            rb"\[signal ",
            rb"created by ",
            rb"exit status \d",
            rb"panic\(.*\)\r?$",
            # path/package.(*Type).method(...). Possessive: a line of a million dots must not be tried from each dot.
            rb"(?=\S+?\.)[\w.~+%/\[\]-]++(?:\(\*?[\w.\[\]]++\)[\w.\[\]-]*+)?\(.*\)\r?$",
        )
    ),
}


_FLAGS = re.compile(rb"^(?:\(\?[aiLmsux]+\))+")


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

    def __init__(self, first: bytes, flags: int = 0) -> None:
        self._first = re.compile(rb"^" + first, flags | re.MULTILINE)

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


def records(multiline: str | None) -> Records:
    """Give the way to cut: None for lines, a preset's name, or a regular expression that the first line matches.

    Raises re.error for an expression that does not compile.
    """
    if multiline is None:
        return Lines()
    if multiline in _CONTINUATIONS:
        return Joined(rb"(?!" + _CONTINUATIONS[multiline] + rb")")
    rule = multiline.encode()
    flags = re.compile(rule).flags
    # Flags such as (?i) may stand at the beginning of an expression only, not inside the group. A comment at the end of
    # a verbose one would hide the end of the group, were that not on a line of its own.
    end = b"\n)" if flags & re.VERBOSE else b")"
    return Joined(rb"(?=" + _FLAGS.sub(b"", rule) + end, flags)


def check(multiline: str) -> None:
    """Raise WrongSettings for a rule that `records` cannot use."""
    try:
        re.compile(multiline)
    except re.error as error:
        where = f" at character {error.colno}" if error.colno else ""
        raise WrongSettings(
            f"--multiline is {multiline!r}, expected java, python, go or a regular expression: {error.msg}{where}"
        ) from error
    try:
        records(multiline)
    except re.error as error:
        raise WrongSettings(
            f"--multiline is {multiline!r}, which cannot begin a line: {error.msg}; rewrite it"
        ) from error


PRESETS = tuple(_CONTINUATIONS)
