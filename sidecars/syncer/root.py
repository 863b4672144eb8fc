"""The places under --root, and git run there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sidecars.core import disk
from sidecars.core.errors import SidecarError
from sidecars.core.git import Git, Output
from sidecars.syncer import reuse

# Read only from protected places, of which the variables of a command are one: an emptyDir belongs to root, not to us.
_CONFIG = {"safe.directory": "*", "core.trustctime": "false", "advice.detachedHead": "false"}
# In the environment of every git that works under a root, and of what that starts: who outlives us is found by it.
MARK = "GIT_SYNCER_ROOT"
_ATTEMPTS = 5  # to empty a directory into which a consumer still writes


class RootUnusable(SidecarError):  # noqa: N818
    """Something under --root cannot be made, changed or removed."""


@dataclass
class Root:
    """One --root, resolved, and its git; the deadline is that of the present call, in time.monotonic()."""

    path: str
    git: Git
    mask: int
    deadline: float | None = None

    @property
    def repository(self) -> str:
        """ROOT/.git."""
        return os.path.join(self.path, ".git")

    @property
    def worktrees(self) -> str:
        """ROOT/.worktrees: whatever is in it by the name of a hash is whole."""
        return os.path.join(self.path, ".worktrees")

    @property
    def own(self) -> str:
        """ROOT/.git-syncer: the lock, and what is being made or removed. As deep as .worktrees, for relative paths."""
        return os.path.join(self.path, ".git-syncer")

    def worktree(self, revision: str) -> str:
        """ROOT/.worktrees/HASH."""
        return os.path.join(self.worktrees, revision)

    def metadata(self, revision: str) -> str:
        """What git knows of that worktree."""
        return os.path.join(self.repository, "worktrees", revision)

    def run(
        self, *words: str, at: str = "", ok: Collection[int] = (0,), config: Mapping[str, str] | None = None
    ) -> Output:
        """Run git in ROOT, or elsewhere; raises GitFailed and TimedOut."""
        # Without a ceiling, a root that lies inside another repository would be taken for a part of it.
        ceiling = {"GIT_CEILING_DIRECTORIES": os.path.dirname(at or self.path), MARK: self.path}
        return self.git.run(
            *words, cwd=at or self.path, deadline=self.deadline, ok=ok, config={**_CONFIG, **(config or {})},
            environment=ceiling,
        )  # fmt: skip

    def make(self, path: str) -> None:
        """Make a directory, with its parents, with the mode that --group-write asks for."""
        reuse.make_directories(b"", os.fsencode(path), self.mask)

    def write(self, path: str, text: str) -> None:
        """Write a small file at once, unless it says just that: a crash leaves the old one or the new one."""
        if read(path) == text.strip():
            return
        temporary = os.path.join(self.own, "file")  # No consumer shall find it beside what is published.
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchmod(file.fileno(), 0o666 & ~self.mask)
            file.write(text)
        os.replace(temporary, path)


def move_in(new: str, path: str) -> None:
    """Put the new file or directory in the path's place at once; what was there is removed afterwards."""
    if not os.path.lexists(path):
        os.rename(new, path)
        return
    try:
        disk.exchange(new, path)
    except OSError:  # NFS and some network filesystems cannot exchange.
        aside = new + ".old"
        remove(aside)
        os.rename(path, aside)
        os.rename(new, path)
        remove(aside)
    remove(new)


def remove(path: str) -> None:
    """Remove a file or a directory with all that is in it; no matter if it is not there."""
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    for attempt in range(_ATTEMPTS):
        try:
            shutil.rmtree(path)
            return
        except FileNotFoundError:  # Somebody else removes it too.
            continue
        except PermissionError:  # A consumer has taken the right to write from a directory.
            for folder, _, _ in os.walk(path):
                os.chmod(folder, 0o700)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or attempt == _ATTEMPTS - 1:
                raise


def read(path: str) -> str:
    """What a small file says, without its last newline; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
