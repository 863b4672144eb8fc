"""log-adapter, as a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sidecars.core import program

if TYPE_CHECKING:
    from sidecars.core.service import Service


def _parts() -> tuple[type[Any], Callable[[Any], Service]]:
    from sidecars.adapter.adapter import Adapter
    from sidecars.adapter.settings import Settings

    return Settings, Adapter


def main() -> None:
    """Run log-adapter."""
    if sys.argv[1:2] and sys.argv[1] in ("detect", "test"):
        from sidecars.adapter.inspect import inspect

        raise SystemExit(inspect(sys.argv[1], sys.argv[2:]))
    program.main(_parts, name="log-adapter", prefix="ADAPTER_", admin=":9102", one_shot=lambda settings: settings.once)


if __name__ == "__main__":
    main()
