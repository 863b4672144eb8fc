"""A service's life: run until asked to drain, drain until the deadline, stop, and say how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

import sidecars
from sidecars.core import disk, state
from sidecars.core import log as logging
from sidecars.core.admin import Admin
from sidecars.core.declaration import Provenance
from sidecars.core.door import Answer, LateAnswer, Response, text
from sidecars.core.ending import failed, finished
from sidecars.core.errors import WrongSettings
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.settings import Common

__all__ = ["Health", "Lifecycle", "Service", "leave", "run"]

_LET_GO = 1.0  # seconds a cancelled service has to let go before the process ends without it
_LOOK = 0.5  # seconds between two looks at a file or a lock


class Service(Protocol):
    """What run() runs."""

    async def run(self, life: Lifecycle) -> None:
        """Work until life.drain is set and all is done; a cancellation says stop."""

    def undelivered(self) -> str | None:
        """Say what is left, after the end: "812 bytes of /logs/a.log not delivered to stdout"; None if nothing is."""

    def status(self) -> dict[str, object]:
        """Say how it does, at once, for /status and the page: {"numbers": {...}, "tables": {"files": [{...}]}}."""


class Lifecycle:
    """What a service knows of its life.

    `drain` is set when it shall take nothing new, finish what it has begun, and return.
    `state_dir` is the directory this process holds alone, or None when state lives in memory.
    `posts` maps the sidecar's own POST paths of the admin door to their answers, `pages` those that are read.
    `refresh` makes the numbers fresh that metrics and pages are made of, where that takes a moment.
    `reload` is called on SIGHUP, on the event loop, where the sidecar has set it.
    """

    def __init__(self, settings: Common) -> None:
        self.drain = asyncio.Event()
        self.health = Health(ready_needs_delivery=settings.ready_when != "started")
        self.state_dir: str | None = None
        self.posts: dict[str, LateAnswer] = {}
        self.pages: dict[str, Answer] = {}
        self.refresh: Callable[[], Awaitable[None]] | None = None
        self.reload: Callable[[], None] | None = None
        self.signal: signal.Signals | None = None
        self.stopped = asyncio.Event()
        self.began = False
        self._grace = float(settings.grace)
        self._deadline = math.inf

    def remaining(self) -> float:
        """Seconds until the drain's deadline; infinite before the drain."""
        if self._deadline == math.inf:
            return math.inf
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def ask_drain(self, reason: str) -> None:
        """Ask the service to end within the grace. Call it on the event loop."""
        if self.drain.is_set():
            return
        log.info("draining", reason=reason, grace=self._grace)
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._grace
        loop.call_at(self._deadline, self.stop, "the grace is spent")
        self.health.draining(reason)
        self.drain.set()

    def stop(self, reason: str) -> None:
        """Stop the service now."""
        if not self.stopped.is_set():
            log.warning("stopping", reason=reason)
            self.stopped.set()

    def hang_up(self) -> None:
        """SIGHUP asks for the settings to be read again."""
        if self.reload:
            self.reload()
        else:
            log.info("SIGHUP ignored", reason="settings are read at the start only")

    def take_signal(self, number: signal.Signals) -> None:
        """The first signal asks for the drain, the second stops."""
        if self.signal:
            self.stop(f"{number.name} again" if number == self.signal else number.name)
        else:
            self.signal = number
            self.ask_drain(number.name)


