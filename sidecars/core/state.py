"""Where a service keeps its state: a directory that one process holds alone, or memory."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from sidecars.core import disk
from sidecars.core.errors import WrongSettings
from sidecars.core.log import log

DEFAULT = "/state"


def directory(given: str | None) -> str | None:
    """Find the state directory, made if need be; None for memory.

    What an operator gave must work. What nobody asked for, the default, may be absent or read-only: then logs flow all
    the same, and only a restart forgets.
    """
    if given == "off":
        return None
    if given is None:
        if os.path.isdir(DEFAULT) and _writable(DEFAULT):
            return DEFAULT
        log.info(
            "state is in memory", reason=f"{DEFAULT} is not a writable directory", advice="mount one, or --state-dir"
        )
        return None
    with _explained(given):
        os.makedirs(given, exist_ok=True)
        if not _writable(given):
            code = errno.EROFS if os.statvfs(given).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code))
    return given


def hold(directory: str, given: bool, holding: contextlib.ExitStack) -> str | None:
    """Lock the directory until the stack is closed; None where the default cannot be locked: memory, then.

    Raises disk.Locked while another process holds it, and WrongSettings when it cannot be locked at all.
    """
    try:
        with _explained(directory):
            holding.enter_context(disk.lock(directory))
    except WrongSettings as error:
        if given:
            raise
        log.warning("state is in memory", reason=str(error))
        return None
    return directory


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK | os.X_OK)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WrongSettings(
            f"--state-dir {path} cannot be used: {error.strerror}; give a writable directory, or off for memory"
        ) from error
