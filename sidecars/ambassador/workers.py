"""Processes that carry connections, for one core is not always enough: started, told what to do, asked, replaced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from sidecars.ambassador.accesslog import AccessLog
from sidecars.ambassador.admission import Shared
from sidecars.ambassador.channel import Apply, Ask, Channel, Drain, Reopen, Report, Setup
from sidecars.ambassador.metrics import added, lasting
from sidecars.ambassador.plan import Counted, Outcome, Plan
from sidecars.ambassador.settings import Settings
from sidecars.core.health import Health
from sidecars.core.log import log

_ANSWER = 1.0  # seconds a worker may take to report
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before a worker that has died is replaced
_PROVEN = 30.0  # seconds after which a worker is taken to have lived
_END = 0.7  # seconds a worker has to end by itself: with the last look before, less than the second of who is stopped
_REAP = 0.01  # seconds between two looks whether a killed process has ended


class Listening(Protocol):
    """The listening sockets, which the parent holds: connections that wait in them outlive a worker."""

    def of(self, index: int) -> dict[str, list[socket.socket]]:
        """Give those of one worker."""


class _Worker:
    """One worker's process, and the next one's when it dies."""

    def __init__(self, workers: Workers, index: int) -> None:
        self.index = index
        self.alive = False
        self.carries = asyncio.Event()
        self.report = Report(0, 0, {}, [])
        self._workers = workers
        self._pause = _FIRST_PAUSE
        self._has: dict[str, list[socket.socket]] = {}
        self._stale = False
        self._asked = 0
        self._answers: list[tuple[int, asyncio.Future[None]]] = []

    def start(self) -> None:
        """Start the process, and tell it everything."""
        loop = asyncio.get_running_loop()
        own, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sidecars.ambassador.worker", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone, which drains
            )
        self.alive, self._since, self._has = True, loop.time(), {}
        self._channel = Channel(own, self._take, self._lost, self._caught_up)
        self._channel.send(self._setup(), [self._workers.memory])
        self.apply()
        if self._workers.draining is not None:
            self._channel.send(self._workers.draining)

    def _setup(self) -> Setup:
        settings = self._workers.settings
        return Setup(
            self.index,
            settings.workers,
            settings.access_log,
            settings.log_level,
            settings.log_format,
            settings.provenance,
        )

    def apply(self) -> None:
        """Tell the last plan, once the one before has been taken: a plan that was missed is no loss."""
        plan, listening = self._workers.plan, self._workers.listening
        if not self.alive or plan is None or listening is None:
            return
        if self._channel.waiting:
            self._stale = True
            return
        self._stale = False
        sockets = listening.of(self.index)
        new = {route: each for route, each in sockets.items() if each != self._has.get(route)}
        self._has = sockets
        descriptors = [each.fileno() for route in new.values() for each in route]
        self._channel.send(Apply(plan, {route: len(each) for route, each in new.items()}), descriptors)

    def tell(self, message: Drain | Reopen) -> None:
        """Tell something, if there is somebody to tell."""
        if self.alive:
            self._channel.send(message)

    async def ask(self) -> None:
        """Have it report; after a while without an answer its last report stays."""
        if not (self.alive and self.carries.is_set()):
            return
        answer = asyncio.get_running_loop().create_future()
        self._asked += 1
        self._answers.append((self._asked, answer))
        self._channel.send(Ask(self._asked))
        try:
            await asyncio.wait_for(answer, _ANSWER)
        except TimeoutError:
            self._workers.health.failing(self.name, f"does not answer within {_ANSWER:g} s")

    @property
    def name(self) -> str:
        """Its name in reasons."""
        return f"worker {self.index + 1}"

    def _take(self, message: object, _: list[int]) -> None:
        match message:
            case Outcome():
                self._workers.told(message)
            case Report():
                self.report = message
                self.carries.set()
                self._workers.health.working(self.name)
                self._answer(message.number)

    def _answer(self, number: int) -> None:
        for asked, answer in self._answers:
            if asked <= number and not answer.done():
                answer.set_result(None)
        self._answers = [(asked, answer) for asked, answer in self._answers if not answer.done()]

    def _caught_up(self) -> None:
        if self._stale:
            self.apply()

    def _lost(self) -> None:
        """It has died. What it had open is closed; what waits in its listening sockets waits for the next one."""
        self.alive = False
        self._process.kill()  # where it has not ended, it has closed its end of the channel
        self.carries.clear()
        self._workers.keep(self.report)
        self.report = Report(0, 0, {}, [])
        self._answer(self._asked)
        self._workers.replace(self)

    async def replace(self) -> None:
        """Reap the process, say that it has died, and start another one after a pause."""
        code = await self._reaped()
        self._workers.limits.forget(self.index)
        if asyncio.get_running_loop().time() - self._since >= _PROVEN:
            self._pause = _FIRST_PAUSE
        reason = f"died with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
        log.error("worker died; another one is started", worker=self.index + 1, pid=self._process.pid, reason=reason)
        while not self.alive:
            self._workers.health.failing(self.name, reason)
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            try:
                self.start()
            except OSError as error:  # no memory, or too many processes
                reason = f"cannot be started: {error.strerror}"
                log.error("worker not started", worker=self.index + 1, reason=error.strerror)

    async def end(self) -> None:
        """Let the process end by itself, which closes what is open and writes what is to be written; else kill it."""
        if not self.alive:
            return
        self.alive = False
        self._channel.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reaped(), _END)
            return
        self._process.kill()

    async def _reaped(self) -> int:
        while (code := self._process.poll()) is None:  # noqa: ASYNC110  (the end of a process is no event of asyncio's)
            await asyncio.sleep(_REAP)
        return code


class Workers:
    """Stands for a plane: every worker has one, which does as the plan says.

    The limits are in memory that all share. A worker that dies is replaced; what it has counted stays counted, as of
    its last report.
    """

    def __init__(self, settings: Settings, told: Callable[[Outcome], None], health: Health) -> None:
        if settings.access_log:
            AccessLog(settings.access_log).close(0)  # what cannot be written is said at the start
        self.settings = settings
        self.told = told
        self.health = health
        self.plan: Plan | None = None
        self.listening: Listening | None = None
        self.draining: Drain | None = None
        self.memory = Shared.memory(settings.workers)
        self.limits = Shared(self.memory, settings.workers, 0)
        self._past: Counted = {}
        self._deaths = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = [_Worker(self, index) for index in range(settings.workers)]

    def start(self) -> None:
        """Start them all."""
        for each in self._workers:
            each.start()

    async def ready(self) -> None:
        """Wait until each can carry."""
        for each in self._workers:
            await each.carries.wait()

    async def refresh(self) -> None:
        """Have every worker report."""
        await asyncio.gather(*(each.ask() for each in self._workers))

    def apply(self, plan: Plan, sockets: Listening) -> None:
        """Tell every worker the plan, and hand it its listening sockets."""
        self.plan, self.listening = plan, sockets
        for each in self._workers:
            each.apply()

    def drain(self, close_listeners: bool, finish: bool = False) -> None:
        """Let what is open come to its end."""
        self.draining = Drain(close_listeners, finish)
        for each in self._workers:
            each.tell(self.draining)

    def reopen(self) -> None:
        """Open the access log anew."""
        for each in self._workers:
            each.tell(Reopen())

    def connections(self) -> int:
        """Say how many connections were open at the last reports."""
        return sum(each.report.connections for each in self._workers)

    def counted(self) -> Counted:
        """Add up what all have counted, those that are gone included."""
        carrying = sum(each.alive and each.carries.is_set() for each in self._workers)
        own: Counted = {"workers": {(): carrying}, "worker_deaths_total": {(): self._deaths}}
        return added([self._past, own, *(each.report.counted for each in self._workers)])

    def shown(self) -> list[dict[str, object]]:
        """Give rows of connections, from every worker."""
        return [{**row, "worker": each.index + 1} for each in self._workers for row in each.report.shown]

    def refusals(self) -> list[dict[str, object]]:
        """Give the last refusals of every worker."""
        return [{**row, "worker": each.index + 1} for each in self._workers for row in each.report.refusals]

    def keep(self, report: Report) -> None:
        """Remember what a worker has counted that is gone."""
        self._past = added([self._past, lasting(report.counted)])
        self._deaths += 1

    def replace(self, worker: _Worker) -> None:
        """Start another process in its place, in a moment."""
        task = asyncio.ensure_future(worker.replace())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(each.end() for each in self._workers))
