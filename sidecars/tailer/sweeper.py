"""Removing rotated files that every output has confirmed, so that the application's rotation cannot fill the volume."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from sidecars.core.errors import WrongSettings
from sidecars.core.follow.follower import Follower
from sidecars.core.follow.identity import printable
from sidecars.core.follow.names import Names
from sidecars.core.log import log
from sidecars.tailer import metrics


def check_writable(directories: Sequence[str]) -> None:
    """Raise WrongSettings for a directory from which files could not be removed."""
    for directory in directories:
        if os.path.isdir(directory) and not os.access(directory, os.W_OK | os.X_OK):
            raise WrongSettings(
                f"--remove-rotated-after needs to write to {directory}, and this process may not; "
                "mount the volume without readOnly, or leave the setting out"
            )


async def sweep(followers: Sequence[Follower], after: float) -> None:
    """Remove what was not written to for so many seconds and is delivered by all; for ever."""
    while True:
        await asyncio.sleep(min(10.0, max(0.2, after / 4)))
        paths = {path for follower in followers for path in follower.paths}
        await asyncio.to_thread(_remove, paths, followers, after)


def _remove(paths: set[str], followers: Sequence[Follower], after: float) -> None:
    names = Names()
    for path in paths:
        for name, _ in names.of(path):
            try:
                _remove_if_done(name, followers, after)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.error("cannot remove rotated file", path=printable(name), error=error.strerror)


def _remove_if_done(name: str, followers: Sequence[Follower], after: float) -> None:
    status = os.stat(name, follow_symlinks=False)
    if time.time() - status.st_mtime < after or not all(follower.delivered(status) for follower in followers):
        return
    os.unlink(name)
    metrics.REMOVED_FILES.inc()
    metrics.REMOVED_BYTES.inc(status.st_size)
    log.info("rotated file removed", path=printable(name), size=status.st_size)
