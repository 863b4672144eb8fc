"""The one door to the operating system's readiness: epoll, edge-triggered, below asyncio on the same descriptor.

Bytes are moved by plain callbacks that asyncio never hears of: they run inside the event loop's own wait, and cost one
dictionary look-up each. Everything else of the program, timers, names, checks, the admin door, is ordinary asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR
HALF_CLOSED = select.EPOLLRDHUP
# All that can happen, told once per change: who is told must go on until it would block.
BOTH = READ | WRITE | HALF_CLOSED | select.EPOLLET
# A listening socket: told for as long as somebody waits, and one process of several at a time.
ACCEPT = READ | select.EPOLLEXCLUSIVE

_MOST = 512  # events taken at once
_TICK = 0.05  # seconds: how late a deadline of later() may be noticed

Handler = Callable[[int], object]


class Deadline:
    """Something that happens later unless it is cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Forget it; what the callback held is free at once."""
        self.callback = None


class _Poll(selectors.EpollSelector):
    """asyncio's selector, with handlers of our own served before it is told of its events."""

    _selector: select.epoll
    _fd_to_key: dict[int, selectors.SelectorKey]

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Handler] = {}
        self.now = time.monotonic()
        self.after: list[Callable[[], object]] = []
        self.fresh: set[int] = set()
        self.wanted = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve our handlers until asyncio has something to do: an event of its own, a timer, or a call to soon()."""
        # epoll counts milliseconds and rounds down: a timer would be looked for just before its time, many times.
        until = math.inf if timeout is None else time.monotonic() + max(0.0, timeout)
        wait = -1.0 if timeout is None else 0.0 if timeout <= 0 else math.ceil(timeout * 1e3) * 1e-3
        poll, handlers, after = self._selector.poll, self.handlers, self.after
        while True:
            if after:
                self._run_after()
                if self.wanted:
                    wait = 0.0
            try:
                events = poll(wait, _MOST)
            except InterruptedError:
                return []
            self.now = now = time.monotonic()
            ready = self._serve(events, handlers)
            if after:
                self._run_after()
            if ready or self.wanted or now >= until or not events:
                self.wanted = False
                return ready
            if until != math.inf:
                wait = math.ceil(max(0.0, until - now) * 1e3) * 1e-3

    def _run_after(self) -> None:
        """Call what was asked for, and what these calls ask for, before the wait."""
        after = self.after
        while after:
            batch = after[:]
            after.clear()
            for callback in batch:
                callback()

    def _serve(self, events: list[tuple[int, int]], handlers: dict[int, Handler]) -> list[Any]:
        ready: list[Any] = []
        fresh = self.fresh
        fresh.clear()
        for descriptor, event in events:
            handler = handlers.get(descriptor)
            if handler is not None:
                # An event of a descriptor that is watched since this round began is that of a socket closed in it,
                # whose number was given anew.
                if descriptor not in fresh:
                    handler(event)
            elif key := self._fd_to_key.get(descriptor):
                happened = (selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0) | (
                    selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
                )
                ready.append((key, happened & key.events))
        return ready


class Loop(asyncio.SelectorEventLoop):
    """asyncio's event loop, which moves bytes beside it.

    watch(), change() and forget() are for descriptors that asyncio does not know. A handler is called with the events
    of its descriptor, runs to its end, and must not block.
    """

    def __init__(self) -> None:
        self._poll = _Poll()
        super().__init__(self._poll)
        self._deadlines: dict[float, deque[tuple[float, Deadline]]] = {}
        self._next = math.inf  # when the deadlines are looked at
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        """Seconds on the monotonic clock, as of this round of events."""
        return self._poll.now

    def watch(self, descriptor: int, handler: Handler, events: int = BOTH) -> None:
        """Call the handler with what happens to the descriptor."""
        poll = self._poll
        poll._selector.register(descriptor, events)
        poll.handlers[descriptor] = handler
        poll.fresh.add(descriptor)

    def change(self, descriptor: int, events: int) -> None:
        """Watch for other events."""
        self._poll._selector.modify(descriptor, events)

    def hand_over(self, descriptor: int, handler: Handler) -> None:
        """Let another handler have a watched descriptor."""
        self._poll.handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Watch no more; call it before the descriptor is closed."""
        if self._poll.handlers.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):  # closed already: the kernel has forgotten it
                self._poll._selector.unregister(descriptor)

    def forget_closing(self, descriptor: int) -> None:
        """Watch no more what is closed next, before anything else is: the kernel forgets it by itself.

        Only for a descriptor that no other process has inherited.
        """
        self._poll.handlers.pop(descriptor, None)

    def after(self, callback: Callable[[], object]) -> None:
        """Call it once, when the handlers of this round of events have run: writes are collected that way."""
        self._poll.after.append(callback)

    def soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call it on asyncio's side, from a handler: tasks and futures of asyncio belong there."""
        self._poll.wanted = True
        self.call_soon(callback, *arguments)

    def later(self, delay: float, callback: Callable[[], object]) -> Deadline:
        """Call it after some seconds, up to a twentieth of a second late: cheap enough for each connection.

        The delays in use should be few: those of settings.
        """
        deadline = Deadline(callback)
        when = time.monotonic() + delay
        self._deadlines.setdefault(delay, deque()).append((when, deadline))
        if when + _TICK < self._next:
            self._next = when
            self.soon(self._look_again)
        return deadline

    def _look_again(self) -> None:
        """Sleep until the first deadline, and look at all of them then."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._next = min((queue[0][0] for queue in self._deadlines.values()), default=math.inf)
        if self._next < math.inf:
            self._timer = self.call_later(max(_TICK, self._next - time.monotonic()), self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        for delay, queue in list(self._deadlines.items()):
            while queue and (queue[0][0] <= now or queue[0][1].callback is None):
                callback = queue.popleft()[1].callback
                if callback is not None:
                    callback()
            if not queue:
                del self._deadlines[delay]
        self._look_again()
