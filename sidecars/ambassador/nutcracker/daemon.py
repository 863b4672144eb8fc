"""How a daemon of twemproxy's time lives: its log in a file, no terminal, its number in another file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from sidecars.core.errors import WrongSettings


def redirect(path: str) -> None:
    """Write the log to a file, at its end; also again, when the file was renamed. Raises WrongSettings."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise WrongSettings(f"opening log file '{path}' failed: {error.strerror}; choose another -o") from error
    os.dup2(descriptor, 2)
    os.close(descriptor)


def detach(*, log: bool) -> None:
    """Go on as a daemon: a session of its own, without a terminal. The directory stays, for relative paths."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1) if log else (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


@contextlib.contextmanager
def pid_file(path: str) -> Iterator[None]:
    """Keep this process's number in a file while it runs, as twemproxy writes it: without a newline. WrongSettings."""
    if not path:
        yield
        return
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        raise WrongSettings(f"opening pid file '{path}' failed: {error.strerror}; choose another -p") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
