"""pod-init, as a command."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def become_ssh(command: str) -> NoReturn:
    """Run ssh, which git would run by a shell, with git's words at the end: sources/git.py asks for it."""
    import shlex

    words = [*shlex.split(command), *sys.argv[1:]]
    os.execvp(words[0], words)  # noqa: S606  (no shell is wanted)


def main() -> NoReturn:
    """Run pod-init."""
    from sidecars.init import signals

    if signals.SSH in os.environ:
        become_ssh(os.environ.pop(signals.SSH))
    signals.end_at_once()  # first of all: on PID 1 a signal that has no handler is lost, and the pod's grace with it
    from sidecars.init.command import run

    run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    main()
