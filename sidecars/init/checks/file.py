"""file:///: a file or directory is there, and is what it shall be: not half written, nor of an earlier start."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from sidecars.init.checks import Result, Unmet, late, shown
from sidecars.init.resolving import in_thread

if TYPE_CHECKING:
    from sidecars.init.target import Target

_MOST = 16 * 1024 * 1024  # bytes looked through for `contains`
_TICK = 0.02  # seconds: the kernel's clock for files is that much behind at most
_AGAIN = 1.0  # seconds: a look at a file costs nothing


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    target.flag("nonempty")
    target.seconds("stable")
    target.memory.setdefault("started", time.time())
    newer = target.options.get("newer")
    if newer is not None and newer != "start" and not newer.startswith("/"):
        raise target.wrong("newer", "start, or the path of a file")


async def check(target: Target, patience: float) -> Result:
    """Look at the path: in a thread, for a network filesystem may hang.

    `nonempty`; `contains=TEXT`; `newer=start` than this program's start, or `newer=/another/file`; `stable=2s`: size
    and times are the same for so long.
    """
    late.set(lambda: Result("error", "the filesystem does not answer; is the server of the volume reachable?"))
    try:
        status = await in_thread(("file", target.text), lambda: _look(target))
    except (FileNotFoundError, NotADirectoryError):
        target.memory.pop("seen", None)
        return Result("not-ready", "does not exist", _AGAIN)
    except OSError as error:
        return Result("error", f"cannot look: {error.strerror or error}", _AGAIN)
    except Unmet as unmet:
        return Result(unmet.result.state, unmet.result.text, _AGAIN)
    return _settled(target, status)


def _look(target: Target) -> os.stat_result:
    status = os.stat(target.path)
    if target.flag("nonempty") and not _filled(target.path, status):
        raise Unmet("not-ready", "is empty")
    if "newer" in target.options:
        _compare(target, status.st_mtime)
    if "contains" in target.options:
        _search(target.path, status, target.options["contains"])
    return status


def _filled(path: str, status: os.stat_result) -> bool:
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size > 0
    with os.scandir(path) as entries:
        return next(entries, None) is not None


def _compare(target: Target, modified: float) -> None:
    newer = target.options["newer"]
    if newer == "start":
        if modified < target.memory["started"] - _TICK:
            raise Unmet("not-ready", "is from before this program's start")
    elif not os.path.exists(newer):
        raise Unmet("not-ready", f"is there, but {newer} is not, to be newer than")
    elif modified <= os.stat(newer).st_mtime:
        raise Unmet("not-ready", f"is not newer than {newer}")


def _search(path: str, status: os.stat_result, text: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unmet("not-ready", "is no file that could contain anything")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if text.encode() not in file.read(_MOST):
            raise Unmet("not-ready", f"does not contain {shown(text)}")


def _settled(target: Target, status: os.stat_result) -> Result:
    """Say ok once nothing has changed for as long as is wanted."""
    stable = target.seconds("stable")
    if not stable:
        return Result("ok", "is there")
    seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    now = time.monotonic()
    if target.memory.get("seen") != seen:
        target.memory.update(seen=seen, since=now)
    quiet = now - target.memory["since"]
    if quiet >= stable:
        return Result("ok", f"is there, unchanged for {stable:g} s")
    return Result("not-ready", f"is there, but not yet unchanged for {stable:g} s", stable - quiet)
