"""One connection of a client, from its acceptance to its end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sidecars.ambassador.gate import Gate
    from sidecars.ambassador.secured import Secured

# Why a connection ended, in the access log and in ended_total.
#
# client, upstream              closed, and by whom first
# client_reset, upstream_reset  torn down
# idle, max_age, timeout        took too long
# no_upstream, connect_failed   none could be dialled; those dialled did not accept
# refused_*                     by the list of those allowed, the limits, the rate
# drained, removed, operator    the end of the program; of the upstream or the listener; asked by POST
# protocol                      not what was expected to be spoken
Reason = Literal[
    "client", "upstream", "client_reset", "upstream_reset", "idle", "max_age", "no_upstream", "connect_failed",
    "refused_allow", "refused_full", "refused_rate", "bad_proxy_header", "tls_failed", "drained", "removed",
    "operator", "protocol", "timeout",
]  # fmt: skip

Peer = tuple[str, int]

# What socket.socket is made of, without the parts in Python (files, and their count): each connection makes two.
Socket: type[socket.socket] = socket.SocketType  # type: ignore[assignment]


class Connection:
    """A client's connection, as a mode gets it.

    sock      non-blocking, and not watched by the loop; Secured where the listener speaks TLS: what it has decrypted
              already is told by no event, so read once before the first wait
    peer      who it is, by the PROXY protocol if that is spoken; None for a unix socket
    local     what was dialled
    since     when it was accepted, on the loop's clock
    names     of the client's certificate

    Whoever has it forgets its descriptor, closes its socket, and then calls ended(), once.
    """

    __slots__ = ("_gate", "_local", "fd", "names", "peer", "since", "sock", "tls")

    def __init__(self, gate: Gate, sock: socket.socket, fd: int, peer: Peer | None, since: float) -> None:
        self._gate = gate
        self.sock: socket.socket | Secured = sock
        self.fd = fd
        self.peer = peer
        self.since = since
        self.tls = False
        self.names: tuple[str, ...] = ()
        self._local: Peer | Literal[False] | None = False

    @property
    def listener(self) -> str:
        """The id of the listener that accepted it."""
        return self._gate.route.id

    @property
    def local(self) -> Peer | None:
        """What the client has dialled; None for a unix socket, or when the client has gone."""
        if self._local is False:
            self._local = _address(self.sock)
        return self._local

    @local.setter
    def local(self, address: Peer | None) -> None:
        self._local = address

    def ended(
        self,
        reason: Reason,
        *,
        received: int = 0,
        sent: int = 0,
        upstream: str | None = None,
        address: Peer | str | None = None,
        connect: float | None = None,
        retries: int = 0,
        quiet: bool = False,
    ) -> None:
        """Count its end, write the access log, and let the next one in.

        received, sent  bytes from and to the client
        upstream        its name
        address         which address of it was dialled
        connect         how many seconds the upstream took to accept
        quiet           the access log has had a line for each request already
        """
        self._gate.left(self, reason)
        access = self._gate.plane.access
        if access is not None and not quiet:
            access.write(
                {
                    "listener": self.listener,
                    "client": written(self.peer),
                    "upstream": upstream,
                    "address": None if address is None else written(address),
                    "duration_seconds": round(self._gate.plane.loop.now - self.since, 6),
                    "received_bytes": received,
                    "sent_bytes": sent,
                    "connect_seconds": None if connect is None else round(connect, 6),
                    "reason": reason,
                    "tls_names": list(self.names),
                    "retries": retries,
                }
            )


def _address(sock: socket.socket | Secured) -> Peer | None:
    try:
        name = sock.getsockname()
    except OSError:
        return None
    return name[:2] if isinstance(name, tuple) else None


def written(peer: Peer | str | None) -> str:
    """Write an address as people do: 10.0.0.7:5432, [2001:db8::1]:5432, /run/db.sock, and unix for who has none."""
    if peer is None:
        return "unix"
    if isinstance(peer, str):
        return peer
    host, port = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
