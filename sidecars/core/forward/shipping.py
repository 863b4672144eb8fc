"""What an intake gives, to a receiver of the forward protocol, each held until it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from sidecars.core.delivery import Attempts, Intake
from sidecars.core.forward.packing import Chunk
from sidecars.core.forward.sender import ForwardSender
from sidecars.core.forward.settings import Forward
from sidecars.core.health import Health

T = TypeVar("T")
R = TypeVar("R")

_LISTEN_SECONDS = 0.05


class Shipping(Generic[T]):
    """Sends each thing as one chunk, and acknowledges it to the intake when the receiver has acknowledged the chunk.

    A destination that is down is tried again, at most every ten seconds, until the service is stopped. `chunk` makes
    the chunk, in a thread, once for each in their order; `delivered` is told what was acknowledged.
    """

    def __init__(
        self,
        name: str,
        destination: Forward,
        chunk: Callable[[T], Chunk],
        delivered: Callable[[T], None],
        health: Health,
    ) -> None:
        self.name = name
        self._chunk = chunk
        self._delivered = delivered
        self._sender = ForwardSender(destination)
        self._thread = ThreadPoolExecutor(1, name)
        self._attempts = Attempts(name, health)
        self._held: dict[str, T] = {}

    async def deliver(self, intake: Intake[T]) -> None:
        """Deliver until the intake ends and everything is acknowledged."""
        coming = asyncio.ensure_future(anext(intake, None))
        try:
            while True:
                while self._held and not coming.done():
                    await self._listen(intake, _LISTEN_SECONDS)
                each = await coming
                if each is None:
                    break
                chunk = await self._in_thread(lambda each=each: self._chunk(each))  # type: ignore[misc]
                coming = asyncio.ensure_future(anext(intake, None))
                while self._sender.full:
                    await self._listen(intake, None)
                self._held[chunk.id] = each
                await self._until_delivered(lambda chunk=chunk: self._sender.send(chunk))  # type: ignore[misc]
                await self._listen(intake, 0.0)
            while self._held:
                await self._listen(intake, None)
        finally:
            coming.cancel()
            self._sender.close()

    async def _listen(self, intake: Intake[T], wait: float | None) -> None:
        for name in await self._until_delivered(lambda: self._sender.acknowledged(wait)):
            each = self._held.pop(name)
            intake.acknowledge(each)
            self._delivered(each)

    async def _until_delivered(self, call: Callable[[], R]) -> R:
        return await self._attempts.until_delivered(lambda: self._in_thread(call))

    def _in_thread(self, call: Callable[[], R]) -> asyncio.Future[R]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
