"""What a root holds, prepared, fetched, checked out and cleaned: the repository and its worktrees as one."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Collection, Iterator

from sidecars.core import disk
from sidecars.core.errors import SidecarError, TimedOut, Transient, WrongSettings
from sidecars.core.git import Git, GitFailed
from sidecars.syncer import leftovers
from sidecars.syncer.repository import Commit, Repository, damaged
from sidecars.syncer.root import Root, RootUnusable, remove
from sidecars.syncer.settings import Settings
from sidecars.syncer.worktrees import Worktrees

_HASH = re.compile(r"[0-9a-f]{40}")


class Interrupted(SidecarError):  # noqa: N818
    """What can be done later was put off."""


class Store:
    """Everything under --root but the link. The methods block, one at a time, until a deadline in time.monotonic().

    They raise GitFailed, TimedOut, RootUnusable and Transient.
    """

    def __init__(self, settings: Settings, git: Git) -> None:
        git.umask = 0o002 if settings.group_write else 0o022
        self._root = Root(os.path.realpath(settings.root), git, git.umask)
        self._settings = settings
        self._repository = Repository(self._root, settings)
        self._worktrees = Worktrees(self._root, settings)
        self._lock = threading.Lock()
        self._new, self._swept = True, False
        self._littered = False
        self._ref = settings.ref
        for flag, value in (("--repo", settings.repo), ("--ref", settings.ref), ("--filter", settings.filter)):
            if value.startswith("-"):
                raise WrongSettings(f"{flag} is {value!r}: git would take it for an option")

    @property
    def path(self) -> str:
        """The root, with its symlinks resolved."""
        return self._root.path

    def worktree(self, revision: str) -> str:
        """Where the worktree of a revision is, or would be."""
        return self._root.worktree(revision)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the root for this process, which prepare() takes for granted; raises disk.Locked."""
        with contextlib.ExitStack() as holding:
            with self._explained():
                self._root.make(self._root.own)
                holding.enter_context(disk.lock(self._root.own))
            yield

    def prepare(self, deadline: float | None = None) -> None:
        """Make the root usable: nothing left behind by a crash, a repository, the right remote. Before each pass.

        Whatever else is in the root stays, and so do the worktrees.
        """
        with self._doing(deadline):
            self._root.make(self._root.own)
            if not self._swept:
                self._sweep()
            self._repository.prepare()
            if not self._swept:
                self._worktrees.relocate()
            self._swept = True

    def fetch(self, ref: str, deadline: float | None = None) -> str:
        """Fetch the ref: the hash of what it points to. A damaged repository is replaced by a new one, made beside."""
        if ref.startswith("-"):
            raise GitFailed(f"cannot fetch {ref!r}: no ref begins with a dash")
        with self._doing(deadline):
            self._ref = ref
            try:
                return self._repository.fetch(ref)
            except GitFailed as error:
                if not damaged(error.stderr):
                    raise
                return self._repository.rebuild(ref)

    def checkout(self, revision: str, previous: str | None = None, deadline: float | None = None) -> str:
        """Check out what was fetched: the path of its worktree, whole. The previous one gives its unchanged files."""
        with self._doing(deadline):
            return self._checked_out(revision, previous)

    def sound(self, revision: str, deadline: float | None = None) -> bool:
        """Tell if the revision's worktree is there, not empty and at its revision."""
        with self._doing(deadline):
            return bool(_HASH.fullmatch(revision)) and self._worktrees.sound(revision)

    def configure(self, revision: str, deadline: float | None = None) -> None:
        """Apply the present settings to a worktree in place; one that cannot be is exchanged by a fresh one."""
        with self._doing(deadline):
            try:
                self._repository.point(revision)
                self._worktrees.configure(revision)
            except GitFailed as error:
                if not damaged(error.stderr):
                    raise
                self._checked_out(revision, None)

    def retire(self, revision: str) -> None:
        """Start the time of --stale-worktree-timeout for a worktree that was replaced."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._root.worktree(revision))

    def discard(self, path: str) -> None:
        """Remove a worktree as git-sync's version 3 has it, ROOT/HASH or ROOT/rev-HASH; nothing else is removed."""
        folder, name = os.path.split(path)
        if folder != self.path or not _HASH.fullmatch(name.removeprefix("rev-")):
            return
        if os.path.isfile(os.path.join(path, ".git")):
            with self._doing(None):
                remove(path)
                self._littered = True

    def clean(self, current: Collection[str], deadline: float | None = None) -> bool:
        """Remove the worktrees that are stale, and then the objects that nothing needs; True if there were some.

        Raises Interrupted, or GitFailed, when git is interrupted; the next call goes on.
        """
        git = self._root.git
        before = git.interruptions
        with self._doing(deadline):
            self._littered |= self._worktrees.clean(current)
            if not self._littered:
                return False
            late = float("inf") if deadline is None else deadline
            if not leftovers.empty(self._root.own, lambda: git.interruptions == before and time.monotonic() < late):
                raise Interrupted("the removal of old worktrees was interrupted")
            self._worktrees.collect()
            self._littered = False
            return True

    def describe(self, revision: str, deadline: float | None = None) -> Commit:
        """Read a commit."""
        with self._doing(deadline):
            return self._repository.describe(revision)

    def _checked_out(self, revision: str, previous: str | None) -> str:
        try:
            self._repository.point(revision)
            return self._worktrees.make(revision, previous)
        except GitFailed as error:
            if not damaged(error.stderr):
                raise
        if self._repository.rebuild(self._ref) != revision:
            raise Transient(f"the repository was damaged and was made anew; {self._ref} is no longer {revision}")
        self._repository.point(revision)
        return self._worktrees.make(revision, None)

    def _sweep(self) -> None:
        if self._new:
            leftovers.end_orphans(self._root.path)
            self._new = False
        self._littered |= leftovers.sweep_own(self._root.own)
        leftovers.sweep_repository(self._root.repository)

    @contextlib.contextmanager
    def _doing(self, deadline: float | None) -> Iterator[None]:
        patience = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=patience):
            raise TimedOut(f"--root {self._root.path} is still worked on by the call before")
        try:
            self._root.deadline = deadline
            with self._explained():
                yield
        except BaseException:
            self._swept = False  # A killed git leaves its locks behind.
            raise
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename or b"")
            raise RootUnusable(
                f"cannot use {what or self._root.path}: {error.strerror}; --root {self._root.path} must be a writable "
                "directory with space left, of one filesystem"
            ) from error
