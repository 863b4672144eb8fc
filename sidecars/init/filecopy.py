"""One file copied by the kernel: as a clone where the file system can, else without its bytes passing through here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator

from sidecars.core.errors import Transient
from sidecars.init.tree import Entry

_CLONE = 0x40049409  # FICLONE of linux/fs.h
_PIECE = 64 << 20  # bytes between two looks at the clock
_BUFFER = 1 << 20
# What says that a way of copying does not work between these two files.
_UNABLE = (
    errno.EXDEV,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EBADF,
    errno.EPERM,
    errno.ETXTBSY,
)

Progress = Callable[[int], None]
Extents = list[tuple[int, int]]


def copy_file(source: str, target: str, found: Entry, wanted: Entry, progress: Progress) -> None:
    """Copy a file, with the permissions that are wanted, and its time at last, so that a part of one is known by it.

    Holes stay holes. Raises Transient when the source is not, or does not stay, what was found; OSError that names a
    path.
    """
    try:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Transient(f"{source} was removed while it was to be copied") from error
    try:
        _check(reading, source, found)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)  # It may be read-only, or a program that runs.
        writing = _created(target)
        try:
            _copy(reading, writing, progress)
            _check(reading, source, found)
            os.fchmod(writing, wanted.mode)
            os.utime(writing, ns=(wanted.mtime_ns, wanted.mtime_ns))
        except OSError as error:
            raise OSError(error.errno, error.strerror, target) from error
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def fill(source: str, writing: int, found: Entry, progress: Progress) -> None:
    """Copy a file's bytes into an open and empty one. Raises Transient and OSError as copy_file does."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(reading, source, found)
        _copy(reading, writing, progress)
        _check(reading, source, found)
    finally:
        os.close(reading)


def _created(target: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(target, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return os.open(target, flags, 0o600)


def _check(descriptor: int, path: str, found: Entry) -> None:
    status = os.fstat(descriptor)
    if (status.st_size, status.st_mtime_ns) != (found.size, found.mtime_ns):
        raise Transient(f"{path} changes while it is copied")


def _copy(reading: int, writing: int, progress: Progress) -> None:
    status = os.fstat(reading)
    with contextlib.suppress(OSError):
        fcntl.ioctl(writing, _CLONE, reading)
        progress(status.st_size)
        return
    extents = [(0, status.st_size)]
    if status.st_blocks * 512 < status.st_size:
        extents = list(_data(reading, status.st_size))
        os.ftruncate(writing, status.st_size)
    if not _is_copied(_in_kernel, reading, writing, extents, progress) and not _is_copied(
        _by_sendfile, reading, writing, extents, progress
    ):
        _all(_through_memory, reading, writing, extents, progress)


def _data(reading: int, size: int) -> Iterator[tuple[int, int]]:
    """Give where the data are in a file with holes, as (offset, length)."""
    end = 0
    while end < size:
        try:
            start = os.lseek(reading, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(reading, start, os.SEEK_HOLE)
        yield start, end - start


Way = Callable[[int, int, int], int]


def _is_copied(way: Way, reading: int, writing: int, extents: Extents, progress: Progress) -> bool:
    """Copy this way, if it works between these two files; some file systems say that it does, and copy nothing."""
    try:
        return _all(way, reading, writing, extents, progress) > 0 or not sum(length for _, length in extents)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        return False


def _all(way: Way, reading: int, writing: int, extents: Extents, progress: Progress) -> int:
    total = 0
    for start, left in extents:
        os.lseek(reading, start, os.SEEK_SET)
        os.lseek(writing, start, os.SEEK_SET)
        while left:
            count = way(reading, writing, min(left, _PIECE))
            if not count:
                # Whatever ends early has become shorter, which its size or its time shows.
                return total
            total, left = total + count, left - count
            progress(count)
    return total


def _in_kernel(reading: int, writing: int, length: int) -> int:
    return os.copy_file_range(reading, writing, length)


def _by_sendfile(reading: int, writing: int, length: int) -> int:
    return os.sendfile(writing, reading, None, length)


def _through_memory(reading: int, writing: int, length: int) -> int:
    data = os.read(reading, min(length, _BUFFER))
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(writing, rest) :]
    return len(data)


def digest(path: str, look: Callable[[], None]) -> str:
    """Compute the SHA-256 of a file, in hex; `look` is called now and then, to see whether there is time left."""
    import hashlib

    sha256 = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sha256.update(buffer[:count])
            look()
    return sha256.hexdigest()


def same(source: str, target: str, look: Callable[[], None]) -> tuple[bool, str]:
    """Whether two files have the same digest, and the source's; large ones are read both at a time."""
    if os.path.getsize(source) < _BUFFER:
        first, second = digest(source, look), digest(target, look)
        return first == second, first
    found: list[str] = []
    failed: list[Exception] = []

    def compute() -> None:
        try:
            found.append(digest(target, look))
        except Exception as error:  # noqa: BLE001  (it is raised by who waits for this thread)
            failed.append(error)

    thread = threading.Thread(target=compute, name="digest", daemon=True)
    thread.start()
    first = digest(source, look)
    thread.join()
    if failed:
        raise failed[0]
    return first == found[0], first
