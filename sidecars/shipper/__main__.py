"""s3-shipper, as a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sidecars.core import program

if TYPE_CHECKING:
    from sidecars.core.service import Service


def _parts() -> tuple[type[Any], Callable[[Any], Service]]:
    # Not before: `s3-shipper healthcheck` in a container with that variable is no such command line, signals must be
    # held by now, and what is wrong with the words is said as any wrong setting is.
    sys.argv[1:] = program_words(sys.argv[1:], os.environ.get("FLUENTD_ARGS", ""))
    from sidecars.shipper.settings import Settings

    return Settings, _build


def _build(settings: Any) -> Service:
    if settings.check:
        from sidecars.core.settings import leave
        from sidecars.shipper.delivery import check

        leave(check(settings.plan()))
    from sidecars.shipper.shipper import Shipper

    return Shipper(settings)


def main() -> None:
    """Run s3-shipper."""
    program.main(_parts, name="s3-shipper", prefix="SHIPPER_", admin=":9103", one_shot=lambda settings: settings.once)


def program_words(words: list[str], fluentd_arguments: str) -> list[str]:
    """Give the command line with fluentd's flags in our words, those of the variable FLUENTD_ARGS first.

    ["-c", "a.conf", "--check"] -> ["--fluentd-config", "a.conf", "--check"]
    """
    if fluentd_arguments or "-c" in words:
        from sidecars.shipper.fluentd.arguments import translated  # only its users pay for it

        return translated(words, fluentd_arguments)
    return words


if __name__ == "__main__":
    main()
