"""The door to compressed files: what is in them, as a stream in bounded memory, and whether they are whole."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from sidecars.core.follow.identity import HEAD_BYTES, TAIL_BYTES
from sidecars.core.log import log

# So much is uncompressed at a time. zstandard's objects do not bound what a piece becomes: a small one bounds it.
_GIVEN_BYTES = 256 << 10
_TAKEN_BYTES = {".gz": 64 << 10, ".zst": 256}
# What a reader of .zst holds at most; zstd -19 needs 8 MiB.
_WINDOW_BYTES = 32 << 20
_GZIP = 31  # zlib's wbits: a gzip header and trailer
_said: set[str] = set()


class Unfinished(Exception):  # noqa: N818
    """The file ends before what was compressed does: it is still written, or was cut."""


class Damaged(Exception):  # noqa: N818
    """This is not what the compressor wrote."""


class Contents(NamedTuple):
    """What is in a compressed file that is whole: how many bytes, the first of them, the last before some offsets."""

    size: int
    head: bytes
    tails: dict[int, bytes]


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def readable(ending: str) -> bool:
    """Tell whether files with this ending can be uncompressed here; say once what is missing."""
    if ending != ".zst":
        return ending == ".gz"
    try:
        import zstandard  # noqa: F401
    except ImportError:
        if ending not in _said:
            _said.add(ending)
            log.warning(
                "rotated .zst files cannot be read here; compress with gzip, or install the Python package zstandard"
            )
        return False
    return True


class Stream:
    """The bytes in an open compressed file, from the first on. Several members, or frames, are one stream."""

    def __init__(self, fd: int, ending: str) -> None:
        self._fd = fd
        self._ending = ending
        self._position = 0
        self._input = b""
        self._ready = b""
        self._member: _Decompressor | None = None
        self._begun = False

    def read(self, size: int) -> bytes:
        """Give the next bytes, at most so many; none at the end. Raises Unfinished, Damaged, OSError."""
        while not self._ready:
            if self._member is None and not self._next_member():
                return b""
            self._ready = self._uncompressed(size)
            if self._member is not None and self._member.eof:
                self._input = self._member.unused_data
                self._member = None
            elif not self._ready and not self._input and not self._take():
                raise Unfinished
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def skip(self, count: int) -> None:
        """Pass over so many bytes."""
        while count > 0:
            data = self.read(min(count, _GIVEN_BYTES))
            if not data:
                raise Damaged("it is shorter than it was")
            count -= len(data)

    def _take(self) -> bool:
        self._input = os.pread(self._fd, _TAKEN_BYTES[self._ending], self._position)
        self._position += len(self._input)
        return bool(self._input)

    def _next_member(self) -> bool:
        while not self._input.lstrip(b"\0"):  # tar's and tapes' padding
            if not self._take():
                if not self._begun:
                    raise Unfinished
                return False
        self._begun = True
        if self._ending == ".gz":
            self._member = zlib.decompressobj(_GZIP)
        else:
            import zstandard

            self._member = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
        return True

    def _uncompressed(self, size: int) -> bytes:
        data, self._input = self._input, b""
        if self._ending == ".zst":
            return self._from_zstd(data)
        try:
            given: bytes = self._member.decompress(data, size)  # type: ignore[union-attr]
        except zlib.error as error:
            raise Damaged(str(error)) from error
        self._input = self._member.unconsumed_tail  # type: ignore[union-attr]
        return given

    def _from_zstd(self, data: bytes) -> bytes:
        import zstandard

        try:
            return self._member.decompress(data) if data else b""  # type: ignore[union-attr]
        except zstandard.ZstdError as error:
            raise Damaged(str(error)) from error


def head(fd: int, ending: str) -> bytes:
    """Give the first bytes in an open file, as many as there are. Raises Damaged, OSError."""
    stream, data = Stream(fd, ending), b""
    try:
        while len(data) < HEAD_BYTES and (more := stream.read(HEAD_BYTES - len(data))):
            data += more
    except Unfinished:
        pass
    return data


def claimed(fd: int, ending: str, packed_size: int) -> int | None:
    """Give how many bytes a file says are in it, modulo 2^32 for gzip; None if it does not. Several members fool it.

    Source: RFC 1952, ISIZE; RFC 8878, Frame_Content_Size.
    """
    if ending == ".gz":
        return int.from_bytes(os.pread(fd, 4, packed_size - 4), "little") if packed_size > 18 else None
    import zstandard

    try:
        size: int = zstandard.frame_content_size(os.pread(fd, 18, 0))
    except zstandard.ZstdError:
        return None
    return size if size >= 0 else None


def contents(fd: int, ending: str, offsets: Iterable[int]) -> Contents:
    """Uncompress an open file to its end, and note what precedes these offsets, and the end.

    Raises Unfinished, Damaged, OSError.
    """
    stream, size, first, before = Stream(fd, ending), 0, b"", b""
    tails = {0: b""}
    wanted = sorted(offset for offset in offsets if offset > 0)
    while data := stream.read(_GIVEN_BYTES):
        if len(first) < HEAD_BYTES:
            first += data[: HEAD_BYTES - len(first)]
        window = before + data
        size += len(data)
        while wanted and wanted[0] <= size:
            offset = wanted.pop(0)
            end = len(window) - (size - offset)
            tails[offset] = window[max(0, end - TAIL_BYTES) : end]
        before = window[-TAIL_BYTES:]
    tails[size] = before
    return Contents(size, first, tails)
