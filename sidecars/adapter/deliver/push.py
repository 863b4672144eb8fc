"""Portions to another program, one after another, each until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from sidecars.adapter.portion import Intake, Portion
from sidecars.core.delivery import Attempts
from sidecars.core.health import Health

U = TypeVar("U")
U_contra = TypeVar("U_contra", contravariant=True)


class Sender(Protocol[U_contra]):
    """The way to the destination. It connects when it must."""

    async def send(self, unit: U_contra, /) -> None:
        """Return when the destination has confirmed it; DeliveryFailed when it has not."""

    async def close(self) -> None:
        """Let go at once."""


class Push(Generic[U]):
    """Sends what `encode` makes of each portion, in order, each unit again until it is delivered; then acknowledges.

    While one portion is under way the next is read and encoded, in a thread, and waits: no more than that is held.
    """

    def __init__(
        self,
        name: str,
        encode: Callable[[Portion], list[U]],
        sender: Sender[U],
        delivered: Callable[[Portion], None],
        health: Health,
    ) -> None:
        self.name = name
        self._encode = encode
        self._sender = sender
        self._delivered = delivered
        self._attempts = Attempts(name, health)
        self._thread = ThreadPoolExecutor(1, name)

    async def deliver(self, intake: Intake) -> None:
        """Deliver until the intake ends."""
        coming = asyncio.create_task(self._next(intake))
        try:
            while (following := await coming) is not None:
                coming = asyncio.create_task(self._next(intake))
                await self._push(*following)
                intake.acknowledge(following[0])
                self._delivered(following[0])
        finally:
            coming.cancel()
            self._thread.shutdown(wait=False)
            await self._sender.close()

    async def _next(self, intake: Intake) -> tuple[Portion, list[U]] | None:
        portion = await anext(intake, None)
        if portion is None:
            return None
        return portion, await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, portion)

    async def _push(self, portion: Portion, units: list[U]) -> None:
        for unit in units:
            await self._attempts.until_delivered(lambda unit=unit: self._sender.send(unit))  # type: ignore[misc]
