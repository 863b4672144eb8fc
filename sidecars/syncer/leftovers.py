"""What a killed git or a killed git-syncer leaves behind, to be removed when no git of ours runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from sidecars.syncer import documents
from sidecars.syncer.root import read, remove

_LOCK_OF_DIRECTORY = ".lock"  # core.disk.lock's, held for as long as this process lives


def sweep_repository(repository: str) -> None:
    """Remove the locks of a repository, of its worktrees and submodules, and the packs that were never finished."""
    for path in _left(repository):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sweep_own(own: str) -> bool:
    """Remove what was being made or removed under ROOT/.git-syncer, but no document; True if there was something."""
    names = [name for name in os.listdir(own) if name != _LOCK_OF_DIRECTORY and not name.endswith(documents.SUFFIX)]
    for name in names:
        remove(os.path.join(own, name))
    return bool(names)


def _left(repository: str) -> Iterator[str]:
    for folder, folders, files in os.walk(repository):
        if os.path.basename(folder) == "objects":  # 256 directories without locks
            folders[:] = [name for name in folders if name in ("pack", "info")]
        unfinished = os.path.basename(folder) == "pack"
        for name in files:
            if name.endswith(".lock") or name == "gc.pid" or (unfinished and name.startswith(("tmp_", ".tmp-"))):
                yield os.path.join(folder, name)
        # `git worktree add` locks what it has not finished, and `git worktree prune` spares what is locked.
        if "locked" in files and read(os.path.join(folder, "locked")) == "initializing":
            yield os.path.join(folder, "locked")
