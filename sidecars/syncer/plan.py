"""What to change in a tree so that it becomes like another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sidecars.syncer.tree import Seen


class Plan(NamedTuple):
    """Changes by path, to be made in this order. A directory comes before what is in it, and is removed after it.

    clear   to be removed first: it is where a directory shall be, or is one where a file shall be
    make    directories
    write   files and symlinks
    allow   what has the wrong permissions
    remove  what shall be no more
    """

    clear: list[str]
    make: list[str]
    write: list[str]
    allow: list[str]
    remove: list[str]

    @property
    def changes(self) -> int:
        """How many there are."""
        return sum(map(len, self))


def plan(source: Mapping[str, Seen], mirror: Mapping[str, Seen], same: Callable[[str], bool]) -> Plan:
    """Plan how the mirror becomes like the source; same() tells it of a file or symlink that both have.

    source {"a": a file, "b": a directory, "b/c": a file}, mirror {"b": a file, "d": a file}
        -> clear ["b"], make ["b"], write ["a", "b/c"], remove ["d"]
    """
    changes = Plan([], [], [], [], [])
    for path, wanted in sorted(source.items()):
        there = mirror.get(path)
        if there is not None and there.is_directory != wanted.is_directory:
            changes.clear.append(path)
            there = None
        if there is None:
            (changes.make if wanted.is_directory else changes.write).append(path)
        elif not wanted.is_directory and (there.kind != wanted.kind or not same(path)):
            changes.write.append(path)
        elif there.permissions != wanted.permissions:
            changes.allow.append(path)
    displaced = set(changes.clear)
    for path in mirror:
        if path not in source:
            (changes.clear if displaced and _below(path, displaced) else changes.remove).append(path)
    changes.clear.sort(reverse=True)
    changes.remove.sort(reverse=True)
    return changes


def _below(path: str, folders: set[str]) -> bool:
    return any(path[:end] in folders for end, each in enumerate(path) if each == "/")
