"""A process that carries connections, as its parent says, until the parent is gone."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys

from sidecars.ambassador.accesslog import AccessLog
from sidecars.ambassador.admission import Shared
from sidecars.ambassador.channel import Apply, Ask, Channel, Drain, Reopen, Report, Setup
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.metrics import with_dropped
from sidecars.ambassador.plan import Outcome
from sidecars.ambassador.plane import Plane
from sidecars.core import log as logging
from sidecars.core.log import log

# Outcomes that the parent does not take are dropped then: they come again, as long as an upstream fails.
_MOST_WAITING = 1 << 20
_LAST_LINES = 0.4  # seconds to write the last lines of the access log


class Worker:
    """A plane whose plans come from the parent."""

    def __init__(self, loop: Loop, control: socket.socket) -> None:
        self._loop = loop
        self._plane: Plane | None = None
        self._access: AccessLog | None = None
        self._sockets: dict[str, list[socket.socket]] = {}
        self._channel = Channel(control, self._take, self._gone)

    def _take(self, message: object, descriptors: list[int]) -> None:
        match message:
            case Setup():
                self._set_up(message, descriptors[0])
            case Apply():
                self._apply(message, descriptors)
            case Drain(close_listeners, finish) if self._plane:
                self._plane.drain(close_listeners, finish)
                if close_listeners:
                    self._keep(frozenset())
            case Ask(number):
                self._report(number)
            case Reopen() if self._access:
                self._access.reopen()

    def _set_up(self, setup: Setup, limits: int) -> None:
        logging.configure(setup.log_level, setup.log_format, setup.provenance.conceal)
        self._access = AccessLog(setup.access_log) if setup.access_log else None
        admission = Shared(limits, setup.processes, setup.worker)
        self._plane = Plane(self._loop, self._tell, access=self._access, admission=admission)
        self._report(0)

    def _tell(self, outcome: Outcome) -> None:
        if self._channel.waiting < _MOST_WAITING:
            self._channel.send(outcome)

    def _apply(self, apply: Apply, descriptors: list[int]) -> None:
        assert self._plane  # noqa: S101  (the setup comes first)
        gone: list[socket.socket] = []
        rest = iter(descriptors)
        for route, count in apply.sockets.items():
            gone += self._sockets.get(route, [])
            self._sockets[route] = [_socket(next(rest)) for _ in range(count)]
        kept = {route.id for route in apply.plan.routes}
        gone += [each for route, sockets in self._sockets.items() if route not in kept for each in sockets]
        self._sockets = {route: sockets for route, sockets in self._sockets.items() if route in kept}
        self._plane.apply(apply.plan, self._sockets)
        for each in gone:
            each.close()

    def _keep(self, routes: frozenset[str]) -> None:
        for route in self._sockets.keys() - routes:
            for each in self._sockets.pop(route):
                each.close()

    def _report(self, number: int) -> None:
        if self._plane:
            plane = self._plane
            counted = with_dropped(plane.counted(), self._access)
            self._channel.send(Report(number, plane.connections(), counted, plane.shown(), plane.refusals()))

    def _gone(self) -> None:
        """The parent has ended, or has let this process go: what is open is closed."""
        if self._plane:
            self._plane.close()
        if self._access:
            self._access.close(_LAST_LINES)
        self._loop.stop()


def _socket(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


def main() -> None:
    """Carry what the parent says; its end of the control socket has the number that is the argument."""
    # These are the parent's to understand: it drains with this process's help.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = Loop()
    asyncio.set_event_loop(loop)
    code = 0
    try:
        worker = Worker(loop, socket.socket(fileno=int(sys.argv[1])))  # noqa: F841  (it lives as long as the loop)
        gc.freeze()
        loop.run_forever()
    except Exception as error:  # noqa: BLE001  (this is the top)
        log.error("crashed", exc_info=error)
        code = 1
    logging.stderr.flush(1.0)
    os._exit(code)


if __name__ == "__main__":
    main()
