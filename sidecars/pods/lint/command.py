"""`sidecars lint`, from its command line to its exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from sidecars.core.errors import SidecarError
from sidecars.core.settings import load
from sidecars.pods import files
from sidecars.pods.lint.linting import findings
from sidecars.pods.lint.reporting import FORMATS, explained, plain
from sidecars.pods.lint.rules import RULES
from sidecars.pods.lint.settings import ALL, PREFIX, PROG, Settings
from sidecars.pods.manifests import Manifest, read


def lint(arguments: Sequence[str]) -> int:
    """Run `sidecars lint`; give the exit code."""
    try:
        settings = load(Settings, prog=PROG, prefix=PREFIX, argv=list(arguments))
    except SidecarError as error:
        _say(f"{PROG}: {error}")
        return 2
    if settings.explain:
        print(_list() if settings.explain == ALL else explained(RULES[settings.explain]), end="")
        return 0
    gc.disable()  # A manifest's nodes hold no cycles, and looking through them for some doubles the time.
    manifests, broken = _manifests(settings)
    rules = [rule for rule in RULES.values() if rule.id not in settings.ignore]
    found = findings(manifests, rules, settings.target)
    _write(FORMATS[settings.format](found, rules))
    pods = sum(len(document.pods) for manifest in manifests for document in manifest.documents)
    _say(f"{PROG}: {len(found)} found; {len(manifests)} files with {pods} pods")
    return 2 if broken else int(bool(found))


def _manifests(settings: Settings) -> tuple[list[Manifest], bool]:
    """Read the files; what is wrong with one stops none of the others. Says whether anything was."""
    manifests, broken = [], False
    for name in files.found(settings.files):
        try:
            manifests.append(read(files.text(name), name, settings.target))
        except SidecarError as error:
            broken = True
            _say(str(error))
    return manifests, broken


def _list() -> str:
    return "".join(f"{rule.id:<34}{plain(rule.title)}\n" for rule in RULES.values())


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # A reader such as head has seen enough; the interpreter would complain of it when it flushes at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
