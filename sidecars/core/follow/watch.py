"""Being told: inotify wakes the follower up. A wake-up only; looking alone stays correct without it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

# What one write a millisecond would cost otherwise: a wake-up each. The kernel merges what comes meanwhile.
COALESCE_SECONDS = 0.003

_MASK = Mask(
    InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
_SELF = InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF | InotifyConstants.IN_UNMOUNT


class Watch(InotifyFD):
    """Tell which paths changed in the watched directories, in batches, from a thread of its own.

    The parent class dispatches event by event; this one hands over all that one read(2) gave. `told` is called in this
    thread with the changed paths, and with True when some were lost or a directory came or went: then look at all.

    Raises OSError (EMFILE) when the node's inotify instances are used up: fs.inotify.max_user_instances is per user id
    over the whole node.
    """

    def __init__(self, told: Callable[[set[str], bool], None]) -> None:
        super().__init__()
        self._told = told
        self._watched: dict[str, tuple[int, int]] = {}
        self._callbacks = map(CallbackId, itertools.count())
        # A directory that symlinks lead to has several names, and is told about under each of them.
        self._directories: dict[WatchDescriptor, list[tuple[str, CallbackId]]] = {}

    def add(self, directory: str) -> None:
        """Watch one directory; again is harmless. Raises OSError, with ENOSPC when the node's watches are used up."""
        status = os.stat(directory)
        identity = (status.st_dev, status.st_ino)
        if self._watched.get(directory) == identity:
            return
        callback = next(self._callbacks)
        descriptor = self.add_callback(os.fsencode(directory), _MASK, self, callback)
        if descriptor == -1:
            raise PermissionError(f"cannot watch {directory}")
        self._watched[directory] = identity
        self._directories.setdefault(descriptor, []).append((directory, callback))

    def covers(self, directory: str) -> bool:
        """Tell whether changes in this directory are told."""
        return directory in self._watched

    def run(self) -> None:
        """Read events until closed."""
        while self.should_keep_running():
            paths: set[str] = set()
            lost = False
            for event in self.read_events():
                lost |= self._read(event, paths)
            if paths or lost:
                self._told(paths, lost)
            time.sleep(COALESCE_SECONDS)

    def _read(self, event: InotifyEvent, paths: set[str]) -> bool:
        if event.is_queue_overflow:
            return True
        directories = self._directories.get(event.wd, ())
        if not directories:
            return False
        if event.is_ignored:
            self.remove_callbacks([(event.wd, callback) for _, callback in directories])
            del self._directories[event.wd]
        if event.is_ignored or event.mask & _SELF:
            for directory, _ in directories:
                self._watched.pop(directory, None)
            return True
        name = os.fsdecode(event.name)
        paths.update(name if directory == "." else os.path.join(directory, name) for directory, _ in directories)
        return bool(event.mask & InotifyConstants.IN_ISDIR)

    def on_event(self, event: InotifyEvent) -> None:
        """Do nothing: events are handed over in batches by `run`."""

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Do nothing: `run` sees the same event."""

    def on_queue_overflow(self) -> None:
        """Do nothing: `run` sees the same event."""
