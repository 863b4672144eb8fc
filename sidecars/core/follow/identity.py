"""Which file is this: facts that outlive a rename, and tell apart reused inodes, copies and refilled files."""

from __future__ import annotations

import ctypes
import hashlib
import os

import msgspec

# As much of a file's beginning as tells two logs apart (a shared banner or CSV header is shorter), and as much of what
# precedes an offset as a line with a time in it takes. 10,000 files hold the second in memory.
HEAD_BYTES = 1024
TAIL_BYTES = 128

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_BTIME_OFFSET = 80  # of struct statx, include/uapi/linux/stat.h

_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


def born(fd: int) -> int | None:
    """Give the birth time of an open file in nanoseconds, None where the file system or libc does not tell it.

    os.stat has no birth time on Linux; statx(2) has.
    """
    if _statx is None:
        return None
    answer = ctypes.create_string_buffer(256)
    if _statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, answer) != 0:
        return None
    if not int.from_bytes(answer.raw[0:4], "little") & _STATX_BTIME:
        return None
    seconds = int.from_bytes(answer.raw[_BTIME_OFFSET : _BTIME_OFFSET + 8], "little", signed=True)
    nanoseconds = int.from_bytes(answer.raw[_BTIME_OFFSET + 8 : _BTIME_OFFSET + 12], "little")
    return seconds * 1_000_000_000 + nanoseconds


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """Hash content for comparison, in 8 bytes: no log line lies readable in a checkpoint."""
    return hashlib.blake2b(data, digest_size=8).digest()


def printable(path: str) -> str:
    """Give a path as text that any encoder takes: bytes that are not UTF-8 become \\xNN."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


class Head(msgspec.Struct, frozen=True, gc=False):
    """The first bytes of a file: how many, and their hash."""

    size: int
    digest: bytes


NO_HEAD = Head(0, b"")


def head_of(fd: int, size: int = HEAD_BYTES) -> Head:
    """Hash the first bytes of an open file, as many as there are up to `size`."""
    data = os.pread(fd, size, 0)
    return Head(len(data), digest(data)) if data else NO_HEAD


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file's place in a stream: who it is, and the offset up to which it was delivered.

    path           where the file is followed; its name may be another by now
    inode, born    born in nanoseconds, None where it cannot be had; the device changes with a remount and is left out
    head           hash of the first head_bytes bytes
    offset         bytes delivered; `tail` is the hash of the tail_bytes bytes before it
    partial        the offset lies inside a line
    modified       the file's mtime in nanoseconds when it was last looked at
    real           where symlinks led, if the path was or passed one
    done           the file is gone from there; compressed, its content may be met again
    """

    path: str
    inode: int
    born: int | None
    head: bytes
    head_bytes: int
    offset: int
    tail: bytes
    tail_bytes: int
    modified: int
    partial: bool = False
    real: str = ""
    done: bool = False


def same_content(fd: int, position: Position) -> bool:
    """Tell whether an open file begins as the one of this position did, and has the same bytes before the offset."""
    if head_of(fd, position.head_bytes).digest != position.head and position.head_bytes:
        return False
    return same_tail(fd, position)


def same_tail(fd: int, position: Position) -> bool:
    """Tell whether the bytes before the offset are the delivered ones."""
    if not position.tail_bytes:
        return True
    data = os.pread(fd, position.tail_bytes, position.offset - position.tail_bytes)
    return len(data) == position.tail_bytes and digest(data) == position.tail
