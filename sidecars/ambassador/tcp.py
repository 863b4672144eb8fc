"""TCP mode: each client's connection is passed on to one of the upstreams, byte for byte."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from sidecars.ambassador.balance import choose, seed
from sidecars.ambassador.connection import Connection, Reason, Socket, written
from sidecars.ambassador.dialling import Dial, Dialled, Failed, dial
from sidecars.ambassador.loop import BOTH, Deadline
from sidecars.ambassador.plan import Counted, Endpoint, Route
from sidecars.ambassador.queueing import Queue
from sidecars.ambassador.relay import Flow

if TYPE_CHECKING:
    from sidecars.ambassador.plane import Plane
    from sidecars.ambassador.secured import Secured

_LINGER_NOT = struct.pack("ii", 1, 0)
_MOST_ROWS = 200


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


class Tcp:
    """One listener in TCP mode."""

    def __init__(self, plane: Plane, route: Route) -> None:
        self.plane = plane
        self.route = route
        self.passages: set[Passage] = set()
        self.pending = 0
        self.retries = 0
        self._received = 0  # by connections that have ended
        self._sent = 0
        self._targets: dict[str, Target] = {}
        self._live: list[Target] = []
        # Until a name has had its first answer, clients wait for it: they may be as early as we are.
        self.expected = True
        self._queue: Queue[Passage] = Queue(plane.loop, self._serve, Passage.late)
        self._sweep: Deadline | None = None
        self.update(route)

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""
        self.route = route
        targets = {each.key: self._targets.get(each.key) or Target(each.key) for each in route.endpoints}
        for endpoint in route.endpoints:
            targets[endpoint.key].take(endpoint, route)
        self._targets = targets
        self.expected = self.expected and not targets
        # Who is down or ejected is better than nobody.
        self._live = [each for each in targets.values() if each.endpoint.state == "up"] or [
            each for each in targets.values() if each.endpoint.state in ("down", "ejected")
        ]
        if any(each.close or each.state == "disabled" for each in route.endpoints):
            self._close_removed()
        self._queue.look()
        self._begin_sweep()

    def _close_removed(self) -> None:
        for passage in list(self.passages):
            endpoint = passage.target and passage.target.endpoint
            if endpoint and (endpoint.close or endpoint.state == "disabled"):
                passage.lose_target("operator" if endpoint.state == "disabled" else "removed")

    def accepted(self, connection: Connection) -> None:
        """Pass a client on."""
        passage = Passage(self, connection)
        self.passages.add(passage)
        self.serve(passage)

    def others(self, passage: Passage) -> list[Target]:
        """Which targets it may go to, and has not tried."""
        if not passage.tried:
            return self._live
        return [target for target in self._live if target.endpoint.key not in passage.tried]

    def serve(self, passage: Passage) -> None:
        """Dial for it, now or when there is room."""
        if self._queue or self._serve(passage):
            if len(self._queue) < self.route.listener.queue:
                self._queue.join(passage, self.route.listener.queue_timeout)
            else:
                passage.end("refused_full")

    def _serve(self, passage: Passage) -> float:
        """Dial for it, or end it; or say how long it has to wait, at most."""
        listener = self.route.listener
        live = self.others(passage)
        if not live:
            if self.expected:
                return 1.0
            passage.end("connect_failed" if passage.tried else "no_upstream")
            return 0.0
        most = listener.max_pending
        if most is not None and self.pending >= most:
            passage.end("refused_full")
            return 0.0
        if listener.upstream_connections is not None:
            return self._serve_within(passage, live, listener.upstream_connections)
        passage.dial(choose(listener.balance, live, passage.source))
        return 0.0

    def _serve_within(self, passage: Passage, live: list[Target], most: int) -> float:
        """Dial one that has room; which of them have is known to the admission, for all processes."""
        live = list(live)
        while live:
            target = choose(self.route.listener.balance, live, passage.source)
            if self.plane.admission.take(self._place(target), most):
                passage.placed = True
                passage.dial(target)
                return 0.0
            live.remove(target)
        return 1.0

    def _place(self, target: Target) -> str:
        return f"{self.route.id} {target.endpoint.key}"

    def left(self, passage: Passage, target: Target) -> None:
        """A passage has no connection to its target any more, nor is one under way."""
        target.active -= 1
        if passage.placed:
            passage.placed = False
            self.plane.admission.give(self._place(target))
            self._queue.look()

    def ended(self, passage: Passage, received: int, sent: int) -> None:
        """A passage is over."""
        self.passages.discard(passage)
        self._received += received
        self._sent += sent

    def leave_queue(self, passage: Passage) -> None:
        """It waits no longer."""
        if self._queue:
            self._queue.leave(passage)

    def _begin_sweep(self) -> None:
        listener = self.route.listener
        limits = [float(each) for each in (listener.idle_timeout, listener.max_age) if each is not None]
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if limits:
            # A tenth late at the most; one look at all of them costs less than a timer for each.
            self._sweep = self.plane.loop.later(max(0.05, min(10.0, min(limits) / 10)), self._look)

    def _look(self) -> None:
        listener, now = self.route.listener, self.plane.loop.now
        idle, age = listener.idle_timeout, listener.max_age
        for passage in list(self.passages):
            if age is not None and now - passage.connection.since >= age:
                passage.leave("max_age")
            elif idle is not None and passage.idle(now) >= idle:
                passage.leave("idle")
        self._begin_sweep()

    def drain(self) -> None:
        """Let go of every client that loses nothing by it: of bytes, nobody knows where one may end."""

    def close(self) -> None:
        """End everything, at once."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for passage in list(self.passages):
            passage.leave("drained")

    def connections(self) -> int:
        """How many clients it serves."""
        return len(self.passages)

    def counted(self) -> Counted:
        """What it has counted."""
        label = (self.route.id,)
        received, sent = self._received, self._sent
        upstreams: dict[tuple[str, ...], float | list[float]] = {}
        for target in self._targets.values():
            upstreams[self.route.id, target.label] = 0.0
        for passage in self.passages:
            received += passage.received
            sent += passage.sent
            if passage.connected and passage.target:
                upstream = (self.route.id, passage.target.label)
                upstreams[upstream] = upstreams.get(upstream, 0.0) + 1  # type: ignore[operator]
        return {
            "received_bytes_total": {label: received},
            "sent_bytes_total": {label: sent},
            "retries_total": {label: self.retries},
            "waiting": {label: len(self._queue)},
            "upstream_connections": upstreams,
        }

    def shown(self) -> list[dict[str, object]]:
        """Rows for /status."""
        now = self.plane.loop.now
        rows: list[dict[str, object]] = []
        for passage in self.passages:
            rows.append(
                {
                    "listener": self.route.id,
                    "client": written(passage.connection.peer),
                    "upstream": passage.upstream,
                    "address": passage.address,
                    "age_seconds": round(now - passage.connection.since, 3),
                    "bytes": passage.received + passage.sent,
                }
            )
            if len(rows) == _MOST_ROWS:
                break
        return rows


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
    def address(self) -> str | None:
        """Which address of the upstream."""
        return written(self.target.endpoint.address) if self.target else None

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
        self._sock, self._seconds = sock, dialled.seconds
        plain = isinstance(sock, Socket) and isinstance(client, Socket)
        self._out = out = Flow(self, client, sock, connection.fd, plain=plain)
        self._back = back = Flow(self, sock, client, dialled.fd, plain=plain)
        out.twin, back.twin = back, out
        loop.hand_over(dialled.fd, back.happened)
        # What the client has sent before is told in the next round.
        loop.watch(connection.fd, out.happened, BOTH)
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
        """How long nothing has passed; as far as looks at it tell."""
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
            address=self.address,
            connect=self._seconds,
            retries=self.retries,
        )
