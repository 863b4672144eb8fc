"""The configuration that git's children read: git-sync's defaults, and what --git-config adds to them."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sidecars.core.errors import SidecarError
from sidecars.syncer.private import PrivateFile

_ESCAPES = {"n": "\n", "t": "\t", '"': '"', ",": ",", "\\": "\\"}
_SECTION = re.compile(r"[A-Za-z0-9-]+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_IN_FILE = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\b": "\\b"})


class WrongPairs(SidecarError):  # noqa: N818
    """What --git-config or --git-config-add says is no configuration; no value is in the text, for it may be secret."""


class Pair(NamedTuple):
    """A setting of git: http.extraHeader and its value."""

    key: str
    value: str


def parse(text: str) -> Iterator[Pair]:
    r"""Read pairs separated by commas.

        user.name:A U Thor,"http.https://example.org/.proxy":"http://proxy:3128",core.x:a\,b

    A key with a colon in it must be quoted. In quotes, and in a value without them, \n \t \" \, and \\ are escapes.

    Raises WrongPairs. Source: git-sync's manual, and its program's answers.
    """
    place = 0
    for number in itertools.count(1):
        if place >= len(text):
            return
        try:
            key, place = _key(text, place)
            split(key)
            value, place = _value(text, place)
        except WrongPairs as error:
            raise WrongPairs(f"pair {number}: {error}") from None
        yield Pair(key, value)


def _key(text: str, place: int) -> tuple[str, int]:
    """The key that begins here, and the place after its colon."""
    if text[place] == '"':
        key, end = _quoted(text, place)
        if text[end : end + 1] != ":":
            raise WrongPairs('no colon follows the quoted key; write "key":value')
        return key, end + 1
    end = text.find(":", place)
    if end < 0:
        raise WrongPairs("it has no colon; write key:value, and \\, for a comma in a value")
    return text[place:end], end + 1


def _value(text: str, place: int) -> tuple[str, int]:
    """The value that begins here, and the place after its comma."""
    if text[place : place + 1] in ("", ","):
        raise WrongPairs('it has no value; write key:"" for an empty one')
    if text[place] != '"':
        value, end = _bare(text, place)
        return value, end + 1
    value, end = _quoted(text, place)
    if text[end : end + 1] not in ("", ","):
        raise WrongPairs("something follows the closing quote of its value; only a comma may")
    return value, end + 1


def _bare(text: str, place: int) -> tuple[str, int]:
    """The text up to the next comma that no backslash stands before, and the place of that comma."""
    parts = []
    while place < len(text) and text[place] != ",":
        part, place = _sign(text, place)
        parts.append(part)
    return "".join(parts), place


def _quoted(text: str, place: int) -> tuple[str, int]:
    """The text in the quotes that open here, and the place after them."""
    parts, place = [], place + 1
    while text[place : place + 1] != '"':
        if place >= len(text):
            raise WrongPairs("a quote is not closed")
        part, place = _sign(text, place)
        parts.append(part)
    return "".join(parts), place + 1


def _sign(text: str, place: int) -> tuple[str, int]:
    """One character, unescaped, and the place after it."""
    if text[place] != "\\":
        return text[place], place + 1
    sign = text[place + 1 : place + 2]
    if sign not in _ESCAPES:
        raise WrongPairs(f'\\{sign} is no escape; those are \\n \\t \\" \\, and \\\\')
    return _ESCAPES[sign], place + 2


def given(git_config: str, git_config_add: Sequence[str]) -> tuple[Pair, ...]:
    """What --git-config and --git-config-add say, in order; the latter's uses are one text, as git-sync has it.

    Raises WrongPairs.
    """
    found: list[Pair] = []
    for flag, text in (("--git-config", git_config), ("--git-config-add", ",".join(git_config_add))):
        try:
            found += parse(text)
        except WrongPairs as error:
            raise WrongPairs(f"{flag} cannot be read: {error}") from None
    return tuple(found)


def split(key: str) -> tuple[str, str, str]:
    """Give section, subsection and name of a key: `http.https://x.org/.proxy` -> http, https://x.org/, proxy.

    Section and name are in lower case, for git does not tell the cases apart. Raises WrongPairs, where git would refuse
    the key. Source: git, config.c, git_config_parse_key.
    """
    section, dot, rest = key.partition(".")
    subsection, _, name = rest.rpartition(".")
    if not dot or not _SECTION.fullmatch(section) or not _NAME.fullmatch(name) or "\n" in subsection:
        raise WrongPairs("its key is none of git's; those look like http.proxy, and need quotes around a colon")
    return section.lower(), subsection, name.lower()


def rendered(pairs: Iterable[Pair]) -> str:
    r"""Write pairs in the form of a configuration file; a later pair replaces an earlier one of the same key.

    [http "https://example.org"]
        proxy = "http://proxy:3128"

    That is what `git config --global KEY VALUE` does for each, but with no value on a command line.
    """
    last = {split(pair.key): pair.value for pair in pairs}
    return "".join(block(section, subsection, [(name, value)]) for (section, subsection, name), value in last.items())


def block(section: str, subsection: str, values: Iterable[tuple[str, str]]) -> str:
    """Write one section with its values; a name may occur more than once."""
    quoted = subsection.replace("\\", "\\\\").replace('"', '\\"')
    head = f'[{section} "{quoted}"]' if subsection else f"[{section}]"
    return "\n".join([head, *(f'\t{name} = "{value.translate(_IN_FILE)}"' for name, value in values)]) + "\n"


class ConfigurationFile:
    """The file that git reads in the place of ~/.gitconfig, for this user alone; removed by close().

    It lies below $TMPDIR, where git-sync's users look for it; in memory where nothing can be written there, as with a
    read-only root and no volume on /tmp.
    """

    def __init__(self, text: str, directory: str) -> None:
        self._memory: PrivateFile | None = None
        try:
            descriptor, self.path = tempfile.mkstemp(prefix="git-sync.gitconfig.", dir=directory)  # mode 0600
            with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        except OSError:
            self._memory = PrivateFile(text.encode(errors="surrogateescape"))
            self.path = self._memory.path

    def close(self) -> None:
        """Remove the file."""
        if self._memory:
            self._memory.close()
        elif os.path.exists(self.path):
            os.unlink(self.path)
