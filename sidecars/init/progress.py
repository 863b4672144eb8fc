"""How far a copy is, for people who wait, and whether there is time left."""

from __future__ import annotations

import threading
import time

from sidecars.core.errors import TimedOut
from sidecars.core.log import log


class Progress:
    """Counts what several threads do.

    expected, copied  bytes
    files, kept       how many were copied, and how many were in place already
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._began = time.monotonic()
        self._timeout = timeout
        self._lock = threading.Lock()
        self.expected = 0
        self.copied = 0
        self.files = 0
        self.kept = 0

    def add(self, count: int) -> None:
        """Count bytes. Raises TimedOut when the time is up."""
        with self._lock:
            self.copied += count
        self.look()

    def look(self) -> None:
        """Raise TimedOut when the time is up."""
        if self._timeout is not None and time.monotonic() - self._began > self._timeout:
            raise TimedOut(f"not done within {self._timeout:g} s; give more --timeout, or run it again to go on")

    def copied_one(self) -> None:
        """Count a file that was copied."""
        with self._lock:
            self.files += 1

    def kept_one(self) -> None:
        """Count a file that was in place already."""
        with self._lock:
            self.kept += 1

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self._began, 3)

    def told(self) -> dict[str, object]:
        """What to say at the end."""
        return {"files": self.files, "kept": self.kept, "bytes": self.copied, "seconds": self.seconds()}

    def beat(self) -> None:
        """Say how far it is."""
        rate = self.copied / max(self.seconds(), 0.001)
        left = round((self.expected - self.copied) / rate) if rate else None
        share = min(100, round(100 * self.copied / self.expected)) if self.expected else 100
        log.info("copying", percent=share, megabytes_per_second=round(rate / 1e6, 1), seconds_left=left)
