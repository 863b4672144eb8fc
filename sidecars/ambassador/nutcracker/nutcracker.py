"""ambassador, with the signals that twemproxy takes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial

from sidecars.ambassador.ambassador import Ambassador
from sidecars.ambassador.nutcracker.daemon import redirect
from sidecars.ambassador.nutcracker.flags import LEAST_VERBOSE, MOST_VERBOSE, Flags, level
from sidecars.ambassador.settings import Settings
from sidecars.core import log as logging
from sidecars.core.errors import WrongSettings
from sidecars.core.log import log
from sidecars.core.service import Lifecycle


class Nutcracker(Ambassador):
    """Carry as twemproxy does, in its place.

    run    as Ambassador; SIGHUP opens the log anew too, SIGTTIN and SIGTTOU let more and less through to it
    drain  as Ambassador
    stop   as Ambassador
    """

    def __init__(self, settings: Settings, flags: Flags, anew: Callable[[], Settings]) -> None:
        super().__init__(settings, anew)
        self._flags = flags
        self._verbose = flags.verbose

    async def run(self, life: Lifecycle) -> None:
        """Carry until the drain has ended."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTTIN, partial(self._turn, signal.SIGTTIN, 1))
        loop.add_signal_handler(signal.SIGTTOU, partial(self._turn, signal.SIGTTOU, -1))
        # twemproxy hears these, and does nothing.
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, partial(log.debug, "signal ignored", signal=number.name))
        await super().run(life)

    def undelivered(self) -> str | None:
        """Say nothing of connections that were cut by who has not asked for a drain: twemproxy cuts them all."""
        return super().undelivered() if self._settings.grace else None

    def _turn(self, number: signal.Signals, by: int) -> None:
        self._verbose = min(max(self._verbose + by, LEAST_VERBOSE), MOST_VERBOSE)
        logging.set_level("info")
        log.info("log level", signal=number.name, verbose=self._verbose, least=level(self._verbose))
        logging.set_level(level(self._verbose))

    def _hang_up(self) -> None:
        if self._flags.output:
            try:
                redirect(self._flags.output)
                log.info("log reopened", signal="SIGHUP", path=self._flags.output)
            except WrongSettings as error:
                log.error("log not reopened", error=str(error))
        super()._hang_up()
