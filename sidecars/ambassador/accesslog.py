"""A line of JSON for each connection that has ended, written by a thread of its own: a full disk or pipe stops none."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from sidecars.core.errors import WrongSettings
from sidecars.core.log import log

_MOST_WAITING = 10_000  # records
_MOST_AT_ONCE = 50  # rendering them holds the interpreter, for which bytes wait


class AccessLog:
    """The access log: "stdout", or the path of a file, which is opened again after reopen().

    dropped  how many records were let go because too many waited, or nothing took them

    Raises WrongSettings when the file cannot be opened at the start.
    """

    def __init__(self, where: str) -> None:
        self.dropped = 0
        self._where = where
        self._news = threading.Condition()
        self._records: deque[tuple[float, Mapping[str, object]]] = deque()
        self._writing = 0
        self._reopen = False
        self._closed = False
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise WrongSettings(
                f"--access-log is {where!r}, which cannot be written to: {os.strerror(error.errno or 0)}; "
                "give the path of a file in a writable directory, or stdout"
            ) from error
        threading.Thread(target=self._run, name="access log", daemon=True).start()

    def write(self, record: Mapping[str, object]) -> None:
        """Hand over one record; it is counted and let go when too many wait."""
        with self._news:
            if len(self._records) >= _MOST_WAITING:
                self.dropped += 1
                return
            self._records.append((time.time(), record))
            self._news.notify()

    def reopen(self) -> None:
        """Open the file anew before the next line, since it may have been rotated."""
        with self._news:
            self._reopen = True
            self._news.notify()

    def close(self, seconds: float = 1.0) -> None:
        """Write what waits, for so long at most, and end."""
        with self._news:
            self._news.wait_for(lambda: not self._records and not self._writing, seconds)
            self._closed = True
            self._news.notify()

    def _open(self) -> int:
        if self._where == "stdout":
            return 1
        return os.open(self._where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _run(self) -> None:
        while True:
            with self._news:
                self._writing = 0
                self._news.notify_all()
                self._news.wait_for(lambda: self._records or self._reopen or self._closed)
                if self._closed:
                    break
                reopen, self._reopen = self._reopen, False
                records = [self._records.popleft() for _ in range(min(_MOST_AT_ONCE, len(self._records)))]
                self._writing = len(records)
            if reopen:
                self._open_again()
            self._write(records)
        if self._descriptor > 2:
            os.close(self._descriptor)

    def _open_again(self) -> None:
        try:
            descriptor = self._open()
        except OSError as error:
            log.error("access log not reopened", path=self._where, error=error.strerror)
            return
        if self._descriptor > 2:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _write(self, records: list[tuple[float, Mapping[str, object]]]) -> None:
        data = b"".join(rendered(when, record) for when, record in records)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            with self._news:
                first, self.dropped = not self.dropped, self.dropped + len(records)
            if first:
                log.error("access log not written", path=self._where, error=error.strerror)


def rendered(when: float, record: Mapping[str, object]) -> bytes:
    """Make a record's line, with its time first, as UTC."""
    text = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": text, **record}).encode() + b"\n"
