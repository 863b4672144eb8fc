"""How a wrong command line, or a wrong configuration, is refused: as git-sync does."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from sidecars.core.ending import write_termination_message
from sidecars.core.errors import SidecarError
from sidecars.core.healthcheck import given
from sidecars.syncer import words
from sidecars.syncer.checks import WrongConfiguration
from sidecars.syncer.files import ErrorFile
from sidecars.syncer.settings import PREFIX
from sidecars.syncer.words import WrongWords


def refuse(error: SidecarError, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Say what is wrong, before and after the usage, and leave it in the error file; give the exit code."""
    text = str(error)
    if isinstance(error, WrongWords):
        shown = f"{text}\n{words.answer('help')}\n{text}"
    elif isinstance(error, WrongConfiguration):
        shown = f"ERROR: {text}\n\n{words.answer('help')}\n\nERROR: {text}"
        _leave(text, argv, environ)
    else:
        shown = f"FATAL: {text}"
    print(shown, file=sys.stderr)
    write_termination_message(given("termination-log", argv, environ, PREFIX) or "/dev/termination-log", text)
    return 2 if isinstance(error, WrongWords) else 1


def _leave(text: str, argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Write the error file, where there is a root to find it under."""
    path = given("error-file", argv, environ, PREFIX) or environ.get("GIT_SYNC_ERROR_FILE")
    root = given("root", argv, environ, PREFIX) or environ.get("GIT_SYNC_ROOT")
    if path and root:
        ErrorFile(path, os.path.abspath(root)).write_text(text)
