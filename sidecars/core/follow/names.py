"""The names that rotation may have given to followed files, from directories read once."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator

from sidecars.core.follow.find import COMPRESSED, packed_ending, rotated

Entry = tuple[str, os.stat_result]

# As many files of one directory are asked for one by one; then an index is cheaper.
_DIRECT = 2
# File systems take times from a clock that ticks: of two changes in one tick, the second is not to be seen.
_TICK_NS = 20_000_000


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


class _Listed:
    """Some names in a directory, by what they may be rotated from. `original` is a name before it was compressed."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self._asked = 0
        self._index: dict[str, list[str]] = {}

    def rotated(self, base: str) -> list[str]:
        """Give those that rotation may have made of this name, and what was compressed under it."""
        self._asked += 1
        if self._asked <= _DIRECT:
            return [
                name
                for name, original in self.names
                if rotated(base, original) or (original == base and original != name)
            ]
        if not self._index:
            for name, original in self.names:
                for each in dict.fromkeys(_bases(original) if original == name else (original, *_bases(original))):
                    self._index.setdefault(each, []).append(name)
        return self._index.get(base, [])

    def alike(self, shape: str) -> list[str]:
        """Give those of this shape."""
        return [name for name, original in self.names if _shape(original) == shape]


class _Directory:
    """The names in a directory, as they were when it was first asked for, and their stats, taken once each."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._modified = self._time()
        self._quiet = time.time_ns() - self._modified > _TICK_NS
        self._plain, self._packed = _Listed(), _Listed()
        self._found: dict[tuple[str, bool, bool], dict[int, Entry]] = {}
        with contextlib.suppress(OSError):
            for name in os.listdir(path or "."):
                if not name.endswith(COMPRESSED):
                    self._plain.names.append((name, name))
                elif ending := packed_ending(name):
                    self._packed.names.append((name, name.removesuffix(ending)))

    def _time(self) -> int:
        with contextlib.suppress(OSError):
            return os.stat(self._path or ".").st_mtime_ns
        return 0

    def settled(self) -> bool:
        """Tell whether no name can have come, gone or moved on since it was listed."""
        return self._quiet and self._time() == self._modified

    def rotated(self, base: str, *, packed: bool = False) -> dict[int, Entry]:
        """Give what may be rotated from this name, by inode; packed: what was compressed of that, or of this name."""
        return self._entries((base, packed, False))

    def alike(self, shape: str, *, packed: bool = False) -> dict[int, Entry]:
        """Give what has this name but for its numbers, by inode."""
        return self._entries((shape, packed, True))

    def _entries(self, key: tuple[str, bool, bool]) -> dict[int, Entry]:
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = {}
            wanted, packed, alike = key
            listed = self._packed if packed else self._plain
            for name in listed.alike(wanted) if alike else listed.rotated(wanted):
                with contextlib.suppress(OSError):
                    path = os.path.join(self._path, name)
                    status = os.stat(path)
                    found[status.st_ino] = (path, status)
        return found


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

    def packed(self, path: str, real: str = "") -> list[Entry]:
        """Give the compressed files that may be of what was under `path`, or of what symlinks led to, with stats."""
        found: dict[int, Entry] = {}
        for some in self._some(path, real, packed=True):
            found |= some
        return list(found.values())

    def settled(self) -> bool:
        """Tell whether nothing can have been overlooked because a name was given while they were read."""
        return all(directory.settled() for directory in self._directories.values())

    def _some(self, path: str, real: str, *, packed: bool = False) -> Iterator[dict[int, Entry]]:
        target = real or os.path.realpath(path)
        for place in dict.fromkeys((path, target)):
            directory, base = os.path.split(place)
            listing = self._listed(directory)
            yield listing.rotated(base, packed=packed)
            if place == target != os.path.abspath(path):
                yield listing.alike(_shape(base), packed=packed)

    def _listed(self, directory: str) -> _Directory:
        listing = self._directories.get(directory)
        if listing is None:
            listing = self._directories[directory] = _Directory(directory)
        return listing
