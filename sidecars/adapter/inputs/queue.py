"""What was read and has no file behind it, held in memory until every output has delivered it."""

from __future__ import annotations

import asyncio
import collections
from typing import Self

from sidecars.adapter import metrics
from sidecars.adapter.portion import Portion

PORTION_BYTES = 1 << 20
# Ends of what was put are remembered no closer together than this: a datagram has a hundred bytes.
_APART = 64 << 10
_KEPT_PIECE = 64 << 10
_DELIVERY_SECONDS = 0.25


class _Stream:
    """The bytes of one origin that some reader has not acknowledged: [start, end) of all that came from it.

    `ends` are places where a portion may end, in ascending order; the last of them is `end`.
    """

    __slots__ = ("data", "ends", "start")

    def __init__(self) -> None:
        self.data = bytearray()
        self.start = 0
        self.ends: collections.deque[int] = collections.deque()

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    def add(self, data: bytes) -> None:
        ends = self.ends
        if len(ends) > 1 and self.end + len(data) - ends[-2] < _APART:
            ends.pop()
        self.data += data
        ends.append(self.end)

    def until(self, begin: int, room: int) -> int:
        """Give where a portion ends that begins here: the last of the ends within the room, or the next one."""
        found = begin
        for end in self.ends:
            if end > begin and found > begin and end - begin > room:
                break
            found = max(found, end)
        return found

    def let_go(self, until: int) -> int:
        """Forget what comes before; give how many bytes that were."""
        size = until - self.start
        del self.data[:size]
        self.start = until
        while self.ends and self.ends[0] <= until:
            self.ends.popleft()
        return size


