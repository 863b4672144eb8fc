"""Lines become records, by the rules of fluentd's parsers, except that no line is ever dropped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.shipper import expressions
from sidecars.shipper.conversions import Record, conversion, to_integer
from sidecars.shipper.expressions import Expression
from sidecars.shipper.plan import Parse
from sidecars.shipper.timestamps import number, reader, zone

_ACCESS_TIME = "%d/%b/%Y:%H:%M:%S %z"
# Possessive throughout, so that nothing is tried again: a line of a thousand spaces takes no longer than another. The
# path may hold spaces; what follows its last ones is the protocol.
_NGINX = re.compile(
    r'(?P<remote>[^ ]*+) (?P<host>[^ ]*+) (?P<user>[^ ]*+) \[(?P<time>[^\]]*+)\] "(?P<method>[^ "]*+)'
    r'(?: ++(?P<path>[^ "]*+(?: ++[^ "]++(?= ))*+)(?: ++[^ "]*+)?)?" (?P<code>[^ ]*+) (?P<size>[^ ]*+)'
    r'(?: "(?P<referer>[^"]*+)" "(?P<agent>[^"]*+)"(?:\s++(?P<http_x_forwarded_for>[^ ]++|"[^"]*+"))?)?\Z'
)
_WORD = r'[^ "\\]*+(?:\\.[^ "\\]*+)*+'
_QUOTED = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
_APACHE = re.compile(
    r'(?P<host>[^ ]*+) [^ ]*+ (?P<user>[^ ]*+) \[(?P<time>[^\]]*+)\] "(?P<method>[^ "]*+)'
    rf'(?: ++(?P<path>{_WORD}(?: ++{_WORD}(?= ))*+)(?: ++{_WORD})?)?" (?P<code>[^ ]*+) (?P<size>[^ ]*+)'
    rf'(?: "(?P<referer>{_QUOTED})" "(?P<agent>{_QUOTED})")?\Z'
)

_decode = msgspec.json.Decoder(Record).decode


class Rows(NamedTuple):
    """Records of lines, in their order, and the times that were parsed: epoch seconds, or None for that of reading.

    `unmatched` of them are only `{message_key: line}`.
    """

    moments: Sequence[float | None]
    records: Sequence[Any]
    unmatched: int


class Parser:
    """Makes records of lines.

    A time that cannot be read stays in its record, which then has the time of reading. (fluentd drops the line.)
    """

    def __init__(self, settings: Parse, extract: Callable[[str], Record | None]) -> None:
        self._extract = extract
        self._message_key = settings.message_key
        self._time_key = settings.time_key or ("" if settings.kind == "none" else "time")
        self._keep = settings.keep_time_key
        self._read_time = reader(settings.time_type, settings.time_format, zone(settings.zone))
        self._convert = conversion(settings)

    def parse(self, line: bytes) -> tuple[float | None, Record] | None:
        """Parse a line, given without its newline, into its time and record; None when it does not match."""
        return self._parse(line.decode("utf-8", "replace"))

    def _parse(self, line: str) -> tuple[float | None, Record] | None:
        record = self._extract(line)
        if record is None:
            return None
        moment = self._take_time(record)
        if self._convert is not None:
            self._convert(record)
        return moment, record

    def _take_time(self, record: Record) -> float | None:
        value = record.get(self._time_key)
        moment = self._read_time(value) if isinstance(value, str) else number(value)
        if moment is not None and not self._keep:
            del record[self._time_key]
        return moment

    def rows(self, lines: Iterable[str]) -> Rows:
        """Parse lines into dicts; one that does not match becomes `{message_key: line}`."""
        moments: list[float | None] = []
        records: list[Record] = []
        unmatched = 0
        for line in lines:
            parsed = self._parse(line)
            if parsed is None:
                unmatched += 1
                parsed = None, {self._message_key: line}
            moments.append(parsed[0])
            records.append(parsed[1])
        return Rows(moments, records, unmatched)

    def encodable(self, lines: Sequence[str]) -> Rows:
        """Parse lines as `rows` does, into whatever msgspec encodes to the same JSON as those dicts."""
        return self.rows(lines)


class _Fields(Parser):
    """Makes records of the named groups of an expression that match something."""

    def __init__(self, settings: Parse, expression: Expression, find: Callable[[str], re.Match[str] | None]) -> None:
        super().__init__(settings, self._fields)
        self._find = find
        self._names = expression.names
        names = [(number, name) for number, name in enumerate(self._names, 1) if self._keep or name != self._time_key]
        self._numbers = tuple(number for number, _ in names)
        self._time = self._names.index(self._time_key) + 1 if self._time_key in self._names else 0
        self._row = None
        if self._convert is None and len(set(self._names)) == len(self._names) and len(names) > 1:
            self._row = _row(name for _, name in names)

    def _fields(self, line: str) -> Record | None:
        try:
            found = self._find(line)
        except SystemError:
            # Python's re reports a bug of its own this way, in rare patterns of possessive groups (CPython 106052).
            return None
        if found is None:
            return None
        return {name: value for name, value in zip(self._names, found.groups(), strict=True) if value is not None}

    def encodable(self, lines: Sequence[str]) -> Rows:
        """Parse lines into structs, which are made and encoded in half the time of dicts. This is the hot loop."""
        row, find, numbers, time = self._row, self._find, self._numbers, self._time
        if row is None:
            return self.rows(lines)
        records: list[Any] = []
        times: list[str | None] = []
        unmatched = 0
        try:
            for line in lines:
                found = find(line)
                if found is None:
                    records.append({self._message_key: line})
                    times.append(None)
                    unmatched += 1
                else:
                    records.append(row(*found.group(*numbers)))
                    times.append(found[time])
        except SystemError:
            return self.rows(lines)
        if not time:
            return Rows([None] * len(records), records, unmatched)
        moments = {text: self._read_time(text) for text in dict.fromkeys(times) if text is not None}
        if None in moments.values():
            return self.rows(lines)
        return Rows(list(map(moments.get, times)), records, unmatched)  # type: ignore[arg-type]


def parser(settings: Parse) -> Parser:
    """Give the parser of these settings. Raises WrongSettings for expressions, formats, types that cannot be used."""
    return _KINDS[settings.kind](settings)


def _none(settings: Parse) -> Parser:
    plain = Parse(message_key=settings.message_key)
    return Parser(plain, lambda line: {settings.message_key: line})


def _json(settings: Parse) -> Parser:
    return Parser(settings, _object)


def _object(line: str) -> Record | None:
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _nginx(settings: Parse) -> Parser:
    timed = msgspec.structs.replace(settings, time_format=settings.time_format or _ACCESS_TIME)
    return _Fields(timed, Expression(_NGINX, tuple(_NGINX.groupindex)), _NGINX.match)


def _apache2(settings: Parse) -> Parser:
    return Parser(msgspec.structs.replace(settings, time_format=settings.time_format or _ACCESS_TIME), _apache_fields)


def _apache_fields(line: str) -> Record | None:
    """Give every field, as fluentd does: with null for what is missing or -, and code and size as numbers."""
    found = _APACHE.match(line)
    if found is None:
        return None
    record: Record = {name: None if value == "-" else value for name, value in found.groupdict().items()}
    record["code"] = to_integer(found["code"]) or None
    record["size"] = None if record["size"] is None else to_integer(found["size"])
    return record


def _regexp(settings: Parse) -> Parser:
    if not settings.expression:
        raise WrongSettings("a regexp parser has no expression; give one such as /^(?<time>[^ ]+) (?<message>.*)$/")
    return _by_expression(settings, settings.expression, dotall=False)


def _multiline(settings: Parse) -> Parser:
    """Match the formats one after another, as one expression whose dot matches newlines."""
    formats = [text[1:-1] if text.startswith("/") and text.endswith("/") else text for text in settings.formats]
    return _by_expression(settings, f"/{''.join(formats)}/", dotall=True)


def _by_expression(settings: Parse, text: str, *, dotall: bool) -> Parser:
    expression = expressions.compiled(text, dotall=dotall)
    if not expression.names:
        raise WrongSettings(
            f"expression {text!r} has no group with a name, such as (?<message>.*), so no line has fields"
        )
    return _Fields(settings, expression, expression.pattern.search)


_KINDS = {
    "none": _none,
    "json": _json,
    "nginx": _nginx,
    "apache2": _apache2,
    "regexp": _regexp,
    "multiline": _multiline,
}


def _row(names: Iterable[str]) -> Callable[..., object]:
    """Give a class whose objects are encoded as the dict of what is not None. Names of groups may be no identifiers."""
    fields = {f"f{number}": name for number, name in enumerate(names)}
    return msgspec.defstruct(
        "Row", [(field, object, None) for field in fields], rename=fields, omit_defaults=True, gc=False
    )
