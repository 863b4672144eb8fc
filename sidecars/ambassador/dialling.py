"""A connection to an upstream: connect, say whom it is for, and shake hands."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sidecars.ambassador.connection import Connection
from sidecars.ambassador.plan import Endpoint
from sidecars.ambassador.settings import Upstream

if TYPE_CHECKING:
    from sidecars.ambassador.plane import Plane
    from sidecars.ambassador.tls import Secured


class Dialled(NamedTuple):
    """A connection that stands.

    sock     non-blocking; Secured where the upstream is spoken to by TLS
    fd       its descriptor, watched for BOTH: give it to the new owner's handler by loop.hand_over()
    seconds  how long it took
    events   what has happened already besides WRITE, and will not be told again: call your handler with it, if any
    """

    endpoint: Endpoint
    sock: socket.socket | Secured
    fd: int
    seconds: float
    events: int


class Failed(NamedTuple):
    """None stands.

    reason  a short word: refused, timeout, reset, unreachable, tls, eof, error
    detail  for people
    """

    reason: str
    detail: str


class Dial:
    """A connection that is being made."""

    def cancel(self) -> None:
        """Let it be; done() is not called any more, and no outcome is told."""


def dial(
    plane: Plane,
    endpoint: Endpoint,
    upstream: Upstream,
    timeout: float,
    done: Callable[[Dialled | Failed], None],
    source: Connection | None,
    *,
    route: str,
) -> Dial:
    """Connect to an endpoint of the route (its id); done() is called once, later, never from within this.

    source  whom the connection is for, where the upstream is told by the PROXY protocol
    """
    raise NotImplementedError
