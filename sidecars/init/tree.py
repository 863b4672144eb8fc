"""What is below a directory: found, chosen by patterns, compared."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidecars.core.errors import SidecarError, WrongSettings

MANIFEST, STAGING, LOST = ".pod-init.json", ".pod-init", "lost+found"
OURS = frozenset({MANIFEST, STAGING, LOST})  # at the top of a directory: belongs to us or to the volume, is no content


class Entry(NamedTuple):
    """A file, a directory or a symlink.

    kind      file, dir, link, or other for what is never copied: a socket, FIFO or device
    size      bytes of a file; 0 for others
    mtime_ns  when a file was last changed; 0 for others
    mode      permissions of a file or directory; 0 for a link
    target    of a link
    """

    kind: str
    size: int = 0
    mtime_ns: int = 0
    mode: int = 0
    target: str = ""

    def same_content(self, other: Entry | None) -> bool:
        """Whether both are the same file, as far as size and time tell; permissions left out."""
        return other is not None and self[:3] + self[4:] == other[:3] + other[4:]


Tree = dict[str, Entry]  # by path relative to the root, parents before their children


class Selection(NamedTuple):
    """Which files are meant: by name, or by path where the pattern has a slash."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def leaves_out(self, path: str) -> bool:
        """Whether the entry, and all below it, is left out."""
        return _matches(path, self.exclude)

    def takes(self, path: str) -> bool:
        """Whether a file or link is taken; directories follow what is in them."""
        return not self.include or _matches(path, self.include)

    def spares(self, path: str, directory: bool) -> bool:
        """Whether what is at a path of DEST is none of our business: what is not copied is not removed either."""
        return self.leaves_out(path) or not (directory or self.takes(path))


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path if "/" in each else name, each.removeprefix("/"))
        for each in (pattern.rstrip("/") for pattern in patterns)
    )


def look(path: str, follow: bool = False) -> Entry | None:
    """Give the entry at a path, None if there is none. Raises OSError."""
    try:
        status = os.stat(path) if follow else os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        return Entry("file", status.st_size, status.st_mtime_ns, mode)
    if stat.S_ISDIR(status.st_mode):
        return Entry("dir", mode=mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry("link", target=os.readlink(path))
    return Entry("other")


ALL = Selection()


def scan(root: str, selection: Selection = ALL, *, follow: bool = False) -> Tree:
    """Find everything below a directory, dotfiles and empty directories too.

    With `follow` a link counts as what it leads to. What is ours at the top is left out. Raises SidecarError for a
    dangling or circular link then, and for a socket, FIFO or device; OSError for what cannot be read.
    """
    found: Tree = {}
    for path, entry in _walk(root, "", selection, follow, (_identity(root),)):
        if entry.kind == "dir" or selection.takes(path):
            found[path] = entry
    return _without_empty_parents(found) if selection.include else found


def _walk(
    root: str, folder: str, selection: Selection, follow: bool, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, Entry]]:
    for name in sorted(os.listdir(os.path.join(root, folder))):
        path = f"{folder}/{name}" if folder else name
        if path in OURS or selection.leaves_out(path):
            continue
        whole = os.path.join(root, path)
        entry = look(whole, follow)
        if entry is None:
            if follow and os.path.islink(whole):
                raise SidecarError(
                    f"{whole} leads nowhere; keep the link with --links keep, or leave it out with --exclude"
                )
            continue  # It has just been removed.
        if entry.kind == "other":
            raise SidecarError(f"{whole} is neither a file nor a directory nor a link; leave it out with --exclude")
        yield path, entry
        if entry.kind == "dir":
            identity = _identity(whole)
            if identity in above:
                raise SidecarError(f"{whole} leads back to a directory above it; leave it out with --exclude")
            yield from _walk(root, path, selection, follow, (*above, identity))


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _without_empty_parents(found: Tree) -> Tree:
    """Leave out directories that nothing is taken from."""
    needed: set[str] = set()
    for path, entry in found.items():
        if entry.kind != "dir":
            while path := path.rpartition("/")[0]:
                needed.add(path)
    return {path: entry for path, entry in found.items() if entry.kind != "dir" or path in needed}


def there(root: str, wanted: Tree) -> Tree:
    """Look for each wanted entry below a directory; what is not there, or only behind a link, is left out."""
    found: Tree = {}
    directories = {""}
    for path in wanted:
        if path.rpartition("/")[0] not in directories:
            continue
        entry = look(os.path.join(root, path))
        if entry is not None:
            found[path] = entry
            if entry.kind == "dir":
                directories.add(path)
    return found


def changed(root: str, found: Tree, *, follow: bool = False) -> float:
    """Give when the files were last made or changed in any way, in seconds; nobody can set that time."""
    look_at = os.stat if follow else os.lstat
    newest = 0.0
    for path, entry in found.items():
        if entry.kind == "file":
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, look_at(os.path.join(root, path)).st_ctime)
    return newest


def mode(text: str) -> int:
    """Read permissions in octal, as chmod does; ValueError when it is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise ValueError(text)
    return int(text, 8)


def checked_mode(flag: str, text: str | None) -> int | None:
    """Read the permissions that a flag gives; raises WrongSettings."""
    if text is None:
        return None
    try:
        return mode(text)
    except ValueError:
        raise WrongSettings(f"{flag} is {text!r}, expected permissions in octal, such as 0644") from None
