"""What container engines wrap around each line of an application: CRI and docker's json-file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sidecars.adapter.formats.columnar import Columnar, Row, cleaned, ended, unparsed
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Objects, Record, Segment

# kubelet, pkg/kubelet/kuberuntime/logs/logs.go, parseCRILog: time, stream, tags joined by colons, text.
CRI = Row("cri", r"(?P<time>{WORD}) (?P<stream>stdout|stderr) F(?::[^ \r\n]*+)? (?P<message>{REST})")
_PART = re.compile(rb"([^ \r\n]++) (stdout|stderr) ([PF])(?::[^ \r\n]*+)? ([^\n]*+)")


class Piece(NamedTuple):
    """A line of one stream, of which more follows if it is a part."""

    time: str | None
    stream: str
    part: bool
    text: bytes


class _Joining:
    """Joins the parts of each stream. A line is the place of the record that it ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: dict[str, tuple[list[Piece], list[bytes]]] = {}

    def segments(self, pieces: Iterator[tuple[Piece | None, bytes]]) -> list[Segment]:
        """Give the records; a part without its end is one at the end, for nothing that was read may be lost."""
        segments: list[Segment] = []
        for piece, line in pieces:
            if piece is None:
                # Lines stay in the order of the file.
                segments += [*self._rest(), *unparsed([line], self._name)]
                continue
            parts, lines = self._open.setdefault(piece.stream, ([], []))
            parts.append(piece)
            lines.append(line)
            if not piece.part:
                segments.append(self._closed(piece.stream))
        return [*segments, *self._rest()]

    def _rest(self) -> list[Segment]:
        return [self._closed(stream) for stream in list(self._open)]

    def _closed(self, stream: str) -> Segment:
        parts, lines = self._open.pop(stream)
        text = b"".join(part.text for part in parts).decode("utf-8", "replace")
        record: Record = {"time": parts[0].time, "stream": stream, "message": text}
        return Objects([{name: value for name, value in record.items() if value}], [b"\n".join(lines)])


class Cri(Columnar):
    """Lines of CRI; those in parts are joined."""

    parts: str | None = "cri"

    def __init__(self, times: Times) -> None:
        super().__init__(CRI, times, None)
        self._times = times

    def parse(self, data: bytes, context: object = None, *, text: bytes | None = None) -> list[Segment]:
        """Read lines."""
        data = ended(data)
        if b" P " not in data and b" P:" not in data:
            return super().parse(data, text=text)
        return _gathered(_Joining(self.name).segments(map(self._piece, data.split(b"\n")[:-1])))

    def _piece(self, line: bytes) -> tuple[Piece | None, bytes]:
        found = _PART.fullmatch(line)
        time = self._times.cell(found[1]) if found else None
        if not found or time is None:
            return None, line
        return Piece(time, found[2].decode(), found[3] == b"P", found[4].removesuffix(b"\r")), line


class _Entry(msgspec.Struct, gc=False):
    log: str
    time: str | None = None
    stream: str = ""
    attrs: dict[str, object] | None = None


_decode = msgspec.json.Decoder(_Entry).decode


class Docker:
    """Docker's json-file: an object per line, whose `log` has no newline at its end where more follows."""

    name = "docker"
    parts: str | None = "docker"
    continuation: bytes | None = None

    def __init__(self, times: Times) -> None:
        self._times = times

    def context(self, data: bytes, before: object) -> object:
        """Give none."""
        return None

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read lines."""
        data = ended(data)
        if not data:
            return []
        lines = data[:-1].split(b"\n")
        return _gathered(_Joining(self.name).segments(map(self._piece, lines, cleaned(data).split(b"\n"))))

    def _piece(self, line: bytes, text: bytes) -> tuple[Piece | None, bytes]:
        try:
            entry = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None, line
        time = self._times.cell(entry.time.encode("utf-8", "replace")) if entry.time else None
        log = entry.log.encode("utf-8", "replace")
        return Piece(time, entry.stream, not log.endswith(b"\n"), log.removesuffix(b"\n").removesuffix(b"\r")), line


def _gathered(segments: list[Segment]) -> list[Segment]:
    """Put records that follow each other into one segment."""
    gathered: list[Segment] = []
    records: list[Record] = []
    lines: list[bytes] = []
    for segment in segments:
        if isinstance(segment, Objects):
            records += segment.records()
            lines += segment.lines
            continue
        if records:
            gathered.append(Objects(records, lines))
            records, lines = [], []
        gathered.append(segment)
    return [*gathered, Objects(records, lines)] if records else gathered
