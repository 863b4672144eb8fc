"""Where files are read and records parsed: nothing of that may hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# Each holds a block and its records at a time: the number bounds the memory.
_THREADS = 2

T = TypeVar("T")


class Threads:
    """Two threads for all requests."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "web")

    async def work(self, function: Callable[[], T]) -> T:
        """Run a function in a thread.

        Cancelled, it waits for the thread: what the function uses is closed by who called, and only afterwards.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise

    def close(self) -> None:
        """End the threads when what they do is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)
