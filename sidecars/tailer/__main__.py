"""log-tailer, as a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sidecars.core import program

if TYPE_CHECKING:
    from sidecars.core.service import Service


def _parts() -> tuple[type[Any], Callable[[Any], Service]]:
    from sidecars.tailer.settings import Settings
    from sidecars.tailer.tailer import Tailer

    return Settings, Tailer


def main() -> None:
    """Run log-tailer."""
    program.main(_parts, name="log-tailer", prefix="TAILER_", admin=":9101", one_shot=lambda settings: settings.once)


if __name__ == "__main__":
    main()
