"""Blacking out addresses, names of people and secrets, before anything leaves the process."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence

from sidecars.adapter.encode.values import dumps
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

# It begins with what is rare, so that a text without addresses is soon known.
_DOTTED = re.compile(r"\.(?<=[0-9]\.)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")

_WORD = "[0-9A-Fa-f]{1,4}+"
_IPV6 = re.compile(
    rf"(?<![0-9A-Za-z])(?:(?:{_WORD}:){{6}}(?:{_WORD}:{_WORD}|{_IPV4.pattern})"
    rf"|(?:{_WORD}(?::{_WORD}){{0,6}}+::(?:{_WORD}(?::{_WORD}){{0,6}}+)?|::{_WORD}(?::{_WORD}){{0,6}}+)"
    r"(?:\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})?)(?:%[0-9A-Za-z]{1,15})?(?![0-9A-Za-z])"
)
_COLONS = re.compile(r":[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:")

_SECRETIVE = (
    r"[AaCcPpSsTt](?i:(?<=a)(?:pi[_\-]?key|ccess[_\-]?key|uthorization)|(?<=c)redentials?|(?<=s)ecret|(?<=t)oken"
    r"|(?<=p)(?:rivate[_\-]?key|assword|asswd|assphrase|wd))(?i:[_\-]?(?:key|value|id|hash|[0-9]))?"
)
# The value of such a name, in a URL, in logfmt, in JSON, in JSON that is text in JSON: to the end of the quotes, or of
# the word. After `authorization` a word may be the scheme.
_SECRET = re.compile(
    rf"({_SECRETIVE}(?:\\*[\"'])?[ \t]{{0,4}}(?:=>?|:|%3[AaDd])[ \t]{{0,4}})"
    r"(?:(\\+\")[^\"\\\n]*+|(\")(?:[^\"\\\n]|\\.)*+|(')[^'\n]*+"
    r"|(?i:(?:basic|bearer|digest|negotiate|token|apikey|aws4-hmac-sha256)[ \t]++)?+[^\s&;,\"'<>()\[\]{}|\\]++)"
)
_SCHEME = re.compile(
    r"([Bb](?<!\w.)(?i:earer|asic)(?:[ \t]|%20|\+)++)"
    r"(?!(?i:auth\w{0,20}|tokens?|realm|error|scheme|challenge|access|credentials?|http|is|was|not|required)\b)"
    r"[A-Za-z0-9._~+/=%\-]{6,}+"
)
# Keys that are known by their beginnings: AWS, JSON Web Tokens, GitHub, GitLab, Slack, Stripe, Google, npm.
_KEYS = re.compile(
    r"[Aegnrsx](?:(?<=A)(?:KIA|SIA)[A-Z0-9]{16}(?![A-Z0-9])"
    r"|(?<=e)yJ(?:(?<![A-Za-z0-9_\-]...)|(?<=%[0-9A-Fa-f]{2}...))"
    r"[A-Za-z0-9_\-]{5,}+\.[A-Za-z0-9_\-]{5,}+(?:\.[A-Za-z0-9_\-]*+){0,3}"
    r"|(?<=g)(?:h[pousr]_[A-Za-z0-9]{20,}+|ithub_pat_[A-Za-z0-9_]{20,}+|lpat-[A-Za-z0-9_\-]{16,}+)"
    r"|(?<=x)(?:ox[a-z]-[A-Za-z0-9\-]{8,}+|app-[A-Za-z0-9\-]{8,}+)|(?<=[rs])k_(?:live|test)_[A-Za-z0-9]{10,}+"
    r"|(?<=A)Iza[A-Za-z0-9_\-]{30,}+|(?<=n)pm_[A-Za-z0-9]{30,}+)"
)
_USERINFO = re.compile(r"(://)(?:[^\s/?#@\"'<>]*+@)++")

# One of these, in small letters, is in every text that the pattern matches.
_SECRET_MARKS = ("key", "secret", "token", "passw", "passp", "pwd", "credential", "authorization")
_SCHEME_MARKS = ("bearer", "basic")
_KEYS_MARKS = ("akia", "asia", "eyj", "xox", "xapp-", "aiza", "glpat-")
_UNDERSCORED_MARKS = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "k_live_", "k_test_", "npm_")
_NAME = re.compile(rf"(?:.*(?:[^a-z]|[a-z](?=[A-Z])))?{_SECRETIVE}|[a-z]*(?:token|password|secret|apikey)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u00|x)([2-7][0-9A-Fa-f])")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")


def redactor(kinds: Sequence[str], patterns: Sequence[str]) -> Redactor | None:
    """Give what blacks out these kinds (email, ip, token) and what these patterns match; None for nothing at all.

    A text may name several kinds, with commas. Raises WrongSettings for an unknown kind, and for a pattern that is none
    or that matches what is empty.
    """
    words = [word.strip() for text in kinds for word in text.split(",")]
    for word in words:
        if word not in _SUBS:
            raise WrongSettings(f"--redact is {word!r}, expected email, ip or token")
    return Redactor(frozenset(words), [_compiled(text) for text in patterns]) if words or patterns else None


def _compiled(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise WrongSettings(f"--redact-pattern is {text!r}, expected a regular expression: {error}") from error
    if pattern.search(""):
        raise WrongSettings(f"--redact-pattern is {text!r}, which matches the empty text; let it match something")
    return pattern


def _secret(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2] or found[3] or found[4] or ''}{BLACK}"


def _without_tokens(text: str) -> str:
    small = text.lower()
    if "@" in text and "://" in text:
        text = _USERINFO.sub(rf"\1{BLACK}@", text)
    if _has(small, _KEYS_MARKS) or ("_" in small and _has(small, _UNDERSCORED_MARKS)):
        text = _KEYS.sub(BLACK, text)
    if _has(small, _SECRET_MARKS):
        text = _SECRET.sub(_secret, text)
    if _has(small, _SCHEME_MARKS):
        text = _SCHEME.sub(rf"\1{BLACK}", text)
    return text


def _has(text: str, marks: Sequence[str]) -> bool:
    return any(mark in text for mark in marks)


def _without_emails(text: str) -> str:
    return _EMAIL.sub(BLACK, text) if "@" in text or ("%" in text and "%40" in text) else text


def _without_addresses(text: str) -> str:
    if "::" in text or _COLONS.search(text):
        text = _IPV6.sub(BLACK, text)
    return _IPV4.sub(BLACK, text) if _DOTTED.search(text) else text


_SUBS: dict[str, Callable[[str], str]] = {
    "token": _without_tokens,
    "email": _without_emails,
    "ip": _without_addresses,
}


class Redactor:
    """Blacks out texts, values and whole segments."""

    def __init__(self, kinds: frozenset[str], patterns: Sequence[re.Pattern[str]]) -> None:
        self._own = patterns
        self._secretive = "token" in kinds
        self._names: dict[str, tuple[str, bool]] = {}
        self._subs = [sub for kind, sub in _SUBS.items() if kind in kinds]

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
        if self._own or b"\\" in data:
            return True
        text = data.decode("utf-8", "replace")
        return self._builtin(text) != text

    def segment(self, segment: Segment, *, lines: bool) -> Segment:
        """Black out in a segment; give the segment itself when there is nothing in it, which costs least."""
        if isinstance(segment, Table):
            return self._table(segment, lines=lines)
        if isinstance(segment, Json):
            secretive = self._secretive and _has(segment.data.decode("utf-8", "replace").lower(), _SECRET_MARKS)
            return self._objects(segment, lines=lines) if secretive or self.hits(segment.data) else segment
        if isinstance(segment, Unparsed):
            return self._unparsed(segment)
        return self._objects(segment, lines=lines)

    def _unparsed(self, segment: Unparsed) -> Segment:
        if not self.hits(b"\n".join(segment.lines)) and not self.hits(segment.error.encode()):
            return segment
        return Unparsed(self._lines(segment.lines), self.text(segment.error))

    def _lines(self, lines: Sequence[bytes]) -> list[bytes]:
        return [self.text(line.decode("utf-8", "replace")).encode() for line in lines]

    def _objects(self, segment: Segment, *, lines: bool) -> Segment:
        records = [self.record(record) for record in segment.records()]
        return Objects(records, self._hidden(segment, records) if lines else segment.lines)

    def _hidden(self, segment: Segment, records: Sequence[Record] = ()) -> list[bytes]:
        """Black out raw lines: what the patterns find, and the values of fields whose names are secretive.

        A line of JSON in which something is black is written anew: there a secret may be nested or escaped.
        """
        blacked = self._lines(segment.lines)
        if isinstance(segment, Table):
            return self._without_secrets(segment, blacked)
        return [
            dumps(after) if line.lstrip()[:1] == b"{" and after != before else line
            for line, after, before in zip(blacked, records, segment.records(), strict=True)
        ]

    def _without_secrets(self, table: Table, lines: list[bytes]) -> list[bytes]:
        for index in self._secret_columns(table):
            lines = [
                line.replace(cell, BLACK.encode()) if cell else line
                for line, cell in zip(lines, table.columns[index], strict=True)
            ]
        return lines

    def record(self, record: Record) -> Record:
        """Black out in a record. A time that is one, and a level, are left as they are."""
        after: Record = {}
        for name, value in record.items():
            shown, secret = self._names.get(name) or self._name(name)
            if secret and value is not None:
                after[shown] = BLACK
            else:
                after[shown] = value if _harmless(name, value) else self.value(value)
        return after

    def _name(self, name: str) -> tuple[str, bool]:
        """Say how a field's name is shown, and whether its value is a secret; remember it."""
        if len(self._names) >= 4096:
            self._names.clear()
        known = self._names[name] = self._builtin(name), self._secretive and _NAME.fullmatch(name) is not None
        return known

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
        return self._columns(table, lines=lines)

    def _secret_columns(self, table: Table) -> list[int]:
        return [index for index, field in enumerate(table.fields) if self._name(field.name)[1]]

    def _columns(self, table: Table, *, lines: bool) -> Segment:
        """Black out whole columns at once: no cell has a newline, and no pattern of ours matches one."""
        secret = self._secret_columns(table)
        columns: list[Sequence[bytes]] = []
        fields = list(table.fields)
        black = BLACK.encode()
        for index, (field, cells) in enumerate(zip(table.fields, table.columns, strict=True)):
            after = cells
            if index in secret:
                fields[index] = Field(field.name)
                after = [cell and black for cell in cells]
            elif field.kind not in ("integer", "number"):
                after = self._column(cells)
            if after is not cells and field.kind not in ("text", "integer", "number"):
                return self._objects(table, lines=lines)
            columns.append(after)
        if lines:
            return Table(fields, columns, self._hidden(table), clean=True)
        same = all(map(operator.is_, columns, table.columns))
        return table if same else Table(fields, columns, table.lines, clean=True)

    def _column(self, cells: Sequence[bytes]) -> Sequence[bytes]:
        """Black out in the cells of a column; give the column itself when there is nothing in it."""
        known = dict.fromkeys(cells)
        few: Collection[bytes] = known if len(known) * 2 < len(cells) else cells
        text = b"\n".join(few).decode()
        blacked = self._builtin(text)
        if blacked == text:
            return cells
        values = blacked.encode().split(b"\n")
        return list(map(dict(zip(known, values, strict=True)).__getitem__, cells)) if few is known else values


def _harmless(name: str, value: object) -> bool:
    if name == "time":
        return isinstance(value, str) and _RFC3339.fullmatch(value) is not None
    return name == "level" and value in LEVELS
