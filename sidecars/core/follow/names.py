"""The names that rotation may have given to followed files, from directories read once."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator

from sidecars.core.follow.find import COMPRESSED, rotated

Entry = tuple[str, os.stat_result]

# As many files of one directory are asked for one by one; then an index is cheaper.
_DIRECT = 2


def bases(path: str) -> Iterator[str]:
    """Give the paths of which `path` may be a rotated name."""
    directory, name = os.path.split(path)
    for base in _bases(name):
        yield os.path.join(directory, base)


def _bases(name: str) -> Iterator[str]:
    for separator in re.finditer(r"[.\-_~]", name):
        base = name[: separator.start()]
        if base and rotated(base, name):
            yield base
        extension = name[separator.end() :].rpartition(".")[2]
        if base and rotated(f"{base}.{extension}", name):
            yield f"{base}.{extension}"


def _shape(name: str) -> str:
    return re.sub(r"\d+", "0", name)


class _Directory:
    """The names in a directory, as they were when it was first asked for, and their stats, taken once each."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._names: list[str] = []
        self._asked = 0
        self._index: dict[str, list[str]] = {}
        self._found: dict[tuple[bool, str], dict[int, Entry]] = {}
        with contextlib.suppress(OSError):
            self._names = [name for name in os.listdir(path or ".") if not name.endswith(COMPRESSED)]

    def rotated(self, base: str) -> dict[int, Entry]:
        """Give what may be rotated from this name, by inode."""
        return self._entries((False, base), self._rotated)

    def alike(self, shape: str) -> dict[int, Entry]:
        """Give what has this name but for its numbers, by inode."""
        return self._entries((True, shape), lambda wanted: [name for name in self._names if _shape(name) == wanted])

    def _entries(self, key: tuple[bool, str], names: Callable[[str], list[str]]) -> dict[int, Entry]:
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = {}
            for name in names(key[1]):
                with contextlib.suppress(OSError):
                    path = os.path.join(self._path, name)
                    status = os.stat(path)
                    found[status.st_ino] = (path, status)
        return found

    def _rotated(self, base: str) -> list[str]:
        self._asked += 1
        if self._asked <= _DIRECT:
            return [name for name in self._names if rotated(base, name)]
        if not self._index:
            for name in self._names:
                for each in dict.fromkeys(_bases(name)):
                    self._index.setdefault(each, []).append(name)
        return self._index.get(base, [])


class Names:
    """Directories as they were when they were first asked for. Make a new one for a new look."""

    def __init__(self) -> None:
        self._directories: dict[str, _Directory] = {}

    def of(self, path: str, real: str = "") -> list[Entry]:
        """Give what rotation may have made of the file under `path`, or of the one that symlinks led to, with its stat.

        What a symlink leads to has siblings that differ from it by numbers only: log-0007 after log-0006.
        """
        found: dict[int, Entry] = {}
        for some in self._some(path, real):
            found |= some
        return list(found.values())

    def with_inode(self, path: str, real: str, inode: int) -> Entry | None:
        """Give that one of them which has this inode."""
        return next((some[inode] for some in self._some(path, real) if inode in some), None)

    def _some(self, path: str, real: str) -> Iterator[dict[int, Entry]]:
        target = real or os.path.realpath(path)
        for place in dict.fromkeys((path, target)):
            directory, base = os.path.split(place)
            listing = self._listed(directory)
            yield listing.rotated(base)
            if place == target != os.path.abspath(path):
                yield listing.alike(_shape(base))

    def _listed(self, directory: str) -> _Directory:
        listing = self._directories.get(directory)
        if listing is None:
            listing = self._directories[directory] = _Directory(directory)
        return listing
