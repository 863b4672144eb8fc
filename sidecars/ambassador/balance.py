"""Which of the addresses that are well a connection goes to."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from sidecars.ambassador.settings import Balance

_MASK = 0xFFFFFFFFFFFFFFFF


class Member(Protocol):
    """What is chosen from.

    active  how many connections it has
    turn    what round robin keeps of it; zero at first
    seed    seed(key), for the source hash
    """

    weight: int
    active: int
    turn: float
    seed: int


M = TypeVar("M", bound=Member)


def choose(balance: Balance, members: Sequence[M], source: str) -> M:
    """Choose one of the members, of which there is one at least; `source` is the client's address.

    One whose weight is 0 is chosen only when all weigh nothing.
    """
    if len(members) == 1:
        return members[0]
    weighty = [member for member in members if member.weight > 0] or members
    return weighty[0] if len(weighty) == 1 else _CHOOSERS[balance](weighty, source)


def seed(key: str) -> int:
    """A number of an address's own, the same in every process."""
    return _mixed(zlib.crc32(key.encode(errors="surrogateescape")) + 0x9E3779B97F4A7C15)


def _round_robin(members: Sequence[M], _source: str) -> M:
    """Take turns, as often as the weights say, and evenly mixed.

    Weights 5, 1, 1 give a a b a c a a. Source: nginx, ngx_http_upstream_round_robin.c, smooth weighted round robin.
    """
    best = members[0]
    total = 0
    for member in members:
        weight = member.weight or 1
        member.turn += weight
        total += weight
        if member.turn > best.turn:
            best = member
    best.turn -= total
    return best


def _least_connections(members: Sequence[M], source: str) -> M:
    """The one that has the fewest connections for its weight; those that are equal take turns."""
    loads = [(member.active + 1) / (member.weight or 1) for member in members]
    least = min(loads)
    return _round_robin([member for member, load in zip(members, loads, strict=True) if load == least], source)


def _source_hash(members: Sequence[M], source: str) -> M:
    """The same one for the same source; when one goes, only its own sources move.

    Source: weighted rendezvous hashing, D. Thaler and C. Ravishankar 1998; the weights by Mosharaf Chowdhury's and
    Jason Resch's logarithmic method.
    """
    number = _mixed(zlib.crc32(source.encode(errors="surrogateescape")))

    def score(member: M) -> float:
        # Between 0 and 1, neither included.
        share = (_mixed(number ^ member.seed) + 0.5) / 2**64
        return -(member.weight or 1) / math.log(min(share, 1 - 2**-53))

    return max(members, key=score)


def _random_two(members: Sequence[M], _source: str) -> M:
    """Of two drawn by weight, the one with fewer connections. Source: M. Mitzenmacher, the power of two choices."""
    weights = [member.weight or 1 for member in members]
    one, two = random.choices(members, weights, k=2)  # noqa: S311  (no secret depends on it)
    return one if one.active * (two.weight or 1) <= two.active * (one.weight or 1) else two


def _mixed(number: int) -> int:
    """Spread a number's bits. Source: MurmurHash3's 64-bit finalizer, A. Appleby."""
    number &= _MASK
    number = (number ^ number >> 33) * 0xFF51AFD7ED558CCD & _MASK
    number = (number ^ number >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return number ^ number >> 33


_CHOOSERS: dict[Balance, Callable[[Sequence[M], str], M]] = {
    "round-robin": _round_robin,
    "least-connections": _least_connections,
    "source-hash": _source_hash,
    "random-two": _random_two,
}
