"""git-sync's log lines, which people have queries for, and its error file."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime

from sidecars.core.errors import redacted
from sidecars.core.log import Fields, log, plain
from sidecars.syncer.files import ErrorFile

# What core/log.py and this module put into an event. A field of such a name has a _ behind it until it is rendered.
_OURS = ("time", "level", "event", "logger", "v", "file", "line", "error", "exc_info")


def as_git_sync(event: Fields) -> str:
    """Render an event as git-sync does, with local time; of an error, `error` stands in the place of the level.

        {"logger":"","ts":"2026-11-23 01:48:03.042509","caller":{"file":"main.go","line":676},"level":0,"msg":"..."}

    Source: k8s.io/klog's and git-sync's own logger, by their output.
    """
    caller = {"file": event.get("file", ""), "line": event.get("line", 0)}
    shown: dict[str, object] = {
        "logger": event.get("logger", ""),
        "ts": datetime.now().isoformat(sep=" ", timespec="microseconds"),
        "caller": caller,
    }
    if event["level"] in ("error", "critical"):
        shown["msg"] = event["event"]
        shown["error"] = event.get("error")
    else:
        shown["level"] = event.get("v", 0)
        shown["msg"] = event["event"]
    others = ((_bare(key), value) for key, value in event.items() if key not in _OURS or key == "error")
    shown.update((key, value) for key, value in others if key not in shown)
    return json.dumps(shown, separators=(",", ":"))


def _bare(key: str) -> str:
    return key[:-1] if key[:-1] in _OURS else key


class Events:
    """What one part of git-syncer says: up to the verbosity, and each error into the error file too.

    `conceal` blacks out the secrets known by now in every text.
    """

    def __init__(
        self,
        verbose: int,
        error_file: ErrorFile | None = None,
        *,
        logger: str = "",
        conceal: Callable[[str], str] = str,
        fields: dict[str, object] | None = None,
    ) -> None:
        self._verbose = verbose
        self._error_file = error_file
        self._logger = logger
        self._conceal = conceal
        self._fields = fields or {}
        self._lock = threading.Lock()

    def named(self, logger: str) -> Events:
        """Give the same under the name of a hook."""
        return Events(self._verbose, self._error_file, logger=logger, conceal=self._conceal, fields=self._fields)

    def about(self, **fields: object) -> Events:
        """Give the same with fields that every line has."""
        return Events(
            self._verbose,
            self._error_file,
            logger=self._logger,
            conceal=self._conceal,
            fields={**self._fields, **fields},
        )

    def wanted(self, level: int) -> bool:
        """Whether what is said at this level is written."""
        return level <= self._verbose

    def info(self, level: int, message: str, /, **fields: object) -> None:
        """Say something at a level: 0 for updates, 5 for every command, 9 for all."""
        if level <= self._verbose:
            log.info(message, v=level, logger=self._logger, **_caller(), **self._fields, **self._shown(fields))

    def error(self, error: object, message: str, /, **fields: object) -> None:
        """Say an error, and leave it in the error file."""
        text = None if error is None else self._conceal(str(error))
        shown = self._shown(fields)
        log.error(message, error=text, logger=self._logger, **_caller(), **self._fields, **shown)
        if self._error_file is not None:
            with self._lock:
                args = {_bare(key): plain(value) for key, value in shown.items()}
                trouble = self._error_file.write({"Msg": message, "Err": redacted(text or ""), "Args": args})
            if trouble:
                log.error("can't write error file", error=trouble, logger=self._logger, **_caller())

    def well(self) -> None:
        """Remove the error file: a pass was good."""
        trouble = self._error_file.remove() if self._error_file is not None else None
        if trouble:
            log.error("can't remove error file", error=trouble, logger=self._logger, **_caller())

    def _shown(self, fields: dict[str, object]) -> dict[str, object]:
        return {
            f"{key}_" if key in _OURS else key: self._conceal(each) if isinstance(each, str) else each
            for key, each in fields.items()
        }


def _caller() -> dict[str, object]:
    frame = sys._getframe(2)
    return {"file": os.path.basename(frame.f_code.co_filename), "line": frame.f_lineno}
