"""Who carries the bytes, a plane in this process or workers, and the listening sockets that it is handed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sidecars.ambassador.listening import open_sockets
from sidecars.ambassador.metrics import with_dropped
from sidecars.ambassador.plan import Counted, Outcome, Plan
from sidecars.ambassador.settings import Listener, Settings
from sidecars.core.door import shown
from sidecars.core.log import log

if TYPE_CHECKING:
    from sidecars.ambassador.loop import Loop

_LAST_LINES = 0.4  # seconds to write the last lines of the access log


class Carrying(Protocol):
    """Who carries the bytes: a plane in this process, or workers."""

    def start(self) -> None:
        """Begin, without waiting."""

    async def ready(self) -> None:
        """Wait until it can carry."""

    async def refresh(self) -> None:
        """Make the numbers fresh."""

    def apply(self, plan: Plan, sockets: Listening) -> None:
        """Do as the plan says."""

    def drain(self, close_listeners: bool, finish: bool = False) -> None:
        """Let what is open come to its end; see Plane.drain()."""

    def connections(self) -> int:
        """Say how many clients' connections are open."""

    def counted(self) -> Counted:
        """Give all that was counted."""

    def shown(self) -> list[dict[str, object]]:
        """Give a row for each of some connections."""

    def refusals(self) -> list[dict[str, object]]:
        """Give a row for each of the last requests that were refused."""

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
        self.shown = self._plane.shown
        self.refusals = self._plane.refusals

    def counted(self) -> Counted:
        """Give all that was counted."""
        return {"workers": {(): 1}, **with_dropped(self._plane.counted(), self._access)}

    def start(self) -> None:
        """Nothing is to be started."""

    async def ready(self) -> None:
        """It can carry."""

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
