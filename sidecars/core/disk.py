"""Files, directories and symlinks replaced so that a crash or a power cut leaves the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator

from sidecars.core.errors import SidecarError

_TEMPORARY = ".tmp-sidecars"
_LOCK = ".lock"


class Locked(SidecarError):  # noqa: N818
    """Another process holds the lock of a directory."""


def replace_file(path: str, data: bytes, mode: int = 0o660) -> None:
    """Write the data under the path, durably; whoever opens the path meets the old content or the new, never a part.

    The mode lets the volume's group in, because fsGroup is what a later pod with another uid shares with this one.
    Raises OSError that names the path.
    """

    def write(temporary: str) -> None:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)  # The umask has taken bits away.
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    _replace(path, write)


def replace_symlink(path: str, target: str) -> None:
    """Make the path a symlink to the target, durably. Raises OSError that names the path."""
    _replace(path, lambda temporary: os.symlink(target, temporary))


def replace_directory(path: str, source: str) -> None:
    """Move the directory source to the path, durably; a directory that was there is gone afterwards.

    Both must be on one filesystem. Raises OSError that names the path.
    """
    with _naming(path):
        _sync_tree(source)
        if os.path.isdir(path) and not os.path.islink(path):
            exchange(source, path)
            shutil.rmtree(source)
        else:
            os.rename(source, path)
        sync_directory(_parent(path))
        if _parent(source) != _parent(path):
            sync_directory(_parent(source))


def sync_directory(path: str) -> None:
    """Make the names in a directory durable: a rename is on the disk only after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(one: str, other: str) -> None:
    """Swap two names of one filesystem at once, not yet durably; raises OSError where the filesystem cannot."""
    import ctypes  # a MiB that few need

    libc = ctypes.CDLL(None, use_errno=True)
    here, swap = -100, 2  # renameat2 with RENAME_EXCHANGE, which the os module does not have
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), other)


@contextlib.contextmanager
def lock(directory: str) -> Iterator[None]:
    """Hold the directory for this process, until the block or the process ends; raises Locked if another one holds it.

    What a killed holder has left half written is removed.
    """
    descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"directory {directory} is locked by another process; give each process its own") from None
        _remove_leftovers(directory)
        yield
    finally:
        os.close(descriptor)  # The file stays: were it removed, two processes could each lock a file of that name.


def _replace(path: str, write: Callable[[str], None]) -> None:
    parent = _parent(path)
    temporary = os.path.join(parent, f".{os.path.basename(path)}.{secrets.token_hex(4)}{_TEMPORARY}")
    with _naming(path):
        try:
            write(temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_directory(parent)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """An error names the path that was to be written, not a temporary name or nothing."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _parent(path: str) -> str:
    return os.path.dirname(path) or "."


def _remove_leftovers(directory: str) -> None:
    for name in os.listdir(directory):
        if name.startswith(".") and name.endswith(_TEMPORARY):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))


def _sync_tree(path: str) -> None:
    for folder, _, files in os.walk(path):
        for name in files:
            file = os.path.join(folder, name)
            if not os.path.islink(file):
                descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        sync_directory(folder)
