"""One shard: where it is, whether it is left out, and its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.plan import Endpoint, Outcome
from sidecars.ambassador.redis.lane import Lane
from sidecars.ambassador.redis.link import Link
from sidecars.ambassador.settings import Upstream

if TYPE_CHECKING:
    from sidecars.ambassador.redis.line import Line
    from sidecars.ambassador.redis.sharding import Sharding
    from sidecars.ambassador.redis.uploading import Upload


class Shard:
    """A server that has a share of the keys.

    endpoint  its address, if its name has one
    refusing  the error that its commands are answered with at once, while it is left out
    failing   its last outcome was a failure
    """

    def __init__(self, sharding: Sharding, upstream: Upstream) -> None:
        self.sharding = sharding
        self.upstream = upstream
        self.endpoint: Endpoint | None = None
        self.refusing: bytes | None = None
        self.failing = False
        self.links: set[Link] = set()
        self.lanes: dict[tuple[int, int], Lane] = {}
        self.uploads: list[Upload] = []  # those that have nothing to do
        self.spare: dict[int, list[Line]] = {}  # by protocol, likewise
        self.requests = self.responses = self.response_bytes = 0
        self.request_bytes = 0
        self.homeless = 0.0  # since when its name has no address

    @property
    def name(self) -> str:
        """What it is called in metrics."""
        return self.upstream.name or self.upstream.address

    @property
    def usable(self) -> bool:
        """Whether it has an address that may be connected to."""
        return self.endpoint is not None and self.endpoint.state == "up" and not self.endpoint.close

    @property
    def connections(self) -> int:
        """How many stand."""
        return sum(link.sock is not None for link in self.links)

    @property
    def outstanding(self) -> int:
        """How many commands have no reply yet."""
        return sum(slot.left for lane in self.lanes.values() for slot in lane.queue)

    def lane(self, protocol: int, turn: int) -> Lane:
        """Give one of its connections."""
        lane = self.lanes.get((protocol, turn))
        if lane is None:
            lane = self.lanes[protocol, turn] = Lane(self, protocol)
        return lane

    def upload(self, protocol: int) -> Upload:
        """Give a connection for a large command."""
        from sidecars.ambassador.redis.uploading import Upload

        for upload in self.uploads:
            if upload.protocol == protocol:
                self.uploads.remove(upload)
                return upload
        return Upload(self, protocol)

    def greeting(self, protocol: int) -> list[list[bytes]]:
        """Give the commands that begin a connection: the secret is read anew for each."""
        redis = self.sharding.settings
        password = redis.password.reveal().encode() if redis.password is not None else None
        login = [] if password is None else [(redis.user or "default").encode(), password]
        words: list[list[bytes]] = []
        if protocol == 3:
            words.append([b"HELLO", b"3", *([b"AUTH", *login] if login else [])])
        elif password is not None:
            words.append([b"AUTH", *(login if redis.user else login[1:])])
        if redis.database:
            words.append([b"SELECT", b"%d" % redis.database])
        return words

    def leave(self) -> bool:
        """Let each connection end when its last command is answered; whether there is one left."""
        for lane in [link for link in self.links if isinstance(link, Lane)]:
            for key in [key for key, each in self.lanes.items() if each is lane]:
                del self.lanes[key]
            lane.replaced()
        for link in [*self.uploads, *(line for lines in self.spare.values() for line in lines)]:
            link.close()
        self.uploads.clear()
        return bool(self.links)

    def cut(self) -> None:
        """End each connection now."""
        for link in list(self.links):
            link.fail("reset", "Connection reset by peer", told=True)

    def tell(self, endpoint: Endpoint, reason: str, detail: str) -> None:
        """Count a failure, and tell of it."""
        self.failing = True
        self.sharding.plane.tally(self.sharding.route.id).lost(self.upstream, reason)
        self.sharding.plane.tell(Outcome(self.sharding.route.id, endpoint.key, False, reason, detail))

    def recovered(self, endpoint: Endpoint | None) -> None:
        """Tell of the first success after a failure."""
        self.failing = False
        if endpoint is not None:
            self.sharding.plane.tell(Outcome(self.sharding.route.id, endpoint.key, True))
