"""What records are read from: files, opened once for all who read them, and what has no file behind it."""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import Protocol

from sidecars.adapter.web.cursor import BEFORE_BYTES, Place, digest, key


class Source(Protocol):
    """Bytes that grow at their end. `begin` is above 0 where the first ones are kept no more."""

    path: str
    inode: int

    @property
    def begin(self) -> int:
        """The offset of the first byte there is."""

    def size(self) -> int:
        """Give the offset after the last byte."""

    def modified(self) -> float:
        """Give when it last changed, in seconds since 1970."""

    def read(self, start: int, end: int) -> bytes:
        """Give the bytes of a range, fewer where there are no more."""

    def close(self) -> None:
        """Let go of it; once for each time it was opened."""


class File:
    """An open file, shared by all who read it."""

    begin = 0

    def __init__(self, shelf: Shelf, path: str, fd: int, status: os.stat_result) -> None:
        self._shelf = shelf
        self._fd = fd
        self.path = path
        self.inode = status.st_ino
        self.identity = (status.st_dev, status.st_ino, path)
        self.readers = 1

    def size(self) -> int:
        """Give its size."""
        return os.fstat(self._fd).st_size

    def modified(self) -> float:
        """Give its mtime."""
        return os.fstat(self._fd).st_mtime

    def read(self, start: int, end: int) -> bytes:
        """Read a range."""
        return os.pread(self._fd, end - start, start)

    def close(self) -> None:
        """Close it when nobody else reads it."""
        self._shelf.leave(self)

    def shut(self) -> None:
        """Close it."""
        os.close(self._fd)


class Shelf:
    """The open files. Threads use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int, str], File] = {}

    def open(self, path: str, name: str | None = None) -> File | None:
        """Open a file; None where there is none, or it is no file, or it may not be read.

        With a name the file goes by it: the path at which it is followed, though it lies elsewhere since a rotation.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except (OSError, ValueError):
            return None
        status = os.fstat(fd)
        with self._lock:
            known = self._open.get((status.st_dev, status.st_ino, name or path))
            if known is None and stat.S_ISREG(status.st_mode):
                file = File(self, name or path, fd, status)
                self._open[file.identity] = file
                return file
            if known is not None:
                known.readers += 1
        os.close(fd)
        return known

    def leave(self, file: File) -> None:
        """One reader less."""
        with self._lock:
            file.readers -= 1
            if not file.readers:
                del self._open[file.identity]
                file.shut()


class Queue(Protocol):
    """What holds that which has no file behind it; inputs.queue.Queue is one."""

    @property
    def position(self) -> int:
        """How many bytes were taken since the start."""

    def recent(self, after: int = 0) -> list[tuple[str, bytes]]:
        """Give the last bytes by origin, in the order they came; with an earlier position, only what came since."""


class Origin:
    """The last bytes of what has no file behind it: the standard input, syslog, POST."""

    def __init__(self, path: str, keep: int, inode: int) -> None:
        self._lock = threading.Lock()
        self._keep = keep
        self._data = bytearray()
        self._modified = time.time()
        self.path = path
        self.inode = inode
        self.begin = 0

    def size(self) -> int:
        """Give how many bytes there were."""
        return self.begin + len(self._data)

    def modified(self) -> float:
        """Give when the last came."""
        return self._modified

    def read(self, start: int, end: int) -> bytes:
        """Give a range of what is kept."""
        with self._lock:
            return bytes(self._data[max(0, start - self.begin) : max(0, end - self.begin)])

    def close(self) -> None:
        """Nothing is open."""

    def add(self, data: bytes) -> None:
        """Take what came, and let go of whole lines that came long before it."""
        with self._lock:
            self._data += data
            self._modified = time.time()
            if len(self._data) > 2 * self._keep:
                cut = self._data.find(b"\n", len(self._data) - self._keep) + 1 or len(self._data)
                del self._data[:cut]
                self.begin += cut


class Origins:
    """What has no file behind it, by origin; brought up to date on the event loop, where the queue lives."""

    _MOST = 64

    def __init__(self, queue: Queue | None, keep: int) -> None:
        self._queue = queue
        self._keep = max(keep, 1 << 16) // 2
        self._position = 0
        # A cursor of an earlier run finds nothing of its own here.
        self._inode = int.from_bytes(os.urandom(7), "big")
        self.by_path: dict[str, Origin] = {}

    def refresh(self) -> None:
        """Take what came since the last time."""
        if self._queue is None or self._queue.position == self._position:
            return
        pieces, self._position = self._queue.recent(self._position), self._queue.position
        for path, data in pieces:
            if path not in self.by_path and len(self.by_path) >= self._MOST:
                path = "others"
            self.by_path.setdefault(path, Origin(path, self._keep, self._inode)).add(data)


def place(source: Source, offset: int) -> Place:
    """Give the place of an offset in a source."""
    before = source.read(max(source.begin, offset - BEFORE_BYTES), offset)
    return Place(key(source.path), source.inode, offset, len(before), digest(before))


def holds(source: Source, place: Place) -> bool:
    """Tell whether a place is still what it was: the file was not truncated since."""
    if place.inode != source.inode or place.offset > source.size():
        return False
    before = source.read(place.offset - place.count, place.offset)
    return len(before) == place.count and digest(before) == place.digest if place.offset > source.begin else True
