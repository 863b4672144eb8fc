"""Ruby's regular expressions, which fluentd's configuration is full of, as Python's.

The expression is read piece by piece and written anew, so that what differs is not mistaken for what it looks like:
groups without names do not capture beside groups with names, ^ and $ are ends of lines, m lets the dot match newlines,
\\h is a hexadecimal digit, \\z is Python's \\Z, {1,3}+ repeats a repetition. \\w, \\d, \\s and [[:alpha:]] are ASCII,
as they are for the lines that fluentd reads. Source: doc/RE of Onigmo, Ruby's engine.
"""

from __future__ import annotations

import re
from typing import AnyStr, NamedTuple, NoReturn

from sidecars.core.errors import WrongSettings

# Characters of POSIX's classes, as they stand between brackets.
_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r" \t-\r",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_ANCHORS = {"A": r"\A", "z": r"\Z", "Z": r"(?=\n?\Z)", "b": r"\b", "B": r"(?!\b)"}
# For many lines at once, each of which Ruby would match alone.
_LINE_ANCHORS = {**_ANCHORS, "A": "^", "z": "$", "Z": "$"}
_CONTROLS = {"e": r"\x1b", **{letter: f"\\{letter}" for letter in "afnrtv"}}
_NEWLINE = r"(?>\r\n|[\n-\r])"

_LITERAL = re.compile(r"/(.*)/([imxnu]*)\Z", re.DOTALL)
_QUANTIFIER = re.compile(r"([*+?])([+?]?)|(\{\d+\})|(\{(?:\d+,\d*|,\d+)\})(\??)")
_NAMED = re.compile(r"\(\?(?:P?<([^=!>][^>]*)>|'([^']+)')")
_PLAIN = re.compile(r"\(\?(?:[:=!>]|<[=!])")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_BLANKS = re.compile(r"\s+|#[^\n]*")
_OPTIONS = re.compile(r"\(\?([imxsad]*)(?:-([imxs]*))?([:)])")
_BACKREFERENCE = re.compile(r"\\k(?:<(\w+)>|'(\w+)')|\(\?P=(\w+)\)|\\([1-9]\d*)")
_BYTES = re.compile(r"(?:\\x[89a-fA-F][0-9a-fA-F])+")
_CODE = re.compile(r"\\(?:[xu]\{([0-9a-fA-F]+)\}|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|0([0-7]{0,2})|c([@-_a-z]))")
_PROPERTY = re.compile(r"\\([pP])\{(\^?)(\w+)\}|\[:(\^?)(\w+):\]")


