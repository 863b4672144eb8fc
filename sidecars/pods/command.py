"""`sidecars convert`, from its command line to its exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from sidecars.core.errors import SidecarError
from sidecars.core.settings import load
from sidecars.pods import files, reporting
from sidecars.pods.converting import convert as converted
from sidecars.pods.drafting import Conversion
from sidecars.pods.planning import Options
from sidecars.pods.settings import PREFIX, PROG, Settings

COUNTED = {"exact", "partial", "native"}


def convert(arguments: Sequence[str]) -> int:
    """Run `sidecars convert`; give the exit code."""
    try:
        settings = load(Settings, prog=PROG, prefix=PREFIX, argv=list(arguments))
    except SidecarError as error:
        _say(f"{PROG}: {error}")
        return 2
    gc.disable()  # A manifest's nodes hold no cycles, and looking through them for some doubles the time.
    try:
        return _Run(settings).run()
    except BrokenPipeError:
        # A reader such as head has seen enough; the interpreter would complain of it when it flushes at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        gc.enable()


class _Run:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.options = Options(target=settings.target, registry=settings.registry, tag=settings.tag)
        self.kept: list[Conversion] = []
        self.errors: list[str] = []
        self.counted = False
        self.written = False

    def run(self) -> int:
        """Convert each file; what is wrong with one stops none of the others."""
        for name in files.found(self.settings.files):
            try:
                self._file(name)
            except SidecarError as error:
                self.errors.append(str(error))
                _say(str(error))
        if self.settings.format == "json":
            plain = not (self.settings.check or self.settings.in_place)
            print(reporting.document(self.kept, self.errors, manifests=plain))
        sys.stdout.flush()
        if self.errors:
            return 2
        return int(self.settings.check and self.counted)

    def _file(self, name: str) -> None:
        conversion = converted(files.text(name), name, self.options)
        self.counted |= any(finding.kind in COUNTED for finding in conversion.findings)
        if self.settings.in_place and conversion.after != conversion.before:
            files.replace(name, conversion.after)
        if self.settings.format == "json":
            self.kept.append(conversion)
            return
        for line in reporting.lines(conversion):
            _say(line)
        if self.settings.diff:
            _write(reporting.diff(conversion))
        elif not (self.settings.check or self.settings.in_place):
            self._manifest(conversion.after)

    def _manifest(self, text: str) -> None:
        """Write a manifest to stdout, as one more document of it."""
        if self.written and not text.startswith("---"):
            _write("---\n")
        _write(text)
        if text and not text.endswith("\n") and len(self.settings.files) > 1:
            _write("\n")
        self.written = True


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())  # with the line ends that the file has


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
