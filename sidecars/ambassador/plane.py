"""The side that carries bytes: it makes a plan so, on the loop of one process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sidecars.ambassador import descriptors
from sidecars.ambassador.accesslog import AccessLog
from sidecars.ambassador.admission import Admission, Alone
from sidecars.ambassador.connection import Connection
from sidecars.ambassador.dialling import Dialling
from sidecars.ambassador.gate import Gate
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.metrics import added
from sidecars.ambassador.plan import Counted, Outcome, Plan, Route
from sidecars.ambassador.settings import Listener
from sidecars.ambassador.tally import Tally
from sidecars.ambassador.tcp import Tcp
from sidecars.core.log import log

_MOST_ROWS = 200
_QUIET = 10.0  # seconds between two warnings


class Mode(Protocol):
    """What serves the connections of one route.

    gentle  its drain breaks nothing that clients count on, and so comes at once
    """

    gentle: bool

    def __init__(self, plane: Plane, route: Route) -> None: ...

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""

    def accepted(self, connection: Connection) -> None:
        """Serve a client."""

    def drain(self) -> None:
        """Let go of every client that loses nothing by it."""

    def close(self) -> None:
        """End everything, at once."""

    def connections(self) -> int:
        """How many clients it serves."""

    def counted(self) -> Counted:
        """What it has counted."""

    def shown(self) -> list[dict[str, object]]:
        """Rows for /status."""


class Plane:
    """Accepts, dials and relays as the last plan says.

    tell       is called with each outcome of dialling
    access     gets a record of each connection that has ended
    admission  holds the limits; another one is given where processes share them
    most       what no connection's descriptor may reach
    draining   no more is expected: clients are to come to their end
    """

    def __init__(
        self,
        loop: Loop,
        tell: Callable[[Outcome], None],
        *,
        access: AccessLog | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.loop = loop
        self.tell = tell
        self.access = access
        self.admission = admission or Alone()
        self.dialling = Dialling(loop)
        self.most = descriptors.most()
        self._gates: dict[str, Gate] = {}
        self._leaving: list[Gate] = []  # their routes have gone, their connections have not
        self._tallies: dict[str, Tally] = {}
        self.draining = False
        self._shut = False  # accepts none any more
        self._exhausted = -_QUIET  # when it was said that there are no descriptors left
        self._tls = False  # a route speaks it

    def apply(self, plan: Plan, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Make a plan so.

        sockets  the listening ones by route id, non-blocking; they are the caller's, who closes those that are not
                 listed any more after this call. A route that has gone accepts none; its connections run to their end.
        """
        wanted = {route.id: route for route in plan.routes}
        for id, gate in list(self._gates.items()):
            if id not in wanted or _mode(wanted[id]) is not _mode(gate.route):
                gate.stop()
                if gate.mode.gentle:
                    gate.mode.drain()
                self._leaving.append(self._gates.pop(id))
        for id, route in wanted.items():
            gate = self._gates.get(id) or self._open(route)
            gate.update(route, () if self._shut else sockets.get(id, ()))
        self._leaving = [gate for gate in self._leaving if gate.open]
        self._ready_tls([route.listener for route in plan.routes])

    def _ready_tls(self, listeners: Sequence[Listener]) -> None:
        """Have certificates read before the first connection wants them, and forget those that are not in force."""
        wanted = any(one.tls or any(each.tls for each in one.upstreams) for one in listeners)
        if wanted or self._tls:
            from sidecars.ambassador import tls  # 2 MiB that few listeners need

            tls.use(listeners)
        self._tls = wanted

    def _open(self, route: Route) -> Gate:
        """Make the gate of a route, or take back the one that is leaving still."""
        for gate in self._leaving:
            if gate.route.id == route.id and _mode(gate.route) is _mode(route):
                self._leaving.remove(gate)
                break
        else:
            self.tally(route.id).doubted.clear()  # another mode may have no answers to be judged by
            gate = Gate(self, route, _mode(route))
        self._gates[route.id] = gate
        return gate

    def tally(self, route: str) -> Tally:
        """Where the connections to the upstreams of a route are counted."""
        tally = self._tallies.get(route)
        if tally is None:
            tally = self._tallies[route] = Tally(route, self.tell)
        return tally

    def exhausted(self) -> None:
        """There are no descriptors left: accept none until some may have become free."""
        if self.loop.now - self._exhausted >= _QUIET:
            self._exhausted = self.loop.now
            log.warning("no descriptors left", advice="connections wait; raise the limit (ulimit -n)")
        for gate in self._gates.values():
            gate.rest()

    def crowded(self) -> bool:
        """Whether there are no descriptors for connections still."""
        try:
            return descriptors.next_free() >= self.most
        except OSError:
            return True

    def drain(self, close_listeners: bool, finish: bool = False) -> None:
        """Expect no more; connections run to their end, and new ones are taken unless listeners are to be closed.

        finish  the time is nearly over: a client that can be let go without a loss is, as by Redis between two commands
        """
        self.draining = True
        self._shut = self._shut or close_listeners
        for gate in self._every():
            if close_listeners:
                gate.stop()
            if finish or gate.mode.gentle:
                gate.mode.drain()

    def connections(self) -> int:
        """How many clients are connected, those that wait included: none, while draining, is the end."""
        return sum(gate.open for gate in self._every())

    def counted(self) -> Counted:
        """What was counted so far, and what is now."""
        gates = self._every()
        tallies = [self.tally(route) for route in {gate.route.id for gate in gates}]
        return added([*(gate.counted() for gate in gates), *(tally.counted() for tally in tallies)])

    def shown(self) -> list[dict[str, object]]:
        """Up to 200 rows: {"listener", "client", "upstream", "age_seconds", "bytes"}."""
        rows: list[dict[str, object]] = []
        for gate in self._every():
            rows += gate.mode.shown()[: _MOST_ROWS - len(rows)]
        return rows

    def refusals(self) -> list[dict[str, object]]:
        """Rows of the last refusals: {"time", "listener", "client", "method", "path", "status", "rule", "detail"}.

        The time is in seconds since 1970, the path without its query.
        """
        return [row for gate in self._every() for row in getattr(gate.mode, "refused", ())]

    def close(self) -> None:
        """End everything, at once."""
        self._shut = True
        for gate in self._every():
            gate.close("drained")

    def _every(self) -> list[Gate]:
        return [*self._gates.values(), *self._leaving]


def _mode(route: Route) -> Callable[[Plane, Route], Mode]:
    """What serves a route: passing bytes on, sharding, HTTP, or keys by HTTP."""
    if route.listener.http is not None and route.listener.redis is not None:
        from sidecars.ambassador.http.rest import View

        return View
    if route.listener.http is not None:
        from sidecars.ambassador.http.serving import Serving  # httptools, where there is HTTP only

        return Serving
    if route.listener.redis is None:
        return Tcp
    from sidecars.ambassador.redis.sharding import Sharding  # the largest part, where there is Redis only

    return Sharding
