"""New settings while the program runs: on SIGHUP, and when a file that says them has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

from sidecars.ambassador.settings import PREFIX, PROG, Listener, Settings
from sidecars.core import log as logging
from sidecars.core.declaration import declared
from sidecars.core.errors import WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import load

_LOOK = 0.5  # seconds between two looks at the files
# What is in force without a restart: the listeners, and what is put into them.
_AT_ONCE = ("listeners", "log_level", "redis_user", "redis_password", "redis_client_password")

Seen = tuple[tuple[int, ...] | None, ...]


def read() -> Settings:
    """Read the settings anew: the flags and variables are those of the start, the files those of now."""
    return load(Settings, prog=PROG, prefix=PREFIX)


class Reloading:
    """Reads settings anew and has the program go on with them. What is wrong with new ones is said; the old ones stay.

    `change` makes the new listeners so; it raises WrongSettings when it cannot, and then has changed nothing.

    settings  those in force
    accepted  how often new settings were taken
    refused   how often they were not
    error     why the last were not; None when they were
    """

    def __init__(
        self, settings: Settings, change: Callable[[Sequence[Listener]], None], anew: Callable[[], Settings] = read
    ) -> None:
        self.accepted = 0
        self.refused = 0
        self.error: str | None = None
        self._running = settings
        self.settings = settings
        self._change = change
        self._anew = anew
        self._read = _seen(settings.files)

    def now(self, reason: str = "SIGHUP") -> None:
        """Read the settings anew and go on with them."""
        self._read = _seen(self.settings.files)
        try:
            new = self._anew()
            listeners = new.every_listener()
            if listeners != self.settings.every_listener():
                self._change(listeners)
        except WrongSettings as error:
            self.refused += 1
            self.error = str(error)
            log.error("new settings refused", reason=reason, error=self.error, advice="the old ones stay in force")
            return
        self.accepted += 1
        self.error = None
        self._tell(reason, new)
        if new.files != self.settings.files:
            self._read = _seen(new.files)
        self.settings = new

    async def run(self) -> None:
        """Look after the files until cancelled. A file that is gone is waited for."""
        before = self._read
        while True:
            await asyncio.sleep(_LOOK)
            seen = _seen(self.settings.files)
            # What is written in place is read when it has rested: half a list may be a valid one.
            if seen != self._read and seen == before and None not in seen:
                self.now("file changed")
            before = seen

    def _tell(self, reason: str, new: Settings) -> None:
        old, now = _by_id(self.settings.every_listener()), _by_id(new.every_listener())
        log.info(
            "settings reloaded",
            reason=reason,
            added=sorted(now.keys() - old.keys()),
            removed=sorted(old.keys() - now.keys()),
            changed=sorted(each for each in old.keys() & now.keys() if old[each] != now[each]),
        )
        if waiting := self._need_restart(new):
            log.warning("settings need a restart", settings=waiting)
        if new.log_level != self.settings.log_level:
            logging.set_level(new.log_level)

    def _need_restart(self, new: Settings) -> list[str]:
        return [
            setting.key
            for setting in declared(Settings)
            if setting.name not in _AT_ONCE and getattr(new, setting.name) != getattr(self._running, setting.name)
        ]


def _by_id(listeners: Iterable[Listener]) -> dict[str, Listener]:
    return {listener.id: listener for listener in listeners}


def _seen(files: Iterable[str]) -> Seen:
    return tuple(map(_identity, files))


def _identity(path: str) -> tuple[int, ...] | None:
    """Tell a file from what stands at its path after a change; the kubelet swaps a symlink above it."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
