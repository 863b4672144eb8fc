"""The ambassador: listeners, what is decided about their upstreams, and who carries the bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from sidecars.ambassador import metrics
from sidecars.ambassador.listening import open_sockets
from sidecars.ambassador.plan import Counted, Outcome, Plan
from sidecars.ambassador.settings import Listener, Settings
from sidecars.ambassador.upstreams import Upstreams
from sidecars.core.door import shown
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.service import Lifecycle

if TYPE_CHECKING:
    from sidecars.ambassador.loop import Loop

_QUIET = 0.5  # seconds without a connection, after which the application is taken to dial no more
_LAST_LOOK = 0.2  # seconds to count what is cut; who is stopped has a second to let go
_LAST_LINES = 0.4  # seconds to write the last lines of the access log
_LOOK = 0.05  # seconds between two looks, while draining
# What is kept of the grace: in its last tenth, a second at most, nobody is let in; in the last of that, all is closed.
_RESERVE_SHARE, _RESERVE_SECONDS, _CUT_SHARE = 0.1, 1.0, 0.2

Sockets = Mapping[str, Sequence[socket.socket]]


class Carrying(Protocol):
    """Who carries the bytes: a plane in this process, or workers."""

    async def start(self) -> None:
        """Be ready to carry."""

    async def refresh(self) -> None:
        """Make the numbers fresh."""

    def apply(self, plan: Plan, sockets: Listening) -> None:
        """Do as the plan says."""

    def drain(self, close_listeners: bool) -> None:
        """Let what is open come to its end; with that, let nobody in."""

    def connections(self) -> int:
        """Say how many clients' connections are open."""

    def counted(self) -> Counted:
        """Give all that was counted."""

    def shown(self) -> list[dict[str, object]]:
        """Give a row for each of some connections."""

    def reopen(self) -> None:
        """Open the access log anew."""

    async def close(self) -> None:
        """Close everything, at once."""


