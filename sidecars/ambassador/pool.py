"""One listener's upstreams: which addresses they have, which of them the plan has, and how the listener does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sidecars.ambassador.checks import Asked
from sidecars.ambassador.ejection import Ejection, may_leave
from sidecars.ambassador.live import Live, Wish, ident, shown
from sidecars.ambassador.names import Found, Name, Place, place
from sidecars.ambassador.plan import Endpoint, Route
from sidecars.ambassador.settings import Check, Listener, RedisCheck, Upstream
from sidecars.core.errors import SidecarError
from sidecars.core.log import log

LINGER = 5.0  # seconds that an address its name has lost stays in the plan, so that each plane learns of it
_SHOWN = 5  # reasons in one text


class NoSuchUpstream(SidecarError):  # noqa: N818
    """An operator has named an upstream that is not there."""


class Wanted(NamedTuple):
    """An address that the plan shall have."""

    upstream: Upstream
    number: int
    address: tuple[str, int] | str
    weight: int

    @property
    def key(self) -> str:
        """What the endpoint is called."""
        where = self.address if isinstance(self.address, str) else shown(*self.address)
        return f"{ident(self.upstream)} {where}"


class Pool:
    """One listener's upstreams. All methods are plain and quick; `now` is the loop's clock.

    A reload or a changed answer keeps what is known of each address that stays. In Redis mode, where an upstream is
    one shard, the plan has one address of each: the one in use, until its name has it no more or another is better.
    """

    def __init__(self, listener: Listener, uniform: Callable[[float, float], float]) -> None:
        self.listener = listener
        self.lives: dict[str, Live] = {}
        self.ejections: dict[str, int] = {}
        self._uniform = uniform
        self._places: dict[str, Place] = {}
        self._names: dict[str, Name] = {}
        self._wishes: dict[str, Wish] = {}
        self._used: dict[str, str] = {}  # in Redis mode: the key of the address in use, by upstream
        self.update(listener)

    def update(self, listener: Listener) -> None:
        """Take the listener as it is after a reload."""
        self.listener = listener
        self._places = {ident(upstream): place(upstream.address) for upstream in listener.upstreams}
        self._wishes = {name: wish for name, wish in self._wishes.items() if name in self._places}
        for live in self.lives.values():
            live.ejection.limit(listener.eject)

    def names(self) -> set[str]:
        """Give what is to be resolved for it."""
        return {name for each in self._places.values() if (name := each.name)}

    def refresh(self, names: dict[str, Name], now: float) -> None:
        """Take the addresses that the names have now."""
        self._names = names
        wanted = {each.key: each for each in self._wanted()}
        for key, each in wanted.items():
            live = self.lives.get(key) or self._begin(each, now)
            live.upstream, live.index, live.weight, live.left = each.upstream, each.number, each.weight, None
        for key in [key for key in self.lives if key not in wanted]:
            self._lose(self.lives[key], now)
        order = {key: place for place, key in enumerate(wanted)}
        self.lives = dict(sorted(self.lives.items(), key=lambda each: order.get(each[0], len(order))))

    def _wanted(self) -> Iterator[Wanted]:
        for number, upstream in enumerate(self.listener.upstreams):
            to = self._places[ident(upstream)]
            if to.path:
                yield Wanted(upstream, number, to.path, upstream.weight)
                continue
            found = self._names[to.name].found if to.name else (Found(to.host),)
            for each in found:
                yield Wanted(upstream, number, (each.ip, to.port or each.port), upstream.weight * each.share)

    def _begin(self, wanted: Wanted, now: float) -> Live:
        ejection = Ejection(self.listener.eject, self._uniform)
        live = self.lives[wanted.key] = Live(wanted.key, wanted.upstream, wanted.address, ejection)
        live.since = now
        return live

    def _lose(self, live: Live, now: float) -> None:
        """Let an address linger that its name has lost; not one whose upstream is gone, nor a shard's."""
        if live.left is None:
            live.left = now
        # What a reload has taken away is gone at once: its connections run to their end, for a reload drops none.
        if self.listener.redis or ident(live.upstream) not in self._places or now - live.left >= LINGER:
            live.release()
            del self.lives[live.key]

    def release(self) -> None:
        """Ask no more."""
        for live in self.lives.values():
            live.release()

    def outcome(self, key: str, ok: bool, reason: str, now: float) -> tuple[Live, float] | None:
        """Take what a plane tells; the address that is left out because of it, if one is, and for how many seconds."""
        live = self.lives.get(key)
        if live is None or live.left is not None:
            return None
        if ok:
            live.ejection.worked()
            return None
        if not live.ejection.failed() or not self._may_leave(live):
            return None
        name = ident(live.upstream)
        self.ejections[name] = self.ejections.get(name, 0) + 1
        return live, self.leave_out(live, reason, now)

    def leave_out(self, live: Live, reason: str, now: float) -> float:
        """Leave an address out, or leave it out again after a probe; for how many seconds."""
        seconds = live.ejection.leave(now)
        live.failure = f"{reason}; for {seconds:.1f} s"
        return seconds

    def _may_leave(self, live: Live) -> bool:
        if self.listener.redis:
            if any(each.usable for each in self._of(ident(live.upstream)) if each is not live):
                return True
            out = sum(not any(each.usable for each in self._of(name)) for name in self._places)
            return may_leave(out, len(self._places), self.listener.eject)
        present = [each for each in self.lives.values() if each.left is None]
        return may_leave(sum(each.ejection.out for each in present), len(present), self.listener.eject)

    def _of(self, name: str) -> list[Live]:
        return [live for live in self.lives.values() if ident(live.upstream) == name and live.left is None]

    def probe(self, live: Live) -> Asked | None:
        """Give what to ask before an ejected address comes back; nothing in TCP mode, where its time is enough."""
        if not self.listener.redis:
            return None
        own = self.listener.check
        check = own if own and own.redis else Check(redis=RedisCheck())
        return Asked(live.address, live.upstream, check, self.listener.redis)

    def check(self, live: Live) -> Asked | None:
        """Give what to ask an address again and again; nothing where the listener has no check, or it rests."""
        if self.listener.check is None or live.left is not None or live.state == "disabled":
            return None
        return Asked(live.address, live.upstream, self.listener.check, self.listener.redis)

    def wish(self, which: str, wish: Wish) -> None:
        """Do as an operator wants with an upstream, or one of its addresses. Raises NoSuchUpstream."""
        if which in self._places:
            self._wishes[which] = wish
            for live in self._of(which):
                live.wish = None
        elif which in self.lives:
            self.lives[which].wish = wish
        else:
            raise NoSuchUpstream(f"{self.listener.id} has no upstream {which!r}; see /upstreams")

    def route(self, now: float) -> Route:
        """Give the listener with its endpoints, and log what has changed with them."""
        for live in self.lives.values():
            self._tell(live, now)
        lives = self._chosen() if self.listener.redis else self.lives.values()
        return Route(self.listener, tuple(map(self._endpoint, lives)))

    def _tell(self, live: Live, now: float) -> None:
        old = live.state
        live.state, live.reason = live.now_is(self._wishes.get(ident(live.upstream), "up"))
        if live.state == old:
            return
        live.since = now
        event = "upstream returned" if (old, live.state) == ("ejected", "up") else f"upstream {live.state}"
        say = log.warning if live.state in ("down", "ejected") else log.info
        say(event, listener=self.listener.id, upstream=live.key, **({"reason": live.reason} if live.reason else {}))

    def _endpoint(self, live: Live) -> Endpoint:
        close = live.state == "disabled" or (
            self.listener.close_removed and (live.left is not None or live.state == "down")
        )
        return Endpoint(live.key, live.index, live.address, live.weight, live.state, close)

    def _chosen(self) -> list[Live]:
        """Give the address in use of each shard: the same as long as it is well or none is better."""
        chosen = []
        for name in self._places:
            lives = self._of(name)
            if not lives:
                continue
            used = next((live for live in lives if live.key == self._used.get(name)), lives[0])
            if used.state != "up":
                used = next((live for live in lives if live.state == "up"), used)
            self._used[name] = used.key
            chosen.append(used)
        return chosen

    def trouble(self, route: Route) -> str | None:
        """Say why the listener cannot do its work; None when it can.

        In TCP mode one address that is up is enough, in Redis mode one shard is, or where a failed shard's keys are
        answered with an error all of them are needed.
        """
        up = {endpoint.upstream for endpoint in route.endpoints if endpoint.state == "up"}
        strict = self.listener.redis is not None and self.listener.redis.on_failure == "fail"
        if len(up) == len(self._places) if strict else up:
            return None
        why = [*self._unresolved(), *(f"{live.key} is {live.state}{_because(live)}" for live in self._not_up())]
        return f"{'a shard' if strict else 'every upstream'} is out: {_some(why)}" if why else "no upstream is up"

    def _not_up(self) -> Iterator[Live]:
        return (live for live in self.lives.values() if live.state != "up" and live.left is None)

    def _unresolved(self) -> Iterable[str]:
        for each in sorted(self.names()):
            name = self._names[each]
            if not name.found:
                yield str(name.trouble) if name.trouble else f"{each} is being looked up"

    def up(self, route: Route) -> dict[str, int]:
        """Count the addresses that take connections, by upstream."""
        counts = dict.fromkeys(self._places, 0)
        for endpoint in route.endpoints:
            counts[ident(self.listener.upstreams[endpoint.upstream])] += endpoint.state == "up"
        return counts

    def rows(self, route: Route, now: float) -> Iterator[dict[str, object]]:
        """Give a row for each address in the plan, and for each upstream that has none."""
        for endpoint in route.endpoints:
            yield self._row(self.lives[endpoint.key], now)
        having = {endpoint.upstream for endpoint in route.endpoints}
        for number, upstream in enumerate(self.listener.upstreams):
            if number not in having:
                name = self._names.get(self._places[ident(upstream)].name or "")
                reason = str(name.trouble) if name and name.trouble else "its name is being looked up"
                row: dict[str, object] = {"listener": self.listener.id, "upstream": ident(upstream)}
                yield {**row, "endpoint": "", "address": "", "state": "unresolved", "reason": reason}

    def _row(self, live: Live, now: float) -> dict[str, object]:
        well = live.standing.well
        return {
            "listener": self.listener.id,
            "upstream": ident(live.upstream),
            "endpoint": live.key,
            "address": live.address if isinstance(live.address, str) else shown(*live.address),
            "state": live.state,
            "reason": live.reason,
            "since_seconds": round(now - live.since, 1),
            "weight": live.weight,
            "check": "" if live.asking is None else "waiting" if well is None else "well" if well else "failing",
            "failures": live.ejection.failures,
            "ejections": live.ejection.ejections,
            "returns_in_seconds": _until(live.return_, now),
        }


def _until(timer: object, now: float) -> float | None:
    """Give how many seconds are left of the time that an ejected address is left out for."""
    return round(max(0.0, timer.when() - now), 1) if isinstance(timer, asyncio.TimerHandle) else None


def _because(live: Live) -> str:
    return f" ({live.reason})" if live.reason else ""


def _some(texts: list[str]) -> str:
    return "; ".join(texts[:_SHOWN]) + (f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
