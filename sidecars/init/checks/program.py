"""cmd:PROGRAM ARGUMENT...: a program of one's own says whether it is so, by its exit code. There is no shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
from typing import TYPE_CHECKING

from sidecars.core.errors import WrongSettings
from sidecars.init.checks import Result, late, shown

if TYPE_CHECKING:
    from sidecars.init.target import Target

_KEPT = 4096  # bytes of what it prints, the last ones


def validate(target: Target) -> None:
    """Find the program; WrongSettings."""
    target.number("exit", 0)
    target.pattern("output")
    argv = _argv(target)
    # A path may come with a volume; what is on no PATH in this image never will.
    if "/" not in argv[0] and not shutil.which(argv[0]):
        raise WrongSettings(f"{target.text} names the program {argv[0]!r}, which is not in this image")


def _argv(target: Target) -> list[str]:
    try:
        return shlex.split(target.path)
    except ValueError as error:
        raise WrongSettings(f"{target.text} cannot be parted into words: {error}; see its quotes") from None


async def check(target: Target, patience: float) -> Result:
    """Run the program once; it is killed, with what it has started, when its time is up."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    kept = bytearray()
    late.set(lambda: Result("not-ready", f"was killed, for it took longer than {round(patience, 2):g} s{_said(kept)}"))
    loop = asyncio.get_running_loop()
    loop.add_reader(reading, _take, reading, kept)
    try:
        code = await _run(_argv(target), writing)
    except FileNotFoundError:
        return Result("not-ready", "there is no such program")
    except OSError as error:
        return Result("error", f"cannot run it: {error.strerror}")
    finally:
        loop.remove_reader(reading)
        _take(reading, kept)
        os.close(reading)
    return _judged(target, code, kept)


async def _run(argv: list[str], writing: int) -> int:
    """Give the exit code."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=writing, start_new_session=True
        )
    finally:
        os.close(writing)
    try:
        return await process.wait()
    finally:
        # Also what it has left behind: the next attempt would leave one more.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await process.wait()


def _take(descriptor: int, kept: bytearray) -> None:
    with contextlib.suppress(BlockingIOError):
        kept += os.read(descriptor, 65536)
        del kept[:-_KEPT]


def _said(kept: bytearray) -> str:
    """Quote the last line of what it has printed."""
    last = bytes(kept).strip().rpartition(b"\n")[2]
    return f": {shown(last)}" if last else ""


def _judged(target: Target, code: int, kept: bytearray) -> Result:
    said, wanted = _said(kept), target.number("exit", 0)
    if code != wanted:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exits {code}"
        return Result("not-ready", f"{how}{f', expected {wanted}' if wanted else ''}{said}")
    pattern = target.pattern("output")
    if pattern and not pattern.search(kept.decode(errors="backslashreplace")):
        return Result("not-ready", f"exits {code}, but its output does not match{said}")
    return Result("ok", f"exits {code}{said}")
