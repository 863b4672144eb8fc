"""An s3-shipper that kills itself at a point: python shipper_crashing.py POINT COUNT ARGUMENT..."""

from __future__ import annotations

import os
import signal
import sys

from sidecars.shipper import __main__ as shipper
from sidecars.shipper import points


def crash_at(point: str, count: int) -> None:
    """Let this process be killed when it reaches the point for the so manieth time."""
    left = count

    def reached(name: str) -> None:
        nonlocal left
        left -= name == point
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    points.reached = reached


if __name__ == "__main__":
    crash_at(sys.argv[1], int(sys.argv[2]))
    del sys.argv[1:3]
    shipper.main()
