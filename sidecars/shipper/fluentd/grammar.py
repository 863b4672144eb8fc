"""The grammar of fluentd's configuration files: text to elements and parameters, each with its place.

Source: fluentd's lib/fluent/config/v1_parser.rb, literal_parser.rb and basic_parser.rb. Where fluentd's own reading is
odd it is kept: `name # text` has the value `# text`, and a # inside a word begins no comment.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd import ruby

_LINE_END = r"(?:[ \t]*(?:#.*)?(?:\Z|[\r\n]))+"
_SPACING = r"(?:[ \t\r\n]|\Z|#.*?(?:\Z|[\r\n]))+"
_BLANKS = re.compile(r"(?:[ \t\r\n]|\Z)+")
_TO_LINE_END = re.compile(_LINE_END)
_TO_TEXT = re.compile(_SPACING)
_WORD = re.compile(rf"(?:#|(?!{_SPACING}).)+")
_REST = re.compile(rf"(?:#|(?!{_LINE_END}).)+")
_ARGUMENT = re.compile(r"(?:#|(?!(?:[ \t\r\n]|\Z|#.*?(?:\Z|[\r\n]))*>).)+")
_ELEMENT = re.compile(r"[a-zA-Z0-9_]+")
_INCLUDE = re.compile(rf"(?:@include|include){_SPACING}")
# The code ends at the first brace that is in no quotes of its own.
_CODE = re.compile(r"""#\{((?:[^"'{}\n]|"[^"\n]*"|'[^'\n]*')*)\}""")
_JSON = re.compile(rf'"(?:{_CODE.pattern}|\\.|[^"\\])*+"|#.*|[\[\]{{}}]|[^"#\[\]{{}}]+')
_DEPTH = {"[": 1, "{": 1, "]": -1, "}": -1}
_SINGLE = re.compile(r"((?:\\['\\]|[^'\n])*)'")
_NAME = re.compile(r"@?[a-z]+\d?(?:_[a-z]+\d{0,2})*")
_LONGEST = 40
_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "f": "\f", "b": "\b", "0": "\0"}


class Parameter(msgspec.Struct, frozen=True):
    """One `name value`. `written` is the value as the file has it, before any #{...} was put in."""

    name: str
    value: str
    written: str
    place: str


class Element(msgspec.Struct, frozen=True):
    """One `<name argument> ... </name>`; `place` is such as fluent.conf:12. The root is the file itself."""

    name: str
    argument: str
    place: str
    parameters: dict[str, Parameter]
    elements: list[Element]


class Tree(msgspec.Struct, frozen=True):
    """A configuration with all it includes, and what is odd in it."""

    root: Element
    warnings: list[str]


def read(path: str, environ: Mapping[str, str]) -> Tree:
    """Read a configuration file. WrongSettings when it cannot be read, or with the line that is not understood."""
    if path.endswith((".yaml", ".yml")):
        raise WrongSettings(f"{path} is fluentd's YAML, which is not read; give it in fluentd's own format")
    tree = Tree(Element("ROOT", "", path, {}, []), [])
    _include(path, environ, tree, tree.root, ())
    return tree


def _include(path: str, environ: Mapping[str, str], tree: Tree, into: Element, around: tuple[str, ...]) -> None:
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise WrongSettings(f"cannot read {path}: {error.strerror}; is it mounted and readable?") from error
    except UnicodeError as error:
        raise WrongSettings(f"{path} is not UTF-8; save it as that") from error
    _Reading(path, text, environ, tree, (*around, os.path.realpath(path))).elements(into, outermost=True)


