"""A chunk: lines collected for one object, in a file made of compressed members, and what the ledger knows of it."""

from __future__ import annotations

import os
import uuid

import msgspec

from sidecars.shipper import compression, points
from sidecars.shipper.plan import BodyKind, Compression


class Chunk(msgspec.Struct, eq=False, kw_only=True):
    """The facts of a chunk, as the ledger keeps them.

    id          32 random hexadecimal digits, drawn before the first byte: tells our object from another's
    output      the name of the output it goes to; kind: its compression and body, such as gzip/text
    slice       the beginning of its time slice in epoch seconds; opened: when its first line was read
    file        its name in the directory of chunks
    length      bytes of the file that count: what lies behind them is from a process that died, and is cut off
    raw_bytes, lines, members  what these bytes hold
    unfinished  the inode of the file whose last line in here has not ended, else 0
    corrupted   its object has arrived otherwise than it was sent, and is to be overwritten
    key, index  where it goes, once that was decided
    """

    id: str
    output: str
    kind: str
    tag: str
    slice: int
    opened: float
    file: str
    length: int = 0
    raw_bytes: int = 0
    lines: int = 0
    members: int = 0
    unfinished: int = 0
    sealed: bool = False
    corrupted: bool = False
    key: str | None = None
    index: int | None = None

    @property
    def compression(self) -> Compression:
        """How its members are compressed."""
        return self.kind.partition("/")[0]  # type: ignore[return-value]

    @property
    def body(self) -> BodyKind:
        """What a line becomes in it."""
        return self.kind.partition("/")[2]  # type: ignore[return-value]


def new(output: str, kind: str, tag: str, begin: int, opened: float) -> Chunk:
    """Begin a chunk."""
    name = uuid.uuid4().hex
    return Chunk(id=name, output=output, kind=kind, tag=tag, slice=begin, opened=opened, file=name)


class Writer:
    """A chunk that takes lines: some wait in memory, to be compressed together.

    dirty  the ledger does not know of all that is in the file
    """

    def __init__(self, chunk: Chunk, directory: str) -> None:
        self.chunk = chunk
        self.pending = bytearray()
        self.pending_lines = 0
        self.unfinished = chunk.unfinished
        self.dirty = False
        self._begins_inside = False
        self._fd = -1
        self._path = os.path.join(directory, chunk.file)

    def take(self, data: bytes | memoryview, lines: int, inode: int, continued: bool, complete: bool) -> None:
        """Take lines of a file. Cannot fail: what cannot be written yet waits."""
        inside = continued and self.unfinished == inode
        if self.unfinished and not inside:
            self.pending += b"\n"  # another file's line must not become a part of one that has not ended
        if not self.pending:
            self._begins_inside = inside
        self.pending += data
        self.pending_lines += lines
        self.unfinished = 0 if complete else inode

    def compressed(self) -> bytes:
        """Give the waiting lines as one member."""
        return compression.member(self.pending, self.chunk.compression)

    def fits(self, member: bytes, size: int) -> bool:
        """Tell whether the member may be appended to an object of so many bytes at most; a line is not torn for it."""
        return not self.chunk.length or self._begins_inside or self.chunk.length + len(member) <= size

    def write(self, member: bytes) -> None:
        """Append the member that was made of the waiting lines. Raises OSError, and then they wait on."""
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o660)
            os.ftruncate(self._fd, self.chunk.length)
        rest, end = memoryview(member), self.chunk.length
        try:
            while rest:
                count = os.pwrite(self._fd, rest, end)
                rest, end = rest[count:], end + count
        except OSError:
            os.ftruncate(self._fd, self.chunk.length)
            raise
        points.reached("member written")
        chunk = self.chunk
        chunk.length, chunk.unfinished = end, self.unfinished
        chunk.raw_bytes += len(self.pending)
        chunk.lines += self.pending_lines
        chunk.members += 1
        self.dirty = True
        self.pending, self.pending_lines = bytearray(), 0

    def hand_over(self, other: Writer) -> None:
        """Give the waiting lines to the chunk that follows this one."""
        other.pending, other.pending_lines, other.unfinished = self.pending, self.pending_lines, self.unfinished
        self.pending, self.pending_lines, self.unfinished = bytearray(), 0, self.chunk.unfinished

    def sync(self) -> None:
        """Make what was written durable. Raises OSError."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file, which stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
