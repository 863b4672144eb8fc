"""One generation of a followed file: an inode, read once from its beginning to its end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, ClassVar

import msgspec

from sidecars.core.follow.identity import (
    HEAD_BYTES,
    NO_HEAD,
    TAIL_BYTES,
    Head,
    Position,
    born,
    digest,
    head_of,
    printable,
)
from sidecars.core.follow.join import Lines, Records

if TYPE_CHECKING:
    from sidecars.core.follow.lane import Lane

_LINES = Lines()
_PAGE = 4096


class Truncated(Exception):  # noqa: N818
    """The content before the offset is no longer what was read: the file was cut or written anew."""


class Batch:
    """Bytes of one file, [start, end), ending at a record's end unless `complete` is false.

    `data` is valid until the next batch is asked for. `continued` says that it begins inside a line whose beginning
    was in the batch before it; `generation` counts how often the file was truncated.
    """

    __slots__ = ("complete", "continued", "data", "end", "file", "generation", "head", "read_at", "start", "tail")

    def __init__(self, file: File, data: memoryview, start: int, complete: bool) -> None:
        self.file = file
        self.data = data
        self.start = start
        self.end = start + len(data)
        self.complete = complete
        self.continued = file.parted
        self.generation = file.generation
        self.head = file.head
        self.tail = bytes(data[-TAIL_BYTES:])
        self.read_at = time.monotonic()
        if len(self.tail) < TAIL_BYTES:
            self.tail = (file.tail + self.tail)[-TAIL_BYTES:]

    @property
    def path(self) -> str:
        """Where the file is followed."""
        return self.file.path


class Acked(msgspec.Struct, frozen=True, gc=False):
    """What of a file was delivered: the offset, the bytes before it, and the head of the content it belongs to.

    A struct that the garbage collector does not track takes half of a tuple's memory, 10,000 times.
    """

    offset: int
    tail: bytes
    head: Head
    partial: bool
    generation: int


class File:
    """An inode under a followed path, its read offset, and what of it was delivered.

    The descriptor may be closed while nothing happens; `offset` and `tail` are kept, and a reopened file is checked
    to be the same one.
    """

    __slots__ = (
        "acked",
        "behind_since",
        "born",
        "cut",
        "device",
        "fd",
        "force",
        "force_line",
        "generation",
        "head",
        "heirs",
        "held",
        "held_since",
        "inode",
        "lane",
        "modified",
        "offset",
        "overlong",
        "parted",
        "path",
        "read_at",
        "real",
        "rotated_at",
        "size",
        "tail",
        "written_until",
    )

    def __init__(self, path: str, fd: int) -> None:
        status = os.fstat(fd)
        self.path = path
        real = os.path.realpath(path)
        self.real = real if real != os.path.abspath(path) else ""
        self.lane: Lane
        self.fd = fd
        self.device = status.st_dev
        self.inode = status.st_ino
        self.born = born(fd)
        self.size = status.st_size
        self.modified = status.st_mtime_ns
        self.cut = 0  # bytes seen that a truncation took before they were read
        self.offset = 0
        self.written_until = 0  # where a writer goes on that does not know of a truncation; 0 without one
        self.tail = b""
        self.head = NO_HEAD
        self.generation = 0
        self.acked: Acked | None = None
        self.heirs: dict[int, File] | None = None
        self.parted = False
        self.overlong = False
        self.force = False
        self.force_line = False
        self.held = 0
        self.held_since: float | None = None
        self.read_at = 0.0
        self.behind_since: float | None = None
        self.rotated_at: float | None = None

    # Compressed: an Archive.
    packed: ClassVar[bool] = False

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: who it is while it exists and this process runs."""
        return self.device, self.inode

    @property
    def open(self) -> bool:
        """Whether its descriptor is held."""
        return self.fd >= 0

    @property
    def undelivered(self) -> int:
        """Bytes that are there, as far as was seen, and not delivered."""
        delivered = self.acked.offset if self.acked and self.acked.generation == self.generation else 0
        return max(0, self.size - delivered)

    def start_at(self, offset: int, partial: bool = False) -> None:
        """Take this offset as delivered, with the bytes before it as they are on disk now."""
        self.offset = offset
        start = max(0, offset - TAIL_BYTES)
        self.tail = os.pread(self.fd, offset - start, start)
        self.head = head_of(self.fd)
        self.parted = partial
        self.acked = Acked(offset, self.tail, self.head, partial, self.generation)

    def unchanged(self, status: os.stat_result) -> bool:
        """Tell whether a stat of this inode says that it is as it was when it was last looked at."""
        return (status.st_size, status.st_mtime_ns) == (self.size, self.modified)

    def look(self) -> None:
        """Take the size and the time of the last change from the open file."""
        self.saw(os.fstat(self.fd))

    def saw(self, status: os.stat_result) -> None:
        """Take the size and the time of the last change from a stat of this inode."""
        if status.st_size < self.size:
            self.cut += max(0, self.size - max(self.offset, status.st_size))
        self.size = status.st_size
        self.modified = status.st_mtime_ns
        if self.behind_since is None and self.undelivered:
            self.behind_since = time.monotonic()

    def read(self, buffer: bytearray, room: int, records: Records) -> Batch | None:
        """Read what follows the offset, at most `room` bytes of it; None when nothing more can go out now.

        What precedes the offset is read once more and compared, so that a file that was cut and refilled between two
        reads is noticed however long it is now. After the read it is looked at again: it may have been cut meanwhile.

        Raises Truncated, OSError.
        """
        kept = len(self.tail)
        view = memoryview(buffer)
        count = os.preadv(self.fd, [view[: kept + room]], self.offset - kept)
        if count < kept or buffer[:kept] != self.tail:
            raise Truncated
        cut = self._cut(buffer, kept, count, count == kept + room, records)
        if cut <= kept:
            self._hold(count - kept)
            return None
        cut = self._checked(buffer, kept, cut)
        if cut == kept:
            raise Truncated
        if self.head.size < HEAD_BYTES:
            self._extend_head(buffer, kept, cut)
        return self._given(view, kept, cut, count == kept + room)

    def _given(self, view: memoryview, kept: int, cut: int, full: bool) -> Batch:
        """Make a batch of what was cut, and go on behind it."""
        complete = view[cut - 1] == 10
        batch = Batch(self, view[kept:cut], self.offset, complete)
        self.offset, self.tail, self.parted, self.read_at = batch.end, batch.tail, not complete, batch.read_at
        self.overlong = not complete and full
        self.held_since, self.force, self.force_line = None, False, False
        if self.behind_since is None:
            self.behind_since = batch.read_at
        return batch

    def _cut(self, buffer: bytearray, kept: int, count: int, full: bool, records: Records) -> int:
        cut = records.cut(buffer, kept, count)
        if cut <= kept and (full or self.force or self.force_line):
            cut = _LINES.cut(buffer, kept, count)
        if self.force and not full:
            return count
        if full and cut <= kept:
            return _between_characters(buffer, count)
        return cut

    def _hold(self, size: int) -> None:
        """Note since when so many bytes wait for the rest of their line or record; each more begin the wait anew."""
        if not size:
            self.held_since = None
        elif self.held_since is None or size != self.held:
            self.held_since = time.monotonic()
        self.held = size

    def _checked(self, buffer: bytearray, kept: int, cut: int) -> int:
        """Give how much of what was read is the old content, should the file have been cut during the read."""
        self.look()
        begin, end = self.offset - kept, self.offset + cut - kept
        first, last = min(kept + TAIL_BYTES, cut), max(0, cut - TAIL_BYTES)
        if (
            self.size >= end
            and os.pread(self.fd, cut - last, begin + last) == buffer[last:cut]
            # The read may have met the old content first and the new one then: its end is right, its beginning is not.
            and (last == 0 or os.pread(self.fd, first, begin) == buffer[:first])
        ):
            return cut
        if self.size <= self.offset:
            return cut  # cut after the read: nothing in the buffer can be of the new content
        fresh = os.pread(self.fd, cut - kept, self.offset)
        position = kept
        # A read copies page by page, so old and new content meet at a page's beginning.
        while position < cut:
            step = _PAGE - (self.offset + position - kept) % _PAGE
            part = buffer[position : min(position + step, cut)]
            if fresh[position - kept : position - kept + len(part)] == part:
                break
            position += step
        return min(position, cut)

    def _extend_head(self, buffer: bytearray, kept: int, cut: int) -> None:
        if self.offset == 0:
            data = buffer[kept : min(cut, kept + HEAD_BYTES)]
            self.head = Head(len(data), digest(data))
        elif self.head.size < self.offset + cut - kept:
            self.head = head_of(self.fd, min(HEAD_BYTES, self.offset + cut - kept))

    def restart(self) -> int:
        """Begin again at the first byte, after a truncation; give how many bytes of a hole were skipped."""
        self.written_until = max(self.offset, self.size)
        self.generation += 1
        self.offset, self.tail, self.head, self.parted, self.overlong = 0, b"", NO_HEAD, False, False
        self.held_since = None
        self.cut = 0
        return self.skip_hole()

    def skip_hole(self) -> int:
        """Skip the hole before what was written first after a truncation, once something was; give its bytes.

        A writer without O_APPEND goes on at its old offset after copytruncate and so leaves a hole before what it
        writes. Zeros up to that offset in the block where the hole ends are of it too: no byte was written there.
        """
        self.look()
        if not self.size:
            return 0
        hole, self.written_until = self._hole(self.written_until), 0
        if hole:
            self.start_at(hole)
        return hole

    def _hole(self, written_until: int) -> int:
        try:
            hole = os.lseek(self.fd, 0, os.SEEK_DATA)
        except OSError:  # ENXIO: all of it is a hole; or a file system that cannot tell
            return 0
        if hole:
            zeros = os.pread(self.fd, max(0, min(hole + _PAGE, written_until) - hole), hole)
            hole += len(zeros) - len(zeros.lstrip(b"\0"))
        return hole

    def position(self) -> Position:
        """Give what a checkpoint keeps of this file: where its delivered bytes end."""
        return self._position(self.acked or Acked(0, b"", NO_HEAD, False, 0))

    def read_position(self) -> Position:
        """Give how far the file was read, delivered or not."""
        return self._position(Acked(self.offset, self.tail, self.head, self.parted, 0))

    def _position(self, place: Acked) -> Position:
        return Position(
            path=printable(self.path),
            inode=self.inode,
            born=self.born,
            head=place.head.digest,
            head_bytes=place.head.size,
            offset=place.offset,
            tail=digest(place.tail),
            tail_bytes=len(place.tail),
            modified=self.modified,
            partial=place.partial,
            real=printable(self.real),
        )

    def acknowledge(self, batch: Batch) -> None:
        """Take a batch as delivered. Batches of one file are acknowledged in their order."""
        acked = Acked(batch.end, batch.tail, batch.head, not batch.complete, batch.generation)
        heir = self.heirs.get(batch.generation) if self.heirs else None
        if heir is not None:
            heir.inherit(acked)
            return
        if batch.generation == self.generation:
            self.heirs = None
        self.acked = acked
        self.behind_since = batch.read_at if self.undelivered else None

    def leave_to(self, copy: File) -> None:
        """Let a copy stand for the content that was cut: what is delivered of the one is delivered of the other."""
        ended = self.generation - 1
        if self.acked is not None and self.acked.generation == ended:
            copy.inherit(self.acked)
        self.heirs = {**(self.heirs or {}), ended: copy}
        self.acked = None

    def inherit(self, acked: Acked) -> None:
        """Take what was delivered of the original as delivered of this copy."""
        if self.acked is None or self.acked.offset < acked.offset:
            self.acked = msgspec.structs.replace(acked, generation=self.generation)

    def close(self) -> None:
        """Close the descriptor, if it is open."""
        if self.open:
            os.close(self.fd)
            self.fd = -1

    def reopen(self, path: str) -> bool:
        """Open the file again under this path; False when another one is there now. Raises OSError."""
        fd = open_file(path)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != self.identity or born(fd) != self.born:
            os.close(fd)
            return False
        # What it has become meanwhile is left to the next look, which reads on because it finds it changed.
        self.fd = fd
        return True


def _between_characters(buffer: bytearray, end: int) -> int:
    """Move an end inside a long line back to where a UTF-8 character begins, so that each part is valid by itself."""
    for back in range(1, 4):
        byte = buffer[end - back]
        if byte >= 0xC0:
            return end - back
        if byte < 0x80:
            break
    return end


def open_file(path: str) -> int:
    """Open a file for reading; a FIFO or device that took its place does not block."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
