"""A real repository to sync from, and a store that syncs from it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidecars.core.git import Event, Git
from sidecars.syncer.settings import Settings
from sidecars.syncer.store import Store

# What git-syncer's own gitconfig says, and what tests with submodules at file:// need.
GITCONFIG = '[gc]\n\tautoDetach = false\n\tpruneExpire = now\n[protocol "file"]\n\tallow = always\n'
_WHO = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.com", "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip


class Origin:
    """A repository on the disk, with a working tree to commit from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"file://{path}"
        self._config = path.parent / "gitconfig"
        self._config.write_text(GITCONFIG)
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        for key in ("uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter"):
            self.git("config", key, "true")

    def git(self, *words: str) -> str:
        environment = {**os.environ, **_WHO, "GIT_CONFIG_GLOBAL": str(self._config)}
        ran = subprocess.run(
            ["git", *words], cwd=self.path, env=environment, check=True, capture_output=True, text=True
        )
        return ran.stdout.strip()

    def commit(self, files: Mapping[str, str | None], subject: str = "a commit") -> str:
        """Write the files, or remove those without a content, and commit: the hash."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def tree(self, revision: str) -> str:
        return self.git("rev-parse", f"{revision}^{{tree}}")


class Consumer:
    """A root that follows an origin, as the program's loop does, but for the probe and the hooks."""

    def __init__(self, origin: Origin, root: Path, **settings: Any) -> None:
        self.origin, self.root = origin, root
        self.commands: list[str] = []
        self.git = Git("git", {"GIT_CONFIG_GLOBAL": str(origin.path.parent / "gitconfig")})
        self.git.watch = self._note
        self.settings = Settings(**{"repo": origin.url, "root": str(root), "link": "link", "git_gc": "off", **settings})
        self.store = Store(self.settings, self.git)
        self.published: str | None = None
        link = root / "link"
        if link.is_symlink():
            self.published = os.path.basename(os.readlink(link))

    def sync(self, ref: str | None = None) -> str:
        """One pass: the hash that is published."""
        self.store.prepare()
        revision = self.store.fetch(ref or self.settings.ref)
        if revision != self.published or not self.store.sound(revision):
            worktree = self.store.checkout(revision, self.published)
            if self.published:  # Before, so that a crash in between does not make it look old.
                self.store.retire(self.published)
            self.publish(worktree)
            self.published = revision
        else:
            self.store.configure(revision)
        self.store.clean([revision])
        return revision

    def publish(self, worktree: str) -> None:
        new = self.root / ".link.new"
        new.unlink(missing_ok=True)
        new.symlink_to(os.path.relpath(worktree, self.root))
        new.rename(self.root / "link")

    @property
    def link(self) -> Path:
        return self.root / "link"

    def inside(self, *words: str) -> str:
        """Ask git in the published worktree, as a consumer or a hook does."""
        ran = subprocess.run(
            ["git", "-c", "safe.directory=*", *words], cwd=self.link, check=True, capture_output=True, text=True
        )
        return ran.stdout.strip()

    def files(self) -> dict[str, str]:
        """What is published: {path: content}, without git's own."""
        return contents(self.link)

    def _note(self, event: Event) -> None:
        if event.code is None:
            self.commands.append(event.command)


def contents(folder: Path) -> dict[str, str]:
    """{path: content, or where the symlink leads, and the mode's x}, without git's own."""
    found = {}
    for base, folders, files in os.walk(folder):
        for name in [*files, *(one for one in folders if os.path.islink(os.path.join(base, one)))]:
            path = os.path.join(base, name)
            if name != ".git":
                found[os.path.relpath(path, folder)] = content(path)
    return found


def content(path: str) -> str:
    if os.path.islink(path):
        return "-> " + os.readlink(path)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read() + ("|x" if os.stat(path).st_mode & 0o100 else "")
