"""The command lines in a container, however deep in a shell script they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from sidecars.pods.shell import parse
from sidecars.pods.statements import Command

_SHELLS = frozenset(("sh", "bash", "ash", "dash", "zsh", "ksh"))


def command_lines(words: tuple[str, ...], variables: frozenset[str] = frozenset()) -> Iterator[list[str]]:
    """Give the words of each command that these words run: their own, or those of the script that a shell is given.

        ("sh", "-c", "sleep 5; nc -z db 5432")  ->  ["sleep", "5"], ["nc", "-z", "db", "5432"]

    What a word is only when the script runs stays as it is written: "$PASSWORD".
    """
    script = _script(words)
    if script is None:
        if words:
            yield list(words)
        return
    for command in _commands(parse(script, variables)):
        yield [str(word) for word in command.words]


def _script(words: tuple[str, ...]) -> str | None:
    """The script among the words of a shell: what follows the flag with a c, as -c or -ec."""
    if not words or words[0].rpartition("/")[2] not in _SHELLS:
        return None
    for place, word in enumerate(words[1:-1], 1):
        if word.startswith("-") and not word.startswith("--") and word.endswith("c"):
            return words[place + 1]
    return None


def _commands(value: Any) -> Iterator[Command]:
    """Every simple command in a statement, in the order they are written."""
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, Command):
            yield each
        if isinstance(each, msgspec.Struct):
            todo += [getattr(each, name) for name in reversed(each.__struct_fields__)]
        elif isinstance(each, tuple):
            todo += reversed(each)
