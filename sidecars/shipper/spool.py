"""Lines on their way: read from logs, kept in chunks on disk, until their objects are in the bucket.

The protocol, by which a line is in the bucket once, whatever is killed when:

1.  A batch is appended to the chunks of its time slices and acknowledged to the follower, both in memory, and neither
    while 2. goes on.
2.  Once a second, and when a chunk is sealed, all is made durable: members are written behind the recorded end of the
    chunk files, these are synced, and one transaction records the new lengths and the offsets that belong to them.
3.  After a crash each chunk file is cut back to its recorded length, files that no record names are removed, and the
    logs are read on from the recorded offsets: what was in memory is read again, what is recorded is not.
4.  A sealed chunk takes no more lines. Its key is recorded before its first upload, and the upload is conditional.
    See delivery.py for what follows.
5.  Only what the bucket has confirmed is forgotten: first its record, then its file.

A chunk's id is drawn at random before its first byte, and travels with the object: it, and never the content, tells
whether an object is ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from sidecars.core import disk
from sidecars.core.errors import SidecarError
from sidecars.core.follow.checkpoint import VERSION, Document, encoded
from sidecars.core.follow.identity import Position
from sidecars.core.log import log
from sidecars.shipper import chunk as chunks
from sidecars.shipper import points, slices
from sidecars.shipper.chunk import Chunk, Writer
from sidecars.shipper.ledger import Ledger
from sidecars.shipper.plan import Output

# Lines are compressed together: so much at a time, or what a second brings.
_MEMBER_BYTES = 1 << 20
# With many tags, this is what all of them may keep in memory before what they have is written.
_PENDING_BYTES = 4 << 20
_SPARED_BYTES = 8 << 20


class Line(NamedTuple):
    """Where lines come from, as far as a chunk has to know: the inode, and whether they begin and end inside a line."""

    inode: int
    continued: bool
    complete: bool


class Spool:
    """The chunks of every output, and the follower's checkpoint store: both change in the same transactions.

    `sealed` is called, in some thread, with each chunk that is on disk and takes no more lines.
    """

    def __init__(self, directory: str, ledger: Ledger, outputs: Mapping[str, Output], started: Document | None) -> None:
        self.ledger = ledger
        self.sealed: Callable[[Chunk], None] = lambda _: None
        self._directory = os.path.join(directory, "chunks")
        self._outputs = outputs
        self._started = started
        self._writers: dict[tuple[str, str, int], Writer] = {}
        self._closing: list[Writer] = []
        self._kept: dict[str, Chunk] = {}
        self._named: set[str] = set()
        # A cancelled task leaves its thread behind: what comes after it waits here.
        self._lock = threading.RLock()
        os.makedirs(self._directory, exist_ok=True)

    # Numbers

    @property
    def stored_bytes(self) -> int:
        """Bytes of chunks on disk."""
        return sum(chunk.length for chunk in list(self._kept.values()))

    @property
    def pending_bytes(self) -> int:
        """Bytes of lines that wait in memory to be compressed."""
        return sum(len(writer.pending) for writer in list(self._writers.values()))

    def kept(self) -> list[Chunk]:
        """Give the chunks that are not known to be in the bucket."""
        return list(self._kept.values())

    # After a start

    def recover(self) -> list[Chunk]:
        """Cut the chunk files back to what is recorded, and give the sealed ones; the others take lines again."""
        known = {chunk.file: chunk for chunk in self.ledger.chunks()}
        for name in os.listdir(self._directory):
            if name not in known:
                os.unlink(os.path.join(self._directory, name))
        for chunk in known.values():
            if self._is_whole(chunk):
                self._kept[chunk.id] = chunk
                self._named.add(chunk.file)
        for chunk in self._kept.values():
            self._resume(chunk)
        return [chunk for chunk in self._kept.values() if chunk.sealed]

    def _is_whole(self, chunk: Chunk) -> bool:
        path = os.path.join(self._directory, chunk.file)
        try:
            size = os.path.getsize(path)
        except FileNotFoundError:
            size = -1
        if size >= chunk.length:
            return True
        log.error(
            "chunk is not on disk as it was recorded; did something remove files from the state directory?",
            path=path,
            recorded_bytes=chunk.length,
            found_bytes=max(0, size),
            lines=chunk.lines,
        )
        if size <= 0:
            self.ledger.forget(chunk)
            return False
        chunk.length = size
        return True

    def _resume(self, chunk: Chunk) -> None:
        if chunk.output not in self._outputs:
            first = next(iter(self._outputs))
            log.warning("chunk of an output that is no longer set goes to another", chunk=chunk.id, output=first)
            chunk.output = first
        place = (chunk.output, chunk.tag, chunk.slice)
        if chunk.sealed or place in self._writers or chunk.kind != kind(self._outputs[chunk.output]):
            chunk.sealed = True
        else:
            self._writers[place] = Writer(chunk, self._directory)

    # Lines come

    def append(self, output: Output, tag: str, moment: float, data: bytes | memoryview, lines: int, line: Line) -> None:
        """Put lines into the chunk of their output, tag and time slice. In memory: cannot fail."""
        writer = self._continued(output, line) or self._writer(output, tag, moment)
        writer.take(data, lines, *line)

    def _continued(self, output: Output, line: Line) -> Writer | None:
        if not line.continued:
            return None
        return next((each for each in self._writers.values() if each.unfinished == line.inode), None)

    def _writer(self, output: Output, tag: str, moment: float) -> Writer:
        place = (output.name, tag if output.layout.by_tag else "", slices.begin(moment, output.layout))
        writer = self._writers.get(place)
        if writer is None:
            writer = self._writers[place] = self._begin(output, place)
        return writer

    def _begin(self, output: Output, place: tuple[str, str, int]) -> Writer:
        chunk = chunks.new(place[0], kind(output), place[1], place[2], time.time())
        self._kept[chunk.id] = chunk
        return Writer(chunk, self._directory)

    def crowded(self) -> bool:
        """Tell whether so much waits in memory that some is to be written."""
        sizes = [len(writer.pending) for writer in self._writers.values()]
        return max(sizes, default=0) >= _MEMBER_BYTES or sum(sizes) >= _PENDING_BYTES

    def relieve(self) -> None:
        """Write what waits in memory, where it is much. Raises OSError, and then it waits on."""
        with self._lock:
            alone = sum(len(writer.pending) for writer in self._writers.values()) < _PENDING_BYTES
            for place, writer in list(self._writers.items()):
                if len(writer.pending) >= (_MEMBER_BYTES if alone else 1):
                    self._spare_room()
                    self._write(place, writer)

    def _write(self, place: tuple[str, str, int], writer: Writer) -> None:
        if not writer.pending:
            return
        member = writer.compressed()
        output = self._outputs[place[0]]
        if not writer.fits(member, output.layout.chunk_size):
            following = self._begin(output, place)
            writer.hand_over(following)
            self._close(place, writer)
            self._writers[place] = writer = following
        writer.write(member)
        if writer.chunk.length >= output.layout.chunk_size and not writer.unfinished:
            self._close(place, writer)

    def _spare_room(self) -> None:
        """Read no further while the volume has room only for what waits in memory, and for the ledger.

        Both must still be written, or nothing could be sealed, uploaded and freed any more.
        """
        volume = os.statvfs(self._directory)
        if volume.f_bavail < min(_SPARED_BYTES // volume.f_frsize, volume.f_blocks // 10):
            raise OSError(errno.ENOSPC, "the volume is full but for what is read already", self._directory)

    def _close(self, place: tuple[str, str, int], writer: Writer) -> None:
        """Let no more lines in; with the next transaction the chunk is sealed."""
        del self._writers[place]
        self._closing.append(writer)

    # It is made durable

    def load(self) -> Document | None:
        """Give the offsets up to which lines are in chunks, or else those to begin from at the very first start."""
        offsets = self.ledger.offsets()
        return self._started if offsets is None else msgspec.json.decode(offsets, type=Document)

    def save(self, positions: Iterable[Position], begun: int = 0) -> None:
        """Make all that was appended durable, together with the offsets up to which it was read. Raises OSError."""
        with self._lock:
            offsets = encoded(positions, begun)
            for place, writer in list(self._writers.items()):
                self._write(place, writer)
            changed = [writer for writer in (*self._closing, *self._writers.values()) if writer.dirty]
            self._record(self._closing, changed, offsets)

    def _record(self, closing: list[Writer], changed: list[Writer], offsets: bytes | None) -> None:
        self._sync(changed)
        for writer in closing:
            writer.chunk.sealed = True
        try:
            self.ledger.commit({id(each): each.chunk for each in (*closing, *changed)}.values(), offsets)
        except OSError:
            for writer in closing:
                writer.chunk.sealed = False
            raise
        points.reached("ledger committed")
        for writer in changed:
            writer.dirty = False
        self._closing = [writer for writer in self._closing if writer not in closing]
        for writer in closing:
            writer.close()
            self.sealed(writer.chunk)

    def _sync(self, changed: list[Writer]) -> None:
        try:
            for writer in changed:
                writer.sync()
            if any(writer.chunk.file not in self._named for writer in changed):
                disk.sync_directory(self._directory)
        except OSError as error:
            # The kernel may have dropped what it could not write: only what is recorded can be relied on.
            raise SidecarError(f"cannot make chunks durable: {error}; ended, to go on from what is recorded") from error
        self._named.update(writer.chunk.file for writer in changed)
        points.reached("chunks synced")

    def seal(self, now: float | None) -> None:
        """Let the chunks that are due take no more lines, or all of them with None. Raises OSError."""
        with self._lock:
            for place, writer in list(self._writers.items()):
                if self._is_due(place, writer, now):
                    self._write_or_leave(place, writer)
                    # What did not fit is in the chunk that follows.
                    last = self._writers.get(place)
                    if last is not None and not last.pending and self._is_due(place, last, now):
                        self._close(place, last)

    def _write_or_leave(self, place: tuple[str, str, int], writer: Writer) -> None:
        """Write what waits; where there is no room, leave it to a chunk that follows: this one can go and make room."""
        try:
            self._write(place, writer)
        except OSError:
            if self._writers.get(place) is not writer or writer.dirty or not writer.chunk.length:
                raise
            following = self._begin(self._outputs[place[0]], place)
            writer.hand_over(following)
            self._close(place, writer)
            self._writers[place] = following

    def _is_due(self, place: tuple[str, str, int], writer: Writer, now: float | None) -> bool:
        return now is None or due(writer.chunk, self._outputs[place[0]], now)

    def settle(self) -> None:
        """Record what was sealed as it was recorded last: without new lines, or new offsets. Raises OSError."""
        with self._lock:
            closing = [writer for writer in self._closing if not writer.dirty]
            if closing:
                self._record(closing, [], None)

    # It is in the bucket

    def path(self, chunk: Chunk) -> str:
        """Give the path of a chunk's file."""
        return os.path.join(self._directory, chunk.file)

    def exchange(self, chunk: Chunk, name: str, length: int) -> None:
        """Let another file, synced, hold the chunk's lines as one member. Raises OSError."""
        disk.sync_directory(self._directory)
        points.reached("chunk made whole")
        old, before = self.path(chunk), (chunk.file, chunk.length, chunk.members)
        chunk.file, chunk.length, chunk.members = name, length, 1
        try:
            self.ledger.commit([chunk])
        except OSError:
            chunk.file, chunk.length, chunk.members = before
            raise
        points.reached("whole recorded")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)

    def forget(self, chunk: Chunk) -> None:
        """Drop a chunk that the bucket has. Raises OSError."""
        self.ledger.forget(chunk)
        points.reached("chunk forgotten")
        self._kept.pop(chunk.id, None)
        self._named.discard(chunk.file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(chunk))
        points.reached("file removed")

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            for writer in (*self._closing, *self._writers.values()):
                writer.close()
            self.ledger.close()


def kind(output: Output) -> str:
    """Give what the members of an output's chunks are: gzip/text."""
    return f"{output.layout.compress}/{output.body.kind}"


def due(chunk: Chunk, output: Output, now: float) -> bool:
    """Tell whether a chunk is to be sealed by the clock. Lines of a slice long past wait as long as others."""
    layout = output.layout
    if layout.slice and now >= max(slices.end(chunk.slice, layout), chunk.opened) + layout.wait:
        return True
    return layout.age is not None and now >= chunk.opened + layout.age


def anew() -> Document:
    """Give the document of one who knows nothing any more, though it is not the first start."""
    now = time.time_ns()
    return Document(VERSION, now, [], now)
