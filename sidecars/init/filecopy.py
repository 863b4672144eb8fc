"""One file copied by the kernel: as a clone where the file system can, else without its bytes passing through here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable

from sidecars.core.errors import Transient
from sidecars.init.tree import Entry

_CLONE = 0x40049409  # FICLONE of linux/fs.h
_PIECE = 64 << 20  # bytes between two looks at the clock
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


def copy_file(source: str, target: str, found: Entry, wanted: Entry, progress: Progress) -> None:
    """Copy a file, with the permissions that are wanted, and its time at last.

    Raises Transient when the source is not, or does not stay, what was found; OSError that names a path.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(reading, source, found)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)  # It may be read-only, or a program that runs.
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            count = _copy(reading, writing, found.size, progress)
            _check(reading, source, found)
            if count != found.size:
                raise Transient(f"{source} was {found.size} bytes long, and {count} came")
            os.fchmod(writing, wanted.mode)
            os.utime(writing, ns=(wanted.mtime_ns, wanted.mtime_ns))
        except OSError as error:
            raise OSError(error.errno, error.strerror, target) from error
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _check(descriptor: int, path: str, found: Entry) -> None:
    status = os.fstat(descriptor)
    if (status.st_size, status.st_mtime_ns) != (found.size, found.mtime_ns):
        raise Transient(f"{path} changes while it is copied")


def _copy(reading: int, writing: int, size: int, progress: Progress) -> int:
    with contextlib.suppress(OSError):
        fcntl.ioctl(writing, _CLONE, reading)
        progress(size)
        return size
    for way in (_in_kernel, _by_sendfile):
        try:
            return _all(way, reading, writing, progress)
        except OSError as error:
            if error.errno not in _UNABLE or os.lseek(writing, 0, os.SEEK_CUR):
                raise
            os.lseek(reading, 0, os.SEEK_SET)
    return _all(_through_memory, reading, writing, progress)


def _all(way: Callable[[int, int], int], reading: int, writing: int, progress: Progress) -> int:
    total = 0
    while count := way(reading, writing):
        total += count
        progress(count)
    return total


def _in_kernel(reading: int, writing: int) -> int:
    return os.copy_file_range(reading, writing, _PIECE)


def _by_sendfile(reading: int, writing: int) -> int:
    return os.sendfile(writing, reading, None, _PIECE)


def _through_memory(reading: int, writing: int) -> int:
    data = os.read(reading, 1 << 20)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(writing, rest) :]
    return len(data)


def digest(path: str) -> Callable[[], str]:
    """Begin to compute the SHA-256 of a file, in a thread; call what is returned to wait for it, in hex."""
    import hashlib

    found: list[str] = []
    failed: list[OSError] = []

    def compute() -> None:
        try:
            with open(path, "rb", buffering=0) as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=compute, name="digest", daemon=True)
    thread.start()

    def result() -> str:
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    return result


def same(source: str, target: str) -> tuple[bool, str]:
    """Whether two files have the same digest, and the source's."""
    begun = digest(source), digest(target)
    first, second = (each() for each in begun)
    return first == second, first
