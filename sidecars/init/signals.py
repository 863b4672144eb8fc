"""A one-shot command that a signal ends: it says so by its exit code, so that nothing takes it for done."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

SSH = "_POD_INIT_SSH"  # the variable by which pod-init finds itself to be git's ssh; here, for nothing else is imported
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Ended(SystemExit):
    """A signal has ended the command: raised in the main thread, wherever it is; a `finally` is the place to tidy up.

    It is a SystemExit because asyncio lets only that and KeyboardInterrupt out of a running event loop. `undone` says
    what was not done, for the termination message.
    """

    def __init__(self, number: int, undone: str | None = None) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.undone = undone


def heeded() -> list[signal.Signals]:
    """Give the signals that end the command: what nohup, or the parent, has told us to ignore stays ignored."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


def end_at_once() -> None:
    """From now on a signal ends the process: an exception would leave modules half imported, and the end unsaid."""
    for number in heeded():
        signal.signal(number, _leave)


def take() -> None:
    """From now on the first signal raises Ended, and a second ends the process without tidying up."""
    for number in heeded():
        signal.signal(number, _raise)


def last(number: int) -> None:
    """Let the next signal end the process at once: the first, this one, is being obeyed."""
    for each in heeded():
        signal.signal(each, lambda *_: os._exit(128 + number))


def release() -> None:
    """Give back what Python changed, for the program that takes this process over: an exec keeps what is ignored."""
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    if sys.__stderr__ is not None:
        with contextlib.suppress(OSError):
            os.write(2, f"pod-init: ended by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    last(number)
    raise Ended(number)
