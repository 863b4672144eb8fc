"""What every output does: take what an intake gives, try until it is delivered, acknowledge it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, Self, TypeVar

import stamina

from sidecars.core.errors import DeliveryFailed
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.metrics import delivery_errors

T = TypeVar("T")

_LONGEST_PAUSE = 10.0


class Intake(Protocol[T]):
    """One output's view of what is read, such as a Follower; iteration ends at the drain's end."""

    def __aiter__(self) -> Self:
        """Iterate over what is to be delivered."""

    async def __anext__(self) -> T:
        """Give what is to be delivered next, as soon as there is something."""

    def acknowledge(self, each: T, /) -> None:
        """Take this as delivered; what is of one file in its order."""

    def pace(self, size: int, seconds: float) -> None:
        """Learn how long a delivery took, so that one takes about a quarter of a second."""


class Attempts:
    """One output's attempts: each is repeated for as long as it fails, and each kind of trouble is said
    once, not at each of them.

    Between two attempts there are at most ten seconds, unless DeliveryFailed names a pause.
    """

    def __init__(self, name: str, health: Health) -> None:
        self._name = name
        self._health = health
        self._said: set[str] = set()
        # One event when it fails and one when it works again, from here, instead of one for each attempt.
        stamina.instrumentation.set_on_retry_hooks(())

    async def until_delivered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call, and again after a pause as long as DeliveryFailed is raised."""
        retries = stamina.retry_context(
            on=self._failed, attempts=None, timeout=None, wait_initial=0.2, wait_max=_LONGEST_PAUSE, wait_jitter=0.5
        )
        async for attempt in retries:
            with attempt:
                result = await call()
        if self._said:
            self._said.clear()
            self._health.working(self._name)
            log.info("delivery works again", output=self._name)
        return result

    def _failed(self, error: Exception) -> bool | float:
        if not isinstance(error, DeliveryFailed):
            return False
        delivery_errors.labels(self._name, error.code).inc()
        self._health.failing(self._name, str(error))
        if error.code not in self._said:
            log.warning("delivery failed; it is tried again until it works", output=self._name, error=str(error))
        self._said.add(error.code)
        return True if error.pause is None else error.pause
