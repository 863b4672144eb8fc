"""A connection to an upstream: one request after another goes over it, and it waits in a pool between them."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Socket
from sidecars.ambassador.dialling import Dialled
from sidecars.ambassador.http.stream import ENDING, WRITABLE, Stream
from sidecars.ambassador.loop import BOTH, WRITE, Loop
from sidecars.ambassador.passage import Target as Member
from sidecars.ambassador.plan import Endpoint, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecars.ambassador.http.attempt import Attempt
    from sidecars.ambassador.http.forwarding import Origin
    from sidecars.ambassador.settings import Upstream
_EARLIER = 1.0  # seconds


class Link(Stream):
    """A connection to an upstream.

    attempt  whom it serves; None while it is in the pool
    reused   it has served before, so that its end may have been on its way when it was taken
    early    what has come of a head that is not whole
    deaf     the upstream takes nothing any more; it may have answered before
    stay     so many seconds the upstream will have it wait, if it has said so
    until    when it has waited for long enough, while it is in the pool
    """

    __slots__ = ("attempt", "deaf", "early", "placed", "reused", "stay", "target", "until")

    def __init__(self, loop: Loop, target: Target, dialled: Dialled, *, placed: bool) -> None:
        super().__init__(loop, dialled.sock, dialled.fd)
        self.target = target
        self.attempt: Attempt | None = None
        self.reused = False
        self.early = b""
        self.deaf = False
        self.placed = placed  # it has one of the endpoint's places
        self.stay: int | None = None
        self.until = 0.0
        loop.hand_over(self.fd, self.happened)

    def happened(self, event: int) -> None:
        """Go on after an event of its socket."""
        sharp, attempt = self.sharp, self.attempt
        if self.held is not None and (event & WRITABLE or not sharp) and self.flush() and attempt is not None:
            attempt.taken()
        if event == WRITE and sharp:
            return
        self.readable = True
        if event & ENDING:
            self.ending = True
        if self.attempt is not None:
            self.attempt.read()
        elif attempt is None:
            self._rouse()

    def _rouse(self) -> None:
        """Look what an idle one has to say: its end, or something that nobody has asked for."""
        if not self.silent():
            self.target.leave(self)

    def silent(self) -> bool:
        """Say whether nothing has come, the end neither."""
        if not self.readable and self.sharp:
            return not self.ending
        try:
            self.sock.recv(4096)  # what is left unread would make a reset of its end
        except BlockingIOError:
            self.readable = False
            return True
        except OSError:
            pass
        return False

    def clean(self) -> bool:
        """Say whether another request may go over it, after a whole answer."""
        return not self.deaf and not self.early and self.held is None and self.silent()

    def fresh(self) -> bool:
        """Ask the kernel whether it has anything of it, for what must not be sent to one that is at its end."""
        sock: socket.socket = self.sock if isinstance(self.sock, Socket) else self.sock.sock  # type: ignore[union-attr]
        try:
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def broken(self) -> None:
        """It takes nothing any more; what it has said before is still to be read."""
        self.deaf = self.readable = self.ending = True
        self.loop.after(self._listen)

    def _listen(self) -> None:
        if self.attempt is not None:
            self.attempt.read()

    def yield_(self) -> None:
        """Let others have their turn, and go on in the next round."""
        if self.sharp:
            self.loop.change(self.fd, BOTH)
        else:
            self.loop.soon(self._listen)

    def close(self) -> None:
        """Close it; its target forgets it."""
        if not isinstance(self.sock, Socket):
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)  # TLS has a goodbye
        self.attempt = None
        self.shut()


class Target(Member):
    """An endpoint, and the connections to it.

    idle  those that wait, the one that was used last at the end
    """

    __slots__ = ("_stay", "closed", "idle", "key", "links", "most", "origin")

    def __init__(self, key: str, closed: Callable[[Link], None]) -> None:
        super().__init__(key)
        self.key = key
        self.closed = closed  # is told of each link that is closed
        self.idle: list[Link] = []
        self.links: set[Link] = set()
        self.most = 0
        self._stay = 0.0
        self.upstream: Upstream = None  # type: ignore[assignment]
        self.origin: Origin = None  # type: ignore[assignment]

    def take(self, endpoint: Endpoint, route: Route) -> None:
        """Be what the plan says; connections that would be made otherwise now are not used again."""
        from sidecars.ambassador.http.forwarding import origin

        before = self.upstream
        super().take(endpoint, route)
        if self.upstream != before:
            self.origin = origin(self.upstream)
            self.clear()
        http = route.listener.http
        assert http is not None  # noqa: S101  (its listener is in HTTP mode)
        self._stay = float(http.upstream_keep_alive)
        # Whom a connection is for is said at its beginning only.
        self.most = 0 if self.upstream.proxy_protocol else http.upstream_idle
        if not self._takes():
            self.clear()

    def join(self, link: Link) -> None:
        """Have one more connection."""
        self.links.add(link)

    def idle_one(self, now: float) -> Link | None:
        """Give one that waits, the one that was used last: the others may be let go."""
        idle = self.idle
        while idle:
            link = idle.pop()
            if link.until > now:
                return link
            self.drop(link)
        return None

    def give(self, link: Link, now: float) -> None:
        """Take one back after a whole answer, or close it."""
        link.attempt = None
        link.reused = True
        if len(self.idle) < self.most and self._takes() and link.clean():
            self._put(link, now)
        else:
            self.drop(link)

    def _takes(self) -> bool:
        return not self.endpoint.close and self.endpoint.state not in ("disabled", "draining")

    def leave(self, link: Link) -> None:
        """Close one that waits."""
        if link in self.idle:
            self.idle.remove(link)
        self.drop(link)

    def drop(self, link: Link) -> None:
        """Close one."""
        if link in self.links:
            self.links.remove(link)
            link.close()
            self.closed(link)

    def clear(self) -> None:
        """Close those that wait, and keep none that serves now."""
        for link in self.idle[:]:
            self.leave(link)

    def retire(self) -> None:
        """Keep no connection any more: the plan has it no longer."""
        self.most = 0
        self.clear()

    def _put(self, link: Link, now: float) -> None:
        # Earlier than the upstream closes it, or a request could meet its end on the way.
        stay = self._stay if link.stay is None else min(self._stay, link.stay - _EARLIER)
        link.until = now + stay
        if stay > 0:
            self.idle.append(link)
        else:
            self.drop(link)

    def expire(self, now: float) -> None:
        """Close those that have waited for long enough."""
        for link in [link for link in self.idle if link.until <= now]:
            self.leave(link)
