"""Blacking out addresses, names of people and secrets, before anything leaves the process."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sidecars.adapter.table import LEVELS, Field, Json, Objects, Record, Segment, Table, Unparsed
from sidecars.core.errors import WrongSettings

BLACK = "***"

# Every pattern is linear: what may be long is possessive and nothing that can fail follows it, or it is tried only
# where a run of its characters begins. Those that begin with a set or a letter let the engine skip what cannot match.

# The @ of an address in a URL's query is %40.
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._+\-\x80-\U0010ffff])(?:[A-Za-z0-9._+\-\x80-\U0010ffff]|%(?!40)[0-9A-Fa-f]{2})++(?:@|%40)"
    r"(?:[A-Za-z0-9\x80-\U0010ffff][A-Za-z0-9\-\x80-\U0010ffff]*+\.?)++"
)

# What looks like a version of four numbers goes too: a forgotten address is worse.
_IPV4 = re.compile(r"[0-9](?<![0-9].)(?<![0-9]\..)[0-9]{0,2}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9])")

_WORD = "[0-9A-Fa-f]{1,4}+"
_IPV6 = re.compile(
    rf"(?<![0-9A-Za-z])(?:(?:{_WORD}:){{6}}(?:{_WORD}:{_WORD}|{_IPV4.pattern})"
    rf"|(?:{_WORD}(?::{_WORD}){{0,6}}+::(?:{_WORD}(?::{_WORD}){{0,6}}+)?|::{_WORD}(?::{_WORD}){{0,6}}+)"
    r"(?:\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})?)(?:%[0-9A-Za-z]{1,15})?(?![0-9A-Za-z])"
)
_COLONS = re.compile(rb":[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:")

_SECRETIVE = (
    r"(?:api[_\-]?key|access[_\-]?key|private[_\-]?key|secret|token|password|passwd|passphrase|pwd|credentials?"
    r"|authorization)(?:[_\-]?(?:key|value|id|hash|[0-9]))?"
)
# The value of such a name, in a URL, in logfmt, in JSON, in JSON that is text in JSON: to the end of the quotes, or of
# the word. After `authorization` a word may be the scheme.
_SECRET = re.compile(
    rf"({_SECRETIVE}(?:\\*[\"'])?[ \t]{{0,4}}(?:=>?|:|%3[ad])[ \t]{{0,4}})"
    r"(?:(\\+\")[^\"\\\n]*+|(\")(?:[^\"\\\n]|\\.)*+|(')[^'\n]*+"
    r"|(?:(?:basic|bearer|digest|negotiate|token|apikey|aws4-hmac-sha256)[ \t]++)?+[^\s&;,\"'<>()\[\]{}|\\]++)",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"\b((?:bearer|basic)(?:[ \t]|%20|\+)++)"
    r"(?!(?:auth\w{0,20}|tokens?|realm|error|scheme|challenge|access|credentials?|http|is|was|not|required)\b)"
    r"[A-Za-z0-9._~+/=%\-]{6,}+",
    re.IGNORECASE,
)
# Keys that are known by their beginnings: AWS, JSON Web Tokens, GitHub, GitLab, Slack, Stripe, Google, npm.
_KEYS = re.compile(
    r"A(?:KIA|SIA|ROA|IDA)[A-Z0-9]{16}(?![A-Z0-9])"
    r"|eyJ(?:(?<![A-Za-z0-9_\-]...)|(?<=%[0-9A-Fa-f]{2}...))[A-Za-z0-9_\-]{5,}+\.[A-Za-z0-9_\-]{5,}+(?:\.[A-Za-z0-9_\-]*+){0,3}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_[A-Za-z0-9_]{20,}+|glpat-[A-Za-z0-9_\-]{16,}+"
    r"|xox[a-z]-[A-Za-z0-9\-]{8,}+|xapp-[A-Za-z0-9\-]{8,}+|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}+"
    r"|AIza[A-Za-z0-9_\-]{30,}+|npm_[A-Za-z0-9]{30,}+"
)
_USERINFO = re.compile(r"(://)[^\s/?#@\"'<>]++@")

# One of these, in small letters, is in every text that one of the patterns for tokens matches.
_TOKEN_MARKS = (
    *(b"key", b"secret", b"token", b"passw", b"passp", b"pwd", b"credential", b"authorization", b"bearer", b"basic"),
    *(b"akia", b"asia", b"aroa", b"aida", b"eyj", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
    *(b"glpat-", b"xox", b"xapp-", b"k_live_", b"k_test_", b"aiza", b"npm_", b"@"),
)
_NAME = re.compile(rf"(?:.*[^a-z])?{_SECRETIVE}|[a-z]*(?:token|password|secret|apikey)", re.IGNORECASE | re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u00|x)([2-7][0-9A-Fa-f])")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")


def redactor(kinds: Sequence[str], patterns: Sequence[str]) -> Redactor | None:
    """Give what blacks out these kinds (email, ip, token) and what these patterns match; None for nothing at all.

    Raises WrongSettings for a pattern that is none, or that matches what is empty.
    """
    return Redactor(frozenset(kinds), [_compiled(text) for text in patterns]) if kinds or patterns else None


def _compiled(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise WrongSettings(f"--redact-pattern is {text!r}, expected a regular expression: {error}") from error
    if pattern.search(""):
        raise WrongSettings(f"--redact-pattern is {text!r}, which matches the empty text; let it match something")
    return pattern


def _emails(data: bytes) -> bool:
    return b"@" in data or b"%40" in data


def _addresses(data: bytes) -> bool:
    text = data.decode("latin-1")
    return b"::" in data or _IPV4.search(text) is not None or _COLONS.search(data) is not None


def _tokens(data: bytes) -> bool:
    small = data.lower()
    return any(mark in small for mark in _TOKEN_MARKS)


_GATES: dict[str, Callable[[bytes], bool]] = {"email": _emails, "ip": _addresses, "token": _tokens}


def _secret(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2] or found[3] or found[4] or ''}{BLACK}"


class Redactor:
    """Blacks out texts, values and whole segments."""

    def __init__(self, kinds: frozenset[str], patterns: Sequence[re.Pattern[str]]) -> None:
        self._own = patterns
        self._names = "token" in kinds
        self._gates = [_GATES[kind] for kind in sorted(kinds)]
        self._subs: list[Callable[[str], str]] = []
        if "token" in kinds:
            self._subs += [
                lambda text: _USERINFO.sub(rf"\1{BLACK}@", text) if "://" in text else text,
                lambda text: _KEYS.sub(BLACK, text),
                lambda text: _SECRET.sub(_secret, text),
                lambda text: _SCHEME.sub(rf"\1{BLACK}", text),
            ]
        if "email" in kinds:
            self._subs.append(lambda text: _EMAIL.sub(BLACK, text) if "@" in text or "%40" in text else text)
        if "ip" in kinds:
            self._subs.append(lambda text: _IPV6.sub(BLACK, text) if ":" in text else text)
            self._subs.append(lambda text: _IPV4.sub(BLACK, text))

    def text(self, text: str) -> str:
        """Black out in a text. Where an escape in it hides something, the text comes out without that escape."""
        if "\\" in text:
            bare = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
            if bare != text and self._plain(bare) != bare:
                return self._plain(bare)
        return self._plain(text)

    def _plain(self, text: str) -> str:
        text = self._builtin(text)
        for pattern in self._own:
            text = pattern.sub(BLACK, text)
        return text

    def _builtin(self, text: str) -> str:
        for sub in self._subs:
            text = sub(text)
        return text

    def hits(self, data: bytes) -> bool:
        """Say whether the data may hold something to black out; certain only when it says no."""
        # An escape may hide an @. What an anchored pattern would match in a value, it does not find in joined ones.
        return bool(self._own) or b"\\" in data or any(gate(data) for gate in self._gates)

    def segment(self, segment: Segment, *, lines: bool) -> Segment:
        """Black out in a segment; give the segment itself when there is nothing in it, which costs least."""
        if isinstance(segment, Table):
            return self._table(segment, lines=lines)
        if isinstance(segment, Json):
            names = self._names and self._tokens_in(segment.data)
            return self._objects(segment, lines=lines) if names or self.hits(segment.data) else segment
        if isinstance(segment, Unparsed):
            return self._unparsed(segment)
        return self._objects(segment, lines=lines)

    def _tokens_in(self, data: bytes) -> bool:
        return _tokens(data)

    def _unparsed(self, segment: Unparsed) -> Segment:
        if not self.hits(b"\n".join(segment.lines)) and not self.hits(segment.error.encode()):
            return segment
        return Unparsed(self._lines(segment.lines), self.text(segment.error))

    def _lines(self, lines: Sequence[bytes]) -> list[bytes]:
        return [self.text(line.decode("utf-8", "replace")).encode() for line in lines]

    def _objects(self, segment: Segment, *, lines: bool) -> Segment:
        records = [self.record(record) for record in segment.records()]
        return Objects(records, self._hidden(segment) if lines else segment.lines)

    def _hidden(self, segment: Segment) -> list[bytes]:
        """Black out the raw lines: what the patterns find, and the values of fields whose names are secretive."""
        blacked = self._lines(segment.lines)
        if not self._names:
            return blacked
        secrets = ({str(v) for k, v in record.items() if v and self._secret_name(k)} for record in segment.records())
        return [_without(line, values) for line, values in zip(blacked, secrets, strict=True)]

    def _secret_name(self, name: str) -> bool:
        return self._names and _NAME.fullmatch(name) is not None

    def record(self, record: Record) -> Record:
        """Black out in a record. A time that is one, and a level, are left as they are."""
        return {
            self._builtin(name): value
            if _harmless(name, value)
            else BLACK
            if value is not None and self._secret_name(name)
            else self.value(value)
            for name, value in record.items()
        }

    def value(self, value: object) -> object:
        """Black out in a value and in what it holds; a number that a pattern matches becomes a text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self.record({str(name): inner for name, inner in value.items()})
        if isinstance(value, (list, tuple)):
            return [self.value(inner) for inner in value]
        if self._own and isinstance(value, (int, float)) and not isinstance(value, bool):
            text = str(value)
            blacked = self._plain(text)
            return value if blacked == text else blacked
        return value

    def _table(self, table: Table, *, lines: bool) -> Segment:
        if not table.clean or self._own:
            dirty = self._own or self._secret_columns(table) or self.hits(b"\n".join(table.lines))
            return self._objects(table, lines=lines) if dirty else table
        secret = self._secret_columns(table)
        if not secret and not self.hits(b"\n".join(table.lines)):
            return table
        return self._columns(table, secret, lines=lines)

    def _secret_columns(self, table: Table) -> list[int]:
        return [index for index, field in enumerate(table.fields) if self._secret_name(field.name)]

    def _columns(self, table: Table, secret: Sequence[int], *, lines: bool) -> Segment:
        """Black out whole columns at once: no cell has a newline, and no pattern of ours matches one."""
        columns: list[Sequence[bytes]] = []
        fields = list(table.fields)
        black = BLACK.encode()
        for index, (field, cells) in enumerate(zip(table.fields, table.columns, strict=True)):
            if index in secret:
                fields[index] = Field(field.name)
                columns.append([cell and black for cell in cells])
                continue
            cells, same = self._column(cells) if field.kind not in ("integer", "number") else (cells, True)
            if not same and field.kind != "text":
                return self._objects(table, lines=lines)
            columns.append(cells)
        raw = self._hidden(table) if lines else table.lines
        return Table(fields, columns, raw, clean=True)

    def _column(self, cells: Sequence[bytes]) -> tuple[Sequence[bytes], bool]:
        joined = b"\n".join(cells)
        if not any(gate(joined) for gate in self._gates):
            return cells, True
        text = joined.decode()
        blacked = self._builtin(text)
        return (cells, True) if blacked == text else (blacked.encode().split(b"\n"), False)


def _harmless(name: str, value: object) -> bool:
    if name == "time":
        return isinstance(value, str) and _RFC3339.fullmatch(value) is not None
    return name == "level" and value in LEVELS


def _without(line: bytes, values: set[str]) -> bytes:
    for value in sorted(values, key=len, reverse=True):
        line = line.replace(value.encode("utf-8", "replace"), BLACK.encode())
    return line
