"""The files that a person names: found, read and replaced, and never left half written."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator

from sidecars.core.disk import replace_file
from sidecars.pods.nodes import WrongManifest

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


def found(names: Iterable[str]) -> Iterator[str]:
    """The files that names stand for: each itself, a directory all manifests below it, but what is hidden.

    A directory without any stands for itself: to read it is the error that a wrong path should be, not a success.
    """
    for name in names:
        below = list(_below(name)) if name != STDIN and os.path.isdir(name) else []
        yield from below or [name]


def _below(name: str) -> Iterator[str]:
    for folder, folders, files in os.walk(name):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (os.path.join(folder, each) for each in sorted(files) if each.endswith(SUFFIXES))


def text(name: str) -> str:
    """Read a file with its line ends as they are. Raises WrongManifest when it cannot be read, or is no text."""
    try:
        data = _bytes(name)
        return data.decode()
    except IsADirectoryError:
        kinds = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise WrongManifest(f"{name}: is a directory with none of {kinds} in it; is the path right?") from None
    except OSError as error:
        raise WrongManifest(f"{name}: cannot be read: {error.strerror}; is the path right?") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WrongManifest(f"{name}:{line}: is not UTF-8; save it as UTF-8") from None


def _bytes(name: str) -> bytes:
    if name == STDIN:
        data = sys.stdin.buffer.read()
        if not data.strip():
            # Without `pipefail` a shell tells of no failure but that of the last in a pipe.
            raise WrongManifest("-: nothing came on standard input; did what writes it fail?")
        return data
    with open(name, "rb") as file:
        return file.read()


def replace(name: str, content: str) -> None:
    """Put a text in the place of a file's, whole or not at all, with the file's mode; through a symlink.

    Raises WrongManifest when it cannot be written.
    """
    path = os.path.realpath(name)
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise WrongManifest(f"{name}: is no regular file, which --in-place could write; leave --in-place out")
        if not os.access(path, os.W_OK):
            raise WrongManifest(f"{name}: is write-protected; leave --in-place out, or make it writable")
        replace_file(path, content.encode(), stat.S_IMODE(found.st_mode))
    except OSError as error:
        raise WrongManifest(f"{name}: cannot be written: {error.strerror}; may you write to its directory?") from None
