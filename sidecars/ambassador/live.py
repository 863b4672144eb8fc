"""One address of an upstream: what is known of it, and the state that this comes to."""

from __future__ import annotations

import asyncio
from typing import Literal

from sidecars.ambassador.checks import Asked, Standing
from sidecars.ambassador.ejection import Ejection
from sidecars.ambassador.plan import State
from sidecars.ambassador.settings import Upstream

Wish = Literal["up", "draining", "disabled"]


class Live:
    """One address of an upstream, and what is known of it.

    left    when its name has lost it; None while it has it
    wish    what an operator wants of it; None: what he wants of its upstream
    state   as it was told last, since `since`; reason is why, for people
    asking  the task that checks it; asked is what that asks
    return_ what ends its ejection: first a timer, then the probe
    """

    def __init__(self, key: str, upstream: Upstream, address: tuple[str, int] | str, ejection: Ejection) -> None:
        self.key = key
        self.upstream = upstream
        self.address = address
        self.index = 0
        self.weight = 1
        self.left: float | None = None
        self.wish: Wish | None = None
        self.standing = Standing()
        self.ejection = ejection
        self.failure = ""
        self.state: State = "up"
        self.reason = ""
        self.since = 0.0
        self.asking: asyncio.Task[None] | None = None
        self.asked: Asked | None = None
        self.return_: asyncio.TimerHandle | asyncio.Task[None] | None = None

    def now_is(self, wish: Wish) -> tuple[State, str]:
        """Give the state that all this comes to, and why; `wish` is an operator's for the whole upstream."""
        wish = self.wish or wish
        if wish == "disabled":
            return "disabled", "an operator's wish"
        if self.left is not None:
            return "draining", "its name has it no more"
        if wish == "draining":
            return "draining", "an operator's wish"
        if self.standing.well is False:
            return "down", self.standing.reason
        return ("ejected", self.failure) if self.ejection.out else ("up", "")

    @property
    def usable(self) -> bool:
        """It is not known to fail."""
        return self.standing.well is not False and not self.ejection.out

    def release(self) -> None:
        """Ask no more."""
        if self.asking:
            self.asking.cancel()
        if self.return_:
            self.return_.cancel()
        self.asking = self.asked = self.return_ = None


def ident(upstream: Upstream) -> str:
    """Give an upstream's name, as metrics and operators have it."""
    return upstream.name or upstream.address


def shown(ip: str, port: int) -> str:
    """Write an address as one writes it: "10.0.0.7:5432", "[2001:db8::1]:5432"."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
