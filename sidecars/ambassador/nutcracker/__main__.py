"""ambassador under the name that twemproxy's program has, with its flags."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from sidecars.core.errors import SidecarError

if TYPE_CHECKING:
    from sidecars.ambassador.nutcracker.flags import Flags
    from sidecars.ambassador.settings import Settings

_NAME = "nutcracker"
_PREFIX = "AMBASSADOR_"


def main() -> NoReturn:
    """Run ambassador as `nutcracker`. What it does not know, AMBASSADOR_ variables say: AMBASSADOR_WORKERS, and so on.

    Exit codes are twemproxy's for what keeps it from running: 1. It ends with 0 on SIGTERM and SIGINT.
    """
    if sys.argv[1:2] == ["healthcheck"]:
        from sidecars.core.healthcheck import healthcheck

        raise SystemExit(healthcheck(sys.argv[2:], os.environ, prefix=_PREFIX, default=":9105"))
    if os.getpid() == 1:
        # On PID 1 a signal without a handler is lost. Held back, it waits for service.py.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    from sidecars.ambassador.nutcracker import flags

    gc.disable()
    try:
        given = flags.parse(sys.argv[1:])
    except flags.WrongFlags as error:
        _leave(f"{_NAME}: {error}\n{flags.USAGE}\n", 1)
    if given.asks:
        _answer(given)
    _run(given)


def _leave(text: str, code: int) -> NoReturn:
    # twemproxy answers on stderr, whatever is asked.
    sys.stderr.write(text)
    raise SystemExit(code)


def _answer(given: Flags) -> NoReturn:
    """Answer a question, and exit."""
    from sidecars.ambassador.nutcracker import flags

    if "t" not in given.asks:
        text = flags.USAGE if "h" in given.asks else ""
        text += flags.STATS_TEXT if "D" in given.asks else ""
        _leave(f"{flags.VERSION_TEXT}\n{text}" if text else flags.VERSION_TEXT, 0)
    try:
        settings_of(given)()
    except SidecarError as error:
        _leave(f"{_NAME}: {error}\n{_NAME}: configuration file '{given.conf_file}' syntax is invalid\n", 1)
    _leave(f"{_NAME}: configuration file '{given.conf_file}' syntax is ok\n", 0)


def settings_of(given: Flags) -> Callable[[], Settings]:
    """Say how the settings are read, at first and again: flags of ours that say the same, and our variables."""
    from sidecars.ambassador.settings import Settings
    from sidecars.core.settings import load

    address = f"[{given.stats_addr}]" if ":" in given.stats_addr else given.stats_addr
    words = ["--nutcracker-config", given.conf_file, "--stats", f"{address}:{given.stats_port}"]
    words += ["--log-level", given.level]
    # twemproxy does not drain; whoever wants that says for how long.
    words += [] if os.environ.get(f"{_PREFIX}GRACE") else ["--grace", "0s"]

    def read() -> Settings:
        return load(Settings, prog=_NAME, prefix=_PREFIX, argv=words)

    return read


def _run(given: Flags) -> NoReturn:
    from sidecars.ambassador.nutcracker import daemon

    read = settings_of(given)
    try:
        settings = read()
        if given.output:
            daemon.redirect(given.output)
    except SidecarError as error:
        _leave(f"{_NAME}: {error}\n", 1)
    if given.daemonize:
        daemon.detach(log=bool(given.output))
    from sidecars.ambassador.loop import Loop
    from sidecars.ambassador.nutcracker.nutcracker import Nutcracker
    from sidecars.core import service

    gc.freeze()
    gc.enable()
    # twemproxy has no such door: a taken port is an error only to who has asked for it.
    needed = bool(os.environ.get(f"{_PREFIX}ADMIN"))
    try:
        with daemon.pid_file(given.pid_file):
            code = service.run(Nutcracker(settings, given, read), settings, name=_NAME, door_needed=needed, loop=Loop)
    except SidecarError as error:
        _leave(f"{_NAME}: {error}\n", 1)
    service.leave(code)


if __name__ == "__main__":
    main()
