"""pod-init, as a command."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run pod-init."""
    from sidecars.init import signals

    signals.end_at_once()  # first of all: on PID 1 a signal that has no handler is lost, and the pod's grace with it
    from sidecars.init.command import run

    run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    main()
