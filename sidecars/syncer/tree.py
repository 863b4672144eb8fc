"""A directory tree that others may change at any time: looked through and changed without ever following a symlink."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
# What copy_file_range(2) says where the filesystems cannot do it.
_NOT_BY_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)


class Seen(NamedTuple):
    """What lstat(2) tells of a name; times in nanoseconds."""

    mode: int
    inode: int
    size: int
    mtime: int
    ctime: int

    @property
    def kind(self) -> int:
        """A directory, a regular file, a symlink, ..."""
        return stat.S_IFMT(self.mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def permissions(self) -> int:
        """Who may read, write and execute; not the bits that directories inherit."""
        return self.mode & 0o777


def seen(found: os.stat_result) -> Seen:
    """Keep of a stat what is needed: there may be 20,000."""
    return Seen(found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Tree:
    """A tree below a directory, whose paths are relative to it: "a/b". Raises OSError.

    The directory is opened once. Each step to what is below it refuses to pass through a symlink, so that nothing
    outside is read or changed, whatever somebody puts in the place of a directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._top = os.open(path, _FOLDER)
        self._folder, self._descriptor = "", os.dup(self._top)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        os.close(self._top)

    def scan(self, skip: Callable[[str, str], bool], *, whole: bool = False) -> dict[str, Seen]:
        """Look at all there is, but at no other volume that is mounted in it.

        Names are skipped for which skip(folder, name) is true; the folder ends in a slash, or is empty at the top.
        A directory that goes away meanwhile, or may not be read, counts as empty, unless it must be the whole tree.
        """
        ignored = () if whole else (FileNotFoundError, NotADirectoryError, PermissionError)
        found: dict[str, Seen] = {}
        mounted = mounts(self.path)
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with contextlib.suppress(*ignored):
                for name, each in self._names(folder):
                    if skip(folder, name):
                        continue
                    path = folder + name
                    found[path] = each
                    if each.is_directory and path not in mounted:
                        waiting.append(path + "/")
        return found

    def _names(self, folder: str) -> Iterator[tuple[str, Seen]]:
        with os.scandir(self.folder(folder.rstrip("/"))) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, seen(entry.stat(follow_symlinks=False))

    def folder(self, path: str) -> int:
        """Open a directory: a descriptor that is good until the next call."""
        if path != self._folder:
            descriptor = os.dup(self._top)
            try:
                for name in path.split("/") if path else ():
                    below = _opened(name, descriptor)
                    os.close(descriptor)
                    descriptor = below
            except BaseException:
                os.close(descriptor)
                raise
            os.close(self._descriptor)
            self._folder, self._descriptor = path, descriptor
        return self._descriptor

    def look(self, path: str) -> Seen:
        """Look at one name."""
        folder, name = os.path.split(path)
        return seen(os.stat(name, dir_fd=self.folder(folder), follow_symlinks=False))

    def open(self, path: str) -> int:
        """Open a regular file to read it."""
        folder, name = os.path.split(path)
        return os.open(name, _FILE, dir_fd=self.folder(folder))

    def target(self, path: str) -> str:
        """Read a symlink."""
        folder, name = os.path.split(path)
        return os.readlink(name, dir_fd=self.folder(folder))

    def make(self, path: str, mode: int) -> None:
        """Make a directory; no matter if it is there."""
        folder, name = os.path.split(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=self.folder(folder))
        self.allow(path, mode)

    def allow(self, path: str, permissions: int) -> None:
        """Give a file or a directory its permissions, as far as the filesystem has any."""
        folder, name = os.path.split(path)
        _allow(name, self.folder(folder), permissions)

    def write(self, path: str, permissions: int, fill: Callable[[int], None], *, durably: bool) -> Seen:
        """Put a new file in the place of what is there, at once; give what it is now."""

        def make(temporary: str, folder: int) -> None:
            descriptor = os.open(temporary, _NEW, 0o600, dir_fd=folder)
            try:
                fill(descriptor)
                with contextlib.suppress(PermissionError):  # of CIFS, whose files have no modes of their own
                    os.fchmod(descriptor, permissions)
                if durably:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return self._put(path, make)

    def link(self, path: str, target: str) -> Seen:
        """Put a symlink in the place of what is there, at once; give what it is now."""
        return self._put(path, lambda temporary, folder: os.symlink(target, temporary, dir_fd=folder))

    def _put(self, path: str, make: Callable[[str, int], None]) -> Seen:
        where, name = os.path.split(path)
        folder = self.folder(where)
        temporary = f".syncing-{secrets.token_hex(4)}"
        try:
            make(temporary, folder)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        return self.look(path)

    def remove(self, path: str, *, directory: bool) -> None:
        """Remove a name; no matter if it is gone."""
        folder, name = os.path.split(path)
        with contextlib.suppress(FileNotFoundError):
            if directory:
                os.rmdir(name, dir_fd=self.folder(folder))
            else:
                os.unlink(name, dir_fd=self.folder(folder))

    def settle(self, folders: Collection[str], most: int) -> None:
        """Have what was changed in these folders on the disk; all of the filesystem, where they are more than most."""
        if len(folders) > most:
            _sync_filesystem(self._top)
            return
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.fsync(self.folder(folder))


def copy(source: int, target: int) -> None:
    """Copy a file's content to a new one: by a reflink where there are such, by the kernel, or by hand."""
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in _NOT_BY_KERNEL:
            raise
    with open(source, "rb", closefd=False, buffering=0) as read, open(target, "wb", closefd=False) as write:
        shutil.copyfileobj(read, write, _PIECE)  # Also what a kernel before 5.19 says is the end and is not.


def alike(one: int, other: int) -> bool:
    """Whether two files have the same content, from where they are read to the end."""
    while True:
        piece = os.read(one, _PIECE)
        if piece != os.read(other, _PIECE):
            return False
        if not piece:
            return True


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it, but for other volumes that are mounted there. Raises OSError."""
    with Tree(path) as tree:
        for each, found in sorted(tree.scan(lambda _folder, _name: False).items(), reverse=True):
            tree.remove(each, directory=found.is_directory)
    os.rmdir(path)


def mounts(path: str) -> set[str]:
    """Give the places below a directory at which something is mounted, relative to it.

    Source: proc_pid_mountinfo(5), field 5.
    """
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            places = [re.sub(r"\\([0-7]{3})", _unescaped, line.split(" ")[4]) for line in file]
    except OSError:
        return set()
    top = os.path.realpath(path).rstrip("/") + "/"
    return {place.removeprefix(top) for place in places if place.startswith(top)}


def _unescaped(octal: re.Match[str]) -> str:
    return chr(int(octal[1], 8))


def _opened(name: str, folder: int) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:  # Whoever owns a directory may have forbidden it to himself.
        _allow(name, folder, 0o755)
        return os.open(name, _FOLDER, dir_fd=folder)


def _allow(name: str, folder: int, permissions: int) -> None:
    # There is no fchmodat(2) that does not follow symlinks before Linux 6.6.
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        kept = stat.S_IMODE(os.fstat(descriptor).st_mode) & ~0o777
        with contextlib.suppress(PermissionError):
            os.chmod(f"/proc/self/fd/{descriptor}", kept | permissions)
    finally:
        os.close(descriptor)


def _sync_filesystem(descriptor: int) -> None:
    import ctypes  # a MiB that few need

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
