"""git-syncer, as a command."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import NoReturn

_PREFIX = "GITSYNC_"


def main() -> NoReturn:
    """Run git-syncer: its words are git-sync's, so it is not core/program.py that reads them."""
    if sys.argv[1:2] == ["healthcheck"]:
        from sidecars.core.healthcheck import healthcheck

        raise SystemExit(healthcheck(sys.argv[2:], os.environ, prefix=_PREFIX, default=":9104"))
    if os.getpid() == 1:
        print("INFO: detected pid 1, running init handler", file=sys.stderr, flush=True)
        # On PID 1 a signal without a handler is lost. Held back, it waits for the parent, or for service.py.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    from sidecars.core.children import adopt

    adopt()
    _run(sys.argv[1:])


def _run(argv: list[str]) -> NoReturn:
    from sidecars.core.errors import SidecarError

    gc.disable()
    try:
        from sidecars.syncer import words

        question = words.asked(argv)
        if question:
            from sidecars.core.settings import leave

            leave(words.answer(question))
        found = words.load(argv, os.environ)
    except SidecarError as error:
        from sidecars.syncer.refusing import refuse

        raise SystemExit(refuse(error, argv, os.environ)) from None
    for notice in found.notices:
        print(notice, file=sys.stderr)
    if "--check-config" in argv:
        from sidecars.core.settings import leave

        leave("settings are valid")
    from sidecars.core import service
    from sidecars.syncer.events import as_git_sync
    from sidecars.syncer.settings import PROG
    from sidecars.syncer.syncer import Syncer

    gc.freeze()
    gc.enable()
    settings = found.repositories[0]
    code = service.run(
        Syncer(found),
        settings,
        name=PROG,
        one_shot=settings.one_time,
        render=as_git_sync,
        door_needed=found.door,
    )
    service.leave(code)


if __name__ == "__main__":
    main()
