"""pod-init pause: does nothing until it is told to end, and ends at once then, as `sleep` does not."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Annotated

from sidecars.core.log import log
from sidecars.core.settings import Help, Seconds
from sidecars.init.settings import Common
from sidecars.init.signals import heeded


class Settings(Common, frozen=True, kw_only=True):
    """Do nothing until SIGTERM, and exit 0 then; children that others leave behind are reaped.

    pod-init pause
    pod-init pause --time 30s
    """

    time: Annotated[Seconds | None, Help("End by itself after this time; off: never.", "How long")] = None


def run(settings: Settings) -> None:
    """Wait."""
    until = None if settings.time is None else time.monotonic() + settings.time
    with _signals() as came:
        _reap()  # What was left behind before anybody listened.
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([came], [], [], left)[0]:
                return
            ending = [number for number in os.read(came, 4096) if number != signal.SIGCHLD]
            if ending:
                log.info("told to end", signal=signal.Signals(ending[0]).name)
                return
            _reap()


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Give a descriptor that the numbers of signals can be read from, whichever thread the kernel gives them to."""
    came, comes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(came, True)
    signal.set_wakeup_fd(comes, warn_on_full_buffer=False)
    for number in (*heeded(), signal.SIGCHLD):
        signal.signal(number, _noted)
    yield came


def _noted(*_: object) -> None:
    """Do nothing: without a handler a signal would not be written to the descriptor."""


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
