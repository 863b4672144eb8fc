"""One client on its way through TCP mode: waiting, dialling, and passing bytes, to one end."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from sidecars.ambassador.balance import seed
from sidecars.ambassador.connection import Connection, Reason, Socket
from sidecars.ambassador.dialling import Dial, Dialled, Failed, dial
from sidecars.ambassador.loop import BOTH
from sidecars.ambassador.plan import Endpoint, Route
from sidecars.ambassador.relay import Flow

if TYPE_CHECKING:
    from sidecars.ambassador.secured import Secured
    from sidecars.ambassador.tcp import Tcp

_LINGER_NOT = struct.pack("ii", 1, 0)


class Target:
    """An endpoint, and what this process keeps of it over plans: the members of balance.choose()."""

    __slots__ = ("active", "endpoint", "label", "seed", "turn", "upstream", "weight")

    def __init__(self, key: str) -> None:
        self.active = 0
        self.turn = 0.0
        self.seed = seed(key)

    def take(self, endpoint: Endpoint, route: Route) -> None:
        """Be what the plan says."""
        self.endpoint = endpoint
        self.upstream = route.listener.upstreams[endpoint.upstream]
        self.label = self.upstream.name or self.upstream.address
        self.weight = endpoint.weight


class Passage:
    """One client's connection, and the one to an upstream that is made for it: the owner of two flows."""

    __slots__ = (
        "_back", "_dial", "_looked", "_moved", "_out", "_seconds", "_sock", "connection", "loop", "placed", "retries",
        "target", "tcp", "tried",
    )  # fmt: skip

    def __init__(self, tcp: Tcp, connection: Connection) -> None:
        self.tcp = tcp
        self.loop = tcp.plane.loop
        self.connection = connection
        self.target: Target | None = None  # the last that was dialled
        self.tried: tuple[str, ...] = ()
        self.placed = False  # it has one of the target's places
        self.retries = 0
        self._dial: Dial | None = None
        self._sock: socket.socket | Secured | None = None  # the target's
        self._seconds: float | None = None
        self._out: Flow | None = None  # from the client
        self._back: Flow | None = None  # to it
        self._looked = 0  # bytes moved, at the last look
        self._moved = connection.since  # when they moved last, as far as is known

    @property
    def source(self) -> str:
        """Who is balanced by where it comes from."""
        peer = self.connection.peer
        return peer[0] if peer else ""

    @property
    def connected(self) -> bool:
        """Whether bytes can pass."""
        return self._out is not None

    @property
    def upstream(self) -> str | None:
        """Which upstream it goes to, if it has come so far."""
        return self.target.label if self.target else None

    @property
    def received(self) -> int:
        """Bytes from the client."""
        return self._out.count if self._out else 0

    @property
    def sent(self) -> int:
        """Bytes to the client."""
        return self._back.count if self._back else 0

    def dial(self, target: Target) -> None:
        """Connect to a target."""
        tcp = self.tcp
        self.target = target
        target.active += 1
        tcp.pending += 1
        timeout = tcp.route.listener.connect_timeout
        self._dial = dial(
            tcp.plane, target.endpoint, target.upstream, timeout, self._dialled, self.connection, route=tcp.route.id
        )

    def _dialled(self, outcome: Dialled | Failed) -> None:
        if isinstance(outcome, Failed):
            self._try_another()
        else:
            self.tcp.pending -= 1
            self._dial = None
            self._join(outcome)

    def _leave_target(self) -> None:
        """Give up what has been dialled, or is being."""
        if self._dial is not None:
            self.tcp.pending -= 1
            self._dial.cancel()
            self._dial = None
        elif self._sock is None:
            return
        self._sock = None
        if self.target is not None:
            self.tcp.left(self, self.target)

    def _try_another(self) -> None:
        tcp, target = self.tcp, self.target
        self._leave_target()
        if target is not None:
            self.tried = (*self.tried, target.endpoint.key)
        if self.retries >= tcp.route.listener.retries or not tcp.others(self):
            self.end("connect_failed")
            return
        self.retries += 1
        tcp.retries += 1
        tcp.serve(self)

    def _join(self, dialled: Dialled) -> None:
        """Pass bytes on, from now."""
        connection, sock = self.connection, dialled.sock
        loop, client = self.loop, connection.sock
        self._sock, self._seconds, self._moved = sock, dialled.seconds, loop.now
        plain = isinstance(sock, Socket) and isinstance(client, Socket)
        self._out = out = Flow(self, client, sock, connection.fd, plain=plain)
        self._back = back = Flow(self, sock, client, dialled.fd, plain=plain)
        out.twin, back.twin = back, out
        loop.hand_over(dialled.fd, back.happened)
        try:
            # What the client has sent before is told in the next round.
            loop.watch(connection.fd, out.happened, BOTH)
        except OSError:  # the kernel watches no more for this user
            self.end("refused_full")
            return
        if dialled.events or not plain:
            back.happened(BOTH if not plain else dialled.events)
        if not plain and not out.ended:
            out.happened(BOTH)

    def over(self, flow: Flow, *, torn: bool, reset: bool) -> None:
        """Both directions are at their end."""
        if reset:
            # The other side must not take what it has got for all there is: it gets a reset as well.
            other = self._sock if flow is self._out else self.connection.sock
            if other is not None:
                with contextlib.suppress(OSError):
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        if flow is self._out:
            self.end("client_reset" if torn else "client")
        else:
            self.end("upstream_reset" if torn else "upstream")

    def idle(self, now: float) -> float:
        """How long nothing has passed, as far as looks at it tell; there are other limits before it is connected."""
        if self._out is None:
            return 0.0
        bytes = self.received + self.sent
        if bytes != self._looked:
            self._looked = bytes
            self._moved = now
        return now - self._moved

    def late(self) -> None:
        """It has waited in vain."""
        self.end("no_upstream" if self.tcp.expected else "refused_full")

    def lose_target(self, reason: Reason) -> None:
        """Its target takes no connections any more: another may do where none stands yet."""
        if self._sock is not None:
            self.end(reason)
        elif self._dial is not None:
            self._leave_target()
            self.tcp.serve(self)

    def leave(self, reason: Reason) -> None:
        """End it, wherever it is: waiting, dialling, or passing bytes."""
        if self._dial is None and self._sock is None:
            self.tcp.leave_queue(self)
        self.end(reason)

    def end(self, reason: Reason) -> None:
        """Close both sides; who waits has left the queue."""
        connection, loop = self.connection, self.loop
        out, back, sock = self._out, self._back, self._sock
        received, sent = self.received, self.sent
        if out is not None and back is not None and sock is not None:
            out.drop()
            back.drop()
            # They refer to each other in a circle, which the garbage collector would have to find.
            del out.twin, back.twin
            self._out = self._back = None
            loop.forget_closing(back.fd)
            sock.close()
            loop.forget_closing(connection.fd)
        connection.sock.close()
        self._leave_target()
        self.tcp.ended(self, received, sent)
        connection.ended(
            reason,
            received=received,
            sent=sent,
            upstream=self.upstream,
            address=self.target.endpoint.address if self.target else None,
            connect=self._seconds,
            retries=self.retries,
        )
