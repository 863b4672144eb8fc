"""Every file that is or was followed, by inode, until nothing can confuse it with another any more."""

from __future__ import annotations

import os

from sidecars.core.follow.descriptors import Descriptors
from sidecars.core.follow.file import File
from sidecars.core.follow.succession import Identity, holds


class Registry:
    """The known files.

    led      paths that symlinks lead away from, since somebody last asked
    changed  whether a file came since somebody last asked
    """

    def __init__(self, open_files: int) -> None:
        self.files: dict[Identity, File] = {}
        self.descriptors = Descriptors(open_files)
        self.led: set[str] = set()
        self.changed = True
        self._targets: dict[str, str] = {}

    def add(self, file: File) -> None:
        """Take in an open file."""
        stale = self.files.get(file.identity)
        if stale is not None and stale is not file:
            self.descriptors.close(stale)
            _leave(stale)
        self.files[file.identity] = file
        if file.real:
            self._targets[file.real] = file.path
            self.led.add(file.path)
        self.changed = True
        self.descriptors.add(file)

    def path_to(self, target: str) -> str:
        """Give the followed path whose symlink leads to this one; empty if there is none."""
        return self._targets.get(target, "")

    def is_still(self, file: File, path: str) -> bool:
        """Tell whether a known inode is the same file still: a closed one's number may have been given away."""
        return file.open or self.descriptors.reopen(file, path)

    def under(self, path: str, status: os.stat_result) -> File | None:
        """Give the known file that a stat of this path is of; None for an unknown one."""
        file = self.files.get((status.st_dev, status.st_ino))
        return file if file is not None and self.is_still(file, path) else None

    def is_same(self, file: File, status: os.stat_result, path: str) -> bool:
        """Tell whether a stat is of this file. A closed one's inode may have been given to another since it changed."""
        if file.identity != (status.st_dev, status.st_ino):
            return False
        return file.open or file.unchanged(status) or self.is_still(file, path)

    def knows(self, file: File) -> bool:
        """Tell whether this open file is one of those, and not a new one with an inode of theirs."""
        known = self.files.get(file.identity)
        if known is None or known is file:
            return known is not None
        if known.open or (known.born == file.born and known.born is not None):
            return True
        return known.born == file.born and holds(file, known.position())

    def holds_open(self, status: os.stat_result) -> bool:
        """Tell from a stat alone that a file is known."""
        known = self.files.get((status.st_dev, status.st_ino))
        return known is not None and known.open

    def forget(self, used: set[Identity]) -> None:
        """Drop the files that are not used, unless they are so young that a listing may take them for unknown ones."""
        for identity in self.files.keys() - used:
            file = self.files[identity]
            if (file.born or file.modified) <= file.lane.since:
                _leave(file)
                self.descriptors.close(file)
                self._targets.pop(file.real, None)
                del self.files[identity]


def _leave(file: File) -> None:
    """Let its lane remember what was delivered of a file that is known by its inode no longer."""
    acked = file.acked
    if acked is not None and acked.generation == file.generation and acked.offset:
        file.lane.leave(file.position())
