"""Pieces of a file fetched at once, each tried again until it comes or no attempt gets any further."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init.part import Piece
from sidecars.init.sources import Again, Changed, Patience

T = TypeVar("T")

_LONGEST_PAUSE = 30.0  # seconds between two attempts, unless the server asks for more
_LONGEST_ASKED = 300.0  # seconds that a server may ask for
_PROGRESS = 1 << 20  # bytes that make a failure the first again
_LOOK = 0.2  # seconds between two looks at whether a thread has failed

Reader = Callable[[Piece], None]  # fetches a piece from where it is to its end; raises Again, SidecarError


def persist(attempt: Callable[[], T], patience: Patience, stopped: threading.Event | None = None) -> T:
    """Call until it gives a result; what it raises as Again is tried again. Raises SidecarError at last."""
    return _Persistence(patience, stopped or threading.Event(), lambda: 0).run(attempt)


class _Persistence:
    """Tries again, with pauses that grow, for as long as there is progress."""

    def __init__(self, patience: Patience, stopped: threading.Event, progress: Callable[[], int]) -> None:
        self._patience = patience
        self._stopped = stopped
        self._progress = progress

    def run(self, attempt: Callable[[], T]) -> T:
        failures, mark = 0, self._progress()
        while True:
            try:
                return attempt()
            except Again as error:
                if self._progress() - mark >= _PROGRESS:
                    failures, mark = 0, self._progress()
                failures += 1
                self._patience.note(str(error))
                if failures > self._patience.retries:
                    times = "once" if failures == 1 else f"{failures} times"
                    raise SidecarError(f"{error}; tried {times}") from error
                pause = self._pause(failures, error.pause)
                log.warning("fetching again", reason=str(error), attempt=failures, pause=round(pause, 2))
                if self._stopped.wait(pause):
                    raise SidecarError(str(error)) from error

    def _pause(self, failures: int, asked: float) -> float:
        longest = min(_LONGEST_PAUSE, self._patience.interval * 2 ** (failures - 1))
        # Half of it is chance: pods that fail together do not come back together.
        return float(max(min(asked, _LONGEST_ASKED), longest * random.uniform(0.5, 1.0)))  # noqa: S311


class Pieces(Protocol):
    """What is fetched in pieces; `abandoned` is set when one has failed, so that the others end."""

    pieces: list[Piece]
    abandoned: bool


class Transfer:
    """Fetches the pieces that are not there yet."""

    def __init__(self, part: Pieces, jobs: int, patience: Patience) -> None:
        self._part = part
        self._patience = patience
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._todo: Iterator[Piece] = iter([piece for piece in part.pieces if not piece.complete])
        self._jobs = min(jobs, sum(not piece.complete for piece in part.pieces))
        self._error: Exception | None = None

    def run(self, reader: Callable[[], Reader]) -> None:
        """Fetch them; `reader` makes what fetches a piece, one for each thread. Raises the first error."""
        # The first reader may have begun with the first piece.
        threads = [
            threading.Thread(target=self._work, args=(reader(), next(self._todo)), name=f"fetch-{number}", daemon=True)
            for number in range(self._jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not isinstance(self._error, SidecarError | OSError):
                thread.join(_LOOK)
        if isinstance(self._error, Changed):
            # Whoever begins anew writes to the same file: nobody else may.
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def _work(self, read: Reader, first: Piece) -> None:
        piece: Piece | None = first
        try:
            while piece is not None and not self._stopped.is_set():
                self._fetch(read, piece)
                with self._lock:
                    piece = next(self._todo, None)
        except Exception as error:  # noqa: BLE001  (it is raised again where the threads are waited for)
            with self._lock:
                self._error = self._error or error
            self._stopped.set()
            self._part.abandoned = True

    def _fetch(self, read: Reader, piece: Piece) -> None:
        def attempt() -> None:
            if self._stopped.is_set():
                raise SidecarError("stopped")
            read(piece)

        _Persistence(self._patience, self._stopped, lambda: piece.done).run(attempt)
