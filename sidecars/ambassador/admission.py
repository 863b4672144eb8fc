"""Who may come in: how many connections a listener has at once, and how many new ones begin in a second."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from array import array

_ROWS = 4096  # of what is limited; what has no places taken makes room for another
_KEYS = 16384  # whose requests are limited one by one
_WAYS = 8  # rows that one of them may have


class Admission(Protocol):
    """What a plane asks before it takes a connection.

    take       whether one more connection fits under the limit (None: no limit); who was let in gives its place back
    give       one has ended that was let in
    may_begin  seconds to wait until a new connection may begin; at 0 it is counted as begun. Who is made to wait asks
               again then: nothing is reserved.
    may_ask    the same for a request of one of very many, who is named by 64 bits that are not 0
    """

    def take(self, route: str, most: int | None) -> bool:
        """Let one more in, unless there are so many."""

    def give(self, route: str) -> None:
        """One that was let in has ended."""

    def may_begin(self, route: str, rate: float, burst: int) -> float:
        """Say how long the next one has to wait."""

    def may_ask(self, name: int, rate: float, burst: int) -> float:
        """Say how long the next request has to wait."""


class Keys:
    """When the next request of each of many is due, in a table whose size does not depend on how many there are.

    Each has one of a few rows, by its name; who comes new takes that of who has been quiet for longest. Strangers who
    make up many names can so free somebody of his past, but fill no memory.
    """

    def __init__(self, names: array[int] | memoryview[int], due: array[float] | memoryview[float]) -> None:
        self._names = names
        self._due = due

    @classmethod
    def alone(cls) -> Keys:
        """Give a table in memory of this process."""
        from array import array  # where there is such a limit only

        return cls(array("Q", bytes(8 * _KEYS)), array("d", bytes(8 * _KEYS)))

    def may_ask(self, name: int, now: float, rate: float, burst: int) -> float:
        """Say how long the next request has to wait; at 0 it is counted."""
        names, due = self._names, self._due
        first = name % (_KEYS // _WAYS) * _WAYS
        rows = range(first, first + _WAYS)
        row = next((row for row in rows if names[row] == name), -1)
        if row < 0:
            row = min(rows, key=due.__getitem__)
            names[row], due[row] = name, 0.0
        due[row], wait = paced(due[row], now, rate, burst)
        return wait


class Alone:
    """The limits of one process."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._keys: Keys | None = None

    def take(self, route: str, most: int | None) -> bool:
        """Let one more in, unless there are so many."""
        count = self._open.get(route, 0)
        if most is not None and count >= most:
            return False
        self._open[route] = count + 1
        return True

    def give(self, route: str) -> None:
        """One that was let in has ended."""
        count = self._open[route] - 1
        if count:
            self._open[route] = count
        else:
            del self._open[route]

    def may_begin(self, route: str, rate: float, burst: int) -> float:
        """Say how long the next one has to wait."""
        self._due[route], wait = paced(self._due.get(route, 0.0), time.monotonic(), rate, burst)
        return wait

    def may_ask(self, name: int, rate: float, burst: int) -> float:
        """Say how long the next request has to wait."""
        if self._keys is None:
            self._keys = Keys.alone()
        return self._keys.may_ask(name, time.monotonic(), rate, burst)


def paced(due: float, now: float, rate: float, burst: int) -> tuple[float, float]:
    """Give when the next one would be due at the even pace, and the seconds to wait; 0 means that this one begins.

    Up to `burst` come before they are due. Source: the generic cell rate algorithm, ITU-T I.371, as virtual scheduling.
    """
    wait = due - now - (burst - 1) / rate
    # What is left of a rounding error is no reason to come again.
    if wait > 1e-9:
        return due, wait
    return max(due, now) + 1 / rate, 0.0


class Shared:
    """The limits of several processes, in memory that they share.

    A row for each of what is limited: the hash of its name, when its next connection is due, and how many are in by
    each process, which alone changes that number. What depends on the others' numbers is done under a lock, for some
    microseconds; the kernel lets it go when its holder dies. The parent gives back what a process had that has died.
    """

    def __init__(self, descriptor: int, processes: int, index: int) -> None:
        self._descriptor = descriptor
        self._processes = processes
        self._index = index
        memory = memoryview(mmap.mmap(descriptor, _size(processes)))
        self._names = memory[: 8 * _ROWS].cast("Q")
        self._due = memory[8 * _ROWS : 16 * _ROWS].cast("d")
        keys = (16 + 4 * processes) * _ROWS
        self._taken = memory[16 * _ROWS : keys].cast("i")
        self._keys = Keys(memory[keys : keys + 8 * _KEYS].cast("Q"), memory[keys + 8 * _KEYS :].cast("d"))
        self._rows: dict[str, tuple[int, int]] = {}

    @staticmethod
    def memory(processes: int) -> int:
        """Make what is shared, and give its descriptor."""
        descriptor = os.memfd_create("ambassador-admission")
        os.ftruncate(descriptor, _size(processes))
        return descriptor

    def take(self, route: str, most: int | None) -> bool:
        """Let one more in, unless all processes together have so many."""
        if most is None:
            self._taken[self._row(route) * self._processes + self._index] += 1
            return True
        first = self._row(route) * self._processes
        with self._locked():
            if sum(self._taken[first : first + self._processes]) >= most:
                return False
            self._taken[first + self._index] += 1
            return True

    def give(self, route: str) -> None:
        """One that was let in has ended."""
        self._taken[self._row(route) * self._processes + self._index] -= 1

    def may_begin(self, route: str, rate: float, burst: int) -> float:
        """Say how long the next one has to wait."""
        row = self._row(route)
        with self._locked():
            self._due[row], wait = paced(self._due[row], time.monotonic(), rate, burst)
            return wait

    def may_ask(self, name: int, rate: float, burst: int) -> float:
        """Say how long the next request has to wait."""
        with self._locked():
            return self._keys.may_ask(name, time.monotonic(), rate, burst)

    def forget(self, index: int) -> None:
        """Give back the slots of a process that is gone."""
        with self._locked():
            for place in range(index, len(self._taken), self._processes):
                self._taken[place] = 0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)

    def _row(self, route: str) -> int:
        name, row = self._rows.get(route, (0, 0))
        if not name or self._names[row] != name:
            name = _name(route)
            with self._locked():
                row = self._found(name)
            self._rows[route] = name, row
        return row

    def _found(self, name: int) -> int:
        names = self._names.tolist()
        for wanted in (name, 0):
            if wanted in names:
                row = names.index(wanted)
                break
        else:
            row = self._unused(time.monotonic())
            self._due[row] = 0.0
        self._names[row] = name
        return row

    def _unused(self, now: float) -> int:
        """Give a row nobody misses; when there is none, two share one, which limits them both together."""
        for row in range(_ROWS):
            first = row * self._processes
            if self._due[row] <= now and not any(self._taken[first : first + self._processes]):
                return row
        return _ROWS - 1


def _size(processes: int) -> int:
    return _ROWS * (16 + 4 * processes) + 16 * _KEYS  # what is never touched takes no memory


def _name(route: str) -> int:
    """Give a number for a text: FNV-1a, 64 bits; hashlib would load OpenSSL. 0 is the name of a free row."""
    name = 0xCBF29CE484222325
    for byte in route.encode():
        name = (name ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return name or 1
