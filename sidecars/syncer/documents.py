"""What git-syncer remembers over restarts: small JSON documents in a place that is neither published nor git's."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TypeVar

import msgspec

from sidecars.core import disk
from sidecars.core.log import log

SUFFIX = ".json"

_T = TypeVar("_T")


def place(root: str, name: str) -> str:
    """Give the path of a document: ROOT/.git-syncer/NAME.json, which no start sweeps away.

    ROOT/.git would not do: a repository that is damaged is exchanged for a new one.
    """
    return os.path.join(root, ".git-syncer", f"{name}{SUFFIX}")


def load(path: str, kind: type[_T]) -> _T | None:
    """Read a document. One that cannot be read counts as absent; it is set aside, and a log line names it."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        aside = f"{path.removesuffix(SUFFIX)}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{SUFFIX}"
        with contextlib.suppress(OSError):
            os.replace(path, aside)
        log.error("document cannot be read; starting anew", path=path, error=str(error), set_aside=aside)
        return None


def save(path: str, document: object) -> None:
    """Write a document, durably. Raises OSError."""
    os.makedirs(os.path.dirname(path), 0o775, exist_ok=True)
    disk.replace_file(path, msgspec.json.encode(document))


def remove(path: str) -> None:
    """Remove a document, if it is there, durably. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        disk.sync_directory(os.path.dirname(path))
