"""The ways in which programs and logrotate keep a log from growing for ever."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from io import FileIO

# Takes the open log and the number of old ones to keep; returns the file to go on writing to.
Rotate = Callable[[FileIO, int], FileIO]


class RotatedLog:
    """A log file that is rotated when it is full, and of which a few old ones are kept.

    The rotation comes before a record, not after one: copytruncate loses what the follower has not read yet, so that
    there must be time between the last write and the truncation.
    """

    def __init__(self, path: str, rotate: Rotate, size: int, keep: int = 2) -> None:
        self.path = path
        self._rotate = rotate
        self._size = size
        self._keep = keep
        self._file = _opened(path)

    def write(self, record: bytes) -> bool:
        """Append the record; true if the log was rotated first."""
        if not os.path.exists(self.path):
            self._reopen()
        full = os.fstat(self._file.fileno()).st_size + len(record) > self._size
        if full:
            self._file = self._rotate(self._file, self._keep)
        self._file.write(record)
        return full

    def close(self) -> None:
        """Close the file; it stays on the disk."""
        self._file.close()

    def _reopen(self) -> None:
        self._file.close()
        self._file = _opened(self.path)


def logrotate(log: FileIO, keep: int) -> FileIO:
    """Rename the file to NAME.1 and go on writing to it: nginx opens a new one only when it gets its signal.

    Until then there is no file of that name, and the last lines are in the renamed one.
    """
    _rename(log, keep)
    return log


def log4j(log: FileIO, keep: int) -> FileIO:
    """Rename the file to NAME.1 and open a new one at once, as logging libraries do."""
    _rename(log, keep)
    log.close()
    return _opened(str(log.name))


def copytruncate(log: FileIO, keep: int) -> FileIO:
    """Copy the file to NAME.1 and empty it, for programs that cannot be told to reopen. The inode stays."""
    _make_room(str(log.name), keep)
    shutil.copyfile(log.name, f"{log.name}.1")
    log.truncate(0)
    return log


def _rename(log: FileIO, keep: int) -> None:
    _make_room(str(log.name), keep)
    os.rename(log.name, f"{log.name}.1")


def _make_room(path: str, keep: int) -> None:
    for number in range(keep, 1, -1):
        if os.path.exists(f"{path}.{number - 1}"):
            os.replace(f"{path}.{number - 1}", f"{path}.{number}")


def _opened(path: str) -> FileIO:
    # Unbuffered, so that a record is in the file once it is written. Appending, so that the first record after a
    # truncation stands at the start of the file and not behind a hole.
    return open(path, "ab", buffering=0)
