"""The fields that formats share: what is in a group of that name, and the pieces that patterns are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sidecars.adapter.formats import levels
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Field, Kind

Read = Callable[[bytes], object]

# fmt: off
INTEGERS = frozenset((
    "status", "bytes", "pid", "line", "port", "client_port", "bytes_received", "connection", "request_bytes",
    "rows_sent", "rows_examined", "upstream_status", "count", "number", "bytes_sent", "keepalive", "transferred",
))
# fmt: on
_NUMBERS = frozenset(("duration", "upstream_duration", "lock_duration", "connect_duration"))

# {INT} and {NUM} are their own JSON: no sign, no leading zero, no more digits than a number holds. {REST} is the rest
# of the line or record. The classes exclude the newline and what ends a line, so that no match leaves its line.
_PIECES = {
    "INT": r"(?:0|[1-9][0-9]{0,17}+)",
    "NUM": r"(?:0|[1-9][0-9]{0,14}+)(?:\.[0-9]{1,12}+)?+",
    "ZEROS": r"(?:0(?=[0-9]))*+",
    "WORD": r"[^ \r\n]++",
    "QUOTED": r'[^"\r\n]*+',
    "ESCAPED": r'[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+',
    "ISO": r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:[.,][0-9]{1,9}+)?+"
    r"(?:Z| ?[+-][0-9]{2}:?[0-9]{2})?+",
    "LEVEL": "(?i:" + "|".join(sorted(levels.WORDS, key=len, reverse=True)) + ")",
    # The request line of an access log: as it should be, absent, or anything at all, such as a TLS hello.
    "REQUEST": r'(?:(?P<method>[A-Z]{1,20}+) (?P<path>[^ "\r\n]++) (?P<protocol>HTTP/[0-9.]{1,5}+)(?=")|-?(?=")'
    r'|(?P<request>[^"\r\n]*+))',
}
_PIECE = re.compile(r"\{([A-Z]+)\}")


def expanded(pattern: str) -> str:
    """Put the pieces into a pattern: `{INT}` for an integer, `{REST}` stays."""
    return _PIECE.sub(lambda found: _PIECES.get(found[1], found[0]), pattern)


def field(
    name: str, times: Times, unescape: Read | None = None, special: Mapping[str, Read | None] | None = None
) -> Field:
    """Give the field of a group: by its name, or as `special` reads it; None there is plain text."""
    if special and name in special:
        read = special[name]
        return Field(name, "text" if read is None else "level" if name == "level" else "other", read)
    if name == "time":
        return Field(name, "time", times.cell)
    if name == "level":
        return Field(name, "level", levels.read)
    kind: Kind = "integer" if name in INTEGERS else "number" if name in _NUMBERS else "text"
    return Field(name, kind, unescape if kind == "text" else None)


def scaled(divisor: int) -> Read:
    """Give what reads a number of milli- or microseconds as seconds; -1, which stands for none, is none."""

    def read(cell: bytes) -> object:
        try:
            value = float(cell[:32])
        except ValueError:
            return cell.decode("utf-8", "replace")
        return round(value / divisor, 9) if value >= 0 else None

    return read


def signed(cell: bytes) -> object:
    """Read an integer that may have a sign; -1 stands for none."""
    try:
        value = int(cell[:20])
    except ValueError:
        return cell.decode("utf-8", "replace")
    return value if value >= 0 else None


_HEX = re.compile(rb"\\x([0-9A-Fa-f]{2})")


def unhex(cell: bytes) -> str:
    r"""Undo nginx's escapes: `\x22` is a quote, bytes that are escaped one by one are UTF-8 again."""
    return _HEX.sub(lambda found: bytes((int(found[1], 16),)), cell).decode("utf-8", "replace")


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,12})?", re.ASCII)


def typed(text: str) -> object:
    """Give the number that a text is, if it is written as JSON writes numbers; else the text."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return text
    return float(text) if found[1] else int(text)


_BACKSLASH = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([^\n]))")
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"a": b"\a", b"0": b"\0"}


def unbackslash(cell: bytes) -> str:
    r"""Undo C's escapes, which Apache and logfmt write: `\"`, `\\`, `\n`, `\x0a`."""
    return _BACKSLASH.sub(_character, cell).decode("utf-8", "replace")


def _character(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),)) if found[1] else _CONTROLS.get(found[2], found[2])
