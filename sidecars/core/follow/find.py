"""Which paths are meant: files, globs and directories, and the names that rotation gives a file."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator

from sidecars.core.errors import WrongSettings

# A compressed file is a rotated one whose lines were read before; as bytes of a log they would be noise. Naming one
# exactly follows it all the same.
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip")
# Those of which the bytes in it can be had.
ENDINGS = (".gz", ".zst")

_MAGIC = re.compile(r"[*?\[]")
_ROTATION = re.compile(r"[.\-_~](?:\d[\dA-Za-z:.+_-]*|old|bak|backup|prev|previous|orig|save)")


def packed_ending(name: str) -> str:
    """Give the ending that says how a file is compressed; empty if it is none that can be uncompressed."""
    ending = os.path.splitext(name)[1]
    return ending if ending in ENDINGS else ""


def rotated(base: str, name: str) -> bool:
    """Tell whether `name` is what a rotation makes of the name `base`.

    app.log -> app.log.1, app.log-20261123, app.log.old, app-2026-11-23.log, app.1.log; not app-worker.log
    """
    if name == base or name.endswith(COMPRESSED):
        return False
    if name.startswith(base) and _ROTATION.fullmatch(name, len(base)):
        return True
    stem, dot, extension = base.rpartition(".")
    ending = dot + extension
    if not stem or not dot or not name.startswith(stem) or not name.endswith(ending):
        return False
    return _ROTATION.fullmatch(name, len(stem), len(name) - len(ending)) is not None


class _Glob:
    """A pattern by the rules of glob.glob: `*` stops at a slash, `**` means folders, nothing hidden unless by a dot."""

    def __init__(self, pattern: str) -> None:
        names = pattern.split("/")
        if names[-1] == "**":
            names.append("*")  # what is in any of those folders
        self._segments = [None if name == "**" else _segment(name) for name in names]

    def matches(self, path: str) -> bool:
        """Tell whether the pattern means all of this path. In time proportional to its length times the pattern's."""
        reached = {0}
        for name in path.split("/"):
            folders = {state for state in reached if self._is_folders(state) and not name.startswith(".")}
            named = {state + 1 for state in self._past_folders(reached) if self._names(state, name)}
            reached = folders | named
        return len(self._segments) in reached

    def _is_folders(self, state: int) -> bool:
        return state < len(self._segments) and self._segments[state] is None

    def _past_folders(self, reached: set[int]) -> Iterator[int]:
        """Give these states, and those after each `**`, which may mean no folder at all."""
        for state in reached:
            yield state
            while self._is_folders(state):
                state += 1
                yield state

    def _names(self, state: int, name: str) -> bool:
        expression = self._segments[state] if state < len(self._segments) else None
        return expression is not None and expression.match(name) is not None


def _segment(pattern: str) -> re.Pattern[str]:
    hidden = pattern.startswith(".") or not _MAGIC.search(pattern)
    return re.compile(("" if hidden else r"(?!\.)") + fnmatch.translate(pattern))


class Patterns:
    """The paths of one source: each a file, a glob or a directory (its regular files, not those of folders in it)."""

    def __init__(self, paths: tuple[str, ...], exclude: tuple[str, ...] = ()) -> None:
        self.paths = tuple(os.path.normpath(path) if path else path for path in paths)
        self._globs = {path: _Glob(path) for path in self.paths if _MAGIC.search(path)}
        self._exclude_names = tuple(_Glob(pattern) for pattern in exclude if "/" not in pattern)
        self._exclude_paths = tuple(_Glob(pattern) for pattern in exclude if "/" in pattern)

    def literal(self) -> Iterator[str]:
        """Give the paths that are no globs: each is waited for until it is there."""
        return (path for path in self.paths if path not in self._globs or os.path.lexists(path))

    def matches(self, path: str) -> bool:
        """Tell whether this source means `path`."""
        if path in self.paths:
            return True
        if not self._wanted(path):
            return False
        if not os.path.basename(path).startswith(".") and (os.path.dirname(path) or ".") in self.paths:
            return True
        return any(pattern.matches(path) for pattern in self._globs.values())

    def excludes(self, path: str) -> bool:
        """Tell whether an --exclude pattern means `path`: by its name, or by all of it if the pattern has a slash."""
        name = os.path.basename(path)
        return any(pattern.matches(name) for pattern in self._exclude_names) or any(
            pattern.matches(path) for pattern in self._exclude_paths
        )

    def found(self) -> Iterator[str]:
        """Give every path there is now; one that is no glob and no directory is given whether it is there or not."""
        for path in self.paths:
            if path in self._globs and not os.path.lexists(path):
                yield from (hit for hit in glob.iglob(path, recursive=True) if self._kept(hit))
            elif os.path.isdir(path):
                with contextlib.suppress(OSError), os.scandir(path) as entries:
                    yield from (
                        os.path.normpath(entry.path)
                        for entry in entries
                        if not entry.name.startswith(".") and not entry.is_dir() and self._wanted(entry.path)
                    )
            else:
                yield path

    def _kept(self, path: str) -> bool:
        return self._wanted(path) and not os.path.isdir(path)

    def _wanted(self, path: str) -> bool:
        return not path.endswith(COMPRESSED) and not self.excludes(path)

    def directories(self) -> Iterator[str]:
        """Give the directories whose changes can bring or take a path of this source; missing ones by their parent."""
        for path in self.paths:
            if os.path.isdir(path):
                yield path
            directory = path if path.endswith("**") else os.path.dirname(path) or "."
            if _MAGIC.search(directory):
                yield from self._above(directory)
            else:
                yield _existing(directory)

    def _above(self, directory: str) -> Iterator[str]:
        segments = directory.split("/")
        for count in range(1, len(segments) + 1):
            prefix = "/".join(segments[:count]) or "/"
            if not _MAGIC.search(prefix):
                continue
            yield _existing(os.path.dirname(prefix) or ".")
            yield from (os.path.normpath(hit) for hit in glob.iglob(prefix, recursive=True) if os.path.isdir(hit))


def _existing(directory: str) -> str:
    while not os.path.isdir(directory):
        parent = os.path.dirname(directory) or "."
        if parent == directory:
            break
        directory = parent
    return directory


def check_state_dir(state_dir: str | None, paths: Iterable[str], exclude: Iterable[str]) -> None:
    """Raise WrongSettings for a --state-dir in which these paths find files."""
    if state_dir is None or state_dir == "off":
        return
    absolute = tuple(map(os.path.abspath, paths))
    left_out = tuple(os.path.abspath(pattern) if "/" in pattern else pattern for pattern in exclude)
    if Patterns(absolute, left_out).matches(os.path.join(os.path.abspath(state_dir), "state.json")):
        raise WrongSettings(
            f"--state-dir is {state_dir}, where its files would be read as logs; choose another directory"
        )
