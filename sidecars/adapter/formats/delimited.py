"""Values between separators: CSV, TSV, LTSV, and W3C's extended log format, which IIS writes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC

from sidecars.adapter.formats.canonical import Canonical
from sidecars.adapter.formats.columnar import cleaned, ended
from sidecars.adapter.formats.fields import typed
from sidecars.adapter.formats.lines import LineByLine, of_lines
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Record, Segment

# A quoted value of more lines is taken for a quote that does not end.
_MOST_LINES = 1000
csv.field_size_limit(1 << 30)

Names = tuple[str, ...]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r")


def _lines_of_csv(data: bytes) -> Iterator[bytes]:
    """Give the records: a newline within quotes ends none (RFC 4180)."""
    lines = data[:-1].split(b"\n")
    odd = [line.count(b'"') % 2 for line in lines]
    start = 0
    while start < len(lines):
        end = start + 1
        if odd[start]:
            limit = min(len(lines), start + _MOST_LINES)
            close = next((at for at in range(end, limit) if odd[at]), None)
            end = end if close is None else close + 1
        yield b"\n".join(lines[start:end])
        start = end


def _csv(text: str) -> list[str] | None:
    try:
        return next(csv.reader([text], strict=True), None)
    except csv.Error:
        return None


class Delimited:
    """CSV or TSV; the first line of a file names the columns, and is no record itself."""

    parts: str | None = None
    continuation: bytes | None = None

    def __init__(self, name: str, times: Times) -> None:
        self.name = name
        self._canonical = Canonical(times)
        self._cells: Callable[[str], list[str] | None] = _csv if name == "csv" else lambda text: text.split("\t")
        self._records: Callable[[bytes], Iterator[bytes]] = (
            _lines_of_csv if name == "csv" else lambda data: iter(data[:-1].split(b"\n"))
        )

    def context(self, data: bytes, before: object) -> object:
        """Give the names of the columns."""
        if before is not None or not data:
            return before
        return self._header(next(self._records(cleaned(ended(data)))))

    def _header(self, line: bytes) -> Names:
        cells = self._cells(_text(line)) or []
        return tuple(cell.strip() or f"column_{number}" for number, cell in enumerate(cells, 1))

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read records."""
        data = ended(data)
        if not data:
            return []
        raw = list(self._records(data))
        texts = list(self._records(cleaned(data)))
        names = context if isinstance(context, tuple) else self._header(texts[0])
        first = 0 if isinstance(context, tuple) else 1
        return of_lines([self._record(names, text) for text in texts[first:]], raw[first:], self.name)

    def _record(self, names: Names, line: bytes) -> Record | None:
        cells = self._cells(_text(line)) if line.strip() else None
        if cells is None or len(cells) != len(names):
            return None
        return self._canonical({name: typed(cell) for name, cell in zip(names, cells, strict=True) if cell})


def ltsv(times: Times) -> LineByLine:
    """Make the format of labeled tab-separated values: http://ltsv.org."""
    canonical = Canonical(times)

    def read(line: bytes) -> Record | None:
        record: Record = {}
        for cell in _text(line).split("\t"):
            label, colon, value = cell.partition(":")
            if not colon or not label:
                return None
            if value not in ("", "-"):
                record[_LTSV.get(label, label)] = typed(value)
        return canonical(record)

    return LineByLine("ltsv", read)


def _split(data: bytes) -> Sequence[bytes]:
    return data[:-1].split(b"\n")


# ltsv.org's recommended labels for access logs.
_LTSV = {
    "host": "client", "ident": "identity", "req": "request", "size": "bytes", "reqsize": "request_bytes",
    "referer": "referrer", "ua": "user_agent", "vhost": "server", "reqtime": "duration",
    "forwardedfor": "forwarded_for",
    "uri": "path", "apptime": "upstream_duration",
}  # fmt: skip

_W3C = {
    "c-ip": "client", "cs-username": "user", "cs-method": "method", "sc-status": "status", "sc-bytes": "bytes",
    "cs-bytes": "bytes_received", "time-taken": "duration", "cs(user-agent)": "user_agent", "cs(referer)": "referrer",
    "cs-host": "authority", "s-ip": "server", "s-port": "port", "s-computername": "host", "cs-version": "protocol",
    "s-sitename": "site", "sc-substatus": "substatus", "sc-win32-status": "win32_status", "cs-uri": "path",
    "cs(host)": "authority", "cs(cookie)": "cookie",
}  # fmt: skip


class W3c:
    """W3C's extended log format: directives begin with #, of which #Fields names the columns, until the next one does.

    Its times are UTC. IIS, which says `#Software: Microsoft`, has milliseconds where the format has seconds, and a plus
    where a value has a blank. The context is the names, and whether IIS wrote them.
    """

    parts: str | None = None
    continuation: bytes | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self._times = Times(UTC)

    def context(self, data: bytes, before: object) -> object:
        """Give what the last directives say."""
        context = self._before(before)
        for line in cleaned(data).split(b"\n"):
            if line.startswith(b"#"):
                context = _directed(context, _text(line))
        return context

    def _before(self, context: object) -> tuple[Names, bool]:
        return context if isinstance(context, tuple) else ((), self.name == "iis")

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        """Read lines."""
        data = ended(data)
        if not data:
            return []
        now = self._before(context)
        lines: list[bytes] = []
        records: list[Record | None] = []
        for raw, line in zip(_split(data), cleaned(data)[:-1].split(b"\n"), strict=True):
            text = _text(line)
            if text.startswith("#"):
                now = _directed(now, text)
                continue
            lines.append(raw)
            records.append(self._record(now, text))
        return of_lines(records, lines, self.name)

    def _record(self, context: tuple[Names, bool], text: str) -> Record | None:
        names, microsoft = context
        cells = _quoted(text) if '"' in text else text.split(" ")
        if len(cells) != len(names) or not names:
            return None
        found = {name: cell for name, cell in zip(names, cells, strict=True) if cell not in ("-", "")}
        record: Record = {}
        if "time" in found:
            moment = f"{found.pop('date', '')} {found.pop('time')}".strip()
            record["time"] = self._times.text(moment)
            if record["time"] is None:
                return None
        if "cs-uri-stem" in found:
            query = found.pop("cs-uri-query", None)
            record["path"] = found.pop("cs-uri-stem") + (f"?{query}" if query else "")
        for name, cell in found.items():
            record[_W3C.get(name, name)] = typed(
                cell.replace("+", " ") if microsoft and name.startswith("cs(") else cell
            )
        if microsoft and isinstance(duration := record.get("duration"), int | float):
            record["duration"] = duration / 1000
        return record


def _directed(context: tuple[Names, bool], line: str) -> tuple[Names, bool]:
    name, _, value = line[1:].partition(":")
    if name.strip().lower() == "fields":
        return tuple(value.lower().split()), context[1]
    if name.strip().lower() == "software":
        return context[0], "microsoft" in value.lower()
    return context


def _quoted(text: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=" ", strict=True), [])
    except csv.Error:
        return text.split(" ")
