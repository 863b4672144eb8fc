"""Following: what is added to the files, for one client at the pace at which it reads."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence

from sidecars.adapter.web import blocks, cursor, sources
from sidecars.adapter.web.catalogue import Catalogue
from sidecars.adapter.web.cursor import Place
from sidecars.adapter.web.scans import Reader
from sidecars.adapter.web.sieve import Entry, Sieve
from sidecars.adapter.web.sources import Source
from sidecars.core.follow import join

TICK_SECONDS = 0.2
# A rotated file is read for so long after its last change: its writer may not have noticed yet. For so long, too, a
# record is held back that may go on in the next line.
_LINGER_SECONDS = 1.0


class Watcher:
    """Looks at what is followed, for all clients at once and only while there are any."""

    def __init__(self, catalogue: Catalogue, work: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
        self._catalogue = catalogue
        self._work = work
        self._clients = 0
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._seen: object = None

    def __enter__(self) -> None:
        self._clients += 1
        self._wanted.set()

    def __exit__(self, *_: object) -> None:
        self._clients -= 1
        if not self._clients:
            self._wanted.clear()

    async def run(self) -> None:
        """Look again and again; ends when cancelled."""
        while True:
            await self._wanted.wait()
            self._catalogue.refresh()
            seen = await self._work(self._look)
            if seen != self._seen:
                self._seen = seen
                self.wake()
            await asyncio.sleep(TICK_SECONDS)

    def wake(self) -> None:
        """Let every client look at its files."""
        self._news.set()
        # Who waits now is woken; who comes later waits for what comes later.
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """Give what is set when something changes after this call."""
        return self._news

    def _look(self) -> object:
        return [_state(self._catalogue, path) for path in self._catalogue.named(None)]


def _state(catalogue: Catalogue, path: str) -> object:
    source = catalogue.open(path)
    if source is None:
        return path, 0, 0
    try:
        return path, source.inode, source.size(), source.modified()
    finally:
        source.close()


class Tail:
    """One path, read on as it grows: the old file to its end, then the new one; when truncated, from the beginning."""

    def __init__(self, catalogue: Catalogue, path: str, place: Place | None, *, own: bool) -> None:
        self.path = path
        self.source: Source | None = None
        self.holding = False
        self.moved = False
        self._catalogue = catalogue
        self._own = own
        self.place = place
        self._reader: Reader | None = None
        self._changed = 0.0
        self._size = -1
        if place is not None:
            self._resume(place)

    def _resume(self, place: Place) -> None:
        source = self._catalogue.open(self.path)
        if source is not None and source.inode != place.inode and (old := self._catalogue.rotated(self.path, place)):
            source.close()
            source = old
        self._begin(source)
        if source is not None and sources.holds(source, place):
            self.place = place

    def _begin(self, source: Source | None) -> None:
        self.close()
        self.source, self._size = source, -1
        self.place = sources.place(source, source.begin) if source else None

    def close(self) -> None:
        """Let go of the file."""
        if self.source is not None:
            self.source.close()
        self.source = self._reader = None

    def at(self, entry: Entry) -> str:
        """Give the cursor after an entry of this file alone."""
        return cursor.encode([sources.place(self.source, entry.end)]) if self.source is not None else ""

    def step(self) -> list[Entry]:
        """Read what there is to read now, up to a block of it."""
        now = time.monotonic()
        self.holding = self.moved = False
        if self.source is None:
            self._begin(self._catalogue.open(self.path))
        source, place = self.source, self.place
        if source is None or place is None:
            return []
        size = source.size()
        if size != self._size:
            self._size, self._changed = size, now
        if not sources.holds(source, place):
            self.place = place = sources.place(source, source.begin)
        late = now - self._changed >= _LINGER_SECONDS
        if place.offset < size:
            return self._read(source, place.offset, size, late)
        if self._replaced(source):
            self.holding = True
            if late:
                self.close()
        return []

    def _replaced(self, source: Source) -> bool:
        if isinstance(source, sources.Origin):
            return False
        try:
            return os.stat(self.path).st_ino != source.inode
        except OSError:
            return True

    def _read(self, source: Source, start: int, size: int, late: bool) -> list[Entry]:
        if self._reader is None:
            self._reader = self._catalogue.reader(source, own=self._own)
        data = source.read(start, min(start + blocks.BLOCK, size))
        cut = self._cut(self._reader.records, data, late)
        if cut <= 0 and len(data) >= blocks.BLOCK:
            data = source.read(start, min(start + blocks.LONGEST, size))
            cut = self._cut(self._reader.records, data, late or len(data) >= blocks.LONGEST)
            cut = cut if cut > 0 or len(data) < blocks.LONGEST else len(data)
        if cut <= 0 and late and self._replaced(source):
            cut = len(data)  # The half line at the end of a file that nobody writes any more.
        if cut <= 0:
            self.holding = self._replaced(source) or b"\n" in data
            return []
        self.moved = True
        self.place = sources.place(source, start + cut)
        return self._reader.parse(start, data[:cut])

    def _cut(self, records: join.Records, data: bytes, late: bool) -> int:
        cut = blocks.whole(records, data)
        return data.rfind(b"\n") + 1 if cut <= 0 and late else cut


class Following:
    """What one client follows: a tail for each path, also for paths that come later."""

    def __init__(
        self, catalogue: Catalogue, sieve: Sieve, name: str | None, places: dict[bytes, Place], *, own: bool
    ) -> None:
        self.moved = False
        self._catalogue = catalogue
        self._sieve = sieve
        self._named = catalogue.named(name) if name is not None else None
        self.places = places
        self._own = own
        self.tails: dict[str, Tail] = {}

    def step(self) -> list[tuple[Tail, list[Entry]]]:
        """Read a block of each file that has grown; `moved` tells whether there was any. In a thread."""
        for path in self._named or self._catalogue.named(None):
            if path not in self.tails:
                place = self.places.pop(cursor.key(path), None)
                self.tails[path] = Tail(self._catalogue, path, place, own=self._own)
        self._forget()
        read = [(tail, tail.step()) for tail in self.tails.values()]
        self.moved = any(tail.moved for tail in self.tails.values())
        return [(tail, wanted) for tail, entries in read if (wanted := self._sieve.wanted(entries))]

    def _forget(self) -> None:
        """Let go of files that others have taken the place of: names with a date in them come without end."""
        known = set(self._catalogue.paths)
        for path in [path for path in self.tails if path not in known]:
            if self.tails[path].source is None:
                del self.tails[path]

    @property
    def holding(self) -> bool:
        """Whether to look again soon, though nothing changes: a record may be whole by then."""
        return any(tail.holding for tail in self.tails.values())

    @property
    def cursor(self) -> str:
        """Where all of it is."""
        return cursor.encode([place for tail in self.tails.values() if (place := tail.place)])

    def close(self) -> None:
        """Let go of the files."""
        for tail in self.tails.values():
            tail.close()


def cursors(following: Following, tail: Tail, entries: Sequence[Entry]) -> list[str]:
    """Give the cursor after each entry; with several files only after the last one, for each holds all of them."""
    if len(following.tails) == 1:
        return [tail.at(entry) for entry in entries[:-1]] + [following.cursor]
    return [""] * (len(entries) - 1) + [following.cursor]
