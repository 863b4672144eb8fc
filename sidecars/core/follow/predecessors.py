"""What was under a path before: found after a restart, after rotations that no look has seen, after a truncation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from sidecars.core.follow import metrics, succession
from sidecars.core.follow.file import File
from sidecars.core.follow.identity import Position, printable
from sidecars.core.follow.lane import Lane
from sidecars.core.follow.names import Names, bases
from sidecars.core.follow.registry import Registry
from sidecars.core.follow.remembered import Remembered
from sidecars.core.follow.turns import Turns
from sidecars.core.log import log

if TYPE_CHECKING:
    from sidecars.core.follow.unpacking import Unpacking

# A listing may overlook a name that is given while it is read; while files are rotated, so many are made.
_LISTINGS = 3
# File systems take times from a clock that ticks, and some compressors copy whole seconds only.
_CLOCK_NS = 2_000_000_000


class Predecessors:
    """Finds what is to be read before the file that is under a path now, and puts it in front of that one."""

    def __init__(self, lanes: dict[str, Lane], registry: Registry, output: str) -> None:
        self.remembered = Remembered([])
        self.turns: Turns
        self._unpacking: Unpacking | None = None
        self._lanes = lanes
        self._registry = registry
        self._known = succession.Known(registry.holds_open, registry.knows)
        self._output = output
        self._names: Names | None = None
        self._copies: dict[succession.Identity, int] = {}

    @property
    def unpacking(self) -> Unpacking:
        """What tells compressed files apart."""
        if self._unpacking is None:
            from sidecars.core.follow.unpacking import Unpacking  # not imported where nothing is compressed

            self._unpacking = Unpacking(self._lanes, self._registry, self._output)
        return self._unpacking

    def listing(self, names: Names | None) -> None:
        """Use these listings from now on; None: read directories anew each time."""
        self._names = names

    def _listed(self) -> Names:
        return self._names or Names()

    def place(self, lane: Lane, file: File) -> None:
        """Find where an earlier process, or a truncation, stopped in this file's content."""
        position = self.remembered.of(file)
        if position is not None:
            if succession.holds(file, position):
                file.start_at(position.offset, position.partial)
            else:
                self._recover(lane, position, file)
            return
        # A volume that was restored gives its rotated files new inodes, too.
        for base in bases(lane.path):
            position = self.remembered.elsewhere(file, base)
            if position is not None:
                file.start_at(position.offset, position.partial)
                return
        for content in self._contents(lane):
            if succession.holds(file, content):
                file.start_at(content.offset, content.partial)
                return

    def _contents(self, lane: Lane) -> Iterator[Position]:
        """Give how far contents were read of which a file under this path may be a copy."""
        for base in (lane.path, *bases(lane.path)):
            original = self._lanes.get(base)
            if original is not None:
                yield from original.contents
                yield from (other.read_position() for other in original.all_files() if _was_cut(other))

    def resume(self, lane: Lane, current: File | None) -> None:
        """After a restart: find what was under this path when the earlier process stopped."""
        positions = self.remembered.under(lane.path)
        names = self._listed()
        for _ in range(_LISTINGS):
            known = {(file.inode, file.born) for file in self._registry.files.values()}
            positions = [
                position
                for position in positions
                if not self._found(lane, position, names) and (position.inode, position.born) not in known
            ]
            if not positions:
                return
            names = Names()
        *earlier, position = positions
        for each in positions:
            lane.leave(each)
        for each in earlier:
            self._unpack(lane, each, current, names)
        # Only the last one is looked for by its content: of the others, all that is known is that they are gone, or
        # what is in compressed files.
        if current is not None and current.acked is None and succession.same_file_elsewhere(current, position):
            current.start_at(position.offset, position.partial)
        elif not self._unpack(lane, position, current, names):
            self._recover(lane, position, current)

    def _unpack(self, lane: Lane, position: Position, before: File | None, names: Names) -> bool:
        """Read on in the compressed file that a content is in now; False if there is none."""
        if not position.offset and not position.head_bytes:
            # Nothing was read of it: what was begun since then, and is not known, is unread. `missed` finds it.
            begun = min(position.born or position.modified, position.modified)
            lane.since = min(lane.since, begun - _CLOCK_NS)
            return any(status.st_mtime_ns > lane.since for _, status in names.packed(lane.path, position.real))
        if not names.packed(lane.path, position.real):
            return False
        found, archive = self.unpacking.rest(lane, position, names)
        if archive is not None:
            self._say_found(lane, archive)
            self._insert(lane, archive, before)
        return found

    def unpack(self, lane: Lane, file: File) -> bool:
        """Put what was compressed of a file that is gone in front of it; False if there is nothing."""
        if file.packed or file.offset >= file.size:
            return False
        names = Names()
        found = self._unpack(lane, file.read_position(), file, names)
        if found and not file.offset and not file.head.size:
            found = self._missed_archives(lane, file, names)
        if found:
            file.size = file.offset
        return found

    def _say_found(self, lane: Lane, file: File) -> None:
        log.info(
            "rotated file found",
            path=printable(lane.path),
            inode=file.inode,
            compressed=file.packed,
            offset=file.offset,
            output=self._output,
        )

    def _found(self, lane: Lane, position: Position, names: Names) -> bool:
        file = succession.moved(lane.path, position, names)
        if file is not None:
            self._insert(lane, file, None)
        return file is not None

    def _insert(self, lane: Lane, file: File, before: File | None) -> None:
        file.rotated_at = time.monotonic()
        self._registry.add(file)
        self._registry.descriptors.keep(file)
        lane.add(file, before)
        self.turns.give(lane)

    def missed(self, lane: Lane, before: File | None = None) -> bool:
        """Read what came under this path and was rotated away unseen, before the given file; False if there is none."""
        found, first = False, before
        for file in self._generations(lane, before):
            if any(succession.begins_like(file, content) for content in lane.contents):
                self._settle(lane, file)
                continue
            if self.is_ignored(file) or self._is_copy(lane, file):
                file.close()
                continue
            self._say_found(lane, file)
            self._insert(lane, file, before)
            self.place(lane, file)
            first, found = first if found else file, True
        return self._missed_archives(lane, first, self._listed()) or found

    def _generations(self, lane: Lane, before: File | None) -> list[File]:
        entries = self._names.of(lane.path) if self._names else succession.listed(lane.path)
        files = succession.missed(lane.path, lane.since, self._known, entries)
        # Rotated names, and copies, are all of the past: but not of a file that was itself rotated by the end of the
        # listing. What a symlink leads to has siblings that it leads to later.
        if files and before is not None and (before.real or not _is_under_path(lane, before)):
            return succession.until(files, before)
        return files

    def _missed_archives(self, lane: Lane, before: File | None, names: Names) -> bool:
        archives = self.unpacking.missed(lane, names) if names.packed(lane.path) else []
        for archive in archives:
            self._say_found(lane, archive)
            self._insert(lane, archive, before)
        return bool(archives)

    def _is_copy(self, lane: Lane, file: File) -> bool:
        """Tell whether a file was copied from one of this path: one that is there now, or was cut since it was read."""
        if lane.current is not None and succession.copies(file, lane.current) and _is_under_path(lane, lane.current):
            self.ignore(file)
            return True
        cut = [other.read_position() for other in lane.all_files() if _was_cut(other)]
        # `restart` sees to what is longer than what was read.
        return any(succession.holds(file, read) or succession.begins_like(file, read) for read in cut)

    def _settle(self, lane: Lane, file: File) -> None:
        """Know an early copy of what was read as delivered, after a restart as well."""
        file.start_at(file.size)
        file.lane, file.rotated_at = lane, time.monotonic()
        self._registry.add(file)
        self._registry.descriptors.close(file)

    def is_shadow(self, file: File) -> bool:
        """Tell whether a new file is a copy of a followed one that was not cut yet, as copytruncate makes it."""
        if self.is_ignored(file):
            return True
        originals = [self._lanes[base] for base in bases(file.path) if base in self._lanes]
        return any(lane.current is not None and (not file.size or self._is_early(lane, file)) for lane in originals)

    def _is_early(self, lane: Lane, file: File) -> bool:
        return self._is_copy(lane, file) or any(succession.begins_like(file, content) for content in lane.contents)

    def ignore(self, file: File) -> None:
        """Take a file for a copy, whatever becomes of its original."""
        if file.born is not None:
            self._copies[file.identity] = file.born

    def is_ignored(self, file: File) -> bool:
        """Tell whether this file, not merely its inode, was taken for a copy."""
        return file.born is not None and self._copies.get(file.identity) == file.born

    def forget(self) -> None:
        """Drop what was noted of copies, and of what was delivered, that is too old to be met again."""
        for lane in self._lanes.values():
            lane.forget()
        settled = min((lane.since for lane in self._lanes.values()), default=0)
        self._copies = {identity: born for identity, born in self._copies.items() if born > settled}
        if self._unpacking is not None:
            self._unpacking.forget()

    def _recover(self, lane: Lane, position: Position, before: File | None) -> None:
        """Read the rest of a content that is no longer in its file from the copy that was made of it."""
        lane.ended(position)
        copy = succession.copy(lane.path, position, self._known, self._listed())
        if copy is not None:
            self._insert(lane, copy, before)
            return
        if self._unpack(lane, position, before, self._listed()):
            return
        log.warning(
            "rotated file is gone; what was written to it after this offset was not delivered, if anything was",
            path=position.path,
            offset=position.offset,
            output=self._output,
        )

    def restart(self, lane: Lane, file: File) -> None:
        """Begin a truncated file anew, after what copies still hold of its old contents."""
        metrics.TRUNCATIONS.labels(self._output).inc()
        file.look()
        read, unread = file.read_position(), file.cut
        copied = False
        copy: File | None = None
        if read.offset:
            lane.ended(read)
            copy = self._copy(lane, file, read)
        else:
            self._copies.clear()  # a copy of what was never read is all there is of it
            if copy is None:
                # Its time, if that was copied, is from before the cut.
                cut = msgspec.structs.replace(read, modified=lane.since)
                names = Names()
                if names.packed(lane.path, cut.real):
                    copied, copy = self.unpacking.rest(lane, cut, names, wait=False)
        lost = 0 if copied or copy is not None else unread
        metrics.LOST_BYTES.labels(self._output).inc(lost)
        hole = file.restart()
        metrics.HOLE_BYTES.labels(self._output).inc(hole)
        if copy is not None:
            if not self._registry.knows(copy):
                self._insert(lane, copy, file)
                # What was read before the cut may not be delivered: the copy stands for it, should this process die.
                copy.acked = None
                file.leave_to(copy)
            lane.since = max(lane.since, copy.born or 0)
        log.info(
            "file truncated",
            path=printable(file.path),
            copy_found=copy is not None,
            hole_bytes=hole,
            lost_bytes=lost,
            output=self._output,
        )
        self.missed(lane, file)

    def _copy(self, lane: Lane, file: File, read: Position) -> File | None:
        """Find the copy of a content that was cut, one that is followed by itself included."""
        names = Names()
        for _, status in names.of(lane.path, read.real):
            known = self._registry.files.get((status.st_dev, status.st_ino))
            if known is not None and known is not file and known.open and succession.holds(known, read):
                return known
        return succession.copy(lane.path, read, self._known, names)


def _is_under_path(lane: Lane, file: File) -> bool:
    """Tell whether the last look at a path still holds: what was rotated from there since was there, and is no copy.

    Where every line is the same, the content does not tell a copy from a later generation.
    """
    try:
        status = os.stat(lane.path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == file.identity


def _was_cut(file: File) -> bool:
    """Tell whether a file no longer has the content that was read from it; the next read of it will notice."""
    return not file.packed and file.open and file.offset > 0 and not succession.holds(file, file.read_position())
