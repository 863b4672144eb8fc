"""The commands that wait for their replies, and how long those took."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from sidecars.ambassador.metrics import BUCKETS

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session

FULL = 2  # a reason to stop a session: too much waits for a shard
LEAST_HELD = 256 * 1024  # bytes of replies that any client may leave lying, however many do


class Tally:
    """How long the commands of one name took: the count of each bucket, and the sum in seconds."""

    __slots__ = ("counts", "name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count commands that took so long."""
        self.counts[bisect_left(BUCKETS, seconds)] += count
        self.seconds += seconds * count


class Slot:
    """A run of commands of one client on one connection, and the place of their replies among those of the client.

    left    how many of them have no reply yet
    start   where they begin among all bytes of their connection
    since   when they came
    pieces  what has come while an earlier command of the client was unanswered; None before that
    """

    __slots__ = ("left", "pieces", "session", "since", "start", "tally")

    def __init__(self, session: Session | None, tally: Tally, left: int, start: int, since: float) -> None:
        self.session = session
        self.tally = tally
        self.left = left
        self.start = start
        self.since = since
        self.pieces: list[bytes] | None = None

    def take(self, piece: bytes, done: bool) -> None:
        """Take a piece of the replies, where there is no session to take it: the client has gone."""