class Listening:
    """The listening sockets, which stay the same as long as their listener is there."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._sockets: dict[str, list[socket.socket]] = {}

    def open(self, listeners: Sequence[Listener]) -> None:
        """Open what is new. Raises WrongSettings, and then nothing has changed."""
        made: dict[str, list[socket.socket]] = {}
        with contextlib.ExitStack() as failed:
            for listener in listeners:
                if listener.id not in self._sockets:
                    made[listener.id] = open_sockets(listener, self.count)
                    failed.callback(_close, made[listener.id])
            failed.pop_all()
        self._sockets.update(made)
        for route, sockets in made.items():
            for address in dict.fromkeys(_address(each) for each in sockets):
                log.info("listening", listener=route, address=address)

    def close_others(self, listeners: Sequence[Listener]) -> None:
        """Close what is not of these listeners."""
        for route in self._sockets.keys() - {each.id for each in listeners}:
            _close(self._sockets.pop(route))
            log.info("listening no more", listener=route)

    def of(self, index: int) -> dict[str, list[socket.socket]]:
        """Give those of one process: of each address its own, or the one that all share."""
        return {route: _own(sockets, index) for route, sockets in self._sockets.items()}


def _own(sockets: Sequence[socket.socket], index: int) -> list[socket.socket]:
    addresses: dict[object, list[socket.socket]] = {}
    for each in sockets:
        addresses.setdefault((each.family, each.getsockname()), []).append(each)
    return [each[index % len(each)] for each in addresses.values()]


def _close(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _address(sock: socket.socket) -> str:
    name = sock.getsockname()
    return str(name) if sock.family == socket.AF_UNIX else shown(*name[:2])


class Here:
    """A plane in this process."""

    def __init__(self, loop: Loop, tell: Callable[[Outcome], None], settings: Settings) -> None:
        from sidecars.ambassador.accesslog import AccessLog  # with workers, these are theirs
        from sidecars.ambassador.plane import Plane

        self._access = AccessLog(settings.access_log) if settings.access_log else None
        self._plane = Plane(loop, tell, access=self._access)
        self.drain = self._plane.drain
        self.connections = self._plane.connections
        self.counted = self._plane.counted
        self.shown = self._plane.shown

    async def start(self) -> None:
        """Nothing is to be started."""

    async def refresh(self) -> None:
        """The numbers are fresh."""

    def apply(self, plan: Plan, sockets: Listening) -> None:
        """Do as the plan says."""
        self._plane.apply(plan, sockets.of(0))

    def reopen(self) -> None:
        """Open the access log anew."""
        if self._access:
            self._access.reopen()

    async def close(self) -> None:
        """Close everything, at once."""
        self._plane.close()
        if self._access:
            await asyncio.to_thread(self._access.close, _LAST_LINES)


class Ambassador:
    """Listen, and carry each connection, or each Redis command, to an upstream.

    run    accept and carry, as the settings say and as the upstreams do; settings are read again on request
    drain  accept until all is idle or the grace is nearly spent; open connections run to their end
    stop   cancelled: every connection is closed, and counted
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listeners = settings.every_listener()
        self._listening = Listening(settings.workers)
        self._plan = Plan()
        self._cut = 0

    async def run(self, life: Lifecycle) -> None:
        """Carry until the drain has ended."""
        from sidecars.ambassador.decider import Decider

        loop = cast("Loop", asyncio.get_running_loop())
        self._listening.open(self._listeners)
        self._carrying = self._carriers(loop, life.health)
        names = [str(each) for each in self._settings.nameserver]
        self._decider = Decider(loop, self._listeners, self._planned, life.health, nameservers=names)
        self._upstreams = Upstreams(self._decider, self._carrying.counted)
        metrics.Collected(self._counted).show_in()
        life.pages.update(self._upstreams.pages())
        life.posts.update(self._upstreams.posts())
        if self._settings.workers > 1:
            life.refresh = self._carrying.refresh
        try:
            await self._carrying.start()
            crashed = self._decider.start()
            life.health.started()
            drain = asyncio.ensure_future(life.drain.wait())
            await asyncio.wait({drain, crashed}, return_when=asyncio.FIRST_COMPLETED)
            if crashed.done():
                crashed.result()
            await self._drain(life)
        finally:
            await self._end()

    def _carriers(self, loop: Loop, health: Health) -> Carrying:
        if self._settings.workers == 1:
            return Here(loop, self._told, self._settings)
        from sidecars.ambassador.workers import Workers

        return Workers(self._settings, self._told, health)

    def _told(self, outcome: Outcome) -> None:
        self._decider.outcome(outcome)

    def _planned(self, plan: Plan) -> None:
        self._plan = plan
        self._carrying.apply(plan, self._listening)

    def reload(self, listeners: Sequence[Listener]) -> None:
        """Go on with other listeners. Raises WrongSettings when one cannot be opened; then the old ones stay."""
        self._listening.open(listeners)
        self._listeners = tuple(listeners)
        self._decider.reload(self._listeners)
        self._carrying.apply(self._plan, self._listening)
        self._listening.close_others(listeners)

    async def _drain(self, life: Lifecycle) -> None:
        """Return when nothing is open any more, or when only as much time is left as closing takes."""
        loop = asyncio.get_running_loop()
        reserve = min(_RESERVE_SECONDS, _RESERVE_SHARE * life.remaining())
        closed = self._settings.drain_close_listeners
        self._carrying.drain(closed)
        busy = loop.time()
        while life.remaining() > reserve * _CUT_SHARE:
            await self._carrying.refresh()
            if self._carrying.connections():
                busy = loop.time()
            elif closed:
                break
            if not closed and (loop.time() - busy >= _QUIET or life.remaining() <= reserve):
                # What came in by now is served: it is looked at once more.
                closed = True
                self._carrying.drain(True)
                self._listening.close_others(())
            await asyncio.sleep(_LOOK)

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._carrying.refresh(), _LAST_LOOK)
        self._cut = self._carrying.connections()
        self._decider.close()
        self._listening.close_others(())
        await self._carrying.close()

    def _counted(self) -> Counted:
        return metrics.added([self._carrying.counted(), self._decider.counted()])

    def undelivered(self) -> str | None:
        """Say how many connections had to be closed before their end."""
        if not self._cut:
            return None
        return f"{self._cut} open {'connection was' if self._cut == 1 else 'connections were'} cut"

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        counted = self._counted()
        numbers = {name: sum(cast(float, each) for each in counted.get(name, {}).values()) for name in _NUMBERS}
        return {
            "numbers": numbers,
            "tables": {"upstreams": self._upstreams.rows(), "connections": self._carrying.shown()},
        }


_NUMBERS = (
    "connections", "connections_total", "received_bytes_total", "sent_bytes_total", "waiting",
    "upstream_connections", "upstream_connections_total", "upstream_failures_total", "retries_total",
)  # fmt: skip
