"""Who decides where connections may go: names, checks, failures and an operator's words come to one plan here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sidecars.ambassador.checks import Asked, Standing, Unknown, ask, keep_asking
from sidecars.ambassador.live import Live, Wish
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.names import Name
from sidecars.ambassador.plan import Counted, Outcome, Plan, Route
from sidecars.ambassador.pool import LINGER, NoSuchUpstream, Pool
from sidecars.ambassador.settings import Listener
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.resolve import Resolver

if TYPE_CHECKING:
    from sidecars.ambassador.http.jwks import Issuers


class Decider:
    """Keep the plan, and say each new one by changed(): the whole of it, once for all that changes at one moment.

    Methods are for the loop's thread; outcome() may be called from handlers of descriptors too.
    """

    def __init__(
        self,
        loop: Loop,
        listeners: Sequence[Listener],
        changed: Callable[[Plan], None],
        health: Health,
        *,
        nameservers: Sequence[str] = (),
    ) -> None:
        self.plan = Plan()
        self._loop = loop
        self._listeners = listeners
        self._changed = changed
        self._health = health
        self._uniform = random.Random().uniform  # noqa: S311  (jitter)
        self._resolver = Resolver(nameservers)
        self._pools: dict[str, Pool] = {}
        self._issuers: Issuers | None = None
        self._names: dict[str, Name] = {}
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._due: asyncio.Handle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._crashed: asyncio.Future[None] = loop.create_future()

    def start(self) -> asyncio.Future[None]:
        """Say the first plan at once, without waiting for any name, and keep it from then on.

        What is given back is done only when a bug has ended a part of this: with its exception.
        """
        self.reload(self._listeners)
        return self._crashed

    def reload(self, listeners: Sequence[Listener]) -> None:
        """Go on with other listeners, at once; what is known of the addresses that stay is kept."""
        self._listeners = listeners
        for gone in self._pools.keys() - {listener.id for listener in listeners}:
            self._pools.pop(gone).release()
            self._health.working(gone)
        for listener in listeners:
            if pool := self._pools.get(listener.id):
                pool.update(listener)
            else:
                self._pools[listener.id] = Pool(listener, self._uniform)
        self._pools = {listener.id: self._pools[listener.id] for listener in listeners}
        self._resolve({name for pool in self._pools.values() for name in pool.names()})
        self._fetch(listeners)
        self._publish()

    def _fetch(self, listeners: Sequence[Listener]) -> None:
        """Have the keys fetched that tokens are checked with."""
        if any(each.http and each.http.auth and each.http.auth.jwt and each.http.auth.jwt.jwks for each in listeners):
            from sidecars.ambassador.http.jwks import Issuers  # aiohttp and cryptography, for these listeners only

            self._issuers = self._issuers or Issuers(self._spawn, self._soon, self._health)
        if self._issuers:
            self._issuers.update(listeners)

    def _resolve(self, wanted: set[str]) -> None:
        for text in self._names.keys() - wanted:
            del self._names[text]
            self._resolving.pop(text).cancel()
        for text in sorted(wanted - self._names.keys()):
            name = self._names[text] = Name(text, self._resolver, self._soon, self._uniform)
            self._resolving[text] = self._spawn(name.run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Everything here runs until it is cancelled: an exception is a bug, and shall end the program."""
        if not task.cancelled() and (error := task.exception()) and not self._crashed.done():
            self._crashed.set_exception(error)

    def outcome(self, outcome: Outcome) -> None:
        """Hear how it went with an endpoint."""
        self._loop.soon(self._hear, outcome)

    def _hear(self, outcome: Outcome) -> None:
        pool = self._pools.get(outcome.route)
        if pool is None:
            return
        if outcome.reason == "jwks":
            if self._issuers:
                self._issuers.want(pool.listener)
            return
        reason = outcome.detail or outcome.reason
        left_out = pool.outcome(outcome.endpoint, outcome.ok, reason, self._loop.time())
        if left_out:
            self._leave_out(pool, *left_out)

    def _leave_out(self, pool: Pool, live: Live, seconds: float) -> None:
        live.return_ = self._loop.call_later(seconds, self._try_return, pool, live)
        self._soon()

    def _try_return(self, pool: Pool, live: Live) -> None:
        probe = pool.probe(live)
        if probe:
            # A client's command is no probe: it would be answered with an error.
            live.return_ = self._spawn(self._probe(pool, live, probe))
        else:
            self._return(live)

    async def _probe(self, pool: Pool, live: Live, probe: Asked) -> None:
        try:
            reason = await ask(probe)
        except Unknown as error:
            reason = str(error)
        if reason:
            self._leave_out(pool, live, pool.leave_out(live, reason, self._loop.time()))
        else:
            self._return(live)

    def _return(self, live: Live) -> None:
        live.return_ = None
        live.ejection.come_back(self._loop.time())
        self._soon()

    def set_state(self, route: str, which: str, state: Wish) -> None:
        """Do as an operator wants with an upstream or one of its endpoints. Raises NoSuchUpstream."""
        if route not in self._pools:
            raise NoSuchUpstream(f"there is no listener {route!r}; see /upstreams")
        self._pools[route].wish(which, state)
        log.info("upstream set", listener=route, upstream=which, state=state)
        self._soon()

    def _soon(self) -> None:
        """Make a new plan, once for all that is changing now."""
        if self._due is None:
            self._due = self._loop.call_soon(self._publish)

    def _publish(self) -> None:
        self._due = None
        now = self._loop.time()
        for pool in self._pools.values():
            pool.refresh(self._names, now)
        plan = Plan(tuple(self._route(pool, now) for pool in self._pools.values()))
        self._check()
        self._wait_for_the_lingering()
        self._say_health(plan)
        if plan != self.plan:
            self.plan = plan
            self._changed(plan)

    def _route(self, pool: Pool, now: float) -> Route:
        route = pool.route(now)
        known = self._issuers.known(pool.listener) if self._issuers else None
        return replace(route, jwks=known) if known else route

    def _check(self) -> None:
        """See to it that each address is asked as its listener says now."""
        for pool in self._pools.values():
            for live in pool.lives.values():
                asked = pool.check(live)
                if asked == live.asked:
                    continue
                if live.asking:
                    live.asking.cancel()
                if asked is None and live.standing.well is not None:
                    live.standing = Standing()
                    self._soon()
                live.asked = asked
                live.asking = self._spawn(self._keep_asking(live, asked)) if asked else None

    async def _keep_asking(self, live: Live, asked: Asked) -> None:
        def told(reason: str) -> None:
            if live.standing.told(reason, asked.check):
                self._soon()

        await keep_asking(asked, told, self._uniform)

    def _wait_for_the_lingering(self) -> None:
        left = [each.left for pool in self._pools.values() for each in pool.lives.values() if each.left is not None]
        if self._linger:
            self._linger.cancel()
        self._linger = self._loop.call_at(min(left) + LINGER, self._soon) if left else None

    def _say_health(self, plan: Plan) -> None:
        for pool, route in zip(self._pools.values(), plan.routes, strict=True):
            trouble = pool.trouble(route)
            if trouble:
                self._health.failing(route.id, trouble)
            else:
                self._health.working(route.id)

    def shown(self) -> list[dict[str, object]]:
        """Give a row for each endpoint, and for each upstream that has none."""
        now = self._loop.time()
        return [row for route in self.plan.routes for row in self._pools[route.id].rows(route, now)]

    def counted(self) -> Counted:
        """Give what is counted here."""
        counted: Counted = {"upstream_up": {}, "ejections_total": {}}
        for route in self.plan.routes:
            pool = self._pools[route.id]
            for name, count in pool.up(route).items():
                counted["upstream_up"][route.id, name] = count
                counted["ejections_total"][route.id, name] = pool.ejections.get(name, 0)
        counted["resolve_failures_total"] = {(name.text,): name.failures for name in self._names.values()}
        return counted

    def close(self) -> None:
        """Ask and resolve no more; no plan is said any more."""
        self._changed = lambda _: None
        for pool in self._pools.values():
            pool.release()
        self._resolve(set())
        if self._issuers:
            self._issuers.update(())
        for handle in (self._due, self._linger):
            if handle:
                handle.cancel()