def run(
    service: Service,
    settings: Common,
    *,
    name: str,
    one_shot: bool = False,
    children: bool = False,
    render: Callable[[logging.Fields], str] | None = None,
    door_needed: bool = True,
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> int:
    """Run the service to its end and return the exit code, for leave().

    A `one_shot` that a signal has ended exits 128 plus the signal's number. With `children`, a process that finds
    itself to be PID 1 becomes their parent, and the service runs in a worker below it. `render` makes the lines of
    the log where --log-format does not. Unless the door is needed, a port that is taken is said, and there is none.
    `loop` makes the event loop.
    """
    if children:
        from sidecars.core.children import adopt

        adopt()
    logging.configure(settings.log_level, settings.log_format, _conceal(settings), render)
    _log_surprises()
    _allow_descriptors()
    life = Lifecycle(settings)
    try:
        # Not asyncio.run(): it waits for every thread at the end, and one blocked in write(2) would hold the exit. The
        # loop is set so that it outlives this function: a signal must still find its handler while the process leaves.
        made = loop()
        asyncio.set_event_loop(made)
        made.run_until_complete(_live(service, settings, life, name, door_needed))
        end = finished(service.undelivered() if life.began else None, life.signal if one_shot else None)
    except Exception as error:  # noqa: BLE001  (this is the top)
        end = failed(error)
    end.tell(settings.termination_log)
    return end.code


def _allow_descriptors() -> None:
    """Use all the descriptors this process may have: the limit in force at first is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _live(service: Service, settings: Common, life: Lifecycle, name: str, door_needed: bool) -> None:
    _take_signals(life)
    log.info("started", name=name, version=sidecars.__version__, pid=os.getpid())
    for warning in settings.provenance.warnings:
        log.warning("setting ignored", reason=warning)
    admin = Admin(
        service,
        settings,
        life.health,
        name=name,
        posts=life.posts,
        pages=life.pages,
        refresh=lambda: life.refresh() if life.refresh else None,
    )
    admin.posts["/quitquitquit"] = lambda _: _quit(life)
    watch = asyncio.create_task(_drain_on_file(settings.exit_on_file, life))
    try:
        await admin.open()
    except WrongSettings as error:
        if door_needed:
            raise
        log.warning("no admin door", reason=str(error))
    try:
        with contextlib.ExitStack() as holding:
            life.state_dir = await _hold_state(settings.state_dir, life, holding)
            if not life.drain.is_set():
                await _work(service, life)
    finally:
        watch.cancel()
        admin.close()


async def _work(service: Service, life: Lifecycle) -> None:
    """Run the service until it returns or is stopped. One that does not let go when it is cancelled is left behind."""
    life.began = True
    work = asyncio.create_task(service.run(life), name="service")
    stopped = asyncio.create_task(life.stopped.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not work.done():
        work.cancel()
        await asyncio.wait({work}, timeout=_LET_GO)
    if not work.done():
        log.error("service does not let go", waited=_LET_GO)
    elif not work.cancelled():
        work.result()


async def _hold_state(given: str | None, life: Lifecycle, holding: contextlib.ExitStack) -> str | None:
    """Wait until the state directory is this process's own, or the drain is asked."""
    directory = state.directory(given)
    if directory is None:
        return None
    waited = False
    while True:
        try:
            held = state.hold(directory, given is not None, holding)
            break
        except disk.Locked:
            reason = f"state directory {directory} is locked by another process"
            life.health.starting(reason)
            if not waited:
                log.warning("waiting for the state directory", reason=reason)
                waited = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(life.drain.wait(), _LOOK)
            return None
    life.health.starting("starting")
    return held


async def _drain_on_file(path: str | None, life: Lifecycle) -> None:
    while path:
        if os.path.exists(path):  # noqa: ASYNC240  (a thread would cost more than the look)
            life.ask_drain(f"{path} exists")
            return
        await asyncio.sleep(_LOOK)


def _quit(life: Lifecycle) -> Response:
    life.ask_drain("POST /quitquitquit")
    return text(200, "draining")


def _take_signals(life: Lifecycle) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.take_signal, number)
    loop.add_signal_handler(signal.SIGHUP, life.hang_up)
    # PID 1 holds them back from its first moment, see program.py.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})


def _conceal(settings: Common) -> Callable[[str], str]:
    """Put ${VAR} back where its value shows; not for what Kubernetes says of the pod, which is no secret."""
    expanded = settings.provenance.expanded
    public = {f"${{{name}}}" for name in ("POD_NAME", "POD_NAMESPACE", "POD_IP", "NODE_NAME")}
    return Provenance(expanded={value: name for value, name in expanded.items() if name not in public}).conceal


def _log_surprises() -> None:
    """What Python would print to stderr by itself becomes events."""

    def in_thread(hooked: threading.ExceptHookArgs) -> None:
        if hooked.exc_value and not isinstance(hooked.exc_value, SystemExit):
            log.error("thread crashed", thread=getattr(hooked.thread, "name", "?"), exc_info=hooked.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = lambda hooked: log.error("error ignored", where=repr(hooked.object), exc_info=hooked.exc_value)


def leave(code: int) -> NoReturn:
    """End the process at once: neither a thread blocked in write(2) nor a lost stderr holds it back."""
    logging.stderr.flush(1.0)
    flusher = threading.Thread(target=_flush, daemon=True)
    flusher.start()
    flusher.join(1.0)
    os._exit(code)


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