class Expression(NamedTuple):
    """A compiled expression, and the names of its groups in their order; Ruby allows a name more than once."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]


def compiled(text: str, *, dotall: bool = False) -> Expression:
    """Compile an expression, bare or with slashes and options, such as `/^(?<time>[^ ]+) (?<rest>.*)$/m`.

    Python's own way to name groups is taken too. Raises WrongSettings for what Python cannot say, with its place.
    """
    source = _Source.of(text)
    reading = _read(source, lines=False)
    flags = re.MULTILINE | re.ASCII
    flags |= re.DOTALL if dotall or "m" in source.options else re.NOFLAG
    flags |= re.IGNORECASE if "i" in source.options else re.NOFLAG
    return Expression(_checked(text, reading.result, flags), tuple(reading.names))


def first_line(text: str) -> str:
    """Give the expression for core/follow, which matches it at the beginning of a line, from one in Ruby's syntax.

    Ruby finds a match anywhere in the line, and so does what this gives. Raises WrongSettings as `compiled` does.
    """
    source = _Source.of(text)
    reading = _read(source, lines=True)
    anchored = reading.result.startswith("^") and not reading.alternatives
    result = reading.result if anchored else rf"[^\n]*?(?:{reading.result})"
    result = f"(?i){result}" if "i" in source.options else result
    _checked(text, result.encode(), re.MULTILINE)
    return result


class _Source(NamedTuple):
    """An expression without its slashes; `whole` and `begin` tell where a character is in what the operator wrote."""

    text: str
    options: str
    whole: str
    begin: int

    @classmethod
    def of(cls, whole: str) -> _Source:
        if not whole.startswith("/"):
            return cls(whole, "", whole, 0)
        found = _LITERAL.match(whole)
        if found is None:
            raise WrongSettings(f"expression {whole!r} begins with a slash, but does not end in one or in /i, /m, /x")
        return cls(found[1], found[2], whole, 1)


def _checked(whole: str, text: AnyStr, flags: int) -> re.Pattern[AnyStr]:
    try:
        return re.compile(text, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise WrongSettings(f"expression {whole!r} cannot be used: {error}; write it otherwise") from error


def _read(source: _Source, *, lines: bool) -> _Reading:
    reading = _Reading(source, lines=lines, named=False)
    # Whether plain groups capture is known only when the last group has been seen.
    return _Reading(source, lines=lines, named=True) if reading.names else reading


class _Group:
    """A group that is open.

    isolated    it stands for an option such as (?i), which holds to the end of the group around it
    extended    blanks do not count, and comments are allowed
    repeated    its last piece has a quantifier
    """

    def __init__(self, opener: str, *, extended: bool, isolated: bool = False) -> None:
        self.opener = opener
        self.extended = extended
        self.isolated = isolated
        self.repeated = False
        self.pieces: list[str] = []


class _Reading:
    """One reading of an expression: `result` is Python's, `names` those of its groups, in their order."""

    def __init__(self, source: _Source, *, lines: bool, named: bool) -> None:
        self._source = source
        self._text = source.text
        self._at = 0
        self._lines = lines
        self._named = named
        self._groups = [_Group("", extended="x" in source.options)]
        self.names: list[str] = []
        self.alternatives = False
        while self._at < len(self._text):
            self._piece()
        self._end_isolated()
        if len(self._groups) > 1:
            self._fail("a group is not closed")
        self.result = "".join(self._groups[0].pieces)

    def _fail(self, what: str, at: int | None = None) -> NoReturn:
        place = self._source.begin + (self._at if at is None else at) + 1
        raise WrongSettings(f"expression {self._source.whole!r} cannot be used: {what}, at character {place}")

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _add(self, piece: str) -> None:
        group = self._groups[-1]
        group.pieces.append(piece)
        group.repeated = False

    def _piece(self) -> None:
        char = self._text[self._at]
        if self._groups[-1].extended and self._take(_BLANKS):
            return
        if quantifier := self._take(_QUANTIFIER):
            self._repeat(quantifier)
        elif char == "\\":
            self._escape()
        elif char == "(":
            self._open()
        else:
            self._at += 1
            self._simple(char)

    def _simple(self, char: str) -> None:
        if char == ")":
            self._close()
        elif char == "[":
            negated, body = self._class()
            self._add_class(f"[^{body}]" if negated else f"[{body}]")
        elif char in "^$.|":
            self._add(char)
            self.alternatives |= char == "|" and len(self._groups) == 1
        else:
            self._add(self._character(char))

    def _add_class(self, piece: str) -> None:
        # Ruby sees one line: \s or [^a] must not lead into the next.
        self._add(rf"(?:(?!\n){piece})" if self._lines else piece)

    def _character(self, char: str) -> str:
        # In UTF-8 a character may be several bytes, and a quantifier is for all of them.
        return f"(?:{char})" if self._lines and not char.isascii() else re.escape(char)

    def _repeat(self, quantifier: re.Match[str]) -> None:
        group = self._groups[-1]
        if not group.pieces or group.pieces[-1] == "|":
            self._fail("there is nothing to repeat", quantifier.start())
        piece = f"(?:{group.pieces[-1]})" if group.repeated else group.pieces[-1]
        group.pieces[-1] = piece + quantifier[0]
        group.repeated = True

    # Groups

    def _open(self) -> None:
        begin, group = self._at, self._groups[-1]
        if self._take(_COMMENT):
            return
        if found := self._take(_NAMED):
            self.names.append(found[1] or found[2])
            self._groups.append(_Group("(", extended=group.extended))
        elif found := self._take(_PLAIN):
            self._groups.append(_Group(found[0], extended=group.extended))
        elif found := self._take(_OPTIONS):
            self._open_with_options(found[1], found[2] or "", found[3])
        elif found := self._take(_BACKREFERENCE):
            self._refer(found)
        elif self._text.startswith("(?", begin):
            self._fail(f"groups that begin with {self._text[begin : begin + 3]} are not known")
        else:
            self._at += 1
            self._groups.append(_Group("(?:" if self._named else "(", extended=group.extended))

    def _open_with_options(self, on: str, off: str, end: str) -> None:
        extended = "x" in on or (self._groups[-1].extended and "x" not in off)
        known = {"i": "i"} if self._lines else {"i": "i", "m": "s", "s": "s"}
        on, off = ("".join(sorted({known[each] for each in part if each in known})) for part in (on, off))
        opener = f"(?{on}{f'-{off}' if off else ''}:"
        self._groups.append(_Group(opener, extended=extended, isolated=end == ")"))

    def _end_isolated(self) -> None:
        while self._groups[-1].isolated:
            self._end()

    def _close(self) -> None:
        self._end_isolated()
        if len(self._groups) == 1:
            self._fail("a ) closes no group", self._at - 1)
        self._end()

    def _end(self) -> None:
        group = self._groups.pop()
        self._add(f"{group.opener}{''.join(group.pieces)})")

    def _refer(self, found: re.Match[str]) -> None:
        name = next(filter(None, found.groups()))
        if name.isdigit():
            if self._named:
                self._fail("groups that have names are not referred to by number; use \\k<name>", found.start())
            self._add(rf"(?:\{name})")
            return
        numbers = [number for number, known in enumerate(self.names, 1) if known == name]
        if not numbers:
            self._fail(f"no group before it is called {name}", found.start())
        self._add("(?:" + "|".join(f"\\{number}" for number in reversed(numbers)) + ")")

    # Escapes

    def _escape(self) -> None:
        begin = self._at
        if found := self._take(_BACKREFERENCE):
            self._refer(found)
            return
        if (char := self._coded()) is not None:
            self._add(self._character(char))
            return
        body = self._set()
        if body is not None:
            self._add_class(f"[{body}]")
            return
        letter = self._text[begin + 1 : begin + 2] or self._fail("a \\ is the last character")
        self._at += 2
        anchors = _LINE_ANCHORS if self._lines else _ANCHORS
        known = {**anchors, **_CONTROLS, "R": _NEWLINE}.get(letter)
        if known is None and letter in "GKXgkpPxuCMcy":
            self._fail(f"\\{letter} is not known", begin)
        self._add(known or self._character(letter))

    def _coded(self) -> str | None:
        """Take a character that is given by its code, such as \\x41, \\u00e9, \\u{1F600}, \\0 or \\cA."""
        if found := self._take(_BYTES):
            try:
                return bytes.fromhex(found[0].replace("\\x", "")).decode()
            except UnicodeDecodeError:
                self._fail("these bytes are not UTF-8", found.start())
        found = self._take(_CODE)
        if found is None:
            return None
        braced, byte, unit, octal, control = found.groups()
        if control:
            return chr(ord(control.upper()) & 0x1F)
        code = int(octal or "0", 8) if octal is not None else int(braced or byte or unit, 16)
        return chr(code) if code <= 0x10FFFF else self._fail("there is no such character", found.start())

    def _set(self) -> str | None:
        """Take what stands for several characters, and give how it is written between brackets."""
        if found := self._take(_PROPERTY):
            kind, negated, name, bracket_negated, bracket_name = found.groups()
            known = _POSIX.get((name or bracket_name).lower())
            if known is None:
                self._fail(f"{found[0]} is not known; use one of {' '.join(_POSIX)}", found.start())
            return self._complement(known) if (kind == "P") != bool(negated or bracket_negated) else known
        if not self._text.startswith("\\", self._at):
            return None
        letter = self._text[self._at + 1 : self._at + 2]
        sets = {"h": _POSIX["xdigit"], "H": self._complement(_POSIX["xdigit"])}
        sets |= {each: f"\\{each}" for each in "dDwWsS"}
        if letter in sets:
            self._at += 2
        return sets.get(letter)

    def _complement(self, body: str) -> str:
        inside = re.compile(f"[{body}]")
        others = "".join(re.escape(char) for char in map(chr, range(128)) if not inside.match(char))
        return others + (r"\x80-\xff" if self._lines else r"\x80-\U0010ffff")

    # Classes

    def _class(self) -> tuple[bool, str]:
        """Read what follows a [, and tell whether it is negated. Classes within it are joined with it."""
        begin = self._at - 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        first, members = self._at, []
        while not self._text.startswith("]", self._at) or self._at == first:
            if self._at >= len(self._text):
                self._fail("a [ is not closed", begin)
            members.append(self._member())
        self._at += 1
        return negated, "".join(members)

    def _member(self) -> str:
        if self._text.startswith("&&", self._at):
            self._fail("the intersection of classes, &&, is not known; use a lookahead")
        body = self._set()
        if body is not None:
            return body
        if self._text.startswith("[", self._at):
            begin, self._at = self._at, self._at + 1
            negated, body = self._class()
            return self._fail("a negated class within a class is not known", begin) if negated else body
        low = self._member_character()
        ranged = self._text.startswith("-", self._at) and not self._text.startswith("]", self._at + 1)
        if not ranged:
            return low
        self._at += 1
        body = self._set()
        return rf"{low}\-{body}" if body is not None else f"{low}-{self._member_character()}"

    def _member_character(self) -> str:
        begin = self._at
        char = self._coded()
        if char is None:
            escaped = self._text.startswith("\\", self._at)
            char = self._text[self._at + escaped : self._at + escaped + 1] or self._fail("a [ is not closed")
            self._at += 1 + escaped
            if escaped and char in "RXxupPcCM":
                self._fail(f"\\{char} in a class is not known", begin)
            if escaped and char in _CONTROLS:
                return _CONTROLS[char]
            char = "\b" if escaped and char == "b" else char
        if self._lines and not char.isascii():
            self._fail("a class of characters that are not ASCII cannot be used here", begin)
        return re.escape(char)
