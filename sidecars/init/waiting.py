"""pod-init wait: look at several targets at once until enough of them are as they shall be, or time is up."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Sequence
from typing import Annotated

from sidecars.core.errors import Impossible, TimedOut, WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import Help, Seconds
from sidecars.init import checks, reporting, signals
from sidecars.init.reporting import Report
from sidecars.init.settings import PREFIX, Common
from sidecars.init.target import Target, parse
from sidecars.init.watching import Pace, Watch

__all__ = ["PREFIX", "PROG", "Settings", "prepare", "run"]

PROG = "pod-init wait"
ENOUGH, OFTEN = "How much is enough", "How often to look, and for how long"


class Settings(Common, frozen=True, kw_only=True):
    """Wait until names, ports, services and files are as wanted; then exit 0, or run COMMAND in this process.

        pod-init wait TARGET... [-- COMMAND [ARGUMENT...]]

        dns://NAME             has an address; ?answers=3 that many, type=A|AAAA|SRV
        tcp://HOST:PORT        takes connections, as HOST:PORT alone; ?banner=REGEX:
                               speaks first
        unix:///PATH           a socket takes connections; ?banner=REGEX
        tls://HOST:PORT        has a certificate to trust; ?min_days=7, names=a,b
        http[s]://HOST/PATH    answers 2xx; ?status=200,3xx, body=REGEX,
                               json=a.b==UP, method=HEAD, header_file=FILE, follow;
                               other parameters are sent, and all of them where
                               the check's own options follow a #
        grpc[s]://HOST:PORT/S  the service S, or the server, is SERVING
        redis[s]://HOST        answers PING; ?role=master, db=1
        postgres://HOST/DB     and mysql, mariadb, amqp[s]://HOST/VHOST, memcached,
                               nats: the service's own protocol; ?tls=require
        file:///PATH           is there; ?nonempty, contains=TEXT, newer=start,
                               newer=/PATH, stable=2s
        cmd:PROGRAM ARGUMENT   exits 0; cmd?exit=3:PROGRAM, cmd?output=REGEX:PROGRAM
        k8s:KIND/NAME          is complete, ready or there, by pod-init-full;
                               ?condition=Ready, jsonpath={.a.b}, value=V,
                               namespace=NS; k8s:KIND?selector=a=b, count=3
        not:TARGET             is not so

    TLS takes ca=FILE, cert=FILE, cert_key=FILE, server_name=NAME and insecure; a login user=U and password_file=FILE;
    any target takes patience=2s. A target with a password in it is given by INIT_TARGETS; better give password_file.

    Exit codes: 0 met, 1 failed, 2 wrong settings, 124 timed out, 125 can never be, 128+n ended by a signal. The reason
    is in the log and in the termination message.
    """

    targets: Annotated[tuple[str, ...], Help("What to wait for.", metavar="TARGET", positional=True)] = ()
    all_: Annotated[bool, Help("Every target must be met: the default.", ENOUGH)] = False
    any_: Annotated[bool, Help("One target is enough.", ENOUGH)] = False
    quorum: Annotated[int | None, Help("So many targets are enough.", ENOUGH, none="", default="all")] = None
    consecutive: Annotated[int, Help("How many looks in a row must find a target as wanted.", ENOUGH)] = 1
    timeout: Annotated[Seconds, Help("How long to wait at most.", OFTEN)] = Seconds(300)
    patience: Annotated[Seconds, Help("How long one look may take.", OFTEN)] = Seconds(5)
    interval: Annotated[Seconds, Help("The first pause between two looks; it doubles, with jitter.", OFTEN)] = Seconds(
        0.25
    )
    max_interval: Annotated[Seconds, Help("The most a pause grows to.", OFTEN)] = Seconds(5)
    heartbeat: Annotated[Seconds | None, Help("How often to say what is still waited for.", OFTEN)] = Seconds(10)
    fail_on_nxdomain: Annotated[
        Seconds | None, Help("Give up, with 125, on a name that has not existed for so long.", OFTEN)
    ] = None

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if not self.targets:
            raise WrongSettings("there is nothing to wait for: give a TARGET, or set INIT_TARGETS")
        prepare(self.targets)
        if self.all_ + self.any_ + (self.quorum is not None) > 1:
            raise WrongSettings("--all, --any and --quorum say different things; keep one")
        if self.quorum is not None and not 1 <= self.quorum <= len(self.targets):
            raise WrongSettings(f"--quorum is {self.quorum}, expected 1 to {len(self.targets)}, the number of targets")
        if self.consecutive < 1:
            raise WrongSettings(f"--consecutive is {self.consecutive}, expected 1 or more")
        for flag, value in (("--timeout", self.timeout), ("--patience", self.patience), ("--interval", self.interval)):
            if value < 0.01:
                raise WrongSettings(f"{flag} is {value}, expected 10ms or more")

    def needed(self) -> int:
        """How many targets must be met."""
        return 1 if self.any_ else self.quorum or len(self.targets)

    def pace(self) -> Pace:
        """How often to look."""
        return Pace(
            self.interval,
            max(self.max_interval, self.interval),
            self.patience,
            self.consecutive,
            self.fail_on_nxdomain,
        )


def run(settings: Settings, command: Sequence[str] = ()) -> None:
    """Wait. Raises TimedOut, Impossible, WrongSettings, and signals.Ended."""
    if command and "/" not in command[0] and not shutil.which(command[0]):
        raise WrongSettings(f"there is no program {command[0]!r} to run afterwards; is it in this image?")
    waiting = _Waiting(settings, prepare(settings.targets))
    # Not asyncio.run(): it waits for every thread at the end, and one that hangs in a look-up would hold the exit.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(waiting.run())
    if waiting.signal:
        raise signals.Ended(waiting.signal, waiting.undone())
    # The loop no longer listens to signals: until the command takes over, they are raised again.
    signals.take()


def prepare(targets: Sequence[str]) -> list[tuple[Target, checks.Check]]:
    """Read the targets, and find what checks each. Raises WrongSettings."""
    return [(target, checks.prepared(target)) for target in map(parse, targets)]


class _Waiting:
    """All the targets of one command. A signal cancels what runs, so that a started program ends with us."""

    def __init__(self, settings: Settings, found: Sequence[tuple[Target, checks.Check]]) -> None:
        self.signal = 0
        self._settings = settings
        self._report = Report()
        pace = settings.pace()
        self._watches = [Watch(target, check, pace, self._report) for target, check in found]

    async def run(self) -> None:
        """Wait until enough is met, or a signal has come."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        for number in signals.heeded():
            loop.add_signal_handler(number, self._end, number, task)
        self._announce()
        try:
            await self._all(loop.time() + self._settings.timeout)
        except asyncio.CancelledError:
            if not self.signal:
                raise

    def undone(self) -> str:
        """Say what was waited for when the signal came."""
        return reporting.sentence("while waiting for ", self._watches)

    def _end(self, number: int, task: asyncio.Task[None] | None) -> None:
        signals.last(number)
        self.signal = number
        if task:
            task.cancel()

    def _announce(self) -> None:
        needed, count = self._settings.needed(), len(self._watches)
        log.info(
            "waiting",
            targets=[watch.target.text for watch in self._watches],
            timeout=str(self._settings.timeout),
            needed="all" if needed == count else f"{needed} of {count}",
        )

    async def _all(self, deadline: float) -> None:
        beat = self._report.heartbeat(self._watches, self._settings.heartbeat or math.inf, deadline)
        beating = asyncio.create_task(beat)
        tasks = [asyncio.create_task(watch.run(deadline)) for watch in self._watches]
        try:
            await self._enough(set(tasks), deadline)
        finally:
            for task in (beating, *tasks):
                task.cancel()
            await asyncio.gather(beating, *tasks, return_exceptions=True)

    async def _enough(self, running: set[asyncio.Task[bool]], deadline: float) -> None:
        needed, watches = self._settings.needed(), self._watches
        while sum(watch.met for watch in watches) < needed:
            left = deadline - asyncio.get_running_loop().time()
            done, running = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if sum(not watch.lost for watch in watches) < needed:
                raise Impossible(reporting.never(watches))
            if not done:
                raise TimedOut(reporting.timed_out(watches, needed, self._settings.timeout))
