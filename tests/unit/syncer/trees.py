"""Directory trees of tests, written and read as mappings of paths; the content None is a directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.servers.git_server import Executable, Symlink

Tree = Mapping[str, str | Symlink | Executable | None]


def plant(top: Path, tree: Tree) -> Path:
    """Write a tree, with files of the modes that a checkout gives them."""
    top.mkdir(parents=True)
    for path, content in tree.items():
        place = top / path
        place.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case None:
                place.mkdir()
            case Symlink(target):
                place.symlink_to(target)
            case Executable(text):
                place.write_text(text)
                place.chmod(0o755)
            case str():
                place.write_text(content)
                place.chmod(0o644)
    return top


def read(top: Path) -> dict[str, str | Symlink | Executable | None]:
    """Read a tree, without what is called .git; a directory is told of only where it is empty."""
    found: dict[str, str | Symlink | Executable | None] = {}
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        folders[:] = [name for name in folders if name != ".git"]
        for name in (*files, *folders):
            place, path = here / name, str((here / name).relative_to(top))
            if place.is_symlink():
                found[path] = Symlink(str(place.readlink()))
            elif place.is_dir():
                if not any(place.iterdir()):
                    found[path] = None
            elif name != ".git":
                executable = place.stat().st_mode & 0o100
                found[path] = Executable(place.read_text()) if executable else place.read_text()
    return found
