"""A sidecar's way from its command line to its exit code, with the heavy imports left to those who need them."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecars.core.service import Service
    from sidecars.core.settings import Common

Parts = Callable[[], "tuple[type[Any], Callable[[Any], Service]]"]


def main(
    parts: Parts,
    *,
    name: str,
    prefix: str,
    admin: str = "off",
    one_shot: Callable[[Any], bool] = lambda _: False,
    children: bool = False,
    loop: Callable[[], Any] | None = None,
) -> None:
    """Run the program, or what its first argument asks for instead: its healthcheck. Never returns.

    `parts` imports and gives the class of the settings, and what builds the service from them. `prefix` is that of the
    variables, "TAILER_"; `admin` the default address of the admin door. A program with `children` gets a parent that
    reaps them, when it is PID 1. `loop` makes an event loop other than asyncio's usual one.
    """
    if sys.argv[1:2] == ["healthcheck"]:
        from sidecars.core.healthcheck import healthcheck

        raise SystemExit(healthcheck(sys.argv[2:], os.environ, prefix=prefix, default=admin))
    if os.getpid() == 1:
        # On PID 1 a signal without a handler is lost, and the pod's grace with it. Held back, it waits for service.py.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    if children:
        from sidecars.core.children import adopt

        adopt()
    _run(parts, name, prefix, one_shot, {"loop": loop} if loop else {})


def _run(parts: Parts, name: str, prefix: str, one_shot: Callable[[Common], bool], options: dict[str, Any]) -> None:
    from sidecars.core.errors import SidecarError

    # Imports make what lives as long as the process: looking through it for garbage takes a tenth of the start.
    gc.disable()
    try:
        kind, build = parts()
        from sidecars.core.settings import load

        settings = load(kind, prog=name, prefix=prefix)
        service = build(settings)
    except SidecarError as error:
        _fail(name, prefix, error)
        raise SystemExit(error.exit_code) from None
    from sidecars.core.service import leave, run

    gc.freeze()
    gc.enable()
    leave(run(service, settings, name=name, one_shot=one_shot(settings), **options))


def _fail(name: str, prefix: str, error: Exception) -> None:
    """Say on stderr, in plain text, what keeps the program from running: its reader has just typed the command."""
    from sidecars.core.ending import write_termination_message
    from sidecars.core.healthcheck import given

    print(f"{name}: {error}", file=sys.stderr)
    path = given("termination-log", sys.argv[1:], os.environ, prefix) or "/dev/termination-log"
    write_termination_message(path, str(error))
