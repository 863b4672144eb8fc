"""The tiny parent of programs that start children: as PID 1 it forwards signals and reaps, and nothing else.

The program itself, the worker, must not reap: waitpid(-1) would take the exit codes of its own children from it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

_MARK = "SIDECARS_WORKER"
# Sent by the kernel for the parent's own doings, or not to be caught.
_OWN = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU}
_HELD = [signal.SIGTERM, signal.SIGINT]
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}


def adopt() -> None:
    """Return in the worker. In a process that is PID 1, start the worker and end as it ends; never return."""
    if os.environ.pop(_MARK, None) is None and os.getpid() == 1:
        os._exit(_raise_worker(sys.orig_argv))


def _raise_worker(command: list[str]) -> int:
    awaited = set(signal.valid_signals()) - _FAULTS - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_SETMASK, awaited)
    # What asks for the end is held back until service.py takes it: Python's first moments would lose the drain.
    # A group of its own: Ctrl-C in a terminal reaches the parent's group alone, and the worker once, not twice.
    worker = os.posix_spawn(sys.executable, command, {**os.environ, _MARK: "1"}, setpgroup=0, setsigmask=_HELD)
    while True:
        number = signal.sigwait(awaited)
        if number == signal.SIGCHLD:
            ended = _reap(worker)
            if ended is not None:
                return ended
        elif number not in _OWN:
            _forward(worker, number)


def _reap(worker: int) -> int | None:
    """Take every child that has ended; the worker's exit code if it is among them."""
    ended = None
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if child == 0:
            return ended
        if child == worker:
            code = os.waitstatus_to_exitcode(status)
            ended = code if code >= 0 else 128 - code


def _forward(worker: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # It has ended, and SIGCHLD is on its way.
        os.kill(worker, number)
