"""When to look: woken by inotify where it can tell, by the clock where it cannot."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from sidecars.core.follow.lane import Lane, Options
from sidecars.core.log import log

if TYPE_CHECKING:
    from sidecars.core.follow.tracker import Tracker
    from sidecars.core.follow.watch import Watch

# File systems whose changes may come from another machine or another kernel: inotify is silent there.
_SILENT = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "virtiofs", "vboxsf", "afs", "lustre")


class Wake:
    """Collects what inotify tells, and knows which directories it cannot tell about."""

    def __init__(self, loop: asyncio.AbstractEventLoop, output: str, options: Options) -> None:
        self._loop = loop
        self._output = output
        self._event = asyncio.Event()
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._everything = False
        self._watch: Watch | None = None
        self._directories: set[str] = set()
        self._unwatched: set[str] = set()
        self._said: set[str] = set()
        if options.watch:
            self._begin()

    def _begin(self) -> None:
        from sidecars.core.follow.watch import Watch  # not imported where polling is asked for

        try:
            self._watch = Watch(self._told)
        except OSError as error:
            self._say("inotify cannot be used; polling instead", str(error))
            return
        self._watch.start()

    def _say(self, event: str, error: str, **fields: object) -> None:
        if error not in self._said:
            self._said.add(error)
            log.warning(event, error=error, output=self._output, **fields)

    @property
    def polling(self) -> bool:
        """Whether some directory is looked at by the clock."""
        return self._watch is None or bool(self._unwatched)

    def tells(self, lane: Lane) -> bool:
        """Tell whether inotify reports changes of this path."""
        return self._watch is not None and not self._unwatched

    def cover(self, tracker: Tracker) -> None:
        """Watch every directory that can bring or take a followed path; what cannot be watched is polled."""
        if self._watch is None:
            return
        wanted = {directory for source in tracker.sources for directory in source.patterns.directories()}
        wanted |= {os.path.dirname(file.real) for file in list(tracker.registry.files.values()) if file.real}
        for directory in wanted:
            try:
                self._watch.add(directory)
                silent = _file_system(directory)
                if silent is None:
                    self._unwatched.discard(directory)
                    continue
                reason = f"file system {silent} does not report changes"
            except OSError as error:
                reason = error.strerror or str(error)
            self._unwatched.add(directory)
            self._say("directory cannot be watched; polling instead", reason, directory=directory)
        self._unwatched &= wanted

    def _told(self, paths: set[str], everything: bool) -> None:
        with self._lock:
            self._paths |= paths
            self._everything |= everything
        self._loop.call_soon_threadsafe(self._event.set)

    def now(self) -> None:
        """End the wait."""
        self._event.set()

    async def wait(self, seconds: float) -> tuple[set[str], bool]:
        """Wait to be told, at most so long; give the changed paths, and whether everything is to be looked at."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()
        with self._lock:
            told = self._paths, self._everything
            self._paths, self._everything = set(), False
        return told

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.stop()


def _file_system(directory: str) -> str | None:
    """Give the type of the file system when it is one where inotify is silent, else None."""
    best, kind = "", ""
    real = os.path.realpath(directory)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                left, _, right = line.partition(" - ")
                point = left.split(" ")[4].replace("\\040", " ")
                if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
                    best, kind = point, right.split(" ")[0]
    except OSError:
        return None
    return kind if kind in _SILENT or kind.startswith("fuse") else None
