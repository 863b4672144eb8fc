"""nginx's log_format and Apache's LogFormat, turned around: what the server writes by them, read again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sidecars.adapter.formats import fields
from sidecars.adapter.formats.columnar import Row
from sidecars.core.errors import WrongSettings


class Part(NamedTuple):
    """A variable: the field it is, the kind of its values ("" for any text), and what reads them."""

    field: str
    kind: str = ""
    read: fields.Read | None = None


# nginx.org, "Alphabetical index of variables". Others have the field of their own name.
_NGINX = {
    "remote_addr": Part("client"), "remote_user": Part("user"), "time_local": Part("time"),
    "time_iso8601": Part("time"),
    "msec": Part("time"), "request": Part("request", "request"), "status": Part("status", "integer"),
    "body_bytes_sent": Part("bytes", "integer"), "bytes_sent": Part("bytes_sent", "integer"),
    "request_time": Part("duration", "number"), "request_length": Part("request_bytes", "integer"),
    "http_referer": Part("referrer"), "http_user_agent": Part("user_agent"),
    "http_x_forwarded_for": Part("forwarded_for"),
    "request_method": Part("method"), "request_uri": Part("path"), "uri": Part("path"),
    "server_protocol": Part("protocol"),
    "host": Part("authority"), "http_host": Part("authority"), "server_name": Part("server"), "hostname": Part("host"),
    "upstream_addr": Part("upstream"), "upstream_response_time": Part("upstream_duration", "text"),
    "upstream_status": Part("upstream_status", "text"), "connection": Part("connection", "integer"),
    "pid": Part("pid", "integer"), "remote_port": Part("client_port", "integer"), "args": Part("query"),
}  # fmt: skip

# httpd.apache.org, mod_log_config.
_APACHE = {
    "h": Part("client"), "a": Part("client"), "l": Part("identity"), "u": Part("user"), "t": Part("time"),
    "r": Part("request", "request"), "s": Part("status", "integer"), "b": Part("bytes", "integer"),
    "B": Part("bytes", "integer"), "O": Part("bytes_sent", "integer"), "I": Part("request_bytes", "integer"),
    "D": Part("duration", "", fields.scaled(1_000_000)), "T": Part("duration", "number"), "v": Part("server"),
    "V": Part("server"), "p": Part("port", "integer"), "m": Part("method"), "U": Part("path"), "q": Part("query"),
    "H": Part("protocol"), "A": Part("local"), "P": Part("pid", "integer"), "k": Part("keepalive", "integer"),
    "X": Part("connection_status"), "f": Part("file_name"), "L": Part("log_id"), "R": Part("handler"),
    "S": Part("transferred", "integer"),
}  # fmt: skip
_HEADERS = {"referer": "referrer", "user-agent": "user_agent", "x-forwarded-for": "forwarded_for", "host": "authority"}
_UNITS = {"ms": fields.scaled(1000), "us": fields.scaled(1_000_000), "s": fields.scaled(1)}

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_DIRECTIVE = re.compile(r"%[<>!\d,]*(?:\{([^}]+)\}\^?)?([a-zA-Z]{1,2}(?<=ti|to)|[a-zA-Z])")
_STATEMENT = re.compile(r"\s*log_format\s+[\w.-]+\s+(?:escape=\w+\s+)?(.*?);?\s*", re.DOTALL)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def nginx(text: str) -> Row | None:
    """Give the format of a log_format's string, or of the whole statement; None if what it writes is JSON.

    Raises WrongSettings.
    """
    statement = _STATEMENT.fullmatch(text)
    if statement:
        text = "".join(found[1] or found[2] or "" for found in _QUOTED.finditer(statement[1])) or statement[1]
    text = re.sub(r"^\s*escape=\w+\s+", "", text)
    if text.strip().startswith("{") and text.strip().endswith("}"):
        return None
    pieces: list[str | Part] = []
    start = 0
    for found in _VARIABLE.finditer(text):
        name = found[1] or found[2]
        pieces += [text[start : found.start()], _NGINX.get(name, Part(name.removeprefix("http_")))]
        start = found.end()
    return _row("log_format", [*pieces, text[start:]], text, fields.unhex)


def apache(text: str) -> Row:
    """Give the format of a LogFormat's string. Raises WrongSettings."""
    text = text.replace('\\"', '"').replace("\\t", "\t")
    pieces: list[str | Part] = []
    start = 0
    for found in _DIRECTIVE.finditer(text):
        pieces += [text[start : found.start()].replace("%%", "%"), _directive(found, text)]
        start = found.end()
    return _row("LogFormat", [*pieces, text[start:].replace("%%", "%")], text, fields.unbackslash)


