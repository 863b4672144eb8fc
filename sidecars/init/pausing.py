"""pod-init pause: does nothing until it is told to end, and ends at once then, as `sleep` does not."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Annotated

from sidecars.core.log import log
from sidecars.core.settings import Help, Seconds
from sidecars.init.settings import Common

_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


class Settings(Common, frozen=True, kw_only=True):
    """Do nothing until SIGTERM, and exit 0 then; children that others leave behind are reaped.

    pod-init pause
    pod-init pause --time 30s
    """

    time: Annotated[Seconds | None, Help("End by itself after this time; off: never.", "How long")] = None


def run(settings: Settings) -> None:
    """Wait."""
    awaited = _ENDING | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    until = None if settings.time is None else time.monotonic() + settings.time
    while True:
        got = _next(awaited, until)
        if got is None:
            return
        if got == signal.SIGCHLD:
            _reap()
        else:
            log.info("told to end", signal=signal.Signals(got).name)
            return


def _next(awaited: set[signal.Signals], until: float | None) -> int | None:
    """Wait for a signal; None when the time is up."""
    if until is None:
        return signal.sigwait(awaited)
    got = signal.sigtimedwait(awaited, max(0.0, until - time.monotonic()))
    return got.si_signo if got else None


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
