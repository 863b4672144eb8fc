"""The side that carries bytes: it makes a plan so, on the loop of one process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sidecars.ambassador.accesslog import AccessLog
from sidecars.ambassador.admission import Admission, Alone
from sidecars.ambassador.connection import Connection
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.plan import Counted, Outcome, Plan, Route


class Mode(Protocol):
    """What serves the connections of one route."""

    def __init__(self, plane: Plane, route: Route) -> None: ...

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""

    def accepted(self, connection: Connection) -> None:
        """Serve a client."""

    def drain(self) -> None:
        """Begin nothing that need not be."""

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

    def apply(self, plan: Plan, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Make a plan so.

        sockets  the listening ones by route id, non-blocking; they are the caller's, who closes those that are not
                 listed any more after this call. A route that has gone accepts none; its connections run to their end.
        """
        raise NotImplementedError

    def drain(self, close_listeners: bool) -> None:
        """Expect no more; connections run to their end, and new ones are taken unless listeners are to be closed."""
        raise NotImplementedError

    def connections(self) -> int:
        """How many clients are connected, those that wait included: none, while draining, is the end."""
        raise NotImplementedError

    def counted(self) -> Counted:
        """What was counted so far, and what is now."""
        raise NotImplementedError

    def shown(self) -> list[dict[str, object]]:
        """Up to 200 rows: {"listener", "client", "upstream", "age_seconds", "bytes"}."""
        raise NotImplementedError

    def close(self) -> None:
        """End everything, at once."""
        raise NotImplementedError
