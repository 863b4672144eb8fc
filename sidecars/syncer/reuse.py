"""A worktree's unchanged files, hard-linked into the next one: of 20,000 files, only the changed one is written."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterator

_ENTRY = struct.Struct(">10I20sH")
_REGULAR = 0o100000
_EXTENDED, _SKIPPED = 0x4000, 0x4000
_ODD_FLAGS = 0xB000  # assumed unchanged by someone's order, or one side of a conflict
_ODD_EXTENSIONS = {b"link", b"sdir"}  # a split index, a sparse index: not all entries are in this file
_TICK, _COARSE = 20_000_000, 2_000_000_000  # nanoseconds between two times of a file; without fractions of a second


class NotReusable(Exception):  # noqa: N818
    """The worktree, or its index, is not what a plain checkout leaves behind."""


# A regular file as git left it: its path, whether it is executable, and (mtime in ns, inode, uid, gid, size) of it, the
# last four modulo 2**32. A tuple, because there are 20,000 of them between a push and its publication.
Entry = tuple[bytes, bool, tuple[int, int, int, int, int]]


def entries(index: bytes) -> Iterator[Entry]:
    """The regular files that an index (version 2 or 3) says are in the worktree.

    Raises NotReusable for what a plain checkout does not leave behind, and for a damaged index.

    Source: git, Documentation/gitformat-index.txt.
    """
    if len(index) < 32 or index[:4] != b"DIRC":
        raise NotReusable("no index")
    # Were a path in it damaged, the link would be made somewhere else. Zeros: index.skipHash.
    if index[-20:] not in (bytes(20), hashlib.sha1(index[:-20], usedforsecurity=False).digest()):
        raise NotReusable("a damaged index")
    version, count = struct.unpack_from(">II", index, 4)
    if version not in (2, 3):
        raise NotReusable(f"index version {version}")
    try:
        yield from _entries(index, count)
    except (struct.error, ValueError) as error:
        raise NotReusable("a damaged index") from error


def link(index: bytes, written: int, source: str, target: str, mask: int) -> int:
    """Hard-link the source's files that are as git left them into the target; how many.

    The index is the source's, written at that time (ns). A file that is gone or was replaced is left out: git writes it
    anew. So is one written in the same tick of the clock as the index, whose change would show no other time. The mask
    is the umask the source was made with. A change that keeps size and modification time cannot be seen: links to a
    file change its ctime.

    Raises NotReusable when a file was changed in place: whoever does that does it again, and would do it to both.
    """
    last = written - (_TICK if written % 1_000_000 else _COARSE)
    modes = (_REGULAR | 0o666 & ~mask, _REGULAR | 0o777 & ~mask)
    old, new = os.fsencode(source) + b"/", os.fsencode(target) + b"/"
    folder, low, linked = b"", 0xFFFFFFFF, 0
    for path, executable, seen in entries(index):
        try:
            mode, inode, _, _, uid, gid, size, *_ = found = os.lstat(old + path)
            moment = found.st_mtime_ns
            if (moment, inode & low, uid & low, gid & low, size & low) != seen or mode != modes[executable]:
                if inode & low == seen[1] and mode & _REGULAR:
                    raise NotReusable(f"{os.fsdecode(path)} was changed in place")
                continue
            if moment >= last:
                continue
            parent = path.rpartition(b"/")[0]
            if parent != folder:
                folder = parent
                make_directories(new, folder, mask)
            os.link(old + path, new + path)
            linked += 1
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EMLINK, errno.ELOOP):
                raise NotReusable(f"{error.strerror}: {source}") from error
    return linked


def make_directories(base: bytes, path: bytes, mask: int) -> None:
    """Make the directories of a path below base/, with the mode that the mask leaves, whatever this process's umask."""
    if not path or os.path.isdir(base + path):
        return
    make_directories(base, os.path.dirname(path), mask)
    os.mkdir(base + path)
    mode = os.stat(base + path).st_mode & 0o7777
    wanted = mode & ~0o777 | 0o777 & ~mask
    if mode != wanted:
        os.chmod(base + path, wanted)


def _entries(index: bytes, count: int) -> Iterator[Entry]:
    unpack, size_of, at = _ENTRY.unpack_from, _ENTRY.size, 12
    for _ in range(count):
        _, _, seconds, fraction, _, inode, mode, uid, gid, size, _, flags = unpack(index, at)
        begin, skipped = at + size_of, False
        if flags & _ODD_FLAGS:
            raise NotReusable("an index with marks or conflicts")
        if flags & _EXTENDED:
            skipped = bool(struct.unpack_from(">H", index, begin)[0] & _SKIPPED)
            begin += 2
        end = index.index(b"\0", begin + (flags & 0xFFF))
        if mode & 0o170000 == _REGULAR and not skipped:
            yield index[begin:end], bool(mode & 0o100), (seconds * 1_000_000_000 + fraction, inode, uid, gid, size)
        at += (end - at + 8) & ~7
    _check_extensions(index, at)


def _check_extensions(index: bytes, at: int) -> None:
    while at < len(index) - 20:
        name, size = struct.unpack_from(">4sI", index, at)
        if name in _ODD_EXTENSIONS:
            raise NotReusable(f"an index with {name.decode()}")
        at += 8 + size
