"""A file on its way: written in pieces under a name of its own, gone on with after a kill, published when it is whole.

Beside the part lies what is known of it, as JSON. It is written after the bytes that it counts, by a process that may
be killed at any point; after a crash of the machine, which loses bytes, the part of another boot is not believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import threading
import time
from types import TracebackType
from typing import Any, NamedTuple, Self

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init.manifest import boot

_VERSION = 1
_UNABLE = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # from flock, where there are no locks


class Version(NamedTuple):
    """What a source holds now.

    etag       strong, with its quotes; empty if there is none
    modified   HTTP's Last-Modified as it was written, or what else changes with the content; may be empty
    size       bytes; None when nobody knows before the end
    ranges     whether a part of it can be asked for
    """

    etag: str = ""
    modified: str = ""
    size: int | None = None
    ranges: bool = False

    @property
    def validator(self) -> str:
        """What tells a piece of this version from a piece of another; empty if nothing does."""
        return self.etag or self.modified

    @property
    def resumable(self) -> bool:
        """Whether it can be fetched in pieces."""
        return self.ranges and bool(self.validator) and self.size is not None


class Piece:
    """A range of the file, and how many bytes of it are there. It has no end when the size is not known."""

    __slots__ = ("begin", "done", "end")

    def __init__(self, begin: int, end: int | None, done: int = 0) -> None:
        self.begin, self.end, self.done = begin, end, done

    @property
    def offset(self) -> int:
        """Where its next byte belongs."""
        return self.begin + self.done

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self.end is not None and self.offset >= self.end


class Part:
    """The part file at a path. Enter it, which locks it; `resume` or `start`; `put` from any thread; `publish`.

    Another process that fetches to the same place is waited for, up to `patience` seconds. `limit` is the number of
    bytes that the file may have at most.
    """

    def __init__(self, path: str, *, patience: float, limit: int | None = None) -> None:
        self.path = path
        self.version = Version()
        self.pieces: list[Piece] = []
        self._note = f"{path}.json"
        self._patience = patience
        self._limit = limit
        self.abandoned = False  # a failure somewhere: nobody is to write any more
        self._noting = threading.Lock()
        self._ended = False  # published or removed: there is nothing to note any more
        self._key = ""
        self._descriptor = -1

    def __enter__(self) -> Self:
        deadline, told = time.monotonic() + self._patience, False
        while not self._take():
            if not told:
                log.info("waiting for another process that fetches the same", path=self.path)
                told = True
            if time.monotonic() > deadline:
                raise SidecarError(f"{self.path} is being fetched by another process; end one of them")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended and not (self.version.resumable and self.there):
            self.remove()  # There is nothing to go on with.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _take(self) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self.path, flags, 0o600)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            _lock(self._descriptor)
            # Who held it before has perhaps renamed or removed it.
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(self.path)):
                return True
        os.close(self._descriptor)
        return False

    def resume(self, key: str) -> bool:
        """Go on with what an earlier run has left, if it was the same that it fetched."""
        self._key = key
        read = self._noted()
        if read is None:
            return False
        with contextlib.suppress(TypeError, ValueError, KeyError):
            told = read["version"]
            version = Version(str(told["etag"]), str(told["modified"]), int(told["size"]), told["ranges"] is True)
            pieces = [Piece(int(begin), int(end), int(done)) for begin, end, done in read["pieces"]]
            whole = bool(pieces) and version.resumable and os.fstat(self._descriptor).st_size == version.size
            if whole and _follow(pieces, version.size or 0):
                self.version, self.pieces = version, pieces
                return True
        return False

    def _noted(self) -> dict[str, Any] | None:
        try:
            with open(self._note, encoding="utf-8") as file:
                read = json.load(file)
        except (OSError, ValueError):
            return None
        told = {"version_of_this": _VERSION, "boot": boot(), "key": self._key}
        return (
            read
            if isinstance(read, dict) and all(text and read.get(name) == text for name, text in told.items())
            else None
        )

    def start(self, version: Version, first: int, rest: int) -> None:
        """Begin anew with what the source holds now, in pieces of so many bytes where that can be. Raises OSError.

        The first piece may have another size than the rest.
        """
        with self._noting:
            self._begin(version, first, rest)

    def _begin(self, version: Version, first: int, rest: int) -> None:
        self._forget()
        self.abandoned = False
        os.ftruncate(self._descriptor, 0)
        self.version = version
        if version.size is None or not version.resumable:
            self.pieces = [Piece(0, version.size)]
            return
        self._check_room(version.size)
        os.ftruncate(self._descriptor, version.size)  # each piece has its place at once
        starts = [0, *range(first, version.size, rest)] if version.size else []
        self.pieces = [Piece(at, end) for at, end in itertools.pairwise([*starts, version.size])]

    def _check_room(self, size: int) -> None:
        room = os.fstatvfs(self._descriptor)
        free = room.f_bavail * room.f_frsize
        if size > free:
            raise SidecarError(
                f"{os.path.dirname(self.path)} has no room: {size:,} bytes are needed, {free:,} are free; "
                "give the volume a larger sizeLimit"
            )

    def put(self, piece: Piece, data: memoryview) -> None:
        """Write the next bytes of a piece. Raises OSError, and SidecarError when there are too many."""
        if self.abandoned:
            raise SidecarError("another piece has failed")
        if self._limit is not None and piece.offset + len(data) > self._limit:
            raise too_large(self._limit)
        while data:
            count = os.pwrite(self._descriptor, data, piece.offset)
            piece.done += count
            data = data[count:]

    def restart(self, piece: Piece) -> None:
        """Begin a piece again, of which a server cannot give the rest."""
        piece.done = 0

    @property
    def descriptor(self) -> int:
        """The open file, at its beginning."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return self._descriptor

    @property
    def there(self) -> int:
        """How many bytes are there."""
        return sum(piece.done for piece in self.pieces)

    def save(self) -> None:
        """Note what is there, for a run after this one. It is not synced: see this module's beginning."""
        with self._noting:
            if self.version.resumable and not self._ended:
                self._save()

    def _save(self) -> None:
        # The counts are read before they are written: what is put meanwhile is there, and not counted.
        pieces = [(piece.begin, piece.end, piece.done) for piece in self.pieces]
        told = {"version_of_this": _VERSION, "boot": boot(), "key": self._key}
        text = json.dumps({**told, "version": self.version._asdict(), "pieces": pieces})
        with contextlib.suppress(OSError):  # A full disk has its own message, and a part that is not noted is no harm.
            note(self._note, text)

    def finish(self) -> int:
        """Check that all is there, and give the size. Raises SidecarError."""
        missing = next((piece for piece in self.pieces if piece.end is not None and not piece.complete), None)
        size = self.there
        if missing is not None:
            raise SidecarError(f"{self.path} has {size} bytes, expected {self.version.size}; run this again")
        os.ftruncate(self._descriptor, size)
        return size

    def publish(self, dest: str, mode: int) -> os.stat_result:
        """Give the file its permissions and its name. Raises OSError."""
        os.fchmod(self._descriptor, mode)
        self._end()
        os.replace(self.path, dest)
        return os.fstat(self._descriptor)

    def _end(self) -> None:
        with self._noting:
            self._ended = True
            self._forget()

    def _forget(self) -> None:
        for path in (self._note, f"{self._note}.new"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def remove(self) -> None:
        """Remove it all."""
        self._end()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def note(path: str, text: str) -> None:
    """Write a small file beside another, whole or not at all; not synced. Raises OSError."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # In a volume that others write to it may be a link.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _lock(descriptor: int) -> None:
    """Lock a file; BlockingIOError when another process has it. A file system without locks has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise


def _follow(pieces: list[Piece], size: int) -> bool:
    """Whether the pieces are the whole file, in order, none with more than it has room for."""
    at = 0
    for piece in pieces:
        if piece.begin != at or piece.end is None or not 0 <= piece.done <= piece.end - piece.begin:
            return False
        at = piece.end
    return at == size


def too_large(limit: int) -> SidecarError:
    """Make the error for a file with more bytes than it may have."""
    return SidecarError(f"it is larger than --max-size {limit:,} bytes; is it the right one? else raise the limit")
