"""What is done to the entries of a directory that is being filled: moved into place, given permissions, removed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init.tree import OURS, STAGING, Entry, Selection, Tree, look


def replace_by(entry: Entry, place: str) -> Entry | None:
    """Make room for an entry: what is there stays if the entry can be renamed over it. Gives what is there then."""
    there = look(place)
    if there is None or (there.kind == "dir") == (entry.kind == "dir"):
        return there
    if there.kind == "dir" and (mounted := mount_points(place)):
        raise SidecarError(f"{place} is to be a {entry.kind}, but has a volume at {mounted[0]}; mount it elsewhere")
    remove(place)
    return None


def move(staged: str, place: str) -> None:
    """Rename to the place; whoever looks at it meets what was there, or the new, whole."""
    try:
        os.replace(staged, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another volume is mounted somewhere below DEST. One name serves them all: it is one at a time.
        beside = os.path.join(os.path.dirname(place), STAGING)
        if os.path.lexists(beside):
            remove(beside)
        if os.path.isdir(staged) and not os.path.islink(staged):
            shutil.copytree(staged, beside, symlinks=True)
        else:
            shutil.copy2(staged, beside, follow_symlinks=False)
        os.replace(beside, place)


def finish_entries(root: str, wanted: Tree) -> None:
    """Give all their permissions, the deepest first: a directory that nobody may write to could be filled until now.

    Files have them already, but for those that were in place before with others.
    """
    for path, entry in reversed(wanted.items()):
        place = os.path.join(root, path)
        if entry.kind == "dir":
            finish(place, entry.mode)
        elif entry.kind == "file":
            _chmod(place, entry.mode)


def finish(directory: str, mode: int) -> None:
    """Give a directory its permissions. fsGroup has set the bit that hands the group down: it stays."""
    _chmod(directory, mode | os.stat(directory).st_mode & stat.S_ISGID)


def _chmod(path: str, mode: int) -> None:
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        try:
            os.chmod(path, mode)
        except PermissionError:
            log.warning("permissions left as they are", path=path, reason="it belongs to another user")


def let_in(path: str) -> None:
    """Let the owner of a directory change what is in it; its own permissions come back at the end."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o700 != 0o700:
        _chmod(path, mode | 0o700)


def unlock(path: str) -> None:
    """Let the owner change everything below a directory, and the directory."""
    let_in(path)
    with os.scandir(path) as found:
        folders = [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        unlock(folder)


def remove(path: str) -> None:
    """Remove a file or a whole directory, also one that nobody may write to."""
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    unlock(path)
    shutil.rmtree(path)


def remove_unwanted(dest: str, wanted: Tree, selection: Selection) -> None:
    """Remove what is below a directory and is not wanted, but for what belongs to us or to a volume, or is spared."""
    for path in unwanted(dest, wanted, selection):
        place = os.path.join(dest, path)
        let_in(os.path.dirname(place))
        log.debug("removing", path=path)
        remove(place)


def unwanted(dest: str, wanted: Tree, selection: Selection) -> list[str]:
    """Give what is below a directory and is not wanted, the topmost of each.

    What is spared stays, with the directories above it; and so does what another volume is mounted at.
    """
    mounted = {os.path.relpath(each, dest) for each in mount_points(dest)}

    def stays(path: str, directory: bool) -> bool:
        return path in OURS or path in mounted or selection.spares(path, directory)

    return _unwanted(dest, "", wanted, stays)[0]


def _unwanted(root: str, folder: str, wanted: Tree, stays: Callable[[str, bool], bool]) -> tuple[list[str], bool]:
    """Give the paths, and whether they are all that there is."""
    found: list[str] = []
    everything = True
    with os.scandir(os.path.join(root, folder)) as scanned:
        entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in scanned)
    for name, directory in entries:
        path = f"{folder}/{name}" if folder else name
        if stays(path, directory):
            everything = False
            continue
        below, whole = _unwanted(root, path, wanted, stays) if directory else ([], True)
        if whole and path not in wanted:
            found.append(path)
        else:
            everything = False
            found += below
    return found, everything


def mount_points(root: str) -> list[str]:
    """Give where something is mounted at or below a directory. Source: proc(5), /proc/pid/mountinfo."""
    root = os.path.realpath(root)
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    paths = (re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4]) for line in lines)
    return sorted(path for path in map(os.fsdecode, paths) if path.startswith(f"{root.rstrip('/')}/") or path == root)
