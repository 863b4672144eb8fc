"""What a killed git or a killed git-syncer leaves behind, to be removed when no git of ours runs."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Collection, Iterator

from sidecars.syncer import documents
from sidecars.syncer.root import MARK, read, remove

_TRASH = "old-"
_PATIENCE = 1.0  # seconds for the kernel to end what was killed
_LOCK_OF_DIRECTORY = ".lock"  # core.disk.lock's, held for as long as this process lives


def end_orphans(root: str) -> None:
    """Kill the gits that a process before this one has left at work under the root, and wait until they are gone.

    Only who holds the root's lock may do this. In a container there are none: they end with PID 1.
    """
    mark = os.fsencode(f"\0{MARK}={root}\0")
    orphans = [
        name for name in os.listdir("/proc") if name.isdecimal() and mark in b"\0" + _said(f"/proc/{name}/environ")
    ]
    for name in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(name), signal.SIGKILL)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and any(mark in b"\0" + _said(f"/proc/{name}/environ") for name in orphans):
        time.sleep(0.005)


def sweep_repository(repository: str) -> None:
    """Remove the locks of a repository, of its worktrees and submodules, and the packs that were never finished."""
    for path in _left(repository):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sweep_own(own: str) -> bool:
    """Remove what was being made under ROOT/.git-syncer, but no document; True if there is or was something to remove.

    Trash stays for empty(): 20,000 files take their time, which what is to be published next does not have.
    """
    names = [name for name in os.listdir(own) if name != _LOCK_OF_DIRECTORY and not name.endswith(documents.SUFFIX)]
    for name in names:
        if not name.startswith(_TRASH):
            with contextlib.suppress(OSError):  # It is in nobody's way, and tried again.
                remove(os.path.join(own, name))
    return bool(names)


def throw_away(path: str, own: str) -> None:
    """Move a worktree to the trash: gone at once by its name, so that a crash leaves no half of it there."""
    os.rename(path, os.path.join(own, _TRASH + secrets.token_hex(4)))


def empty(own: str, wanted: Callable[[], bool]) -> bool:
    """Remove what was thrown away, for as long as that is wanted; False if some of it is left."""
    for name in os.listdir(own):
        if not name.startswith(_TRASH):
            continue
        for folder, _, files in os.walk(os.path.join(own, name), topdown=False):
            for file in files:
                if not wanted():
                    return False
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, file))
        remove(os.path.join(own, name))
    return True


def _left(repository: str) -> Iterator[str]:
    worktrees = os.path.join(repository, "worktrees")
    for folder, folders, files in os.walk(repository):
        if os.path.basename(folder) == "objects":  # 256 directories without locks
            folders[:] = [name for name in folders if name in ("pack", "info")]
        unfinished = os.path.basename(folder) == "pack"
        for name in files:
            if name.endswith(".lock") or name == "gc.pid" or (unfinished and name.startswith(("tmp_", ".tmp-"))):
                yield os.path.join(folder, name)
        if "locked" in files and os.path.dirname(folder) == worktrees and _unfinished(folder, files):
            yield os.path.join(folder, "locked")


def _unfinished(worktree: str, files: Collection[str]) -> bool:
    """Whether `git worktree add` has locked what it was making: `git worktree prune` would spare it for ever.

    The reason comes a moment after the lock, and the gitdir after both.
    """
    return "gitdir" not in files or read(os.path.join(worktree, "locked")) == "initializing"


def _said(path: str) -> bytes:
    """What a file of /proc says; nothing when the process is gone, a zombie, or somebody else's."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""
