"""git-syncer under test, met as its operator meets it, and what it publishes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tests.servers.git_server import Repository
from tests.servers.process import Sidecar


class Syncer(Sidecar):
    """A git-syncer with these arguments."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "sidecars.syncer")
    prefix: ClassVar[str] = "GITSYNC_"
    defaults: ClassVar[dict[str, str]] = {"GITSYNC_ADMIN": "off"}

    def find(self, event: str) -> dict[str, Any] | None:
        return next(iter(self.said(event)), None)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events() if each["msg"] == event]

    def written(self) -> bytes:
        return b"nothing"

    @property
    def log(self) -> str:
        return "\n".join(self.lines)


class Place:
    """A root to sync to, a repository to sync from, and every git-syncer started between them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.home = directory / "home"
        self.home.mkdir()
        self.origin = local(directory / "origin" / "app")
        self.running: list[Syncer] = []

    def start(self, *arguments: str, **environ: str) -> Syncer:
        """Start a git-syncer; what is not said otherwise: this repository and root, the link `link`, a short period."""
        common = {
            "repo": f"file://{self.origin.path}", "root": str(self.root), "link": "link",
            "period": "100ms", "touch-file": "touched", "error-file": "error",
        }  # fmt: skip
        given = {word.partition("=")[0] for word in arguments}
        flags = [f"--{name}={text}" for name, text in common.items() if f"--{name}" not in given]
        environ = {"HOME": str(self.home), **environ}
        syncer = Syncer(*flags, *arguments, environ=environ)
        self.running.append(syncer)
        return syncer

    def follow(self, *arguments: str, **environ: str) -> Syncer:
        """Start a git-syncer, and wait until it has touched its file."""
        self.touched.unlink(missing_ok=True)
        syncer = self.start(*arguments, **environ)
        syncer.until(self.touched.exists)
        return syncer

    def once(self, *arguments: str, code: int = 0, **environ: str) -> Syncer:
        """Run a git-syncer with --one-time to its end, which must be this."""
        syncer = self.start("--one-time", *arguments, **environ)
        assert syncer.ended()[0] == code, syncer.log
        return syncer

    @property
    def touched(self) -> Path:
        return self.root / "touched"

    @property
    def link(self) -> Path:
        return self.root / "link"

    @property
    def hash(self) -> str:
        """The hash that is published, by the link's name for it."""
        return os.path.basename(os.readlink(self.link))

    def head(self) -> str:
        """What git says is checked out; empty where that cannot be said."""
        try:
            return self.inside("rev-parse", "HEAD")
        except AssertionError:
            return ""

    def text(self, name: str = "file") -> str:
        return (self.link / name).read_text()

    def files(self) -> set[str]:
        """The names of all that is published, without git's own."""
        found = (
            os.path.relpath(os.path.join(base, name), self.link)
            for base, _, names in os.walk(f"{self.link}/")
            for name in names
        )
        return {name for name in found if os.path.basename(name) != ".git"}

    def inside(self, *words: str, cwd: Path | None = None) -> str:
        """What git says in the published worktree."""
        return Repository(cwd or self.link).git(*words)

    def error(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "error").read_text()))

    def until_published(self, syncer: Syncer, hash: str) -> None:
        syncer.until(lambda: self.link.is_symlink() and self.hash == hash)


def tagged(repository: Repository, name: str, hash: str) -> None:
    """Put an annotated tag on a commit, whatever it was on before."""
    text = f"object {hash}\ntype commit\ntag {name}\ntagger A U Thor <author@example.org> 1700000000 +0000\n\na tag\n"
    repository.git("update-ref", f"refs/tags/{name}", repository.git("mktag", data=text.encode()))


def local(path: Path) -> Repository:
    """A repository at a file:// URL, which gives any commit and takes any filter."""
    repository = Repository(path)
    for key in ("uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter"):
        repository.git("config", key, "true")
    return repository


def script(path: Path, text: str) -> str:
    """A program of a few lines of shell."""
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)
