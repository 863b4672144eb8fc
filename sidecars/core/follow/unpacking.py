"""Which compressed files hold what was not read: told from those that were made of what was, by what is in them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from sidecars.core.follow import compressed
from sidecars.core.follow.archive import ABANDONED_SECONDS, Archive, begins_like
from sidecars.core.follow.compressed import Damaged, Unfinished
from sidecars.core.follow.file import File, open_file
from sidecars.core.follow.find import packed_ending
from sidecars.core.follow.identity import NO_HEAD, TAIL_BYTES, Head, Position, digest, head_of, printable
from sidecars.core.follow.lane import Lane
from sidecars.core.follow.names import Entry, Names, bases
from sidecars.core.follow.registry import Registry
from sidecars.core.log import log

# Times that some compressors copy have whole seconds.
_CLOCK_NS = 2_000_000_000


class Unpacking:
    """Recognises archives: by the head of what is in them, and the bytes before the offset up to which it was read."""

    def __init__(self, lanes: dict[str, Lane], registry: Registry, output: str) -> None:
        self._lanes = lanes
        self._registry = registry
        self._output = output
        # Those that need no other look as long as they are the same, with their size and time.
        self._judged: dict[tuple[int, int], tuple[int, int]] = {}

    def missed(self, lane: Lane, names: Names) -> list[Archive]:
        """Open those with generations of this path that were not read, as far as is known; the oldest first.

        One that is not whole yet is given too: `settle` decides once it is.
        """
        found: dict[tuple[int, int], Archive] = {}
        for entry in names.packed(lane.path):
            if _modified(entry[1]) > lane.since:
                archive = self._opened(lane, entry)
                if archive is not None and archive.identity not in found and self._is_news(lane, archive):
                    found[archive.identity] = archive
                elif archive is not None:
                    archive.close()
        return sorted(found.values(), key=lambda archive: archive.modified)

    def rest(self, lane: Lane, position: Position, names: Names, *, wait: bool = True) -> tuple[bool, Archive | None]:
        """Find the archive of a content that is nowhere else any more; tell whether there is one, and open it.

        It is at the position's offset; or it is not whole, and is given only if that can be waited for. None is given
        where nothing is left to read, or where it is being read already.
        """
        if not position.head_bytes:
            return False, None
        for entry in names.packed(lane.path, position.real):
            if entry[1].st_mtime_ns < position.modified - _CLOCK_NS:
                continue
            known = self._registry.files.get(_identity(entry[1]))
            if isinstance(known, Archive) and self._is_rest(known, position, wait):
                return True, None
            archive = self._opened(lane, entry)
            if archive is None:
                continue
            if self._is_rest(archive, position, wait):
                if archive.offset < archive.size or not archive.whole:
                    return True, archive
                self._judge(archive)
                archive.close()
                return True, None
            archive.close()
        return False, None

    def _is_rest(self, archive: Archive, position: Position, wait: bool) -> bool:
        """Tell whether an archive is of this content; then start a new one there."""
        new = not self._registry.knows(archive)
        try:
            if not (archive.open and begins_like(archive.begins(), position)):
                return False
            if new and self._is_all(archive, position):
                archive.size = archive.offset = position.offset
                archive.whole = True
                return True
            if not archive.holds(position):
                return False
            if new:
                archive.start_at(position.offset, position.partial)
            return True
        except Unfinished:
            return wait and not self._is_abandoned(archive)
        except (Damaged, OSError) as error:
            self._give_up(archive, "rotated file cannot be uncompressed", str(error))
            return False

    def _is_all(self, archive: Archive, position: Position) -> bool:
        """Tell from head and size alone that no more is in an archive than was delivered, where no other begins so."""
        one = (position.inode, position.born)
        return archive.claims() == position.offset and all(
            (like.inode, like.born) == one for like, _ in self._likes(archive.lane, archive.begins())
        )

    def _opened(self, lane: Lane, entry: Entry) -> Archive | None:
        """Open what may be an archive to read; None for one that is known, or whose original is there to be read."""
        name, status = entry
        ending = packed_ending(name)
        if self._judged.get(_identity(status)) == _state(status) or not compressed.readable(ending):
            return None
        original = name.removesuffix(ending)
        if original != lane.path and os.path.exists(original):
            return None
        try:
            archive = Archive(lane.path, open_file(name), ending)
            archive.lane = lane
        except OSError:
            return None
        if self._registry.knows(archive):
            archive.close()
            return None
        return archive

    def _is_news(self, lane: Lane, archive: Archive) -> bool:
        try:
            likes = self._likes(lane, archive.begins())
            if self._is_copy(archive, likes):
                self._judge(archive)
                for position, file in likes:
                    if file is None:
                        lane.leave(position)
                return False
            return self._examined(lane, archive, likes)
        except Unfinished:
            return not any(file and file.open for _, file in likes) and not self._is_abandoned(archive)
        except (Damaged, OSError) as error:
            self._give_up(archive, "rotated file cannot be uncompressed", str(error))
            return False

    def _is_copy(self, archive: Archive, likes: list[tuple[Position, File | None]]) -> bool:
        """Tell from head and size alone that an archive was made of what was read, or is being read."""
        if len({(position.inode, position.born) for position, _ in likes}) != 1:
            return False  # a head that several have, a banner, tells nothing
        claim = archive.claims()
        return any(
            claim == position.offset or (file is not None and claim == file.size and self._is_there(file))
            for position, file in likes
        )

    def _examined(self, lane: Lane, archive: Archive, likes: list[tuple[Position, File | None]]) -> bool:
        """Decide on an archive, and start it where its unread rest begins; False when there is none."""
        archive.examine(position.offset for position, _ in likes)
        there = [file for _, file in likes if file is not None and self._is_there(file)]
        if not archive.size or any(_agrees(file, archive) for file in there) or _is_early(lane, archive):
            self._judge(archive)
            return False
        gone = [position for position, file in likes if file not in there and position.offset]
        for position in sorted(gone, key=lambda position: -position.offset):
            if archive.holds(position):
                lane.leave(position)
                archive.start_at(position.offset, position.partial)
                break
        if archive.offset == archive.size:
            self._judge(archive)
        return archive.offset < archive.size

    def _is_there(self, file: File) -> bool:
        try:
            return self._registry.descriptors.ensure(file)
        except OSError:
            return True

    def settle(self, lane: Lane, archive: Archive) -> None:
        """Decide on an archive that was not whole when it was met, if it is now; no use, it has nothing to read."""
        try:
            if archive is lane.current:
                self._resume(archive)
            elif not self._examined(lane, archive, self._likes(lane, archive.begins(), archive)):
                archive.start_at(archive.size)
        except Unfinished:
            if self._is_abandoned(archive):
                archive.whole = True
        except (Damaged, OSError) as error:
            self._give_up(archive, "rotated file cannot be uncompressed", str(error))
            archive.size, archive.whole = 0, True

    def _resume(self, archive: Archive) -> None:
        """Start an archive that is followed by its own name: all of it is wanted, but for what is delivered."""
        resumed = archive.resumed
        archive.examine([resumed.offset] if resumed else [])
        if resumed is not None and archive.holds(resumed):
            archive.start_at(resumed.offset, resumed.partial)

    def _is_abandoned(self, archive: Archive) -> bool:
        if time.time_ns() - archive.modified < ABANDONED_SECONDS * 1e9:
            return False
        self._give_up(archive, "rotated file was not compressed to its end", "it ends too early")
        return True

    def _give_up(self, archive: Archive, event: str, error: str) -> None:
        self._judge(archive)
        log.error(event, path=printable(archive.path), inode=archive.inode, error=error, output=self._output)

    def _judge(self, archive: Archive) -> None:
        self._judged[archive.identity] = (archive.packed_size, archive.modified)

    def forget(self) -> None:
        """Drop what was judged and is too old to be met again."""
        settled = min((lane.since for lane in self._lanes.values()), default=0)
        self._judged = {each: state for each, state in self._judged.items() if state[1] > settled}

    def _likes(self, lane: Lane, data: bytes, archive: Archive | None = None) -> list[tuple[Position, File | None]]:
        """Give how far the contents were read that begin as these bytes do, with their files."""
        heads: dict[int, bytes] = {}

        def fits(head: Head) -> bool:
            if not 0 < head.size <= len(data):
                return False
            if head.size not in heads:
                heads[head.size] = digest(data[: head.size])
            return heads[head.size] == head.digest

        # A file whose inode was given to another is known to its lane alone.
        known = {**dict.fromkeys(self._registry.files.values()), **dict.fromkeys(lane.all_files())}
        files = [file for file in known if file is not archive and fits(_head(file))]
        likes: list[tuple[Position, File | None]] = [(file.read_position(), file) for file in files]
        likes += [(each, None) for each in self._delivered(lane) if fits(Head(each.head_bytes, each.head))]
        return likes

    def _delivered(self, lane: Lane) -> Iterator[Position]:
        for path in (lane.path, *bases(lane.path)):
            if path in self._lanes:
                yield from self._lanes[path].delivered
                yield from self._lanes[path].contents


def _head(file: File) -> Head:
    """Give the head of a known file, one that nothing was read of yet included."""
    if file.head.size or file.packed:
        return file.head
    return head_of(file.fd) if file.open else NO_HEAD


def _modified(status: os.stat_result) -> int:
    """Give the last moment at which a file may have been written to: some compressors copy whole seconds only."""
    modified = status.st_mtime_ns
    return modified if modified % 1_000_000_000 else modified + 999_999_999


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _agrees(file: File, archive: Archive) -> bool:
    """Tell whether an archive was made of a file that begins as it does: it ends as that does, or did."""
    size = archive.size
    if isinstance(file, Archive):
        return file.size == size and file.whole and file.last == archive.last
    return file.open and os.pread(file.fd, TAIL_BYTES, max(0, size - TAIL_BYTES))[:size] == archive.last


def _is_early(lane: Lane, archive: Archive) -> bool:
    """Tell whether it was made of a content that a truncation ended, and that was read beyond the archive's end."""
    return any(
        TAIL_BYTES <= content.head_bytes <= archive.size <= content.offset and begins_like(archive.begins(), content)
        for content in lane.contents
    )
