"""How a directory comes to hold exactly what was meant: staged, put in place, and the manifest last.

A directory that has a complete manifest is complete. Whoever is killed, at any point, leaves either that or none; run
again, what is there already is kept.

    DEST does not exist     it is filled beside its place, as `.DEST.pod-init`, and renamed
    DEST is there, maybe    it is filled in `DEST/.pod-init`; then the old manifest goes, each entry is renamed to its
    a mount point           place, and the new manifest is written
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import sidecars
from sidecars.core import disk
from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init.tree import Entry, Tree, look, there

MANIFEST, STAGING, LOST = ".pod-init.json", ".pod-init", "lost+found"
OURS = frozenset({MANIFEST, STAGING, LOST})  # at the top of DEST: never removed, never taken for content
_VERSION = 1
_BOOT = "/proc/sys/kernel/random/boot_id"


def boot() -> str:
    """Say which boot of the machine this is.

    Files are not synced one by one, which would take longer than to copy them: a killed process loses nothing of what
    it wrote, and after a crash of the machine a manifest of another boot is not believed.
    """
    try:
        with open(_BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def write_manifest(root: str, source: str, entries: Tree, digests: dict[str, str]) -> None:
    """Write the manifest of a directory: what it holds, from where, in which boot."""
    listed = {
        path: {key: value for key, value in {**entry._asdict(), "sha256": digests.get(path, "")}.items() if value}
        for path, entry in entries.items()
    }
    told = {"version": _VERSION, "by": f"pod-init {sidecars.__version__}", "source": source, "boot": boot()}
    text = json.dumps({**told, "entries": listed}, separators=(",", ":"))
    disk.replace_file(os.path.join(root, MANIFEST), text.encode(), mode=0o664)


def manifest(root: str) -> dict[str, Any] | None:
    """Read the manifest of a directory; None if there is none that can be believed."""
    try:
        with open(os.path.join(root, MANIFEST), encoding="utf-8") as file:
            read = json.load(file)
    except (OSError, ValueError):
        return None
    if not isinstance(read, dict) or read.get("version") != _VERSION or read.get("boot") != boot():
        return None
    return read if isinstance(read.get("entries"), dict) else None


def entries_of(read: dict[str, Any]) -> Tree:
    """Give the entries of a manifest; empty when they cannot be understood."""
    try:
        return {
            str(path): Entry(**{key: value for key, value in entry.items() if key != "sha256"})
            for path, entry in read["entries"].items()
        }
    except (TypeError, AttributeError):
        return {}


def complete(dest: str, wanted: Tree) -> bool:
    """Whether the directory has a manifest of exactly these entries, and still holds them."""
    read = manifest(dest)
    return read is not None and entries_of(read) == wanted and _holds(dest, wanted)


def holds(dest: str, source: str) -> bool:
    """Whether the directory was completed from this source, and still holds what it got."""
    read = manifest(dest)
    return read is not None and read.get("source") == source and _holds(dest, entries_of(read))


def _holds(dest: str, wanted: Tree) -> bool:
    found = there(dest, wanted)
    return all(entry.same_content(found.get(path)) for path, entry in wanted.items())


class Publication:
    """A directory that is being filled. Enter it, fill `staging`, and commit().

    Another process that fills the same directory is waited for, up to `patience` seconds. What an interrupted run has
    staged is still in `staging`. Raises SidecarError, and OSError where a path cannot be written.
    """

    def __init__(self, dest: str, *, patience: float = 3600.0) -> None:
        self.dest = os.path.abspath(dest)
        self.new = False
        self.staging = ""
        self._patience = patience
        self._lock = -1

    def __enter__(self) -> Self:
        deadline, said = time.monotonic() + self._patience, False
        while not self._take():
            if not said:
                log.info("waiting for another process that fills the directory", path=self.dest)
                said = True
            if time.monotonic() > deadline:
                raise SidecarError(f"{self.dest} is being filled by another process for {self._patience:g} s; end one")
            time.sleep(0.1)
        return self

    def _take(self) -> bool:
        """Make the staging directory, or find it, and lock it; False if another process has it, or had it until now."""
        there = look(self.dest, follow=True)
        if there is not None and there.kind != "dir":
            raise SidecarError(f"{self.dest} is a {there.kind}, not a directory; remove it, or name another")
        self.new = there is None
        parent, name = os.path.split(self.dest)
        self.staging = os.path.join(parent, f".{name}{STAGING}") if self.new else os.path.join(self.dest, STAGING)
        if self.new:
            os.makedirs(parent, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.staging)
        self._lock = os.open(self.staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it before has perhaps renamed or removed it.
            if self._is_current():
                return True
        os.close(self._lock)
        self._lock = -1
        return False

    def _is_current(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._lock), os.lstat(self.staging)) and self.new != os.path.isdir(
                self.dest
            )
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def commit(
        self,
        source: str,
        wanted: Tree,
        *,
        digests: dict[str, str] | None = None,
        spare: Callable[[str], bool] | None = None,
        mode: int | None = None,
    ) -> None:
        """Put in place what is staged, and say that the directory is complete.

        Each wanted entry is staged, or in place already. With `spare`, what is not wanted is removed, but for the paths
        that it says True of. A directory that is new gets the mode.
        """
        if self.new:
            _finish_directories(self.staging, wanted)
            if mode is not None:
                _finish(self.staging, mode)
            write_manifest(self.staging, source, wanted, digests or {})
            try:
                os.rename(self.staging, self.dest)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise SidecarError(f"{self.dest} was made by somebody else meanwhile; run this again") from error
                raise
            disk.sync_directory(os.path.dirname(self.dest))
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.dest, MANIFEST))
            disk.sync_directory(self.dest)
        self._place(wanted)
        if spare is not None:
            remove_unwanted(self.dest, wanted, spare)
        _finish_directories(self.dest, wanted)
        write_manifest(self.dest, source, wanted, digests or {})
        remove(self.staging)

    def _place(self, wanted: Tree) -> None:
        """Rename each staged entry to its place; a directory that is not there yet goes with all that is in it."""
        moved = ""
        for path, entry in wanted.items():
            if moved and path.startswith(moved):
                continue
            place, staged = os.path.join(self.dest, path), os.path.join(self.staging, path)
            there = look(place)
            if there is not None and (there.kind == "dir") != (entry.kind == "dir"):
                remove(place)
                there = None
            if there is not None and entry.kind == "dir":
                _let_in(place)
            elif os.path.lexists(staged):
                os.replace(staged, place)
                moved = f"{path}/" if entry.kind == "dir" else moved


def _finish_directories(root: str, wanted: Tree) -> None:
    """Give directories their permissions, the deepest first: one that nobody may write to could be filled until now."""
    for path, entry in reversed(wanted.items()):
        place = os.path.join(root, path)
        if entry.kind == "dir" and os.path.isdir(place):
            _finish(place, entry.mode)


def _finish(directory: str, mode: int) -> None:
    # fsGroup has set the bit that hands the group down, and chmod would take it away.
    _chmod(directory, mode | os.stat(directory).st_mode & stat.S_ISGID)


def _chmod(path: str, mode: int) -> None:
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        try:
            os.chmod(path, mode)
        except PermissionError:
            log.warning("permissions left as they are", path=path, reason="it belongs to another user")


def _let_in(path: str) -> None:
    """Let the owner of a directory change what is in it; its own permissions come back at the end."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o300 != 0o300:
        _chmod(path, mode | 0o700)


def remove(path: str) -> None:
    """Remove a file or a whole directory, also one that nobody may write to."""
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    for folder, _, _ in os.walk(path):
        _let_in(folder)
    shutil.rmtree(path)


def remove_unwanted(dest: str, wanted: Tree, spare: Callable[[str], bool]) -> None:
    """Remove what is below a directory and is not wanted, but for what belongs to us or to the volume."""
    for path in list(unwanted(dest, wanted, spare)):
        parent = os.path.dirname(os.path.join(dest, path))
        _let_in(parent)
        log.debug("removing", path=path)
        remove(os.path.join(dest, path))


def unwanted(dest: str, wanted: Tree, spare: Callable[[str], bool], folder: str = "") -> Iterator[str]:
    """Give what is below a directory and is not wanted, the topmost of each, but for what is spared."""
    for entry in sorted(os.scandir(os.path.join(dest, folder)), key=lambda entry: entry.name):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if path in OURS or spare(path):
            continue
        if path not in wanted:
            yield path
        elif entry.is_dir(follow_symlinks=False):
            yield from unwanted(dest, wanted, spare, path)
