"""The listening sockets, opened before anything else is done: a taken port is found at the start."""

from __future__ import annotations

import socket

from sidecars.ambassador.settings import Listener


def open_sockets(listener: Listener, count: int = 1) -> list[socket.socket]:
    """Open the sockets of a listener: `count` for each of its addresses, one for each process, non-blocking.

    ":PORT" is 127.0.0.1 and ::1, of which either may be missing; port 0 is the same port on both. The order is address
    by address: [v4 of process 0, v4 of process 1, v6 of process 0, v6 of process 1]. A unix socket is one, whatever
    the count, since it cannot be had twice.

    Raises WrongSettings: what cannot be listened on, and what to do.
    """
    raise NotImplementedError
