"""Every followed path and the file under it: looks, notices rotations, and says what is to be read. In one thread."""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from sidecars.core.follow import metrics
from sidecars.core.follow.checkpoint import Document
from sidecars.core.follow.file import File, open_file
from sidecars.core.follow.find import packed_ending
from sidecars.core.follow.identity import Position
from sidecars.core.follow.lane import Lane, Options, Source
from sidecars.core.follow.names import Names
from sidecars.core.follow.predecessors import Predecessors
from sidecars.core.follow.registry import Registry
from sidecars.core.follow.remembered import Remembered
from sidecars.core.follow.turns import Turns

if TYPE_CHECKING:
    from sidecars.core.follow.archive import Archive

# How long a path that a glob gave is remembered after its file went: it may come back.
_GONE_SECONDS = 60.0
# File systems take times from a clock that ticks: a file's birth may lie so long before what time.time_ns() said.
_CLOCK_NS = 20_000_000
# After a rotation, a listing that may have overlooked a name is repeated after so long, then twice that, and so on.
_RELIST_SECONDS = 0.05
_LAST_RELIST_SECONDS = 5.0
_GONE = (errno.ENOENT, errno.ENOTDIR)


class Tracker:
    """The files of some sources, for one output."""

    def __init__(self, sources: Iterable[Source], options: Options, output: str) -> None:
        self.sources = tuple(sources)
        self.lanes: dict[str, Lane] = {}
        self.registry = Registry(options.open_files)
        self.predecessors = Predecessors(self.lanes, self.registry, output)
        self.turns = Turns(options, self.registry.descriptors, self, output)
        self.predecessors.turns = self.turns
        self.grown_at = time.monotonic()
        self._options = options
        self._settled = int(options.settled * 1e9)
        self._output = output
        metrics.begin(output)
        self._first_start = True
        self._starting = True
        self.begun = self._scanned = 0
        self._relists: dict[Lane, tuple[float, float]] = {}

    def remember(self, document: Document | None) -> None:
        """Take what an earlier process delivered; None: this is the first start."""
        self._first_start = document is None
        self.predecessors.remembered = Remembered(document.files if document else [])
        self.begun = document.begun if document else time.time_ns() - _CLOCK_NS
        self._scanned = max(self.begun, document.saved - self._settled) if document else self.begun

    def scan(self) -> None:
        """Look at every path there is."""
        began = time.time_ns()
        self.predecessors.listing(Names() if self._starting else None)
        for source in self.sources:
            literal = set(source.patterns.literal())
            for path in source.patterns.found():
                self._lane(path, source, path in literal)
        for path in self.predecessors.remembered.paths:
            # A path that is not there at the moment may still have rotated files to read.
            source_of = self._source_of(path)
            if source_of is not None:
                self._lane(path, source_of, False)
        # A path before what rotation makes of it, which is longer: a copy is then known before it is met by its name.
        for lane in sorted(self.lanes.values(), key=lambda lane: len(lane.path)):
            self._look_at(lane)
        self.predecessors.listing(None)
        self.predecessors.remembered = Remembered([])
        self._scanned = max(self._scanned, began - self._settled)
        self._first_start = self._starting = False
        self._forget()

    def look(self, path: str) -> None:
        """Look at one path that is said to have changed, or at the one that a symlink leads from to there."""
        lane = self.lanes.get(path) or self.lanes.get(self.registry.path_to(path))
        if lane is None:
            source = self._source_of(path)
            if source is None:
                return
            lane = self._lane(path, source, False)
        self._look_at(lane)

    def _source_of(self, path: str) -> Source | None:
        return next((source for source in self.sources if source.patterns.matches(path)), None)

    def _lane(self, path: str, source: Source, literal: bool) -> Lane:
        lane = self.lanes.get(path)
        if lane is None:
            lane = self.lanes[path] = Lane(path, source, literal, self._scanned)
            lane.delivered = self.predecessors.remembered.done(path)
        return lane

    def _look_at(self, lane: Lane) -> None:
        """See whether the file under this path is the one of the last look, and whether it grew."""
        try:
            status = os.stat(lane.path)
            if stat.S_ISDIR(status.st_mode):
                self._vanished(lane)
                return
            if not stat.S_ISREG(status.st_mode):
                lane.cannot_read("it is not a regular file", self._output, "put a file there")
                return
            current = lane.current
            if current is not None and self.registry.is_same(current, status, lane.path):
                self._saw(lane, current, status)
            else:
                self._succeed(lane, status)
        except OSError as error:
            if error.errno in _GONE:
                self._vanished(lane)
            else:
                lane.cannot_read(error.strerror or str(error), self._output)

    def _saw(self, lane: Lane, file: File, status: os.stat_result) -> None:
        if lane.trouble and os.access(lane.path, os.R_OK):
            lane.trouble = None
            self.turns.resume(file)
        if file.unchanged(status):
            return
        if status.st_size != file.size:
            self.grown_at = time.monotonic()
        file.saw(status)
        self.turns.resume(file)

    def _vanished(self, lane: Lane) -> None:
        if lane.current is not None:
            file, lane.current = lane.current, None
            self._rotated(file)
        lane.trouble = None
        if lane.gone_since is None:
            lane.gone_since = time.monotonic()
        if self._starting and not self._first_start:
            self.predecessors.resume(lane, None)
        if not self._first_start and self._directory_changed(lane):
            # It may have come and gone between two looks.
            self.predecessors.missed(lane)

    def _directory_changed(self, lane: Lane) -> bool:
        try:
            modified = os.stat(lane.directory).st_mtime_ns
        except OSError:
            return False
        changed, lane.directory_modified = modified != lane.directory_modified, modified
        if changed and not self._starting:
            self._list_again(lane)
        return changed

    def _rotated(self, file: File) -> None:
        file.rotated_at = time.monotonic()
        if file.open:
            file.look()
            self.registry.descriptors.keep(file)
        self.turns.resume(file)
        metrics.ROTATIONS.labels(self._output).inc()

    def _succeed(self, lane: Lane, status: os.stat_result) -> None:
        """Take the file that is under the path now, after what was under it before and in between."""
        known = self.registry.under(lane.path, status)
        newcomer = known or self._adopted(lane)
        if newcomer is None:
            return
        previous, lane.current = lane.current, newcomer
        lane.trouble, lane.gone_since = None, None
        if newcomer.lane is lane:
            newcomer.rotated_at = None  # it is back
        self.grown_at = time.monotonic()
        if previous is not None:
            self._rotated(previous)
        self._find_predecessors(lane, newcomer)
        if known is not None:
            self._saw(lane, known, status)  # it may have grown under this name
        elif newcomer not in lane.files:
            lane.add(newcomer)
        self.turns.give(lane)

    def _find_predecessors(self, lane: Lane, newcomer: File) -> None:
        if self._starting and self._first_start:
            return  # what was rotated before the very first start is none of ours
        if self._starting:
            self.predecessors.resume(lane, newcomer)
        self.predecessors.missed(lane, newcomer)
        self._list_again(lane)

    def _adopted(self, lane: Lane) -> File | None:
        """Open the file under a path that is not known yet; None while it is a copy that is being made."""
        if lane.literal and lane.source.decompress and packed_ending(lane.path):
            return self._adopted_archive(lane, packed_ending(lane.path))
        file = File(lane.path, open_file(lane.path))
        file.lane = lane
        if not self._starting and self.predecessors.is_shadow(file):
            file.close()
            return None
        self.registry.add(file)
        self.predecessors.place(lane, file)
        if file.acked is None and lane.source.from_end and self._first_start:
            file.start_at(file.size)
        return file

    def _adopted_archive(self, lane: Lane, ending: str) -> File | None:
        from sidecars.core.follow import compressed  # not imported where nothing is compressed
        from sidecars.core.follow.archive import Archive

        if not compressed.readable(ending):
            return None
        archive = Archive(lane.path, open_file(lane.path), ending)
        archive.lane = lane
        archive.resumed = self.predecessors.remembered.of(archive)
        self.registry.add(archive)
        return archive

    def restart(self, lane: Lane, file: File) -> None:
        """Begin a truncated file anew, after what copies still hold of its old contents."""
        self.predecessors.restart(lane, file)
        self._list_again(lane)

    def unpack(self, lane: Lane, file: File) -> bool:
        """Put what was compressed of a file that is gone in front of it; False if there is nothing."""
        return self.predecessors.unpack(lane, file)

    def settle(self, lane: Lane, archive: Archive) -> None:
        """Decide on an archive that was not whole when it was met, if it is now."""
        self.predecessors.unpacking.settle(lane, archive)

    def _list_again(self, lane: Lane) -> None:
        if not self._starting:
            # Not later than is planned: rotations that follow each other closely would put it off for ever.
            planned = self._relists.get(lane, (math.inf, 0.0))[0]
            self._relists[lane] = (min(planned, time.monotonic() + _RELIST_SECONDS), _RELIST_SECONDS)

    @property
    def listing_again(self) -> bool:
        """Whether some directories are to be listed once more."""
        return bool(self._relists)

    def list_again(self, at_once: bool = False) -> bool:
        """List once more what is due, or all of it; True when something new was found."""
        found, now = False, time.monotonic()
        for lane, (due, pause) in list(self._relists.items()):
            if at_once or now >= due:
                found |= self.predecessors.missed(lane, lane.current)
                if pause < _LAST_RELIST_SECONDS and not at_once:
                    self._relists[lane] = (now + 2 * pause, 2 * pause)
                else:
                    del self._relists[lane]
        return found

    def _forget(self) -> None:
        """Drop files and paths that are gone, so that a year of rotations leaves nothing behind."""
        now = time.monotonic()
        for lane in list(self.lanes.values()):
            gone = lane.gone_since is not None and now - lane.gone_since > _GONE_SECONDS
            if gone and not lane.literal and not lane.files:
                del self.lanes[lane.path]
        used = {file.identity for lane in self.lanes.values() for file in (*lane.files, lane.current) if file}
        used.update(file.identity for file in self.turns.lingering)
        if self._options.keep_rotated:
            names = Names()
            rotated = (status for lane in self.lanes.values() for _, status in names.of(lane.path))
            used.update((status.st_dev, status.st_ino) for status in rotated)
        self.registry.forget(used)
        self.predecessors.forget()

    def positions(self) -> Iterator[Position]:
        """Give what a checkpoint keeps. To be called between two looks; the iterator may be used in another thread."""
        done = [position for lane in self.lanes.values() for position in lane.delivered]
        return chain((file.position() for file in list(self.registry.files.values())), done)
