"""Processes that parse and encode, for one core is not always enough; the order of each file's records is kept."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import pickle
import queue
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, NamedTuple, Self

from sidecars.adapter.pipeline import Pipeline
from sidecars.adapter.portion import Intake, Portion
from sidecars.adapter.reading import Formats, Key, Reader, ended, in_parts
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Record
from sidecars.core.errors import SidecarError
from sidecars.core.log import log

_LENGTH = struct.Struct("<Q")
# A portion, or what was made of it, in a few pieces: each more is a switch from one process to the other and back.
_PIPE_BYTES = 1 << 20


class Job(NamedTuple):
    """What a worker is asked: to read these records, which begin in this context, and to encode them."""

    origin: str
    format: Key
    context: object
    data: bytes


class Done(NamedTuple):
    """What it gives: the pieces, how many records there were, how many did not parse, and what Counting.take gave."""

    pieces: list[bytes]
    records: int
    wrong: int
    counted: list[object]


class _Child:
    """A worker's process, asked by one thread at a time; a new one is started when it has died."""

    def __init__(self, settings: Settings, to: str) -> None:
        self._setup = (settings, to)
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in a terminal reaches the parent alone, which tells by closing the pipe.
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecars.adapter.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # the kernel lends an unprivileged user so much, and no more
                fcntl.fcntl(_pipe(pipe), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        send(_pipe(process.stdin), self._setup)
        return process

    def ask(self, job: Job) -> Done:
        """Give the answer. Raises SidecarError when the worker dies of the same job twice."""
        for _ in range(2):
            try:
                send(_pipe(self._process.stdin), job)
                answer = receive(_pipe(self._process.stdout))
            except (OSError, EOFError, pickle.UnpicklingError):
                answer = None
            if isinstance(answer, Done):
                return answer
            log.error("worker died; another one is started", pid=self._process.pid)
            self.end()
            self._process = self._started()
        raise SidecarError(
            "a worker process died twice of the same records; is the memory limit too low for --workers?"
        )

    def end(self) -> None:
        """End the process, and wait for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what is buffered for a process that is gone cannot be flushed
                _pipe(pipe).close()


class Workers:
    """Stands for a pipeline: what `ahead` has submitted is parsed and encoded by processes, several at once.

    `counted` is shown what a worker did, and `seen` the bytes of each portion. Lines longer than a batch, which
    come in parts, are the local pipeline's.
    """

    def __init__(
        self,
        settings: Settings,
        to: str,
        formats: Formats,
        local: Pipeline,
        counted: Callable[[Done], None] | None,
        seen: Callable[[bytes], None] | None,
    ) -> None:
        self.count = 0
        self._formats = formats
        self._reader = Reader(formats)
        self._local = local
        self._counted = counted
        self._seen = seen
        self._children = [_Child(settings, to) for _ in range(settings.workers)]
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._pool = ThreadPoolExecutor(settings.workers, "worker")
        self._jobs: dict[Portion, Future[Done]] = {}

    @property
    def most(self) -> int:
        """How many portions are worth having under way."""
        return 2 * len(self._children)

    def submit(self, portion: Portion) -> None:
        """Let a portion be worked on; those of an origin in their order."""
        format, context = self._reader.place(portion)
        if not in_parts(portion):
            job = Job(portion.origin, self._formats.key(format), context, ended(portion.data))
            self._jobs[portion] = self._pool.submit(self._ask, job)

    def _ask(self, job: Job) -> Done:
        child = self._idle.get()
        try:
            return child.ask(job)
        finally:
            self._idle.put(child)

    def encode(self, portion: Portion) -> list[bytes]:
        """Give what the output is to be sent, once it is made."""
        job = self._jobs.pop(portion, None)
        if job is None:
            pieces = self._local.encode(portion)
            self.count = self._local.count
            return pieces
        done = job.result()
        self.count = done.records
        # What comes after what is under way is read in the other format, if there is one.
        self._formats.doubt(portion.origin, done.records, done.wrong, portion.data)
        if self._counted is not None:
            self._counted(done)
        if self._seen is not None:
            self._seen(portion.data)
        return done.pieces

    def records(self, portion: Portion) -> Iterator[Record]:
        """Give values: they do not pass between processes, so it is the local pipeline that reads them."""
        return self._local.records(portion)

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            child.end()
        self._pool.shutdown(wait=False, cancel_futures=True)


class Ahead:
    """An intake whose portions are submitted to workers before they are asked for."""

    def __init__(self, intake: Intake, workers: Workers) -> None:
        self._intake = intake
        self._workers = workers
        self._thread = ThreadPoolExecutor(1, "ahead")
        self._under_way: asyncio.Queue[Portion | None] = asyncio.Queue(workers.most)
        self._task: asyncio.Task[None] | None = None

    def __aiter__(self) -> Self:
        """Iterate over the portions."""
        if self._task is None:
            self._task = asyncio.create_task(self._submit())
        return self

    async def _submit(self) -> None:
        loop = asyncio.get_running_loop()
        async for portion in self._intake:
            await loop.run_in_executor(self._thread, self._workers.submit, portion)
            await self._under_way.put(portion)
        await self._under_way.put(None)

    async def __anext__(self) -> Portion:
        """Give the next portion, as soon as there is one. Raises what submitting it raised."""
        aiter(self)
        assert self._task is not None  # noqa: S101  (the line before has made it)
        coming = asyncio.ensure_future(self._under_way.get())
        await asyncio.wait({coming, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done() and self._under_way.empty():
            coming.cancel()
            self._task.result()
            raise StopAsyncIteration
        portion = await coming
        if portion is None:
            self._under_way.put_nowait(None)
            raise StopAsyncIteration
        return portion

    def acknowledge(self, portion: Portion) -> None:
        """Take a portion as delivered."""
        self._intake.acknowledge(portion)

    def pace(self, size: int, seconds: float) -> None:
        """Pass on how long a delivery took."""
        self._intake.pace(size, seconds)

    def close(self) -> None:
        """Submit nothing more."""
        if self._task is not None:
            self._task.cancel()


def send(pipe: IO[bytes], value: object) -> None:
    """Write a value: its length, then its pickle. Raises OSError."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> object:
    """Read what `send` wrote at the other end, which is this program itself. Raises OSError, EOFError."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(pipe.read(_LENGTH.unpack(head)[0]))  # noqa: S301  (a parent and its own child)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  (each was asked for)
    return pipe
