"""Checkouts: one directory per revision, made aside, where it can be from the files of another, and moved in whole."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Iterator

from sidecars.core.errors import SidecarError
from sidecars.core.git import GitFailed
from sidecars.syncer import leftovers, reuse
from sidecars.syncer.root import Root, move_in, read, remove
from sidecars.syncer.settings import Settings

_MARK = "git-syncer"  # in the worktree's metadata: made by this program, with these settings
_GARBAGE = {"always": ("gc",), "auto": ("gc", "--auto"), "aggressive": ("gc", "--aggressive")}


class Worktrees:
    """The worktrees under ROOT/.worktrees."""

    def __init__(self, root: Root, settings: Settings) -> None:
        self._root = root
        self._settings = settings

    def make(self, revision: str, previous: str | None) -> str:
        """Check the revision out; its path. Whoever reads the previous one, or an older one of this name, is spared."""
        if previous in (None, revision):
            return self._made(revision, None)
        try:
            return self._made(revision, previous)
        except (reuse.NotReusable, GitFailed, OSError):
            return self._made(revision, None)

    def configure(self, revision: str) -> None:
        """Bring a worktree in place to what a fresh one would be with the present settings."""
        self._fill(self._root.worktree(revision), revision)
        self._finish(self._root.worktree(revision), revision)

    def sound(self, revision: str) -> bool:
        """Tell if the worktree is there, not empty, and at its revision."""
        path = self._root.worktree(revision)
        try:
            names = os.listdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        head = read(os.path.join(self._root.metadata(revision), "HEAD"))
        if ".git" not in names or not read(os.path.join(path, ".git")).startswith("gitdir: "):
            return False
        if not head.startswith("ref: "):
            return head == revision
        answer = self._root.run("rev-parse", "--verify", "--quiet", "HEAD", at=path, ok=(0, 1, 128))
        return answer.text == revision

    def relocate(self) -> None:
        """Tell git where its worktrees are when the root is mounted elsewhere than before: it would forget them."""
        for name in _names(os.path.join(self._root.repository, "worktrees")):
            told, path = os.path.join(self._root.metadata(name), "gitdir"), self._root.worktree(name)
            if os.path.isdir(path) and read(told) != os.path.join(path, ".git"):
                self._root.write(told, os.path.join(path, ".git") + "\n")

    def clean(self, current: Collection[str]) -> bool:
        """Throw away the worktrees that nobody needs any more; True if there were some."""
        stale = list(self._stale(current, time.time()))
        for name in stale:
            leftovers.throw_away(self._root.worktree(name), self._root.own)
        return bool(stale)

    def collect(self) -> None:
        """Have git forget what was removed."""
        self._root.run("worktree", "prune")
        self._root.run("reflog", "expire", "--expire-unreachable=all", "--all")
        if self._settings.git_gc != "off":
            # Detached, it would work on while the next fetch does.
            self._root.run(*_GARBAGE[self._settings.git_gc], config={"gc.autoDetach": "false"})

    def _stale(self, current: Collection[str], now: float) -> Iterator[str]:
        replaced = {}
        for name in _names(self._root.worktrees):
            if name not in current:
                path = self._root.worktree(name)
                replaced[name] = os.lstat(path).st_mtime
                if replaced[name] > now + 1:  # The clock was set back: it would be kept for as long.
                    os.utime(path, (now, now), follow_symlinks=False)
        newest = sorted(replaced, key=lambda name: replaced[name], reverse=True)
        for name in newest[max(0, self._settings.keep_worktrees) :]:
            if (
                now - replaced[name] >= self._settings.stale_worktree_timeout
                or not self._settings.stale_worktree_timeout
            ):
                yield name

    def _made(self, revision: str, previous: str | None) -> str:
        building, path = os.path.join(self._root.own, revision), self._root.worktree(revision)
        for left in (building, self._root.metadata(revision)):
            remove(left)
        self._root.make(self._root.worktrees)
        try:
            self._root.run("worktree", "add", "--force", "--detach", "--no-checkout", building, revision)
            if previous:
                self._reuse(previous, revision, building)
            self._fill(building, revision)
            self._finish(path, revision)
            move_in(building, path)
        except BaseException:
            with contextlib.suppress(OSError):
                remove(building)  # It may be what fills the disk.
            raise
        return path

    def _fill(self, path: str, revision: str) -> None:
        self._root.write(os.path.join(path, ".git"), f"gitdir: ../../.git/worktrees/{revision}\n")
        self._limit(path, self._root.metadata(revision))
        self._root.run("reset", "--hard", revision, "--", at=path)
        self._add_submodules(path)

    def _limit(self, path: str, metadata: str) -> None:
        """Have git check out only what the sparse checkout file names, or everything without one."""
        patterns = os.path.join(metadata, "info", "sparse-checkout")
        given = self._settings.sparse_checkout_file
        if given:
            self._root.make(os.path.dirname(patterns))
            self._root.write(patterns, _patterns(given))
            self._root.run("sparse-checkout", "init", at=path)
        elif os.path.exists(patterns):
            self._root.run("sparse-checkout", "disable", at=path)
            os.unlink(patterns)

    def _add_submodules(self, path: str) -> None:
        mode, depth = self._settings.submodules, self._settings.depth
        if mode == "off" or not os.path.lexists(os.path.join(path, ".gitmodules")):
            return
        words = ["submodule", "update", "--init"]
        words += ["--recursive"] if mode == "recursive" else []
        words += ["--depth", str(depth)] if depth else []
        # The worktrees share a configuration, in which the URLs of an earlier revision, or of another --repo, are.
        self._root.run("submodule", "sync", "--quiet", at=path)
        self._root.run(*words, at=path)

    def _finish(self, path: str, revision: str) -> None:
        """Let the metadata tell of the worktree at its path, though it may have been made elsewhere."""
        metadata = self._root.metadata(revision)
        self._root.write(os.path.join(metadata, "gitdir"), os.path.join(path, ".git") + "\n")
        self._root.write(os.path.join(metadata, _MARK), self._making())
        made, moved = f"/{os.path.basename(self._root.own)}/{revision}", f"/.worktrees/{revision}"
        for config in _submodule_configs(os.path.join(metadata, "modules")):
            with open(config, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
            if made in text:
                self._root.write(config, text.replace(made, moved))

    def _reuse(self, previous: str, revision: str, building: str) -> None:
        """Link what is unchanged. Raises OSError, GitFailed and NotReusable where anything is odd."""
        metadata = self._root.metadata(previous)
        if self._settings.sparse_checkout_file or read(os.path.join(metadata, _MARK)) != self._making():
            return
        # With other attributes, a file whose content is the same may have to be written otherwise.
        words = "diff-tree", "-r", "--name-only", previous, revision, "--", ":(glob)**/.gitattributes"
        if self._root.run(*words).stdout:
            return
        with open(os.path.join(metadata, "index"), "rb") as file:
            written, index = os.fstat(file.fileno()).st_mtime_ns, file.read()
        reuse.link(index, written, self._root.worktree(previous), building, self._root.mask)
        with open(os.path.join(self._root.metadata(revision), "index"), "wb") as file:
            file.write(index)

    def _making(self) -> str:
        """What else decides how git writes a file."""
        chosen = self._settings
        return json.dumps([chosen.git, chosen.git_config, chosen.git_config_add, chosen.group_write])


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _patterns(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise SidecarError(f"--sparse-checkout-file {path} cannot be read: {error.strerror}") from error


def _submodule_configs(modules: str) -> Iterator[str]:
    """The configuration of each submodule, and of theirs: modules/NAME/config, modules/NAME/modules/NAME/config."""
    for folder, folders, files in os.walk(modules):
        if "HEAD" in files and "objects" in folders:
            folders[:] = [name for name in folders if name == "modules"]
            yield os.path.join(folder, "config")
