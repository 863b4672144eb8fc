"""ambassador, as a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sidecars.core import program

if TYPE_CHECKING:
    from sidecars.ambassador.loop import Loop
    from sidecars.core.service import Service


def _parts() -> tuple[type[Any], Callable[[Any], Service]]:
    from sidecars.ambassador.ambassador import Ambassador
    from sidecars.ambassador.settings import Settings

    return Settings, Ambassador


def _loop() -> Loop:
    from sidecars.ambassador.loop import Loop

    return Loop()


def main() -> None:
    """Run ambassador."""
    program.main(_parts, name="ambassador", prefix="AMBASSADOR_", admin=":9105", loop=_loop)


if __name__ == "__main__":
    main()
