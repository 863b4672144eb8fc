"""A line of JSON for each connection that has ended, written by a thread of its own: a full disk or pipe stops none."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from sidecars.core.log import log

_MOST_WAITING = 10_000  # records
_MOST_AT_ONCE = 1000


class AccessLog:
    """The access log: "stdout", or the path of a file, which is opened again after reopen()."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._news = threading.Condition()
        self._records: deque[tuple[float, Mapping[str, object]]] = deque()
        self._reopen = False
        self._closed = False
        self._descriptor = self._open()
        self.dropped = 0
        self._writer = threading.Thread(target=self._run, name="access log", daemon=True)
        self._writer.start()

    def write(self, record: Mapping[str, object]) -> None:
        """Hand over one record; it is counted and let go when too many wait."""
        ...
