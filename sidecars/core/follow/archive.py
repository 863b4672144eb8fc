"""A generation of a followed file that was compressed since: read as the bytes that are in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from sidecars.core.follow import compressed
from sidecars.core.follow.file import Acked, Batch, File
from sidecars.core.follow.identity import NO_HEAD, Head, Position, digest
from sidecars.core.follow.join import Records

# What ends too early and has not grown for so long is cut, and nobody's work any more.
ABANDONED_SECONDS = 10.0
# While it grows it is not uncompressed again and again: only once it rests.
_REST_SECONDS = 0.5


class Archive(File):
    """A compressed file. Its size, offset, head and tail are those of the bytes in it; nobody writes to it any more.

    packed_size   bytes of the file itself
    whole         it was uncompressed to its end once; before that it may still be written, and is not read
    resumed       where an earlier process stopped in it, if it is followed by its own name
    """

    __slots__ = ("_left", "_stream", "_tails", "_tried", "ending", "packed_size", "resumed", "whole")

    packed = True

    def __init__(self, path: str, fd: int, ending: str) -> None:
        super().__init__(path, fd)
        self.ending = ending
        self.packed_size, self.size = self.size, 0
        self.whole = False
        self.resumed: Position | None = None
        self._tried = (-1, 0)
        self._tails: dict[int, bytes] = {}
        self._stream: compressed.Stream | None = None
        self._left = b""

    def begins(self) -> bytes:
        """Give the first bytes in it, as many as there are yet. Raises compressed.Damaged, OSError."""
        return compressed.head(self.fd, self.ending)

    def claims(self) -> int | None:
        """Give what it says about its size, None if it does not. Raises OSError."""
        return compressed.claimed(self.fd, self.ending, self.packed_size)

    def examine(self, offsets: Iterable[int] = ()) -> None:
        """Uncompress it to its end, and note what precedes these offsets.

        Raises compressed.Unfinished, compressed.Damaged, OSError.
        """
        status = os.fstat(self.fd)
        self.packed_size, self.modified = self._tried = status.st_size, status.st_mtime_ns
        contents = compressed.contents(self.fd, self.ending, offsets)
        self.size, self._tails = contents.size, contents.tails
        self.head = Head(len(contents.head), digest(contents.head)) if contents.head else NO_HEAD
        self.whole = True
        if self.behind_since is None:
            self.behind_since = time.monotonic()

    @property
    def last(self) -> bytes:
        """The last bytes in it, once it was examined."""
        return self._tails[self.size]

    def holds(self, position: Position) -> bool:
        """Tell whether the bytes before a position's offset are in it, and it begins as that content did.

        Raises compressed.Unfinished, compressed.Damaged, OSError.
        """
        if not begins_like(self.begins(), position):
            return False
        if not self.whole or (position.offset not in self._tails and position.offset <= self.size):
            self.examine((position.offset, self.offset))
        tail = self._tails.get(position.offset, b"")[-position.tail_bytes :] if position.tail_bytes else b""
        return position.offset <= self.size and (not position.tail_bytes or digest(tail) == position.tail)

    def unchanged(self, status: os.stat_result) -> bool:
        """Tell whether a stat of this inode says that it is as it was when it was last looked at."""
        return (status.st_size, status.st_mtime_ns) == (self.packed_size, self.modified)

    def saw(self, status: os.stat_result) -> None:
        """Take the size and the time of the last change from a stat: of no use for what is in it."""
        self.packed_size, self.modified = status.st_size, status.st_mtime_ns

    def rests(self) -> bool:
        """Tell whether it changed since it was examined, and does so no more; or has not changed for long."""
        if not self.open:
            return True
        status = os.fstat(self.fd)
        age = (time.time_ns() - status.st_mtime_ns) / 1e9
        return age >= ABANDONED_SECONDS or (
            age >= _REST_SECONDS and self._tried != (status.st_size, status.st_mtime_ns)
        )

    def start_at(self, offset: int, partial: bool = False) -> None:
        """Take this offset, which was examined, as delivered."""
        self.pause()
        self.offset, self.tail, self.parted = offset, self._tails[offset], partial
        self.acked = Acked(offset, self.tail, self.head, partial, self.generation)

    def read(self, buffer: bytearray, room: int, records: Records) -> Batch | None:
        """Read what follows the offset, as of any file. Raises compressed.Unfinished, compressed.Damaged, OSError."""
        kept = len(self.tail)
        view = memoryview(buffer)
        view[:kept] = self.tail
        count = self._fill(view, kept, kept + room)
        full = count == kept + room
        cut = self._cut(buffer, kept, count, full, records)
        batch = None
        if cut > kept:
            batch = self._given(view, kept, cut, full)
        else:
            self._hold(count - kept)
            cut = kept
        self._left = bytes(view[cut:count]) + self._left
        return batch

    def _fill(self, view: memoryview, position: int, limit: int) -> int:
        """Put the next bytes into the view, up to the limit: those left from the last read, then the stream's."""
        while position < limit:
            data = self._left or self._uncompressing().read(limit - position)
            if not data:
                break
            taken = min(len(data), limit - position)
            view[position : position + taken] = data[:taken]
            self._left = data[taken:]
            position += taken
        return position

    def _uncompressing(self) -> compressed.Stream:
        if self._stream is None:
            self._stream = compressed.Stream(self.fd, self.ending)
            self._stream.skip(self.offset)
        return self._stream

    def pause(self) -> None:
        """Let go what was uncompressed ahead; the next read uncompresses it again."""
        self._stream, self._left = None, b""

    def position(self) -> Position:
        """Give what a checkpoint keeps; its head, too, when nothing is delivered: by that it is found again."""
        return self._position(self.acked or Acked(0, b"", self.head, False, 0))

    def close(self) -> None:
        """Close the descriptor, if it is open, and let go what was uncompressed ahead."""
        self.pause()
        super().close()


def begins_like(data: bytes, position: Position) -> bool:
    """Tell whether a content begins with these bytes, of which there are HEAD_BYTES if it has so many."""
    return position.head_bytes <= len(data) and (
        not position.head_bytes or digest(data[: position.head_bytes]) == position.head
    )
