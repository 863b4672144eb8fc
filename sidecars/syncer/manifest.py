"""What the files of a mirror looked like when they were known to be like those of the worktree."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection

import msgspec

from sidecars.syncer.tree import Seen

_TICK, _COARSE = 20_000_000, 2_000_000_000  # nanoseconds between two times of a file; without fractions of a second
_Entry = tuple[int, int, int, int, int, int, int]


class Manifest:
    """Kept in a file, which may be lost: then the files are compared.

    Of the worktree's file inode, size and mtime; of the mirror's also the ctime, which nobody can set.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._entries: dict[str, _Entry] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
            self._entries = msgspec.json.decode(file.read(), type=dict[str, _Entry])

    def lists(self, path: str) -> bool:
        """Whether the path was published."""
        return _key(path) in self._entries

    def knows(self, path: str, source: Seen, mirror: Seen) -> bool:
        """Whether the two files are as they were when they were alike."""
        return self._entries.get(_key(path)) == _entry(source, mirror)

    def note(self, path: str, source: Seen, mirror: Seen) -> None:
        """The two files are alike."""
        self._entries[_key(path)] = _entry(source, mirror)
        self._changed = True

    def save(self, paths: Collection[str]) -> None:
        """Write the file, with these paths.

        What changed just now may change again and show the same ctime: it counts as published, but not as known.
        """
        if not self._changed and len(paths) == len(self._entries):
            return
        now = time.time_ns()
        known = {key: self._entries[key] for key in map(_key, paths) if key in self._entries}
        known = {key: entry if _settled(entry[-1], now) else (*entry[:-1], 0) for key, entry in known.items()}
        with contextlib.suppress(OSError):
            with open(f"{self._path}.new", "wb") as file:
                file.write(msgspec.json.encode(known))
            os.replace(f"{self._path}.new", self._path)


def _settled(ctime: int, now: int) -> bool:
    return ctime < now - (_TICK if ctime % 1_000_000 else _COARSE)


def _key(path: str) -> str:
    """A path as JSON can hold it: it need not be UTF-8."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


def _entry(source: Seen, mirror: Seen) -> _Entry:
    return (source.inode, source.size, source.mtime, mirror.inode, mirror.size, mirror.mtime, mirror.ctime)
