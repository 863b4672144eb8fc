"""Upstreams' names, kept resolved in the background: the last good answer holds until there is a better one."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sidecars.core.log import log
from sidecars.core.resolvconf import family
from sidecars.core.resolve import Answer, Resolver, Target, Unresolved
from sidecars.core.units import Address

SRV = "srv://"

_LEAST_TTL = 1.0  # seconds
_MOST_TTL = 300.0
_LONGEST_PAUSE = 30.0  # seconds between two attempts at what does not resolve
_MOST_TARGETS = 256  # of one SRV answer
_SHOWN = 20  # addresses in one event
_UNUSABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Found(NamedTuple):
    """One address of a name. The port and the share are SRV's; port 0: the name does not say it."""

    ip: str
    port: int = 0
    share: int = 1
    host: str = ""


class Place(NamedTuple):
    """Where an upstream is: the path of a socket, or a name or IP address with a port; port 0: SRV says it."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def name(self) -> str | None:
        """What is to be resolved: "db", "srv://_redis._tcp.cache"; None when nothing is."""
        if self.path or family(self.host):
            return None
        return self.host if self.port else SRV + self.host


def place(address: str) -> Place:
    """Read an upstream's address; ValueError when it is none.

    "db:5432", "10.0.0.7:5432", "[2001:db8::1]:5432", "srv://_redis._tcp.cache", "/run/db.sock"
    """
    if address.startswith(SRV):
        if not (host := address.removeprefix(SRV)) or "/" in host or ":" in host:
            raise ValueError(address)
        return Place(host)
    if "/" in address:
        return Place(path=address)
    read = Address(address)
    if not read.host or not read.port:
        raise ValueError(address)
    return Place(read.host, read.port)


class Name:
    """One name: its addresses now, and why there are no newer ones.

    found     the last good answer; empty before the first
    trouble   what the last attempt has met; None when it was well
    failures  attempts that have failed, of all
    """

    def __init__(
        self, text: str, resolver: Resolver, changed: Callable[[], object], uniform: Callable[[float, float], float]
    ) -> None:
        self.text = text
        self.found: tuple[Found, ...] = ()
        self.trouble: Unresolved | None = None
        self.failures = 0
        self._resolver = resolver
        self._changed = changed
        self._uniform = uniform
        self._failed = 0  # one after another

    async def run(self) -> None:
        """Look for it for ever, by its TTL; what fails is tried again after 1 s, 2 s, 4 s, up to 30 s."""
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            pause = await self.look()

    async def look(self) -> float:
        """Look for it once; how long to wait until the next time."""
        try:
            found, ttl = await self._find()
        except Unresolved as error:
            self._fail(error)
            self._failed += 1
            pause = min(_LONGEST_PAUSE, 2.0 ** (min(self._failed, 10) - 1))
            return self._uniform(0.75, 1.0) * pause
        self._failed = 0
        self._take(usable(found))
        return min(_MOST_TTL, max(_LEAST_TTL, ttl))

    def _fail(self, error: Unresolved) -> None:
        self.failures += 1
        known, self.trouble = self.trouble, error
        if known is None:
            log.warning("name does not resolve", name=self.text, reason=str(error), kept=len(self.found))
            self._changed()

    def _take(self, found: Sequence[Found]) -> None:
        old, was_in_trouble = set(self.found), self.trouble is not None
        added = [each for each in found if each not in old]
        removed = old.difference(found)
        self.trouble = None
        if added or removed or was_in_trouble:
            # The order stays as it is while the addresses do: servers turn it with each answer.
            self.found = tuple(found) if added or removed else self.found
            log.info("name resolved", name=self.text, added=_shown(added), removed=_shown(removed))
            self._changed()

    async def _find(self) -> tuple[list[Found], float]:
        if not self.text.startswith(SRV):
            answer = await self._resolver.lookup(self.text)
            return self._completed(answer, [Found(ip) for ip in answer.addresses]), answer.ttl
        answer = await self._resolver.lookup(self.text.removeprefix(SRV), ("SRV",))
        return await self._find_targets(answer)

    async def _find_targets(self, services: Answer) -> tuple[list[Found], float]:
        """Find the addresses of those SRV targets that come first and have any (RFC 2782's priority)."""
        error: Unresolved | None = None
        targets = services.targets[:_MOST_TARGETS]
        for priority in sorted({target.priority for target in targets}):
            first = [target for target in targets if target.priority == priority]
            shares = _shares(first)
            answers = await asyncio.gather(*(self._find_target(*each) for each in zip(first, shares, strict=True)))
            error = next((answer for answer in answers if isinstance(answer, Unresolved)), error)
            good = [answer for answer in answers if not isinstance(answer, Unresolved)]
            found = [each for target, _ in good for each in target]
            if found:
                return found, min(services.ttl, *(ttl for _, ttl in good), *([_LEAST_TTL] if error else []))
        raise error or Unresolved(self.text, "no record")

    async def _find_target(self, target: Target, share: int) -> tuple[list[Found], float] | Unresolved:
        host = target.host.rstrip(".")
        try:
            answer = await self._resolver.lookup(host if family(host) else f"{host}.")
        except Unresolved as error:
            # A target that is known stays known while it is in the answer and its own name has trouble.
            kept = [each for each in self.found if (each.host, each.port) == (host, target.port)]
            return (kept, _LEAST_TTL) if kept else error
        found = [Found(ip, target.port, share, host) for ip in answer.addresses]
        return self._completed(answer, found), answer.ttl

    def _completed(self, answer: Answer, found: list[Found]) -> list[Found]:
        """Keep the addresses of a family that the server has failed to say this time."""
        if answer.complete:
            return found
        families = {family(each.ip) for each in found}
        to = {(each.host, each.port) for each in found}
        kept = [each for each in self.found if (each.host, each.port) in to and family(each.ip) not in families]
        return sorted(found + kept, key=lambda each: ":" in each.ip)


def _shares(targets: Sequence[Target]) -> list[int]:
    """Make small numbers of SRV's weights: 33, 33, 33 -> 1, 1, 1. A weight of 0 has a small share too."""
    divisor = math.gcd(*(target.weight for target in targets)) or 1
    return [max(1, target.weight // divisor) for target in targets]


def usable(found: Sequence[Found]) -> list[Found]:
    """Leave out the family that this machine has no route for, where there is another (RFC 6724, rule 1)."""
    families = {family(each.ip): each for each in found}
    if len(families) == 1:
        return list(found)
    routed = {which for which, each in families.items() if which and _routed(which, each.ip)}
    return [each for each in found if family(each.ip) in routed] or list(found)


def _routed(which: socket.AddressFamily, ip: str) -> bool:
    try:
        # Connecting a datagram socket sends nothing: the kernel only looks for the way.
        with socket.socket(which, socket.SOCK_DGRAM) as probe:
            probe.connect((ip, 9))
    except OSError as error:
        return error.errno not in _UNUSABLE
    return True


def _shown(found: Iterable[Found]) -> list[str]:
    texts = sorted(f"{each.ip} port {each.port}" if each.port else each.ip for each in found)
    return texts[:_SHOWN] + ([f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else [])
