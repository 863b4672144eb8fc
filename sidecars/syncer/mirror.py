"""A real directory that is kept like the published worktree, for mounts and programs that follow no symlink."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import Literal

import msgspec

from sidecars.core import disk
from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.syncer import documents
from sidecars.syncer.copying import LOST, MARKER, Copying
from sidecars.syncer.manifest import Manifest
from sidecars.syncer.tree import Tree, remove_tree

_OURS = "user.git-syncer"


class Record(msgspec.Struct, frozen=True):
    """What is in the mirror at a path: the revision, or something between it and the older one; "" for nothing."""

    path: str
    hash: str
    worktree: str
    older: str
    complete: bool
    version: Literal[1] = 1


class Mirror:
    """The directory that is published, and what is known of it.

    Only what differs is touched, each file at once. While the directory holds parts of two revisions, it also holds a
    file `.syncing`, which names them. The first time, and in the place of a symlink, it appears as a whole.

    Not published are `.git`, at any depth, and a file of the repository that is called `.syncing`. What consumers add
    is removed with the next revision, unless they have made it so that it cannot be.
    """

    def __init__(self, path: str, root: str) -> None:
        self.path = path
        self._document = documents.place(root, "mirror")
        self._manifest = documents.place(root, "mirror-files")
        record = documents.load(self._document, Record)
        self._record = record if record is not None and record.path == path else None

    def current(self) -> str | None:
        """Give the hash that is published whole; None where that is none."""
        record = self._record
        if record is None or not record.complete or not _is_directory(self.path):
            return None
        return None if os.path.lexists(os.path.join(self.path, MARKER)) else record.hash

    def target(self) -> str | None:
        """Give the path of the worktree whose content is published."""
        return self._record.worktree if self._record and self.current() else None

    def intact(self, hash: str) -> bool:
        """Whether this hash is published, by a look that costs next to nothing: not at each file."""
        return self.current() == hash

    def mend(self, worktree: str, hash: str) -> None:
        """Put right what consumers have changed. Raises SidecarError."""
        self.publish(worktree, hash)

    def publish(self, worktree: str, hash: str) -> None:
        """Make the directory like the worktree. Raises SidecarError; the next call then goes on from there."""
        try:
            with Tree(worktree) as source:
                if _is_directory(self.path):
                    self._change(source, hash)
                else:
                    self._appear(source, hash)
        except OSError as error:
            raise SidecarError(f"can't publish {self.path}: {error.strerror}: {error.filename or ''}") from error

    def _change(self, source: Tree, hash: str) -> None:
        """Change what is there."""
        discard(beside_of(self.path))
        record = self._record
        older = "" if record is None else record.hash if record.complete else record.older
        with Tree(self.path) as mirror:
            self._check_ours(mirror)
            copying = Copying(source, mirror, Manifest(self._manifest))
            changed = bool(copying.plan.changes)
            if changed:
                self._remember(Record(self.path, hash, source.path, older, complete=False))
                _mark(mirror, older, hash)
                copying.run()
            _unmark(mirror)
            copying.save()
        if changed or record is None or (record.hash, record.worktree, record.complete) != (hash, source.path, True):
            self._remember(Record(self.path, hash, source.path, older, complete=True))

    def _appear(self, source: Tree, hash: str) -> None:
        """Make the directory beside, whole, and put it in its place at once."""
        if os.path.lexists(self.path) and not os.path.islink(self.path):
            raise SidecarError(f"can't publish {self.path}: a file is there; remove it, or give another --link")
        beside = beside_of(self.path)
        if not _is_directory(beside):
            discard(beside)
        os.makedirs(beside, 0o775, exist_ok=True)
        with Tree(beside) as mirror:
            copying = Copying(source, mirror, Manifest(self._manifest))
            self._remember(Record(self.path, hash, source.path, "", complete=False))
            copying.run()
            copying.save()
        os.chmod(beside, stat.S_IMODE(os.stat(source.path).st_mode))
        with contextlib.suppress(OSError):
            os.setxattr(beside, _OURS, b"mirror")
        swap(beside, self.path)
        discard(beside)  # the symlink that was there
        disk.sync_directory(os.path.dirname(self.path))
        self._remember(Record(self.path, hash, source.path, "", complete=True))

    def _check_ours(self, mirror: Tree) -> None:
        """Refuse to take over a directory with files of somebody else: they would be removed."""
        if self._record is not None or not mirror.scan(_empty_of):
            return
        try:
            os.getxattr(self.path, _OURS)
        except OSError:
            raise SidecarError(
                f"can't publish {self.path}: it holds files, and none of them is known to be git-syncer's; "
                "empty it, or give another --link"
            ) from None

    def _remember(self, record: Record) -> None:
        documents.save(self._document, record)
        self._record = record


def beside_of(path: str) -> str:
    """Give the name beside a path under which its successor is made."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.mirror")


def swap(new: str, path: str) -> None:
    """Put what is new in the path's place, and what was there, if anything, in the place of what is new: at once."""
    if not os.path.lexists(path):
        os.rename(new, path)
        return
    try:
        disk.exchange(new, path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        aside = f"{new}.{secrets.token_hex(4)}"  # NFS and others cannot exchange: for a moment there is nothing.
        os.rename(path, aside)
        os.rename(new, path)
        os.rename(aside, new)


def give_way(path: str, root: str, target: str) -> bool:
    """Put a symlink in the place of a mirror, at once, and remove the mirror; False where there is none.

    Raises OSError.
    """
    document = documents.place(root, "mirror")
    record = documents.load(document, Record)
    if record is None or record.path != path:
        return False
    beside, there = beside_of(path), _is_directory(path)
    if there:
        discard(beside)
        os.symlink(target, beside)
        swap(beside, path)
        disk.sync_directory(os.path.dirname(path))
    discard(beside)
    for each in (documents.place(root, "mirror-files"), document):
        documents.remove(each)
    return there


def discard(path: str) -> None:
    """Remove what was beside the place when this program was killed, or was moved there."""
    try:
        if _is_directory(path):
            remove_tree(path)
        elif os.path.lexists(path):
            os.unlink(path)
    except OSError as error:
        log.warning("cannot remove what was a mirror", path=path, error=error.strerror)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _empty_of(folder: str, name: str) -> bool:
    return not folder and name in (MARKER, LOST)


def _mark(mirror: Tree, old: str, new: str) -> None:
    text = f"old {old or '-'}\nnew {new}\n".encode()
    mirror.write(MARKER, 0o644, lambda file: _write_all(file, text), durably=True)
    mirror.settle([""], 1)


def _unmark(mirror: Tree) -> None:
    if os.path.lexists(os.path.join(mirror.path, MARKER)):
        mirror.remove(MARKER, directory=False)
        mirror.settle([""], 1)


def _write_all(file: int, text: bytes) -> None:
    with open(file, "wb", closefd=False) as opened:
        opened.write(text)