class _Reading:
    """One file being read: a position that moves on."""

    def __init__(
        self, path: str, text: str, environ: Mapping[str, str], tree: Tree, open_files: tuple[str, ...]
    ) -> None:
        self._path = path
        self._text = text
        self._environ = environ
        self._tree = tree
        self._open_files = open_files
        self._at = 0

    @property
    def _place(self) -> str:
        return f"{self._path}:{self._text.count(chr(10), 0, self._at) + 1}"

    def _wrong(self, text: str) -> WrongSettings:
        return WrongSettings(f"{self._place}: {text}")

    def _skip(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _begins(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _ended(self) -> bool:
        return self._at >= len(self._text)

    # Elements and parameters

    def elements(self, into: Element, *, outermost: bool) -> None:
        """Read parameters and elements into one, up to its end tag, or to the end of the file for the outermost."""
        while True:
            self._skip(_TO_TEXT)
            if self._ended():
                if not outermost:
                    raise self._wrong(f"</{into.name}> is missing for the <{into.name}> of {into.place}; add it")
                return
            if self._begins("</"):
                return self._end(into, outermost)
            if self._begins("<"):
                self._element(into)
            elif outermost and self._skip(_INCLUDE):
                self._included(into)
            else:
                self._parameter(into)

    def _end(self, element: Element, outermost: bool) -> None:
        place, name = self._place, self._skip(_ELEMENT)
        self._skip(_TO_TEXT)
        if outermost or name != element.name:
            open_one = "none is open in this file" if outermost else f"<{element.name}> of {element.place} is open"
            raise WrongSettings(f"{place}: </{name or ''}> closes nothing: {open_one}; correct it")
        if not self._begins(">") or self._skip(_TO_LINE_END) is None:
            raise WrongSettings(f"{place}: </{name}> is not alone on its line; put what follows on the next")

    def _element(self, into: Element) -> None:
        place, name = self._place, self._skip(_ELEMENT)
        if name is None:
            raise WrongSettings(f"{place}: < is not followed by a name; quote the value if it is one")
        self._skip(_TO_TEXT)
        argument = self._string(_ARGUMENT)
        self._skip(_TO_TEXT)
        if not self._begins(">"):
            raise WrongSettings(f"{place}: <{name} has no > on its line; add it")
        if self._skip(_TO_LINE_END) is None:
            raise WrongSettings(f"{place}: <{name}> is not alone on its line; put what follows on the next")
        element = Element(name, argument or "", place, {}, [])
        into.elements.append(element)
        self.elements(element, outermost=False)

    def _parameter(self, into: Element) -> None:
        place, name = self._place, self._string(_WORD)
        blanks = self._skip(_BLANKS)
        if not name or (blanks is None and not self._ended()):
            raise WrongSettings(f"{place}: a parameter is a name, a blank and a value; correct the line")
        if name == "@include":
            return self._included(into)
        start = self._at
        value: str | None = ""
        if blanks is not None and "\n" not in blanks and not self._ended():
            value = self._value()
        written = self._text[start : self._at]
        if written and self._skip(_TO_LINE_END) is None:
            raise WrongSettings(f"{place}: something follows the value of {shown(name)}; quote all of it, or nothing")
        if value is not None:
            into.parameters[name] = Parameter(name, value, written, place)
        else:
            into.parameters.pop(name, None)
        return None

    def _included(self, into: Element) -> None:
        place, path = self._place, self._string(_REST)
        self._skip(_TO_LINE_END)
        path = (path or "").removeprefix("file://")
        if not path or "://" in path:
            raise WrongSettings(f"{place}: @include takes the path of a file or a glob; mount what it names")
        pattern = os.path.join(os.path.dirname(self._path), path)
        found = sorted(glob.glob(pattern, recursive=True))
        if not found and not glob.has_magic(pattern):
            raise WrongSettings(f"{place}: there is no {pattern} to include; is it mounted?")
        for each in found:
            if os.path.realpath(each) in self._open_files:
                raise WrongSettings(f"{place}: {each} includes itself; leave this out")
            _include(each, self._environ, self._tree, into, self._open_files)

    # Values: None is one that was asked to be left out

    def _value(self) -> str | None:
        if self._text[self._at] in "[{":
            return self._json()
        return self._string(_REST)

    def _string(self, plain: re.Pattern[str]) -> str | None:
        if self._begins('"'):
            return self._double_quoted()
        if self._begins("'"):
            return self._single_quoted()
        return self._skip(plain) or ""

    def _double_quoted(self) -> str | None:
        begin, pieces = self._place, list[str | None]()
        while not self._begins('"'):
            if self._ended():
                raise WrongSettings(f'{begin}: a " is never closed; close it')
            if self._text.startswith("#{", self._at):
                pieces.append(self._embedded())
            elif self._begins("\\"):
                pieces.append(self._escaped())
            else:
                pieces.append(self._text[self._at])
                self._at += 1
        return _joined(pieces)

    def _escaped(self) -> str:
        letter = self._text[self._at : self._at + 1]
        self._at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter.isascii() and letter.isalnum():
            raise self._wrong(f"\\{letter} has no meaning between double quotes; write \\\\{letter} for a backslash")
        return "" if letter == "\n" else letter

    def _single_quoted(self) -> str:
        found = _SINGLE.match(self._text, self._at)
        if found is None:
            raise self._wrong("a ' is not closed on its line; close it")
        self._at = found.end()
        return re.sub(r"\\(['\\])", r"\1", found[1])

    def _embedded(self) -> str | None:
        found = _CODE.match(self._text, self._at)
        if found is None:
            raise self._wrong(f"#{{ is never closed, or holds Ruby that is not run here; known are {ruby.EXPECTED}")
        value = self._evaluated(found[1])
        self._at = found.end()
        return value

    def _evaluated(self, code: str) -> str | None:
        unset: list[str] = []
        try:
            value = ruby.evaluated(code, self._environ, unset)
        except WrongSettings as error:
            raise self._wrong(str(error)) from error
        self._tree.warnings.extend(f"{self._place}: the variable {name} is not set: it is empty here" for name in unset)
        return value

    def _json(self) -> str | None:
        """Read an array or a hash, over lines and with comments, into JSON in one line."""
        place, pieces, depth = self._place, list[str | None](), 0
        while depth or not pieces:
            token = self._skip(_JSON)
            if token is None:
                raise WrongSettings(f"{place}: an array or hash is never closed; close it, or quote the value")
            if token.startswith("#"):
                continue
            depth += _DEPTH.get(token, 0)
            pieces.extend(self._json_string(token) if token.startswith('"') else [token])
        text = _joined(pieces)
        try:
            return None if text is None else json.dumps(json.loads(text), ensure_ascii=False)
        except ValueError as error:
            raise WrongSettings(f"{place}: this array or hash is not JSON; correct it, or quote the value") from error

    def _json_string(self, token: str) -> Iterator[str | None]:
        end = 0
        for found in _CODE.finditer(token):
            yield token[end : found.start()]
            value = self._evaluated(found[1])
            yield value if value is None else json.dumps(value, ensure_ascii=False)[1:-1]
            end = found.end()
        yield token[end:]


def _joined(pieces: list[str | None]) -> str | None:
    texts = [piece for piece in pieces if piece is not None]
    return "".join(texts) if len(texts) == len(pieces) else None


def shown(name: str) -> str:
    """Give a name as an error may say it: a line that is no parameter may hold a secret that lost its name."""
    return name if _NAME.fullmatch(name) and len(name) <= _LONGEST else "a word that is no parameter"
