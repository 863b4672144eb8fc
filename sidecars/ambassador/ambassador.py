"""The ambassador: listeners, what is decided about their upstreams, and who carries the bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from sidecars.ambassador import metrics
from sidecars.ambassador.carrying import Carrying, Here, Listening
from sidecars.ambassador.collector import Collected
from sidecars.ambassador.plan import Counted, Outcome, Plan
from sidecars.ambassador.reloading import Reloading, read
from sidecars.ambassador.settings import Listener, Settings
from sidecars.ambassador.upstreams import Upstreams
from sidecars.core.health import Health
from sidecars.core.service import Lifecycle

if TYPE_CHECKING:
    from sidecars.ambassador.loop import Loop
    from sidecars.ambassador.nutcracker.stats import Stats

_QUIET = 0.5  # seconds without a connection, after which the application is taken to dial no more
_LAST_LOOK = 0.2  # seconds to count what is cut; who is stopped has a second to let go
_LOOK = 0.05  # seconds between two looks, while draining
# What is kept of the grace: in its last tenth, a second at most, nobody is let in, and who loses nothing
# by it is let go; in the last of that, all is closed.
_RESERVE_SHARE, _RESERVE_SECONDS, _CUT_SHARE = 0.1, 1.0, 0.2


class Ambassador:
    """Listen, and carry each connection, or each Redis command, to an upstream.

    run    accept and carry, as the settings say and as the upstreams do; settings are read again on request
    drain  accept until all is idle or the grace is nearly spent; open connections run to their end
    stop   cancelled: every connection is closed, and counted
    """

    def __init__(self, settings: Settings, anew: Callable[[], Settings] = read) -> None:
        self._settings = settings
        self._listeners = settings.every_listener()
        self._listening = Listening(settings.workers)
        self._reloading = Reloading(settings, self._change, anew)
        self._stats: Stats | None = None
        self._plan = Plan()
        self._cut = 0

    async def run(self, life: Lifecycle) -> None:
        """Carry until the drain has ended."""
        loop = cast("Loop", asyncio.get_running_loop())
        self._listening.open(self._listeners)
        self._carrying = self._carriers(loop, life.health)
        try:
            self._carrying.start()
            crashed = self._decide(loop, life)
            await self._open_stats()
            await self._until_drain(life, crashed)
            await self._drain(life)
        finally:
            await self._end_whole()

    def _decide(self, loop: Loop, life: Lifecycle) -> asyncio.Future[None]:
        from sidecars.ambassador.decider import Decider  # workers start meanwhile

        names = [str(each) for each in self._settings.nameserver]
        self._decider = Decider(loop, self._listeners, self._planned, life.health, nameservers=names)
        self._upstreams = Upstreams(self._decider, self._carrying.counted, self._applied)
        Collected(self._counted).show_in()
        life.pages.update(self._upstreams.pages())
        life.posts.update(self._upstreams.posts())
        life.reload = self._hang_up
        if self._settings.workers > 1:
            life.refresh = self._carrying.refresh
        return self._decider.start()

    def _carriers(self, loop: Loop, health: Health) -> Carrying:
        if self._settings.workers == 1:
            return Here(loop, self._told, self._settings)
        from sidecars.ambassador.workers import Workers

        return Workers(self._settings, self._told, health)

    async def _open_stats(self) -> None:
        if self._settings.stats_address:
            from sidecars.ambassador.nutcracker.stats import Stats  # twemproxy's

            self._stats = Stats(lambda: self._reloading.settings, self._counted, self._carrying.refresh)
            await self._stats.open()

    def _told(self, outcome: Outcome) -> None:
        self._decider.outcome(outcome)

    def _planned(self, plan: Plan) -> None:
        self._plan = plan
        self._carrying.apply(plan, self._listening)

    async def _applied(self) -> None:
        """Return when what has changed by now is so, in every process: a report comes after what was told before."""
        await asyncio.sleep(0)  # the decider makes its plan in the next round of the loop
        await self._carrying.refresh()

    async def _until_drain(self, life: Lifecycle, crashed: asyncio.Future[None]) -> None:
        files = asyncio.create_task(self._reloading.run())
        ready = asyncio.create_task(self._say_ready(life.health))
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(life.drain.wait()), crashed, files]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        files.cancel()
        ready.cancel()
        for each in (crashed, files):
            if each.done() and not each.cancelled():
                each.result()

    async def _say_ready(self, health: Health) -> None:
        await self._carrying.ready()
        health.started()

    def _hang_up(self) -> None:
        self._carrying.reopen()
        self._reloading.now()

    def _change(self, listeners: Sequence[Listener]) -> None:
        """Go on with other listeners. Raises WrongSettings when one cannot be opened; then the old ones stay."""
        self._listening.open(listeners)
        self._listeners = tuple(listeners)
        self._decider.reload(self._listeners)
        self._carrying.apply(self._plan, self._listening)
        self._listening.close_others(listeners)

    async def _drain(self, life: Lifecycle) -> None:
        """Return when nothing is open any more, or when only as much time is left as closing takes."""
        life.reload = self._carrying.reopen  # no listener is opened any more
        loop = asyncio.get_running_loop()
        reserve = min(_RESERVE_SECONDS, _RESERVE_SHARE * life.remaining())
        closed, finishing = self._settings.drain_close_listeners, False
        self._carrying.drain(False)
        if closed:
            self._close_listeners()
        busy = loop.time()
        while life.remaining() > reserve * _CUT_SHARE:
            await self._carrying.refresh()
            if self._carrying.connections():
                busy = loop.time()
            elif closed:
                break
            spent = life.remaining() <= reserve
            if (spent and not finishing) or (not closed and loop.time() - busy >= _QUIET):
                # What came in by now is served: it is looked at once more.
                closed, finishing = True, spent
                self._close_listeners(finish=spent)
            await asyncio.sleep(_LOOK)

    def _close_listeners(self, finish: bool = False) -> None:
        self._carrying.drain(True, finish)
        self._listening.close_others(())

    async def _end_whole(self) -> None:
        """End, and let a stop that comes meanwhile change nothing: it tells what is being done, within its own time.

        The drain uses its grace up to the last moment, so the deadline falls into the end on a busy machine.
        """
        end = asyncio.ensure_future(self._end())
        while not end.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({end})
        end.result()

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._carrying.refresh(), _LAST_LOOK)
        self._cut = self._carrying.connections()
        self._decider.close()
        if self._stats:
            self._stats.close()
        await self._carrying.close()
        self._listening.close_others(())

    def _counted(self) -> Counted:
        reloads: Counted = {
            "reloads_total": {("accepted",): self._reloading.accepted, ("refused",): self._reloading.refused}
        }
        return metrics.added([self._carrying.counted(), self._decider.counted(), reloads])

    def undelivered(self) -> str | None:
        """Say how many connections had to be closed before their end."""
        if not self._cut:
            return None
        return f"{self._cut} open {'connection was' if self._cut == 1 else 'connections were'} cut"

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        counted = self._counted()
        numbers = {
            name: sum(cast(float, each) for each in counted[name].values()) for name in _NUMBERS if name in counted
        }
        tables = {"upstreams": self._upstreams.rows(), "connections": self._carrying.shown()}
        if "http_requests_total" in counted:
            from sidecars.ambassador.http import page  # only who serves HTTP has it

            numbers |= page.numbers(counted)
            http = {"http": page.rows(counted), "last_refusals": page.refusals(self._carrying.refusals())}
            tables = http | tables
        return {"numbers": numbers, "tables": tables}


_NUMBERS = (
    "connections", "connections_total", "received_bytes_total", "sent_bytes_total", "waiting",
    "upstream_connections", "upstream_connections_total", "upstream_failures_total", "retries_total",
    "redis_upstream_requests_total", "redis_errors_total", "worker_deaths_total",
)  # fmt: skip
