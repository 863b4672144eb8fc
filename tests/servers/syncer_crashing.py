"""A git-syncer that kills itself at a point: python syncer_crashing.py FILE POINT COUNT ARGUMENT...

A point is "EVENT FUNCTION": what Python is about to do to a file, and the function of git-syncer that does it. The file
gets the point when it is reached for the so manieth time; with the point "?" every point that is reached.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_EVENTS = {
    "os.rename": "rename", "os.link": "link", "os.symlink": "symlink", "os.mkdir": "mkdir", "os.remove": "remove",
    "os.rmdir": "rmdir", "os.utime": "utime", "os.chmod": "chmod", "subprocess.Popen": "git",
    "shutil.rmtree": "rmtree",
}  # fmt: skip


def point_of(event: str, arguments: tuple[object, ...], frame: FrameType | None) -> str:
    """Name the point; empty where nothing is about to change."""
    if event == "open":
        flags = arguments[2]
        name = "write" if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) else ""
    elif event == "ctypes.dlsym":
        name = "exchange" if arguments[1] == "renameat2" else ""
    else:
        name = _EVENTS.get(event, "")
    while name and frame is not None:
        if f"{os.sep}sidecars{os.sep}" in frame.f_code.co_filename:
            return f"{name} {frame.f_code.co_qualname.rpartition('.<locals>.')[2] or frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def crash_at(file: str, point: str, count: int) -> None:
    """Let this process be killed when it is at the point for the so manieth time."""
    left = count
    told = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in _EVENTS and event not in ("open", "ctypes.dlsym"):
            return
        here = point_of(event, arguments, sys._getframe(1))
        if point == "?" and here:
            os.write(told, f"{here}\n".encode())
        elif point == here:
            left -= 1
            if not left:
                os.write(told, f"{here}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)


if __name__ == "__main__":
    crash_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.argv[1:] = sys.argv[4:]
    from sidecars.syncer.__main__ import main

    main()
