"""How a batch of lines looks on stdout: its bytes unchanged, marked with their file, or wrapped in JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from sidecars.core.follow.file import Batch, File
from sidecars.core.follow.identity import printable
from sidecars.core.follow.join import Lines, Records

# A character that JSON does not escape and logs do not have. Batches that have it go the slow way.
_SEPARATOR = "\x7f"

Piece = bytes | memoryview

_encode = msgspec.json.Encoder().encode


class Raw:
    """Bytes as they are. What one file leaves unterminated is ended before another file's bytes follow.

    With a label, each line begins with it. Joined records are one line each: their inner newlines become `\\n`.
    """

    def __init__(self, label: Callable[[str], str] | None) -> None:
        self._label = label
        self._last: tuple[File, int] | None = None
        self._open = False

    def render(self, batch: Batch) -> list[Piece]:
        """Give what to write for this batch."""
        source = (batch.file, batch.generation)
        within = self._open and source == self._last
        pieces: list[Piece] = [b"\n"] if self._open and not within else []
        pieces.append(self._body(batch, within))
        self._last, self._open = source, not batch.complete
        return pieces

    def _body(self, batch: Batch, within: bool) -> Piece:
        records = batch.file.lane.records
        if self._label is None and isinstance(records, Lines):
            return batch.data
        data = bytes(batch.data)
        if not isinstance(records, Lines):
            data = b"".join(_in_one_line(record) for record in records.split(data))
        if self._label is None:
            return data
        mark = f"{self._label(batch.path)}: ".encode()
        ended = data.endswith(b"\n")
        marked = (data[:-1] if ended else data).replace(b"\n", b"\n" + mark) + b"\n" * ended
        return marked if within else mark + marked


def _in_one_line(record: bytes) -> bytes:
    ended = record.endswith(b"\n")
    return (record[:-1] if ended else record).replace(b"\n", b"\\n") + b"\n" * ended


class _Own(msgspec.Struct):
    """Those of a line's own fields that would be ours; all others are skipped, not decoded."""

    time: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    file: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    pod: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    namespace: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_own = msgspec.json.Decoder(_Own).decode


class Json:
    """One JSON object per line: the line under `log`, or the line's own object, with time, file, pod and namespace.

        {"time":"2026-01-31T09:30:00.123456Z","file":"/logs/a.log","pod":"web-0","namespace":"shop","log":"GET /"}

    A line that is a JSON object keeps its fields, and gets those of ours that it does not have. A line that is longer
    than `max_line` or than a batch goes out in parts: `part` counts from 1, `last` is true in the last one. Bytes that
    are not UTF-8 become U+FFFD.
    """

    def __init__(self, fields: Mapping[str, str], max_line: int | None) -> None:
        self._fields = fields
        self._max_line = max_line
        self._parts: dict[File, int] = {}

    def render(self, batch: Batch) -> list[Piece]:
        """Give what to write for this batch."""
        known = {"time": _now(), "file": printable(batch.path), **self._fields}
        text = str(batch.data, "utf-8", "replace")
        records = batch.file.lane.records
        if self._plain(batch, text) and isinstance(records, Lines):
            return [_wrapped(text, known)]
        return [b"".join(self._lines(batch, text, records, known))]

    def _plain(self, batch: Batch, text: str) -> bool:
        return (
            batch.complete
            and not batch.continued
            and self._max_line is None
            and not text.startswith("{")
            and "\n{" not in text
            and _SEPARATOR not in text
        )

    def _lines(self, batch: Batch, text: str, records: Records, known: dict[str, str]) -> Iterator[bytes]:
        lines = text.split("\n") if isinstance(records, Lines) else _texts(records, text)
        if batch.complete and isinstance(records, Lines):
            lines.pop()
        start = _encode(known)[:-1]
        last = len(lines) - 1
        for index, line in enumerate(lines):
            begun = batch.continued and index == 0
            ends = batch.complete or index < last
            if begun or not ends or self._too_long(line):
                yield from self._in_parts(batch.file, line, start, begun, ends)
            elif line.startswith("{"):
                yield _extended(line, known, start)
            else:
                yield _object(start, line)

    def _too_long(self, line: str) -> bool:
        # A character takes four bytes at most, so most lines need no encoding to be known as short.
        size = self._max_line
        return size is not None and len(line) > size // 4 and len(line.encode()) > size

    def _in_parts(self, file: File, line: str, start: bytes, begun: bool, ends: bool) -> Iterator[bytes]:
        pieces = list(_pieces(line, self._max_line))
        # A line that began in an earlier process has had one part at least.
        number = self._parts.pop(file, 1) if begun else 0
        for index, piece in enumerate(pieces):
            number += 1
            last = b"true" if ends and index == len(pieces) - 1 else b"false"
            yield b'%b,"log":%b,"part":%d,"last":%b}\n' % (start, _encode(piece), number, last)
        if not ends:
            self._parts[file] = number


def _texts(records: Records, text: str) -> list[str]:
    return [record.decode("utf-8", "replace").removesuffix("\n") for record in records.split(text.encode())]


def _pieces(line: str, size: int | None) -> Iterator[str]:
    """Cut a line into pieces of at most so many bytes of UTF-8, between characters; a longer character stays whole."""
    data = line.encode()
    if size is None or len(data) <= size:
        yield line
        return
    start = 0
    while start < len(data):
        end = min(start + size, len(data))
        while end > start and _within_character(data, end):
            end -= 1
        if end == start:
            end += size
            while _within_character(data, end):
                end += 1
        yield data[start:end].decode()
        start = end


def _within_character(data: bytes, position: int) -> bool:
    return position < len(data) and data[position] & 0xC0 == 0x80


def _wrapped(text: str, known: dict[str, str]) -> bytes:
    """Wrap whole lines at once: one encode for all, then the newlines become what stands between two objects."""
    start = _encode(known)[:-1] + b',"log":"'
    body = _encode(text[:-1].replace("\n", _SEPARATOR))
    return start + body[1:].replace(_SEPARATOR.encode(), b'"}\n' + start) + b"}\n"


def _object(start: bytes, line: str) -> bytes:
    return b'%b,"log":%b}\n' % (start, _encode(line))


def _extended(line: str, known: dict[str, str], start: bytes) -> bytes:
    """Put our fields before those of a line that is a JSON object; wrap it if it is none after all."""
    data = line.encode()
    try:
        own = _own(data)
    except (msgspec.DecodeError, RecursionError):
        return _object(start, line)
    taken = [name for name in ("time", "file", "pod", "namespace") if getattr(own, name) is not msgspec.UNSET]
    if taken:
        start = _encode({name: value for name, value in known.items() if name not in taken})[:-1]
    rest = data[1:].lstrip()
    comma = b"," if len(start) > 1 and not rest.startswith(b"}") else b""
    return b"%b%b%b\n" % (start, comma, rest.rstrip())


def _now() -> str:
    now = time.time_ns()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now // 10**9))}.{now % 10**9 // 1000:06}Z"


def label(kind: str) -> Callable[[str], str] | None:
    """Give what marks a file's lines: its path, its name, or nothing. Control characters in it are escaped."""
    if kind == "none":
        return None
    of = os.path.basename if kind == "name" else str
    return lambda path: "".join(map(_visible, printable(of(path))))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
