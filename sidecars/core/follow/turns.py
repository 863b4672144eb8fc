"""Whose turn it is to be read: fair between paths, in order within one, and mindful of lines that have not ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeGuard

from sidecars.core.follow import metrics
from sidecars.core.follow.descriptors import Descriptors
from sidecars.core.follow.file import Batch, File, Truncated
from sidecars.core.follow.identity import TAIL_BYTES, printable
from sidecars.core.follow.lane import Lane, Options
from sidecars.core.log import log

if TYPE_CHECKING:
    from sidecars.core.follow.archive import Archive

BATCH_BYTES = 1 << 20
# How long a file that is inside a line longer than a batch keeps its turn without growing.
_TURN_SECONDS = 5.0
# What uncompresses takes memory, and starts at a file's beginning: so many are read at a time, to their ends.
_ARCHIVES = 2


class Past(Protocol):
    """What is to be done when a file is no longer what it was."""

    def restart(self, lane: Lane, file: File) -> None:
        """Begin a truncated file anew, after what copies still hold of its old contents."""

    def unpack(self, lane: Lane, file: File) -> bool:
        """Put what was compressed of a file that is gone in front of it; False if there is nothing."""

    def settle(self, lane: Lane, archive: Archive) -> None:
        """Decide on an archive that was not whole when it was met, if it is now."""


class Turns:
    """Reads the lanes that may have something, one batch each in turn.

    finish      give out what is held, too, once nothing else is left
    ended       all of it was given out
    lingering   rotated files that were read to their end: late writers may still add to them
    held        files whose last line, or last joined record, has not ended
    pending     archives that are not whole yet
    """

    def __init__(
        self,
        options: Options,
        descriptors: Descriptors,
        past: Past,
        output: str,
    ) -> None:
        self.finish = options.once
        self.ended = False
        self.room = BATCH_BYTES
        self.lingering: dict[File, tuple[float, int]] = {}
        self.pending: dict[File, Archive] = {}
        self._unpacking: dict[File, Archive] = {}
        self._waiting: dict[Lane, None] = {}
        self._held: dict[File, None] = {}
        self._ready: dict[Lane, None] = {}
        self._options = options
        self._settled = int(options.settled * 1e9)
        self._descriptors = descriptors
        self._past = past
        self._output = output
        self._lost = metrics.LOST_BYTES.labels(output)
        # The consumer has one batch while the next is read into the other.
        self._buffers = [bytearray(BATCH_BYTES + TAIL_BYTES), bytearray(BATCH_BYTES + TAIL_BYTES)]

    def __bool__(self) -> bool:
        return bool(self._ready)

    @property
    def tending(self) -> bool:
        """Whether time alone may bring something: a rotated file let go, a held line sent, a turn given up."""
        return bool(self.lingering or self._ready or self.pending or self._any_timed())

    def _any_timed(self) -> bool:
        if self._options.partial_timeout is not None:
            return bool(self._held)
        return any(file.lane.joined for file in list(self._held))  # at once: the other thread adds to them

    def give(self, lane: Lane) -> None:
        """Let this lane have a turn."""
        if lane.files:
            self._ready[lane] = None

    def resume(self, file: File) -> None:
        """Read a file again that its lane may have been done with."""
        self.lingering.pop(file, None)
        file.lane.resume(file)
        self._ready[file.lane] = None

    def next(self) -> Batch | None:
        """Read one batch; None when nothing can go out now. Raises nothing: a file that cannot be read waits."""
        while True:
            while self._ready:
                lane = next(iter(self._ready))
                batch = self._read(lane)
                if batch is not None:
                    self._requeue(lane, batch.file)
                    return batch
                if lane.files and self._keeps_turn(lane.files[0]):
                    return None
                del self._ready[lane]
            if self.finish and not self._force_rest() and not self.pending:
                self.ended = True
            if not self._ready:
                self._ready = {}  # a dict that held 10,000 lanes keeps their room
                return None

    def _requeue(self, lane: Lane, file: File) -> None:
        del self._ready[lane]
        if file.overlong:
            self._ready = {lane: None, **self._ready}
        else:
            self._ready[lane] = None

    def _keeps_turn(self, file: File) -> bool:
        return file.overlong and not self.finish and time.monotonic() - file.read_at < _TURN_SECONDS

    def _read(self, lane: Lane) -> Batch | None:
        while lane.files:
            file = lane.files[0]
            try:
                batch = self._read_file(lane, file)
            except Truncated:
                self._past.restart(lane, file)
                continue
            except OSError as error:
                self._finished(file)
                lane.cannot_read(error.strerror or str(error), self._output)
                return None
            if lane.files[0] is not file:
                continue  # what was compressed of it has taken its place
            if batch is not None:
                self._held.pop(file, None)
                return batch
            if not self._next_file(lane, file):
                return None
        return None

    def _next_file(self, lane: Lane, file: File) -> bool:
        """Be done with a file of which nothing can go out now, unless it is the last, or has to be waited for."""
        if file in self.pending or lane in self._waiting:
            return False
        if file.held_since is not None:
            self._held[file] = None
        self._finished(file)
        if file is lane.current:
            # All of the past is read, but for what a listing has overlooked in the last seconds.
            lane.since = max(lane.since, time.time_ns() - self._settled)
            return False
        lane.files.pop(0)
        self.lingering[file] = (time.monotonic(), file.size)
        return True

    def _read_file(self, lane: Lane, file: File) -> Batch | None:
        if not self._descriptors.ensure(file):
            if not self._past.unpack(lane, file):
                self._gone(file, "file was removed before it was read")
            return None
        if _is_archive(file):
            return self._read_archive(lane, file)
        if file.written_until:
            metrics.HOLE_BYTES.labels(self._output).inc(file.skip_hole())
        return self._batch(lane, file)

    def _batch(self, lane: Lane, file: File) -> Batch | None:
        batch = file.read(self._buffers[0], self.room, lane.records)
        if batch is not None:
            self._buffers.reverse()
        return batch

    def _read_archive(self, lane: Lane, archive: Archive) -> Batch | None:
        if not archive.whole:
            self.pending.pop(archive, None)
            self._past.settle(lane, archive)
            if not archive.whole:
                self.pending[archive] = archive
                return None
        if not self._has_room(archive):
            self._waiting[lane] = None
            return None
        from sidecars.core.follow.compressed import Damaged, Unfinished  # not imported where nothing is compressed

        try:
            return self._batch(lane, archive)
        except (Damaged, Unfinished):
            self._gone(archive, "rotated file was damaged before it was read")
            return None

    def _has_room(self, archive: Archive) -> bool:
        for other in list(self._unpacking.values()):
            if other.lane.files[:1] != [other]:  # another has come before it
                other.pause()
                del self._unpacking[other]
        if archive not in self._unpacking and len(self._unpacking) >= _ARCHIVES:
            return False
        self._unpacking[archive] = archive
        return True

    def _finished(self, file: File) -> None:
        """Let the next archive be read, if this was one."""
        if file in self._unpacking:
            del self._unpacking[file]
            waiting, self._waiting = self._waiting, {}
            for lane in waiting:
                self.give(lane)

    def _gone(self, file: File, event: str) -> None:
        lost = max(0, file.size - file.offset)
        file.size = file.offset
        if lost:
            self._lost.inc(lost)
            path = printable(file.path)
            log.error(event, path=path, lost_bytes=lost, output=self._output)

    def tend(self) -> None:
        """Do what is due: read late lines of rotated files, let rotated files go, send held lines."""
        now = time.monotonic()
        for file, (since, size) in list(self.lingering.items()):
            if file.open:
                file.look()
            if file.size != size:
                self.resume(file)
            elif now - since >= self._options.rotate_wait or self.finish:
                if file.offset < file.size and file.open:
                    file.force = True
                    self.resume(file)
                else:
                    self._let_go(file)
        for archive in [archive for archive in self.pending.values() if archive.rests()]:
            self.give(archive.lane)
        self._send_held(now)

    def _let_go(self, file: File) -> None:
        del self.lingering[file]
        self._held.pop(file, None)
        self._descriptors.close(file)

    def _send_held(self, now: float) -> None:
        for file in list(self._held):
            if file.held_since is None:
                del self._held[file]
                continue
            age = now - file.held_since
            file.force_line = age >= self._options.record_timeout
            file.force = self._options.partial_timeout is not None and age >= self._options.partial_timeout
            if file.force or file.lane.recut or (file.force_line and file.lane.joined):
                file.lane.recut = False
                self.resume(file)

    def _force_rest(self) -> bool:
        """At the end: let held last lines go out; False when there is none."""
        held, self._held = self._held, {}
        for file in held:
            file.force = True
            self.resume(file)
        return bool(held)


def _is_archive(file: File) -> TypeGuard[Archive]:
    return file.packed
