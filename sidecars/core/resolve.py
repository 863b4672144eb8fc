"""Names to addresses, without ever holding up the event loop: aiodns's one door.

getaddrinfo() blocks, and says no TTL. c-ares does neither, but knows no search path for SRV: the names that are asked
for are made here, as the system's resolver makes them, so that a failure can say which they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from sidecars.core.errors import Transient
from sidecars.core.resolvconf import Remembered, family, local, parse_hosts, parse_search

if TYPE_CHECKING:
    import aiodns

Type = Literal["A", "AAAA", "SRV"]
ADDRESSES: tuple[Type, ...] = ("A", "AAAA")

Reason = Literal["no such name", "no record", "server failed", "no answer", "not a name"]
# The last of them that any question has met is what a lookup as a whole has come to.
_GRAVITY: tuple[Reason, ...] = ("not a name", "no such name", "no record", "server failed", "no answer")
_HINTS: dict[Reason, str] = {
    "no such name": "is the name right, and what it names created?",
    "no record": "the name exists, without an address; is anything behind it ready?",
    "server failed": "the name server has trouble of its own",
    "no answer": "is the name server reachable from here?",
    "not a name": "is it written right?",
}

# c-ares's numbers, from ares.h: naming them here keeps pycares out of programs that ask for nothing.
_REASONS: dict[int, Reason] = {1: "no record", 4: "no such name", 8: "not a name", 11: "no answer", 12: "no answer"}

_FOR_EVER = 300.0  # seconds: the TTL of what does not come from a server
_HOSTS_TTL = 5.0  # seconds until the hosts file is looked at again
_LATE = 1.0  # seconds that one family may be later than the other
_AT_ONCE = 32  # lookups
_MOST = 1024  # records taken of one answer


class Target(msgspec.Struct, frozen=True):
    """What an SRV record says."""

    host: str
    port: int
    priority: int
    weight: int


class Answer(msgspec.Struct, frozen=True):
    """What a name has come to.

    addresses    IPv4 first
    targets      for SRV, by priority
    ttl          seconds, as the servers say it
    names_tried  the absolute names asked for, the last with success; none for what no server was asked
    complete     false when the server failed to say one of the types: what it said earlier may still be so
    """

    addresses: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    ttl: float = _FOR_EVER
    names_tried: tuple[str, ...] = ()
    complete: bool = True


class Unresolved(Transient):
    """A name has come to nothing: why, and the absolute names that were asked for."""

    def __init__(self, name: str, reason: Reason, names_tried: Sequence[str] = ()) -> None:
        asked = f" (asked for {', '.join(names_tried)})" if names_tried else ""
        super().__init__(f"{name}: {reason}{asked}; {_HINTS[reason]}")
        self.name = name
        self.reason = reason
        self.names_tried = tuple(names_tried)


class Resolver:
    """Asks the system's name servers, or the given ones ("10.0.0.10:53"), as the system would.

    Addresses are themselves; the hosts file comes before the servers. A truncated answer is asked for again by TCP.
    timeout and tries are those of the first attempt at each server, by default as resolv.conf says.
    """

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        config: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
        timeout: float | None = None,
        tries: int | None = None,
    ) -> None:
        self._nameservers = nameservers
        self._options = {"timeout": timeout, "tries": tries, "resolvconf_path": config}
        self._search = Remembered(config, parse_search)
        self._hosts = Remembered(hosts, parse_hosts)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._importing = asyncio.Lock()

    async def lookup(self, name: str, types: Sequence[Type] = ADDRESSES) -> Answer:
        """Ask for addresses, or for SRV; raises Unresolved.

        redis.cache -> Answer(addresses=("10.0.0.7",), ttl=5, names_tried=("redis.cache.default.svc.cluster.local.",))
        """
        if known := self._known(name, types):
            return known
        tried: list[str] = []
        met: set[Reason] = set()
        async with self._turns, self._channel(name) as channel:
            for absolute in self._search.get().names(name):
                tried.append(absolute)
                answer = await _ask(channel, absolute, types)
                if isinstance(answer, Answer):
                    return msgspec.structs.replace(answer, names_tried=tuple(tried))
                met.add(answer)
                # A server that says nothing would say nothing six times. Nor may the next name of the path be taken
                # for this one, which may be there.
                if answer == "no answer":
                    break
        raise Unresolved(name, _worst(met), tried)

    @contextlib.asynccontextmanager
    async def _channel(self, name: str) -> AsyncIterator[aiodns.DNSResolver]:
        """Give what asks, for one lookup: c-ares remembers for an hour that a name has no record of a type.

        It costs a tenth of a millisecond, and for as long as it is there a thread, and an inotify instance, of which
        the users of a node have few.
        """
        # 20 ms and 2 MiB, which a pod without names does not pay, and one with names does not wait for.
        async with self._importing:
            if "aiodns" not in sys.modules:
                await asyncio.to_thread(importlib.import_module, "aiodns")
        import aiodns
        import pycares

        # Without an inotify instance it does not see resolv.conf change, which no lookup lives long enough for.
        logging.getLogger("aiodns").setLevel(logging.ERROR)
        options = {key: value for key, value in self._options.items() if value is not None}
        try:
            channel = aiodns.DNSResolver(self._nameservers, asyncio.get_running_loop(), **options)
        except pycares.AresError as error:
            # There is no descriptor left, or no memory.
            raise Unresolved(name, "no answer") from error
        try:
            yield channel
        finally:
            await channel.close()

    def _known(self, name: str, types: Sequence[Type]) -> Answer | None:
        """Answer without a server, where that can be."""
        if "SRV" in types:
            return None
        if family(name):
            return Answer((name,))
        found = self._hosts.get().get(name.rstrip(".").lower()) or tuple(local(name))
        addresses = tuple(address for address in found if _type(address) in types)
        return Answer(addresses, ttl=_HOSTS_TTL) if addresses else None


async def _ask(channel: aiodns.DNSResolver, name: str, types: Sequence[Type]) -> Answer | Reason:
    """Ask for all types at once. One that is late, when another has said what there is, is not waited for."""
    questions = {asyncio.ensure_future(_question(channel, name, each)) for each in types}
    late = set(questions)
    decided = False
    try:
        while late:
            patience = _LATE if decided else None
            done, late = await asyncio.wait(late, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            decided = decided or any(isinstance(q.result(), Answer) or q.result() == "no such name" for q in done)
    finally:
        for question in late:
            question.cancel()
    return _merged([question.result() for question in questions - late], complete=not late)


async def _question(channel: aiodns.DNSResolver, name: str, type: Type) -> Answer | Reason:
    from aiodns.error import DNSError

    try:
        result = await channel.query_dns(name, type)
    except DNSError as error:
        return _REASONS.get(error.args[0], "server failed")
    return _read(result.answer[:_MOST], type)


def _read(records: Sequence[Any], type: Type) -> Answer | Reason:
    """Take what was asked for out of the records of an answer, among which the names it was found through are too."""
    # A CNAME's TTL counts: it may lead elsewhere sooner than the address it leads to changes.
    ttl = float(min((record.ttl for record in records), default=0))
    data = [record.data for record in records]
    if type == "SRV":
        targets = [Target(each.target, each.port, each.priority, each.weight) for each in data if hasattr(each, "port")]
        # A target of "." says that the service is decidedly not there (RFC 2782).
        targets = [target for target in targets if target.host.rstrip(".")]
        targets.sort(key=lambda target: (target.priority, target.host, target.port))
        return Answer(targets=tuple(targets), ttl=ttl) if targets else "no record"
    addresses = dict.fromkeys(each.addr for each in data if hasattr(each, "addr"))
    return Answer(tuple(addresses), ttl=ttl) if addresses else "no record"


def _merged(answers: Sequence[Answer | Reason], complete: bool) -> Answer | Reason:
    """Make one answer of those to the questions about one name."""
    good = [answer for answer in answers if isinstance(answer, Answer)]
    reasons = {answer for answer in answers if not isinstance(answer, Answer)}
    if not good:
        # A name that does not exist has no record of any type, whatever became of the other question.
        return "no such name" if "no such name" in reasons else _worst(reasons)
    addresses = sorted((address for answer in good for address in answer.addresses), key=lambda address: ":" in address)
    return Answer(
        tuple(addresses),
        good[0].targets,
        min(answer.ttl for answer in good),
        complete=complete and not reasons & {"server failed", "no answer"},
    )


def _worst(reasons: Collection[Reason]) -> Reason:
    return max(reasons, key=_GRAVITY.index, default="no answer")


def _type(address: str) -> Type:
    return "AAAA" if ":" in address else "A"
