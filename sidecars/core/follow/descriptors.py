"""Bounded descriptors: of 10,000 followed files, those that were read last are open."""

from __future__ import annotations

from collections import OrderedDict

from sidecars.core.follow.file import File
from sidecars.core.follow.names import Names
from sidecars.core.follow.succession import Identity


class Descriptors:
    """Open files, the one that was used longest ago first.

    A rotated file has lost its place under its path, perhaps even its last name: it stays open until it is read, and
    is not counted. While a receiver is away there may be more of these than the limit; they must not push out the files
    under the paths now, which are rotated or removed next. Those that wait for late writers alone are counted: when
    rotations come so fast that they are too many, the first of them wait no longer.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[Identity, File] = OrderedDict()
        self._unread: dict[Identity, File] = {}

    def __len__(self) -> int:
        return len(self._open) + len(self._unread)

    def add(self, file: File) -> None:
        """Take an open file in; close those that were idle longest if there are too many now."""
        self._use(file)
        while len(self._open) > self._limit:
            identity, idle = next(iter(self._open.items()))
            if _can_wait_closed(idle):
                self.close(idle)
            else:
                self._unread[identity] = self._open.pop(identity)

    def _use(self, file: File) -> None:
        self._unread.pop(file.identity, None)
        self._open[file.identity] = file
        self._open.move_to_end(file.identity)

    def keep(self, file: File) -> None:
        """Do not count a file that was rotated away, as long as it has something to read."""
        if not _can_wait_closed(file) and self._open.get(file.identity) is file:
            self._unread[file.identity] = self._open.pop(file.identity)

    def close(self, file: File) -> None:
        """Close a file; its offset is kept."""
        file.close()
        for files in (self._open, self._unread):
            if files.get(file.identity) is file:
                del files[file.identity]

    def close_all(self) -> None:
        """Close every file."""
        for file in (*self._open.values(), *self._unread.values()):
            self.close(file)

    def ensure(self, file: File) -> bool:
        """Have a file open, under whatever name it has now; False when it is nowhere any more. Raises OSError."""
        if file.open:
            self._use(file)
            return True
        if self.reopen(file, file.path):
            return True
        names = Names()
        entries = names.packed(file.path, file.real) if file.packed else names.of(file.path, file.real)
        return any(self.reopen(file, path) for path, _ in entries)

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
