"""How a directory comes to hold exactly what was meant: staged, put in place, and the manifest last.

A directory that has a complete manifest is complete. Whoever is killed, at any point, leaves either that or none; run
again, what is there already is kept.

    DEST does not exist     it is filled beside its place, as `.DEST.pod-init`, and renamed
    DEST is there, maybe    it is filled in `DEST/.pod-init`; then the old manifest goes, each entry is renamed to its
    a mount point           place, and the new manifest is written

Files are not synced, which would take longer than to copy them: a killed process loses nothing of what it wrote, and
after a crash of the machine neither the manifest nor the size and time of a file of an earlier boot are believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from sidecars.core.errors import SidecarError, TimedOut
from sidecars.core.log import log
from sidecars.init import manifest
from sidecars.init.manifest import boot as boot
from sidecars.init.manifest import holds as holds
from sidecars.init.placing import finish, finish_entries, let_in, move, remove, remove_unwanted, replace_by, unlock
from sidecars.init.tree import MANIFEST as MANIFEST
from sidecars.init.tree import STAGING as STAGING
from sidecars.init.tree import Selection, Tree, look

_UNABLE = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # from flock, where the file system has no locks


def _beside(dest: str) -> str:
    parent, name = os.path.split(dest)
    return os.path.join(parent, f".{name}{STAGING}")


def tidy(dest: str) -> None:
    """Remove what a killed run has left of its staging, unless somebody is at work in it."""
    dest = os.path.realpath(dest)
    for staging in (os.path.join(dest, STAGING), _beside(dest)):
        with contextlib.suppress(OSError):
            descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), os.lstat(staging)):
                    remove(staging)
            finally:
                os.close(descriptor)


class Publication:
    """A directory that is being filled. Enter it, fill `staging`, and commit().

    new      DEST does not exist, and is renamed to its place as a whole
    waited   another process has filled the same directory meanwhile; it is waited for, up to `patience` seconds

    What an interrupted run has staged is still in `staging`. Raises SidecarError, and OSError where a path cannot be
    written.
    """

    def __init__(self, dest: str, *, patience: float = 3600.0) -> None:
        self.dest = os.path.realpath(dest)  # Where a symlink leads is filled, also when nothing is there yet.
        self.new = False
        self.waited = False
        self.staging = ""
        self._patience = patience
        self._lock = -1
        self._mode = -1
        self._began = 0.0

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._patience
        while not self._take():
            if not self.waited:
                log.info("waiting for another process that fills the directory", path=self.dest)
                self.waited = True
            if time.monotonic() > deadline:
                raise TimedOut(f"{self.dest} is being filled by another process for {self._patience:g} s; end one")
            time.sleep(0.05)
        unlock(self.staging)
        self._began = time.time()
        return self

    def _take(self) -> bool:
        """Make the staging directory, or find it, and lock it; False if another process has it, or had it until now."""
        self._place_staging()
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.staging)
        try:
            self._lock = os.open(self.staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        # Who held it before has perhaps renamed or removed it.
        if _locked(self._lock) and self._is_current():
            return True
        os.close(self._lock)
        return False

    def _place_staging(self) -> None:
        there = look(self.dest)
        if there is not None and there.kind != "dir":
            kind = {"link": "symlink that leads in a circle"}.get(there.kind, "file")
            raise SidecarError(f"{self.dest} is a {kind}, not a directory; remove it, or name another")
        self.new = there is None
        if self.new:
            self.staging = _beside(self.dest)
            os.makedirs(os.path.dirname(self.staging), exist_ok=True)
        else:
            self.staging = os.path.join(self.dest, STAGING)
            if there and there.mode & 0o700 != 0o700 and self._mode < 0:
                self._mode = there.mode
                let_in(self.dest)

    def _is_current(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            if not os.path.samestat(os.fstat(self._lock), os.lstat(self.staging)):
                return False
            if self.new != os.path.isdir(self.dest):
                return True
            if self.new:  # It was made by us, after who held the lock had renamed its own.
                with contextlib.suppress(OSError):
                    os.rmdir(self.staging)
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mode >= 0:
            finish(self.dest, self._mode)
        # After an error threads may write still: the lock ends with the process then.
        if error is None:
            os.close(self._lock)

    def commit(
        self,
        source: str,
        wanted: Tree,
        *,
        digests: dict[str, str] | None = None,
        mirror: Selection | None = None,
        mode: int | None = None,
    ) -> None:
        """Put in place what is staged, and say that the directory is complete.

        Each wanted entry is staged, or in place already; parents come before what is in them. With `mirror`, what is
        not wanted is removed, but for what the selection spares. A directory that is new gets the mode, and its owner
        may always write to it: it is to be filled again.
        """
        digests = digests or {}
        if self.new:
            self._rename(source, wanted, digests, mode)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.dest, MANIFEST))
        self._place(wanted)
        if mirror is not None:
            remove_unwanted(self.dest, wanted, mirror)
        finish_entries(self.dest, wanted)
        manifest.write(self.staging, source, wanted, digests, self._began)
        os.rename(os.path.join(self.staging, MANIFEST), os.path.join(self.dest, MANIFEST))
        remove(self.staging)

    def _rename(self, source: str, wanted: Tree, digests: dict[str, str], mode: int | None) -> None:
        finish_entries(self.staging, wanted)
        manifest.write(self.staging, source, wanted, digests, self._began)
        if mode is not None:
            finish(self.staging, mode | 0o700)
        try:
            os.rename(self.staging, self.dest)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
                raise SidecarError(f"{self.dest} was made by somebody else meanwhile; run this again") from error
            raise

    def _place(self, wanted: Tree) -> None:
        """Rename each staged entry to its place; a directory that is not there yet goes with all that is in it."""
        moved = ""
        for path, entry in wanted.items():
            if moved and path.startswith(moved):
                continue
            place, staged = os.path.join(self.dest, path), os.path.join(self.staging, path)
            there = replace_by(entry, place)
            if there is not None and entry.kind == "dir":
                let_in(place)
            elif os.path.lexists(staged):
                move(staged, place)
                moved = f"{path}/" if entry.kind == "dir" else moved
            elif there is None:
                raise SidecarError(f"{staged} was removed by somebody else meanwhile; run this again")


@contextlib.contextmanager
def alone(folder: str, patience: float) -> Iterator[None]:
    """Be the only process that puts single files into a directory, until the block ends. Raises TimedOut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + patience
    try:
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise TimedOut(f"{folder} is locked by another process for {patience:g} s; end one")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        log.warning("this volume has no locks", reason="let no two processes fill one directory at a time")
    return True
