"""How a process ends: its exit code, and the reason in the log and in Kubernetes' termination message."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

from sidecars.core.errors import SidecarError
from sidecars.core.log import log, plain

_LONGEST_MESSAGE = 1024  # bytes; all containers of a pod share 12 KiB


class Ending(NamedTuple):
    """An exit code, with a reason unless it is 0."""

    code: int
    reason: str = ""

    def tell(self, termination_log: str) -> None:
        """Log the end, and leave the reason of a failure where `kubectl describe pod` shows it."""
        if self.code:
            log.error("failed", reason=self.reason, code=self.code)
            write_termination_message(termination_log, self.reason)
        else:
            log.info("done")


def finished(undelivered: str | None, ended_by: signal.Signals | None) -> Ending:
    """The end of a service that returned or was stopped; `ended_by` is the signal that ended a one-shot command."""
    if ended_by:
        reason = f"ended by {ended_by.name}" + (f"; {undelivered}" if undelivered else "")
        return Ending(128 + ended_by, reason)
    return Ending(1, undelivered) if undelivered else Ending(0)


def failed(error: BaseException) -> Ending:
    """The end by an error: one of ours says itself what to do, any other is a bug and shows its traceback."""
    causes = list(_causes(error))
    bug = next((each for each in causes if not isinstance(each, SidecarError)), None)
    if bug is None:
        return Ending(getattr(causes[0], "exit_code", 1), str(causes[0]))
    log.error("crashed", exc_info=error)
    return Ending(1, f"{type(bug).__name__}: {bug}")


def write_termination_message(path: str, reason: str) -> None:
    """Write the reason where Kubernetes looks for it. Where it does not, nothing is to be written: that is no error.

    The kubelet makes the file, so under /dev none is created: elsewhere than in a container that would be litter.
    """
    create = 0 if path.startswith("/dev/") else os.O_CREAT
    message = plain(reason).encode()[:_LONGEST_MESSAGE].decode(errors="ignore").encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | create, 0o660)
        try:
            os.write(descriptor, message)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.debug("no termination message", path=path, error=error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield error
