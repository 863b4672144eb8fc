"""The manifest of a directory that was filled: what it holds, from where, and whether that is to be believed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

import sidecars
from sidecars.init.tree import MANIFEST, Entry, Tree, there

_VERSION = 1
_BOOT = "/proc/sys/kernel/random/boot_id"


def boot() -> str:
    """Say which boot of the machine this is; empty where it cannot be known."""
    try:
        with open(_BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def booted() -> float:
    """Give the time at which the machine was booted, in seconds of the clock that stamps files."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def write(root: str, source: str, entries: Tree, digests: dict[str, str], made: float) -> None:
    """Write the manifest of a directory: what it holds, from where, since when, in which boot."""
    listed = {
        path: {key: value for key, value in {**entry._asdict(), "sha256": digests.get(path, "")}.items() if value}
        for path, entry in entries.items()
    }
    told = {
        "version": _VERSION,
        "by": f"pod-init {sidecars.__version__}",
        "source": source,
        "made": made,
        "boot": boot(),
    }
    path = os.path.join(root, MANIFEST)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o664)
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o664)  # The umask has taken bits away; fsGroup is who shares the volume.
        # A name that is not UTF-8 has lone surrogates, which JSON's escapes can hold.
        file.write(json.dumps({**told, "entries": listed}, separators=(",", ":")))


def read(root: str) -> dict[str, Any] | None:
    """Read the manifest of a directory, whether it can be believed or not; None if there is none."""
    try:
        with open(os.path.join(root, MANIFEST), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("version") != _VERSION or not isinstance(found.get("entries"), dict):
        return None
    return found


def believed(root: str) -> dict[str, Any] | None:
    """Read the manifest of a directory; None if there is none that can be believed."""
    found = read(root)
    return found if found and found.get("boot") and found["boot"] == boot() else None


def doubted(root: str) -> bool:
    """Whether the directory was completed in another boot, so that its files may not hold what their size suggests."""
    found = read(root)
    return found is not None and found.get("boot") != boot()


def entries_of(told: dict[str, Any]) -> Tree:
    """Give the entries of a manifest; empty when they cannot be understood."""
    try:
        return {
            str(path): Entry(**{key: value for key, value in entry.items() if key != "sha256"})
            for path, entry in told["entries"].items()
        }
    except (TypeError, AttributeError):
        return {}


def complete(dest: str, wanted: Tree, changed: float = 0.0) -> bool:
    """Whether the directory has a manifest of exactly these entries, and still holds them.

    One that is older than `changed` is of entries that only look the same: the files of reproducible images all have
    one time, and a new version's may have the size of the old.
    """
    found = believed(dest)
    if found is None or entries_of(found) != wanted:
        return False
    made = found.get("made")
    return isinstance(made, float) and made >= changed and _holds(dest, wanted)


def holds(dest: str, source: str) -> bool:
    """Whether the directory was completed from this source, and still holds what it got."""
    found = believed(dest)
    if found is None or found.get("source") != source:
        return False
    wanted = entries_of(found)
    return len(wanted) == len(found["entries"]) and _holds(dest, wanted)


def _holds(dest: str, wanted: Tree) -> bool:
    found = there(dest, wanted)
    return all(entry.same_content(found.get(path)) for path, entry in wanted.items())
