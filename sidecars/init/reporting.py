"""What people read while it waits, and at the end: every change, a heartbeat, and one sentence that says why."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn

from sidecars.core.log import log
from sidecars.core.units import Seconds
from sidecars.init.checks import Result
from sidecars.init.watching import Watch

_MOST_LISTED = 10
_LONGEST = 1000  # bytes of the sentence; the termination message holds a little more
_LONGEST_REASON = 600  # characters of one target's
_SELDOM = 1.0  # seconds between two lines that differ only in words: a hostile answer may change each time


class Report:
    """Tell the log how the waiting goes."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[float, Result]] = {}

    def found(self, watch: Watch) -> None:
        """Log what has changed."""
        now, last = watch.elapsed(), watch.last
        if last is None:
            return
        fields = {"target": watch.target.text, "reason": last.text, "after": round(now, 1), "attempts": watch.attempts}
        if watch.met:
            log.info("met", **fields)
        elif watch.lost:
            log.warning("impossible", **fields)
        elif self._news(watch, last, now):
            self._told[id(watch)] = (now, last)
            log.info("waiting for it to last" if last.state == "ok" else "not yet", state=last.state, **fields)

    def _news(self, watch: Watch, last: Result, now: float) -> bool:
        """It is not what was told last; what is kept back is told by the next look, if it is still so."""
        when, told = self._told.get(id(watch), (0.0, None))
        if told is None or told.state != last.state:
            return True
        return told.text != last.text and now - when >= _SELDOM

    async def heartbeat(self, watches: Sequence[Watch], every: float, deadline: float) -> NoReturn:
        """Say every so many seconds what is still waited for."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await asyncio.sleep(every)
            open_ = [watch for watch in watches if not watch.met]
            log.info(
                "still waiting",
                elapsed=round(loop.time() - began, 1),
                left=round(deadline - loop.time(), 1),
                met=f"{len(watches) - len(open_)} of {len(watches)}",
                targets={watch.target.text: _brief(watch) for watch in open_[:_MOST_LISTED]},
            )


def _brief(watch: Watch) -> str:
    return f"{watch.last.state}: {watch.last.text}" if watch.last else "no answer yet"


def history(watch: Watch) -> str:
    """Say what is known of a target that is not as wanted.

    redis://127.0.0.1:6399: refused by 127.0.0.1:6399, 14 attempts in 3.0 s; nothing listens there, or ...
    """
    if watch.last is None:
        return f"{watch.target.text}: no answer yet after {watch.elapsed():.1f} s"
    text = watch.last.text
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + "..."
    count = f"{watch.attempts} attempt{'s' if watch.attempts > 1 else ''} in {watch.elapsed():.1f} s"
    if len(watch.states) > 1:
        count += " (" + ", ".join(f"{number} {state}" for state, number in watch.states.most_common()) + ")"
    what, _, advice = text.partition("; ")
    return f"{watch.target.text}: {what}, {count}" + (f"; {advice}" if advice else "")


def sentence(head: str, watches: Sequence[Watch]) -> str:
    """Make the reason of the end: the head, and each target that is not as wanted, as many as a message holds."""
    open_ = sorted((watch for watch in watches if not watch.met), key=lambda watch: not watch.lost)
    text = head
    for number, watch in enumerate(open_):
        part = ("; " if number else "") + history(watch)
        if number and len((text + part).encode()) > _LONGEST:
            return f"{text}; and {len(open_) - number} more"
        text += part
    return text


def timed_out(watches: Sequence[Watch], needed: int, timeout: float) -> str:
    """Say what was waited for in vain."""
    met = sum(watch.met for watch in watches)
    of = f", {met} of {len(watches)} met" + (f" and {needed} needed" if needed < len(watches) else "")
    return sentence(f"timed out after {Seconds(timeout)}{of if len(watches) > 1 else ''}: ", watches)


def never(watches: Sequence[Watch]) -> str:
    """Say what can never be."""
    return sentence("", [watch for watch in watches if watch.lost])
