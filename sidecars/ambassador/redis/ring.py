"""Which shard a key is on, as twemproxy has it: an application that changes over finds its keys where they were."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import md5
from struct import pack, unpack
from typing import NamedTuple

from sidecars.ambassador.redis.hashes import HASHES
from sidecars.ambassador.settings import Upstream

_POINTS = 160  # of a server on the ring, on average
_LIBMEMCACHED_PORT = 11211


class Node(NamedTuple):
    """A server as the ring knows it: the name decides where its points lie, the weight how many they are."""

    name: bytes
    weight: int = 1


def node_name(upstream: Upstream) -> bytes:
    """Give the name that twemproxy hashes for a server: the one given to it, else its address as it is written.

        "10.0.0.7:6379" -> "10.0.0.7:6379"      "cache:11211" -> "cache", as libmemcached has it
        "[::1]:6379" -> "::1:6379"              "/run/redis.sock" -> "/run/redis.sock:"

    Twemproxy writes IPv6 addresses without brackets, and copies one byte too many of a socket's path.

    Source: twemproxy 0.5.0, src/nc_conf.c, conf_add_server.
    """
    if upstream.name is not None:
        return upstream.name.encode()
    if upstream.address.startswith("/"):
        return upstream.address.encode() + b":"
    host, colon, port = upstream.address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if port.isdecimal() and int(port) == _LIBMEMCACHED_PORT:
        return host.encode()
    return f"{host}{colon}{port}".encode()


class Ring:
    """The shards of a pool, of which some may be left out.

    hash          a name in HASHES
    distribution  ketama, modula or random
    hash_tag      two bytes: what first stands between them in a key is hashed instead of the key; None: always the key
    live          by node: whether it takes keys now. The keys of one that does not are spread over the others as
                  twemproxy does it after an ejection: the ring is made anew without it.

    shard(key) gives the index of the key's node, or -1 when none is live.

    Source: twemproxy 0.5.0, src/nc_server.c, src/nc_conf.c (conf_validate_server) and src/hashkit.
    """

    __slots__ = ("shard",)

    def __init__(
        self, nodes: Sequence[Node], hash: str, distribution: str, hash_tag: bytes | None, live: Sequence[bool]
    ) -> None:
        # Twemproxy sorts the servers to find duplicates, and leaves them sorted: short names first.
        order = sorted(range(len(nodes)), key=lambda index: (len(nodes[index].name), nodes[index].name))
        alive = [index for index in order if live[index]]
        self.shard: Callable[[bytes], int] = _chooser(nodes, alive, HASHES[hash], distribution, hash_tag)


def _chooser(
    nodes: Sequence[Node], alive: list[int], hash: Callable[[bytes], int], distribution: str, tag: bytes | None
) -> Callable[[bytes], int]:
    if len(alive) < 2:
        only = alive[0] if alive else -1
        return lambda key: only
    if distribution == "random":
        return lambda key: random.choice(alive)  # noqa: S311 (it spreads keys)
    part = _tagged(tag) if tag else None
    if distribution == "modula":
        return _modula([index for index in alive for _ in range(nodes[index].weight)], hash, part)
    return _ketama(points(nodes, alive), hash, part)


def _modula(
    table: list[int], hash: Callable[[bytes], int], part: Callable[[bytes], bytes] | None
) -> Callable[[bytes], int]:
    size = len(table)

    def shard(key: bytes) -> int:
        if part:
            key = part(key)
        return table[hash(key) % size] if key else table[0]

    return shard


def _ketama(
    points: list[tuple[int, int]], hash: Callable[[bytes], int], part: Callable[[bytes], bytes] | None
) -> Callable[[bytes], int]:
    values = [value for value, _ in points]
    # Past the last point, the ring begins anew.
    owners = [index for _, index in points] + [points[0][1]]

    def shard(key: bytes) -> int:
        if part:
            key = part(key)
        return owners[bisect_left(values, hash(key))] if key else owners[0]

    return shard


def points(nodes: Sequence[Node], alive: Sequence[int]) -> list[tuple[int, int]]:
    """Give the points of the ring, sorted: the value, and the index of the node it belongs to.

    Each digest gives four points. A weight far below the others' may give none.
    """
    total = sum(nodes[index].weight for index in alive)
    found = []
    for index in alive:
        node = nodes[index]
        for number in range(_digests(node.weight, total, len(alive))):
            digest = md5(b"%b-%d" % (node.name, number), usedforsecurity=False).digest()
            found += [(value, index) for value in unpack("<4I", digest)]
    # Points of the same value stay in the order of the nodes.
    return sorted(found, key=lambda point: point[0])


def _digests(weight: int, total: int, live: int) -> int:
    """Count the digests of a node, with the rounding of C's `float` after each step."""
    share = _float(_float(weight) / _float(total))
    count = _float(_float(_float(share * _POINTS) / 4) * _float(live))
    return int(_float(count + 1e-10))


def _float(value: float) -> float:
    """Round to single precision."""
    single: float = unpack("<f", pack("<f", value))[0]
    return single


def _tagged(tag: bytes) -> Callable[[bytes], bytes]:
    opening, closing = tag[:1], tag[1:]

    def part(key: bytes) -> bytes:
        begin = key.find(opening)
        if begin < 0:
            return key
        end = key.find(closing, begin + 1)
        return key[begin + 1 : end] if end > begin + 1 else key

    return part
