"""The words behind a command, parted into options and operands as getopt does."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import msgspec


class Options(msgspec.Struct):
    """What a command was told.

    flags     without dashes: q, spider
    values    likewise, each with what was given, in order
    operands  the rest
    """

    flags: set[str] = msgspec.field(default_factory=set)
    values: dict[str, list[str]] = msgspec.field(default_factory=dict)
    operands: list[str] = msgspec.field(default_factory=list)

    def value(self, *names: str) -> str | None:
        """Give the last value of an option that has these names."""
        found = [self.values[name][-1] for name in names if name in self.values]
        return found[-1] if found else None

    def has(self, *names: str) -> bool:
        """Say whether one of these was given, with a value or without."""
        return any(name in self.flags or name in self.values for name in names)

    def only(self, *known: str) -> bool:
        """Say whether nothing but these was given. One text may hold several names, with spaces between them."""
        names = {name for text in known for name in text.split()}
        return self.flags <= names and self.values.keys() <= names


def parted(words: Sequence[str], valued: str = "", long: Collection[str] = (), attached: str = "") -> Options:
    """Part the words that follow a command's name.

    valued    letters that take a value: the rest of their word, or the next one
    long      the same of long options, which may have it behind a `=` too
    attached  letters whose value can only be the rest of their word, as -p of mysql
    """
    options = Options()
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if word == "--":
            options.operands += rest
            break
        if word.startswith("--"):
            _long(options, word[2:], rest, long)
        elif word.startswith("-") and len(word) > 1:
            _short(options, word[1:], rest, valued, attached)
        else:
            options.operands.append(word)
    return options


def _long(options: Options, word: str, rest: deque[str], long: Collection[str]) -> None:
    name, equals, value = word.partition("=")
    if equals:
        options.values.setdefault(name, []).append(value)
    elif name in long and rest:
        options.values.setdefault(name, []).append(rest.popleft())
    else:
        options.flags.add(name)


def _short(options: Options, letters: str, rest: deque[str], valued: str, attached: str) -> None:
    for place, letter in enumerate(letters):
        behind = letters[place + 1 :]
        if letter in valued and (behind or rest):
            options.values.setdefault(letter, []).append(behind or rest.popleft())
            return
        if letter in attached and behind:
            options.values.setdefault(letter, []).append(behind)
            return
        options.flags.add(letter)
