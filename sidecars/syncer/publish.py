"""Where consumers find what is synced: a symlink that is swapped, or a real directory that is kept like a worktree."""

from __future__ import annotations

import contextlib
import os
import re
import secrets

from sidecars.core.errors import SidecarError
from sidecars.syncer.mirror import Mirror, give_way
from sidecars.syncer.settings import Settings

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# git-sync's own name for it: left behind by a crash, it made every later publishing fail.
_LEFT_BEHIND = "tmp-link"


def place(settings: Settings, root: str) -> str:
    """Give the path that is published: --link, or the last part of --repo, under the root."""
    return os.path.join(root, settings.link or os.path.basename(settings.repo.rstrip("/")))


def make(settings: Settings, root: str) -> Link | Mirror:
    """Make what publishes as --publish says."""
    return Mirror(place(settings, root), root) if settings.publish == "mirror" else Link(settings, root)


class Link:
    """The symlink to the published worktree: relative, swapped by one rename.

    `root` is the real path of the root.
    """

    def __init__(self, settings: Settings, root: str) -> None:
        self.path = place(settings, root)
        self._root = root
        self._swept = False

    def target(self) -> str | None:
        """Give the absolute path of what is published; None where nothing is."""
        try:
            target = os.readlink(self.path)
        except OSError:
            return None
        return os.path.normpath(os.path.join(os.path.dirname(self.path), target))

    def current(self) -> str | None:
        """Give the hash that is published, by the link's name for it; None where nothing is."""
        target = self.target()
        name = os.path.basename(target) if target else ""
        return name if _HASH.fullmatch(name) else None

    def intact(self, hash: str) -> bool:
        """Whether consumers find the worktree of this hash, by a look that costs next to nothing."""
        return self.target() == os.path.join(self._root, ".worktrees", hash)

    def mend(self, worktree: str, hash: str) -> None:
        """Put right what a crash may have left beside the link of a worktree that is published."""
        with contextlib.suppress(OSError):
            self._sweep()

    def publish(self, worktree: str, hash: str) -> None:
        """Swap the link. Raises SidecarError."""
        directory = os.path.dirname(self.path)
        try:
            os.makedirs(directory, 0o775, exist_ok=True)
            if give_way(self.path, self._root, os.path.relpath(worktree, directory)):
                return
            self._sweep()
            temporary = os.path.join(directory, f".{os.path.basename(self.path)}.{secrets.token_hex(4)}")
            os.symlink(os.path.relpath(worktree, directory), temporary)
            try:
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            advice = "a directory is there; remove it, or use --publish=mirror" if os.path.isdir(self.path) else ""
            raise SidecarError(f"can't publish {self.path}: {error.strerror}; {advice}".rstrip("; ")) from error

    def _sweep(self) -> None:
        """Remove the names under which a killed git-sync, or a killed process of ours, was about to swap the link."""
        if self._swept:
            return
        directory, name = os.path.split(self.path)
        ours = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}")
        for each in os.listdir(directory):
            if each == _LEFT_BEHIND or ours.fullmatch(each):
                path = os.path.join(directory, each)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.islink(path):
                        os.unlink(path)
        self._swept = True
