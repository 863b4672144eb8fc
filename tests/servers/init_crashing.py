"""pod-init, started again and again by one process that has it imported, and killed at points or after some time.

It reads one JSON object per line: the words of a pod-init, the point to be killed at and the how-manieth time (as in
syncer_crashing.py; "*" is any point, "?" tells them all), or after how many seconds; `beside`: another one with the
same words runs at the same time, and is not killed. It answers with the exit code, and the points.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
import concurrent.futures.thread  # noqa: F401  (what a copy imports late)
import hashlib  # noqa: F401
import shutil  # noqa: F401

from sidecars.core import ending, log, settings  # noqa: F401
from sidecars.init import command, copying  # noqa: F401
from tests.servers.syncer_crashing import _EVENTS, point_of


def crash_at(point: str, count: int, told: int) -> None:
    """Let this process be killed when it is at the point for the so manieth time."""
    left = count

    def note(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in _EVENTS and event != "open":
            return
        here = point_of(event, arguments, sys._getframe(1))
        if not here or point not in ("*", "?", here):
            return
        left -= 1
        if point == "?" or not left:
            os.write(told, f"{here}\n".encode())
        if point != "?" and not left:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)


def child(asked: dict[str, Any], told: int, out: int) -> int:
    """Start one, whose log goes to `out`; its process id."""
    if pid := os.fork():
        return pid
    os.dup2(out, 2)
    try:
        if asked.get("point"):
            crash_at(asked["point"], asked["count"], told)
        command.run(asked["words"], {"INIT_TERMINATION_LOG": "/dev/null", "INIT_LOG_FORMAT": "json"})
    except BaseException:  # noqa: BLE001  (it is told by the log)
        os.write(2, traceback.format_exc().encode())
    os._exit(99)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Run what is asked for."""
    out, told = os.memfd_create("out", 0), os.memfd_create("told", 0)
    beside = os.memfd_create("beside", 0)
    os.set_inheritable(out, True)
    pid = child(asked, told, out)
    other = child({"words": asked["words"]}, told, beside) if asked.get("beside") else 0
    if asked.get("after") is not None:
        watched = os.pidfd_open(pid)
        if not select.select([watched], [], [], asked["after"])[0]:
            os.kill(pid, signal.SIGKILL)
        os.close(watched)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    codes = {"code": code, "beside": os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0}
    texts = [os.pread(each, 1 << 24, 0).decode() for each in (out, told, beside)]
    for each in (out, told, beside):
        os.close(each)
    return {**codes, "log": texts[0] + texts[2], "points": texts[1].splitlines()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
