"""A client, as far as a server knows it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sized
from typing import Protocol

from sidecars.ambassador.redis.commands import WrongArguments, unsupported
from sidecars.ambassador.settings import Redis

_ids = itertools.count(1)


class Pool(Protocol):
    """What answers tell of a listener."""

    settings: Redis

    @property
    def shards(self) -> Sized:
        """Its shards."""

    @property
    def sessions(self) -> Sized:
        """The clients it has, of this process."""


class State:
    """A client, as far as a server knows it.

    protocol       2 or 3, the version of RESP it has asked for
    authenticated  it need not, or has, given the password
    address        where it comes from, "10.0.0.7:50123"
    """

    __slots__ = ("address", "authenticated", "id", "library", "name", "pool", "protocol", "since", "user", "version")

    def __init__(self, pool: Pool, address: str = "") -> None:
        self.pool = pool
        self.address = address
        self.id = next(_ids)
        self.since = time.monotonic()
        self.library = self.version = b""
        self.reset()

    def reset(self) -> None:
        """Be as at the beginning, as RESET asks."""
        self.protocol = 2
        self.name = b""
        self.user = b"default"
        self.authenticated = self.pool.settings.client_password is None


Answer = Callable[[State, list[bytes]], bytes]


def subcommand(table: Mapping[bytes, tuple[int, Answer]], name: bytes, state: State, args: list[bytes]) -> bytes:
    """Answer by a subcommand: a table of how many arguments follow it; -1: any, -2: one or more."""
    found = table.get(args[0].upper())
    if found is None:
        raise unsupported(name + b" " + args[0].upper()[:32])
    count, reply = found
    rest = args[1:]
    if len(rest) < -count - 1 if count < 0 else len(rest) != count:
        words = b"|".join((name, args[0][:32])).decode("ascii", "replace").lower()
        raise WrongArguments(f"ERR wrong number of arguments for '{words}' command")
    return reply(state, rest)