class Reader:
    """One output's view of the queue: all that was put, by origin in order, and what it has acknowledged of it.

    Iteration ends when the queue is closed and all of it was given.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._room = PORTION_BYTES
        self._given: dict[str, int] = {}
        self._inside: set[str] = set()  # origins whose last portion ended inside a line
        self._waiting: dict[str, collections.deque[tuple[Portion, int]]] = {}
        self.acknowledged: dict[str, int] = {}
        self.news = asyncio.Event()

    def __aiter__(self) -> Self:
        """Iterate over the portions."""
        return self

    async def __anext__(self) -> Portion:
        """Give the next portion, as soon as there is one. A cancelled wait loses none."""
        while (portion := self._next()) is None:
            if self._queue.closed:
                raise StopAsyncIteration
            self.news.clear()
            await self.news.wait()
        return portion

    def _next(self) -> Portion | None:
        for origin, stream in self._queue.streams.items():
            begin = self._given.get(origin, 0)
            if stream.end > begin:
                # The next turn is another origin's.
                self._queue.streams[origin] = self._queue.streams.pop(origin)
                return self._portion(origin, stream, begin)
        return None

    def _portion(self, origin: str, stream: _Stream, begin: int) -> Portion:
        end = stream.until(begin, self._room)
        with memoryview(stream.data) as view:
            data = bytes(view[begin - stream.start : end - stream.start])
        waiting = self._waiting.setdefault(origin, collections.deque())
        complete = data.endswith(b"\n")
        portion = Portion(origin, data, continued=origin in self._inside, complete=complete)
        self._inside = self._inside - {origin} if complete else self._inside | {origin}
        self._given[origin] = end
        waiting.append((portion, end))
        return portion

    def acknowledge(self, portion: Portion) -> None:
        """Take a portion as delivered; those of one origin in their order."""
        oldest, end = self._waiting[portion.origin].popleft()
        if oldest is not portion:
            raise ValueError(f"portions of {portion.origin} are acknowledged out of their order")
        self.acknowledged[portion.origin] = end
        self._queue.let_go(portion.origin)

    def pace(self, size: int, seconds: float) -> None:
        """Learn how long a delivery took, so that one takes about a quarter of a second."""
        fitting = int(size / max(seconds, 1e-6) * _DELIVERY_SECONDS)
        self._room = max(_APART, min(PORTION_BYTES, fitting))


class Queue:
    """Bytes of inputs, never more than `limit` of them, each held until every reader has acknowledged it.

    A reader that acknowledges nothing holds the queue: once it is full nothing is taken any more, for any reader, for
    nothing may be lost and there is no disk to keep it on. Used on the event loop's thread only.

    `keep`  how many of the last bytes can be seen by recent(), delivered or not
    """

    def __init__(self, limit: int, readers: int, keep: int = 0) -> None:
        self.limit = limit
        self.closed = False
        self.streams: dict[str, _Stream] = {}
        self.readers = [Reader(self) for _ in range(readers)]
        self._recent = Recent(keep)
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._reserved = 0
        self._held = 0
        metrics.QUEUE_BYTES.set_function(lambda: self._held)
        metrics.QUEUE_LIMIT_BYTES.set(limit)

    @property
    def undelivered(self) -> int:
        """How many bytes some reader has not acknowledged."""
        return self._held

    def reader(self, index: int) -> Reader:
        """Give the reader of this number, from 0."""
        return self.readers[index]

    def offer(self, origin: str, data: bytes) -> bool:
        """Take whole records, or a part of one that is longer than 1 MiB; False when there is no room for all of it.

        For what cannot wait. What put() waits to give comes first.
        """
        if not data:
            return True
        if self._held + self._reserved + len(data) > self.limit or self.closed:
            return False
        self._add(origin, data)
        return True

    async def put(self, origin: str, data: bytes) -> None:
        """Take what offer() takes, as soon as there is room; at most `limit` bytes. A closed queue never has room."""
        if len(data) > self.limit:
            raise ValueError(f"{len(data)} bytes will never fit into a queue of {self.limit}")
        if not data:
            return
        async with self._turn:
            self._reserved = len(data)
            try:
                while self._held + len(data) > self.limit or self.closed:
                    self._freed.clear()
                    await self._freed.wait()
            finally:
                self._reserved = 0
            self._add(origin, data)

    def _add(self, origin: str, data: bytes) -> None:
        metrics.INPUT_BYTES.labels(origin).inc(len(data))
        self._recent.add(origin, data)
        if not self.readers:
            return
        self.streams.setdefault(origin, _Stream()).add(data)
        self._held += len(data)
        for reader in self.readers:
            reader.news.set()

    def let_go(self, origin: str) -> None:
        """Forget what all readers have acknowledged."""
        until = min(reader.acknowledged.get(origin, 0) for reader in self.readers)
        stream = self.streams[origin]
        if until > stream.start:
            self._held -= stream.let_go(until)
            self._freed.set()

    def close(self) -> None:
        """Take nothing more; the readers end when they have given all there is."""
        self.closed = True
        for reader in self.readers:
            reader.news.set()

    def recent(self, after: int = 0) -> list[tuple[str, bytes]]:
        """Give the last bytes by origin, in the order they came: whole records, unless one is longer than 1 MiB.

        With `after`, an earlier `position`, only what came since.
        """
        return self._recent.after(after)

    @property
    def position(self) -> int:
        """How many bytes were taken since the start."""
        return self._recent.end

    async def wait_for_news(self, after: int) -> None:
        """Wait until there is more than there was at this `position`."""
        while self.position <= after:
            await self._recent.news.wait()


class Recent:
    """The last bytes that came, whoever has delivered them."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._piece = min(_KEPT_PIECE, keep // 8)
        self._pieces: collections.deque[tuple[str, bytearray]] = collections.deque()
        self._start = 0
        self.end = 0
        self.news = asyncio.Event()

    def add(self, origin: str, data: bytes) -> None:
        """Keep this, and no longer what came long before it."""
        if not self._pieces or self._pieces[-1][0] != origin or len(self._pieces[-1][1]) > self._piece:
            self._pieces.append((origin, bytearray()))
        self._pieces[-1][1].extend(data)
        self.end += len(data)
        while self._pieces and self.end - self._start > self._keep:
            self._start += len(self._pieces.popleft()[1])
        self.news.set()
        # Whoever waits now is woken; whoever comes later waits for what comes later.
        self.news.clear()

    def after(self, position: int) -> list[tuple[str, bytes]]:
        """Give the pieces of what came after this position, as far as they are kept."""
        found = []
        start = self._start
        for origin, piece in self._pieces:
            if start + len(piece) > position:
                found.append((origin, bytes(piece[max(0, position - start) :])))
            start += len(piece)
        return found
