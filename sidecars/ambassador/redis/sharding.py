"""Redis mode: clients, shards, and the ring between them, as the plan has them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from sidecars.ambassador.connection import Connection, Reason, written
from sidecars.ambassador.plan import Counted, Endpoint, Route
from sidecars.ambassador.redis.answering import State
from sidecars.ambassador.redis.commands import COMMANDS as TABLE
from sidecars.ambassador.redis.counting import counted, kind_of_error, shown
from sidecars.ambassador.redis.lane import Lane
from sidecars.ambassador.redis.link import Link
from sidecars.ambassador.redis.ring import Node, Ring, node_name
from sidecars.ambassador.redis.session import Session, by_first_key
from sidecars.ambassador.redis.shard import Shard
from sidecars.ambassador.redis.slots import LEAST_HELD, Tally

if TYPE_CHECKING:
    from sidecars.ambassador.loop import Deadline
    from sidecars.ambassador.plane import Plane

_MOST_PLACES = 131_072  # keys whose shard is remembered
_PASSES = 4  # of reading and writing in a round
_LONGEST_KEY = 99  # bytes of a key that is remembered
_MOST_NAMES = 4096  # ways to write the names of commands
_BUDGET = 64 * 1024 * 1024  # bytes of replies that clients do not take, of all clients
_MOST_HELD = 16 * 1024 * 1024  # of one
_STALL = 1.0  # seconds a client that does not read may keep others waiting
_IMPATIENT = 5.0  # seconds after one was closed for it, in which the next has less time
_FOREVER = 1e9
_HOST_IS_DOWN = b"-ERR Host is down\r\n"


class Flushed(Protocol):
    """What writes at the end of a round."""

    def flush(self) -> None:
        """Write."""


class Read(Protocol):
    """What can read on."""

    def read(self) -> None:
        """Read."""


class Sharding:
    """The mode of a route whose listener has redis settings.

    update   the ring follows the plan; connections to addresses that left end when their last command is answered
    drain    clients are served on until they go
    close    every client and every shard is let go of

    places   what is remembered of keys, as they stand on the wire: "3\\r\\nfoo\\r\\n" -> the index of a shard
    tallies  by what a command's name looks like on the wire, those that one key comes first in: "3\\r\\nGET"
    """

    gentle = False

    def __init__(self, plane: Plane, route: Route) -> None:
        self.plane = plane
        self.loop = plane.loop
        self.clock = plane.loop._poll  # its `now` is loop.now, without a call
        self.sessions: dict[int, Session] = {}
        self.shards: list[Shard] = []
        self._leaving: list[Shard] = []  # those of an earlier plan that have commands still
        self.places: dict[bytes, int] = {}
        self.tallies: dict[bytes, Tally] = {}
        self.own = Tally("local")
        self.unsent = 0
        self.fragments = 0
        self.errors: dict[str, int] = {}
        self._tallies: dict[str, Tally] = {}
        self._lanes: dict[tuple[int, int], list[Lane]] = {}
        self._flushing: list[Flushed] = []
        self._reading: list[Read] = []
        self._settling = False
        self._accepted = 0
        self._sweep: Deadline | None = None
        self._looked = 0.0
        self.received_bytes = self.sent_bytes = 0
        self.route = route
        self.update(route)

    # What the plane calls.

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""
        self.route = route
        listener = route.listener
        assert listener.redis is not None  # noqa: S101  (the plane has chosen this mode by it)
        self.settings = listener.redis
        self.timeout = self.settings.timeout or _FOREVER
        self.dial_timeout = min(listener.connect_timeout, self.timeout)
        self.most = self.settings.max_request
        self._place_shards()
        self._make_ring()
        for (protocol, turn), lanes in self._lanes.items():
            lanes[:] = [shard.lane(protocol, turn) for shard in self.shards]
        for session in list(self.sessions.values()):
            if session.taker is not None:
                session.taker.moved()
        self._connect()
        self.settle()

    def _place_shards(self) -> None:
        upstreams = self.route.listener.upstreams
        before = {shard.upstream: shard for shard in self.shards}
        self.shards = [before.pop(each) if each in before else Shard(self, each) for each in upstreams]
        endpoints = {endpoint.upstream: endpoint for endpoint in self.route.endpoints}
        for index, shard in enumerate(self.shards):
            self._point(shard, endpoints.get(index))
        self._leaving = [shard for shard in [*self._leaving, *before.values()] if shard.leave()]

    def _make_ring(self) -> None:
        settings = self.settings
        live = [self._live(shard) for shard in self.shards]
        for shard, alive in zip(self.shards, live, strict=True):
            shard.refusing = None if alive else _HOST_IS_DOWN
        nodes = [Node(node_name(shard.upstream), shard.upstream.weight) for shard in self.shards]
        if settings.on_failure == "fail" or not any(live):
            live = [True] * len(live)
        tag = settings.hash_tag.encode() if settings.hash_tag else None
        self.ring = Ring(nodes, settings.hash, settings.distribution, tag, live)
        self.places.clear()

    def _point(self, shard: Shard, endpoint: Endpoint | None) -> None:
        before, shard.endpoint = shard.endpoint, endpoint
        if endpoint is None and (before is not None or not shard.homeless):
            shard.homeless = time.monotonic()
            # A name that is not found yet has a moment to be: nothing is sent elsewhere that belongs there.
            self.loop.later(self.dial_timeout, self._homeless)
        if endpoint is not None and (endpoint.close or endpoint.state == "disabled"):
            shard.cut()
        elif before is not None and (endpoint is None or endpoint.address != before.address):
            shard.leave()

    def _live(self, shard: Shard) -> bool:
        if shard.endpoint is not None:
            return shard.endpoint.state == "up"
        return time.monotonic() - shard.homeless < self.dial_timeout

    def _homeless(self) -> None:
        if any(shard.endpoint is None for shard in self.shards):
            self.update(self.route)

    def _connect(self) -> None:
        """Connect to the shards that have become reachable: where commands wait for it, or as the settings say."""
        for shard in self.shards:
            for turn in range(self.settings.connections if self.settings.preconnect else 0):
                shard.lane(2, turn)
            for (protocol, _), lane in shard.lanes.items():
                early = self.settings.preconnect and protocol == 2 and shard.refusing is None
                if lane.queue or early:
                    lane.open()

    def accepted(self, connection: Connection) -> None:
        """Serve a client."""
        turn = self._accepted % self.settings.connections
        self._accepted += 1
        session = Session(self, connection, turn, State(self, written(connection.peer)))
        self.sessions[connection.fd] = session
        self.loop.watch(connection.fd, session.happened)
        session.read()
        self.settle()

    def drain(self) -> None:
        """Close each client as soon as it has the replies to what it has sent.

        Not one that is handed to somebody: who waits for a message, or is within a transaction, would lose it.
        """
        for session in list(self.sessions.values()):
            if session.taker is None:
                session.finish()
        self.settle()

    def close(self) -> None:
        """End everything, at once."""
        for session in list(self.sessions.values()):
            session.close("drained")
        for shard in [*self.shards, *self._leaving]:
            shard.cut()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def connections(self) -> int:
        """How many clients it serves."""
        return len(self.sessions)

    def counted(self) -> Counted:
        """What it has counted."""
        return counted(self)

    def shown(self) -> list[dict[str, object]]:
        """Rows for /status."""
        return shown(self)

    # What clients and shards call.

    def lanes(self, protocol: int, turn: int) -> list[Lane]:
        """Give a connection to each shard; the list follows the plan."""
        lanes = self._lanes.get((protocol, turn))
        if lanes is None:
            lanes = self._lanes[protocol, turn] = [shard.lane(protocol, turn) for shard in self.shards]
        return lanes

    def place(self, key: bytes) -> int:
        """Find the shard of a key that stands as it does on the wire, and remember it."""
        index = self.ring.shard(key[key.index(b"\n") + 1 : -2])
        if self.settings.distribution == "random":
            return index
        places = self.places
        if len(places) >= _MOST_PLACES:
            # The oldest go, and not all at once: a few more keys than there is room for are found mostly, still.
            for old in list(islice(places, _MOST_PLACES // 16)):
                del places[old]
        places[key] = index
        return index

    def place_of(self, key: bytes) -> int:
        """Find the shard of a key."""
        wire = b"%d\r\n%b\r\n" % (len(key), key)
        place = self.places.get(wire)
        if place is None:
            place = self.ring.shard(key) if len(key) > _LONGEST_KEY else self.place(wire)
        return place

    def learn(self, name: bytes) -> Tally | None:
        """Find the tally of a name on the wire, of a command that can be sent by its first key; None if it is none."""
        size, _, word = name.partition(b"\r\n")
        command = TABLE.get(word.upper())
        if command is None or not by_first_key(command) or int(size) != len(word):
            return None
        if len(self.tallies) >= _MOST_NAMES:
            self.tallies.clear()
        tally = self.tallies[name] = self.tally(word.upper())
        return tally

    def tally(self, name: bytes) -> Tally:
        """Give the tally of a command, by its name in capitals."""
        word = name.decode()
        tally = self._tallies.get(word)
        if tally is None:
            tally = self._tallies[word] = Tally(word.lower())
        return tally

    def error(self, line: bytes, count: int = 1) -> None:
        """Count an error that a client gets."""
        kind = kind_of_error(line)
        self.errors[kind] = self.errors.get(kind, 0) + count

    @property
    def every_tally(self) -> Iterable[Tally]:
        """The commands that there were, and how long they took."""
        return self._tallies.values()

    @property
    def kept(self) -> int:
        """How many bytes there are of commands that are not whole, of all clients."""
        return sum(session.kept for session in self.sessions.values())

    @property
    def allowance(self) -> int:
        """How many bytes of replies one client may leave lying."""
        return max(LEAST_HELD, min(_MOST_HELD, (_BUDGET - self.unsent) // 2))

    def to_flush(self, flushed: Flushed) -> None:
        """Have it write at the end of this round."""
        self._flushing.append(flushed)
        if not self._settling:
            self._settling = True
            self.loop.after(self.settle)

    def to_read(self, read: Read) -> None:
        """Have it read at the end of this round: it can, and no event will tell it."""
        self._reading.append(read)
        if not self._settling:
            self._settling = True
            self.loop.after(self.settle)

    def settle(self) -> None:
        """End a round: write what was given in it. Whoever is not called by a handler calls this at its end."""
        self._settling = True
        for _ in range(_PASSES):
            reading, self._reading = self._reading, []
            for read in reading:
                read.read()
            flushing, self._flushing = self._flushing, []
            for flushed in flushing:
                flushed.flush()
            if not self._flushing and not self._reading:
                break
        else:
            # Whoever always has more does not keep others waiting: their events come first.
            self.loop.soon(self.settle)
        self._settling = False
        if self._sweep is None and (self.sessions or self._waited_for()):
            self._sweep = self.loop.later(min(0.25, self.timeout / 8), self._swept)

    def _waited_for(self) -> bool:
        """Whether a command has no reply yet: there may be no client, where keys are asked for by HTTP."""
        return any(isinstance(link, Lane) and link.queue for link in self._links())

    def _swept(self) -> None:
        """Look for what has waited too long."""
        self._sweep = None
        now = time.monotonic()
        stall = min(_STALL, self.timeout / 2)
        for link in self._links():
            link.check(now, self.timeout, stall)
        listener = self.route.listener
        idle, oldest = listener.idle_timeout or _FOREVER, listener.max_age or _FOREVER
        if now - self._looked > min(idle, oldest) / 16:
            self._looked = now
            for session in list(self.sessions.values()):
                session.check(now, idle, oldest)
        self.settle()

    def _links(self) -> Iterable[Link]:
        """Give the connections in use, and those that have something to send and no address yet."""
        for shard in [*self.shards, *self._leaving]:
            yield from {*shard.lanes.values(), *shard.links}

    def stalled(self, lane: Lane) -> None:
        """Close the clients for which a connection is paused, if others wait behind them."""
        for session in [each for each in self.sessions.values() if lane in each.pausing]:
            if any(slot.session is not session for slot in lane.queue):
                # Were each of many waited for, the others would wait for all of them, one after the other.
                lane.impatient = self.clock.now + _IMPATIENT
                session.close("timeout")

    def left(self, session: Session, reason: Reason) -> None:
        """Count a client that has gone."""
        self.received_bytes += session.received_bytes
        self.sent_bytes += session.sent_bytes
        session.connection.ended(reason, received=session.received_bytes, sent=session.sent_bytes)
