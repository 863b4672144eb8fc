"""Starts lifecycle_service.py the way each sidecar's __main__ starts its service."""

from __future__ import annotations

import os
from typing import Any

from sidecars.core import program


def parts() -> tuple[type[Any], Any]:
    if gate := os.environ.get("GATE"):
        with open(gate) as fifo:  # Hold the start until the test lets it go on.
            fifo.read()
    from lifecycle_service import Life, Settings

    return Settings, Life


if __name__ == "__main__":
    program.main(
        parts,
        name="lifecycle",
        prefix="LIFE_",
        admin=":9199",
        one_shot=lambda settings: settings.once,
        children=os.environ.get("CHILDREN") == "1",
    )