def _directive(found: re.Match[str], text: str) -> Part:
    argument, letter = found.groups()
    if argument is None or letter in "pPa":
        if letter not in _APACHE:
            raise WrongSettings(f"--from is {text!r}, in which {found[0]} is no directive of Apache's LogFormat")
        return Part("time", "bracketed") if letter == "t" else _APACHE[letter]
    if letter in ("i", "o", "C", "e", "n"):
        name = argument.lower()
        return Part(_HEADERS.get(name, re.sub(r"\W", "_", name)))
    if letter == "T":
        return Part("duration", "", _UNITS.get(argument, _UNITS["s"]))
    if letter == "t":
        return Part("time")
    return Part(re.sub(r"\W", "_", argument.lower()))


def _row(name: str, pieces: list[str | Part], text: str, unescape: fields.Read) -> Row:
    special: dict[str, fields.Read | None] = {}
    pattern = "".join(_pattern(pieces, text, special))
    return Row(name, pattern, special, unescape)


def _pattern(pieces: list[str | Part], text: str, special: dict[str, fields.Read | None]) -> Iterator[str]:
    taken: dict[str, int] = {}
    for index, piece in enumerate(pieces):
        if isinstance(piece, str):
            yield re.escape(piece).replace("{", "\\{") if "{" not in piece else _escaped(piece)
            continue
        after = pieces[index + 1]
        last = index == len(pieces) - 2
        if not after and not last:
            raise WrongSettings(
                f"--from is {text!r}, in which nothing stands between {piece.field} and what follows it"
            )
        yield _value(piece, str(after), _once(piece, taken, special))


def _escaped(text: str) -> str:
    return "".join(f"[{character}]" if character in "{}" else re.escape(character) for character in text)


def _once(part: Part, taken: dict[str, int], special: dict[str, fields.Read | None]) -> str:
    """Give the field's name, with a number if there is one already."""
    taken[part.field] = taken.get(part.field, 0) + 1
    name = part.field if taken[part.field] == 1 else f"{part.field}_{taken[part.field]}"
    if part.read or part.kind == "text":
        special[name] = part.read
    return name


def _value(part: Part, after: str, name: str) -> str:
    end = f"(?={_escaped(after)})" if after else r"(?=\r?\n)"
    if part.kind == "request" and name == "request" and after.startswith('"'):
        return "{REQUEST}"
    if part.kind == "bracketed":
        return rf"\[(?P<{name}>[^\]\r\n]++)\]"
    if part.kind == "integer" and name in fields.INTEGERS:
        return rf"(?:-{end}|{{ZEROS}}(?P<{name}>{{INT}}))"
    if part.kind == "number":
        return rf"(?:-{end}|(?P<{name}>{{NUM}}))"
    return rf"(?:-{end}|(?P<{name}>{_until(after)}))"


def _until(after: str) -> str:
    """Match what comes before a literal's first place, in one way only."""
    if not after:
        return "{REST}"
    if after.startswith('"'):
        return "{ESCAPED}"
    first, rest = _escaped(after[0]), _escaped(after[1:])
    other = rf"[^\r\n{re.escape(after[0])}]*+"
    return rf"{other}(?:{first}(?!{rest}){other})*+" if rest else other
