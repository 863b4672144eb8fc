"""Bounded descriptors: of 10,000 followed files, those that were read last are open."""

from __future__ import annotations

from collections import OrderedDict

from sidecars.core.follow.file import File
from sidecars.core.follow.names import Names
from sidecars.core.follow.succession import Identity


class Descriptors:
    """Open files, the one that was used longest ago first.

    A rotated file has lost its place under its path, perhaps even its last name: it stays open until it is read. When
    rotations come so fast that those waiting for late writers alone are too many, the first of them wait no longer:
    the files under the paths now are worth more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[Identity, File] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, file: File) -> None:
        """Take an open file in; close those that were idle longest if there are too many now."""
        self._open[file.identity] = file
        self._open.move_to_end(file.identity)
        surplus = len(self._open) - self._limit
        if surplus > 0:
            spare = (idle for idle in self._open.values() if idle is not file and _can_wait_closed(idle))
            for idle in [idle for _, idle in zip(range(surplus), spare, strict=False)]:
                self.close(idle)

    def close(self, file: File) -> None:
        """Close a file; its offset is kept."""
        file.close()
        if self._open.get(file.identity) is file:
            del self._open[file.identity]

    def close_all(self) -> None:
        """Close every file."""
        for file in list(self._open.values()):
            self.close(file)

    def ensure(self, file: File) -> bool:
        """Have a file open, under whatever name it has now; False when it is nowhere any more. Raises OSError."""
        if file.open:
            self._open.move_to_end(file.identity)
            return True
        if self.reopen(file, file.path):
            return True
        return any(self.reopen(file, path) for path, _ in Names().of(file.path, file.real))

    def reopen(self, file: File, path: str) -> bool:
        """Open a closed file under this path, if it is the same file still."""
        try:
            if not file.reopen(path):
                return False
        except FileNotFoundError:
            return False
        self.add(file)
        return True


def _can_wait_closed(file: File) -> bool:
    return file.rotated_at is None or file.offset >= file.size
