"""What /debug/pprof/ answers: Go's paths, and the same questions answered for a process that is Python's.

/               every thread's stack, every asyncio task, what the collector holds, and the kernel's view of the memory
/cmdline        the command line, secrets left out
/profile        where the time goes: the stacks of all threads, sampled for ?seconds= (30), one line each with its count
/trace          the same for one second
/symbol         that there are no symbols
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import FrameType
from urllib.parse import parse_qs

from sidecars.core.door import Response, text

_INTERVAL = 0.01  # seconds between two samples
_LONGEST = 300.0
_sampling = threading.Lock()


def answer(name: str, query: str, words: Sequence[str]) -> Response | Awaitable[Response]:
    """Answer for the path below /debug/pprof/."""
    if name == "cmdline":
        return _plain("\0".join(words))
    if name == "symbol":
        return _plain("num_symbols: 0\n")
    if name in ("profile", "trace"):
        return _sampled(_seconds(query, 30.0 if name == "profile" else 1.0))
    if name in _SECTIONS:
        return _plain(_SECTIONS[name]())
    if name:
        return text(404, f"there is no profile {name[:100]} here")
    return _plain("\n".join(f"# {title}\n{section()}" for title, section in _SECTIONS.items()))


def _plain(shown: str) -> Response:
    return Response(200, shown.encode(errors="backslashreplace"))


def _threads() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "".join(
        f"{names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}\n"
        for ident, frame in sys._current_frames().items()
    )


def _tasks() -> str:
    return "".join(f"{task.get_name()}\n{''.join(_stack(task))}\n" for task in asyncio.all_tasks())


def _stack(task: asyncio.Task[object]) -> Iterator[str]:
    """The frames of a task; asyncio's own way shows values, which may be secret."""
    for frame in task.get_stack():
        yield f"  {_place(frame)}\n"


def _collector() -> str:
    counts = f"objects allocated since the last collection, by generation: {gc.get_count()}\n"
    return counts + "".join(f"generation {number}: {each}\n" for number, each in enumerate(gc.get_stats()))


def _memory() -> str:
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        return "".join(line for line in file if line.startswith(("Vm", "Rss", "Threads", "FDSize", "volun", "nonvol")))
    return ""


# Go's names, so that its tools' paths lead to something.
_SECTIONS: dict[str, Callable[[], str]] = {
    "threadcreate": _threads,
    "goroutine": _tasks,
    "allocs": _collector,
    "heap": _memory,
}


def _seconds(query: str, default: float) -> float:
    try:
        given = float(parse_qs(query).get("seconds", [""])[-1])
    except ValueError:
        return default
    return min(given, _LONGEST) if given > 0 else default


async def _sampled(seconds: float) -> Response:
    if not _sampling.acquire(blocking=False):
        return text(503, "a profile is being taken already")
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = threading.Event()
    threading.Thread(target=_sample, args=(seconds, stop, done), name="profile", daemon=True).start()
    try:
        return _plain(await done)
    finally:
        stop.set()


def _sample(seconds: float, stop: threading.Event, done: asyncio.Future[str]) -> None:
    try:
        counts: collections.Counter[str] = collections.Counter()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stop.wait(_INTERVAL):
            counts.update(_collapsed(threading.get_ident()))
    finally:
        _sampling.release()
    lines = "".join(f"{stack} {count}\n" for stack, count in counts.most_common())
    with contextlib.suppress(RuntimeError):  # The loop is closed: the process ends.
        done.get_loop().call_soon_threadsafe(_tell, done, lines)


def _tell(done: asyncio.Future[str], lines: str) -> None:
    if not done.done():
        done.set_result(lines)


def _collapsed(own: int) -> Iterator[str]:
    """Every thread's stack on a line, outermost frame first, but for the one that samples."""
    for ident, innermost in sys._current_frames().items():
        places = []
        frame: FrameType | None = innermost
        while frame and ident != own:
            places.append(_place(frame))
            frame = frame.f_back
        if places:
            yield ";".join(reversed(places))


def _place(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}:{frame.f_lineno}"
