"""Where the connections of one listener come in: allowed, within its limits, and greeted."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Connection, Reason, Socket
from sidecars.ambassador.dialling import EXHAUSTED
from sidecars.ambassador.loop import ACCEPT
from sidecars.ambassador.plan import Counted, Route
from sidecars.ambassador.queueing import Queue
from sidecars.core.log import log

if TYPE_CHECKING:
    from sidecars.ambassador.greeting import Greeting, Ungreeted
    from sidecars.ambassador.plane import Mode, Plane

_AT_ONCE = 64  # connections accepted before others have their turn
_QUIET = 10.0  # seconds between two warnings of one kind
_MOST_WAITING = 4096  # as many as the kernel lets in before they are accepted
_REST = 0.1  # seconds without accepting after descriptors ran out
# One client's trouble, not the listening socket's.
_PASSING = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR, errno.ENETDOWN, errno.EHOSTUNREACH)


class Gate:
    """The accepting side of one route, before its mode.

    It counts connections from their acceptance until they call ended(), those that wait for a place included.
    """

    def __init__(self, plane: Plane, route: Route, mode: Callable[[Plane, Route], Mode]) -> None:
        self.plane = plane
        self.route = route
        self.mode = mode(plane, route)
        self.open = 0
        self._accepted = 0
        self._ended: dict[Reason, int] = {}
        self._listening: dict[int, socket.socket] = {}
        self._resting = False
        self._queue: Queue[Connection] = Queue(plane.loop, self._begin, self._late)
        self._placed: set[Connection] = set()  # who has a place of max_connections
        self._paced: set[Connection] = set()  # who waits because of the rate
        self._greeting: dict[Connection, Greeting] = {}
        self._told: dict[Reason, float] = {}  # when a reason was logged
        self._permits: Callable[[str | None], bool] | None = None
        self._heed()

    def _heed(self) -> None:
        listener = self.route.listener
        self._permits = None
        if listener.allow:
            from sidecars.ambassador.allowing import Allowed  # ipaddress, which few listeners need

            self._permits = Allowed(listener.allow).permits
        self._limited = listener.max_connections is not None or bool(listener.rate)
        postgres = any(each.tls and each.tls.starttls for each in listener.upstreams)
        self._greets = listener.tls is not None or listener.accept_proxy or postgres
        self._wide = not (self._limited or self._greets or self._permits)

    def update(self, route: Route, sockets: Sequence[socket.socket]) -> None:
        """Take a new plan, and accept on these sockets."""
        changed = route.listener != self.route.listener
        self.route = route
        if changed:
            self._heed()
        self.mode.update(route)
        self._listen({sock.fileno(): sock for sock in sockets})
        self._queue.look()

    def _listen(self, wanted: dict[int, socket.socket]) -> None:
        for fd, sock in list(self._listening.items()):
            # A number may have been given to another socket.
            if wanted.get(fd) is not sock:
                self.plane.loop.forget(fd)
                del self._listening[fd]
        for fd, sock in wanted.items():
            if fd not in self._listening:
                self._listening[fd] = sock
                if not self._resting:
                    self._watch(fd, sock)

    def _watch(self, fd: int, sock: socket.socket) -> None:
        self.plane.loop.watch(fd, lambda _: self._accept(sock), ACCEPT)

    def stop(self) -> None:
        """Accept none any more, but those who have come by now: closing the socket would reset them."""
        for sock in list(self._listening.values()):
            for _ in range(_MOST_WAITING // _AT_ONCE):
                if self._resting or not self._accept(sock):
                    break
        self._listen({})

    def close(self, reason: Reason) -> None:
        """End everything that has come in."""
        self._listen({})
        for connection in self._queue.clear():
            self._refuse(connection, reason)
        for connection, greeting in list(self._greeting.items()):
            greeting.cancel()
            del self._greeting[connection]
            self._refuse(connection, reason)
        self.mode.close()

    def rest(self) -> None:
        """Accept none for a moment, since descriptors have run out."""
        if not self._resting:
            self._resting = True
            for fd in self._listening:
                self.plane.loop.forget(fd)
            self.plane.loop.later(_REST, self._go_on)

    def _go_on(self) -> None:
        if self.plane.crowded():
            self.plane.loop.later(_REST, self._go_on)
            return
        self._resting = False
        for fd, sock in self._listening.items():
            self._watch(fd, sock)

    def _accept(self, listening: socket.socket) -> bool:
        """Take those who wait, or a good part of them: say whether there may be more, of which the loop tells again."""
        accept, now = listening._accept, self.plane.loop.now  # type: ignore[attr-defined]
        most = self.plane.most
        family, wide, accepted = listening.family, self._wide, self.mode.accepted
        for _ in range(_AT_ONCE):
            try:
                # socket.accept() makes the same calls, and looks up a default timeout.
                fd, address = accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self.plane.exhausted()
                    return False
                if error.errno in _PASSING:
                    continue
                raise
            sock = Socket(family, socket.SOCK_STREAM, 0, fd)
            sock.setblocking(False)
            peer = (address[0], address[1]) if family != socket.AF_UNIX else None
            connection = Connection(self, sock, fd, peer, now)
            self._accepted += 1
            self.open += 1
            if wide:
                accepted(connection)
            else:
                self._arrived(connection)
            if fd >= most:
                self.plane.exhausted()
                return False
        return True

    def _arrived(self, connection: Connection) -> None:
        # A PROXY header names somebody else, who is asked for once it is read.
        if self._permits and not self.route.listener.accept_proxy:
            peer = connection.peer
            if not self._permits(peer[0] if peer else None):
                self._refuse(connection, "refused_allow")
                return
        if not self._limited:
            self._greet(connection)
        elif not self._queue and not self._begin(connection):
            return
        elif len(self._queue) < self.route.listener.queue:
            self._queue.join(connection, self.route.listener.queue_timeout)
        else:
            self._late(connection)

    def _begin(self, connection: Connection) -> float:
        """Let it in; or say how long it has to wait at least."""
        listener, admission = self.route.listener, self.plane.admission
        most = listener.max_connections
        if most is not None:
            if not admission.take(listener.id, most):
                self._paced.discard(connection)
                return 1.0
            self._placed.add(connection)
        if listener.rate:
            wait = admission.may_begin(listener.id, listener.rate, listener.burst)
            if wait:
                self._paced.add(connection)
                self._leave_place(connection)
                return wait
            self._paced.discard(connection)
        self._greet(connection)
        return 0.0

    def _late(self, connection: Connection) -> None:
        self._refuse(connection, "refused_rate" if connection in self._paced else "refused_full")

    def _greet(self, connection: Connection) -> None:
        if not self._greets:
            self.mode.accepted(connection)
            return
        from sidecars.ambassador.greeting import Greeting  # TLS and the PROXY protocol, which few listeners need

        def done(trouble: Ungreeted | None) -> None:
            del self._greeting[connection]
            if trouble is None:
                self.mode.accepted(connection)
                return
            if trouble.detail:
                self._tell(trouble)
            self._refuse(connection, trouble.reason)

        listener = self.route.listener
        permits = self._permits if listener.accept_proxy else None
        self._greeting[connection] = Greeting(self.plane.loop, connection, listener, done, permits=permits)

    def _tell(self, trouble: Ungreeted) -> None:
        """Log why a client was not served: now and then, since strangers can cause it."""
        now = self.plane.loop.now
        say = log.debug
        if now - self._told.get(trouble.reason, -_QUIET) >= _QUIET:
            self._told[trouble.reason] = now
            say = log.warning
        say("client not greeted", listener=self.route.id, reason=trouble.reason, detail=trouble.detail)

    def _refuse(self, connection: Connection, reason: Reason) -> None:
        connection.sock.close()
        connection.ended(reason)

    def left(self, connection: Connection, reason: Reason) -> None:
        """One has ended: there is room for the next."""
        self.open -= 1
        self._ended[reason] = self._ended.get(reason, 0) + 1
        if self._limited or self._placed:
            self._paced.discard(connection)
            self._leave_place(connection)
            if self._queue:
                self._queue.look()

    def _leave_place(self, connection: Connection) -> None:
        if connection in self._placed:
            self._placed.discard(connection)
            self.plane.admission.give(self.route.id)

    def counted(self) -> Counted:
        """What was counted, here and in the mode."""
        label = (self.route.id,)
        counted = {**self.mode.counted()}
        counted["connections_total"] = {label: self._accepted}
        counted["connections"] = {label: self.open}
        waiting = counted.setdefault("waiting", {})
        waiting[label] = len(self._queue) + waiting.get(label, 0)  # type: ignore[operator]
        counted["ended_total"] = {(self.route.id, reason): count for reason, count in self._ended.items()}
        return counted
