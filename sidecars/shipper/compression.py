"""Compressed members, of which chunks are made: appended to each other they are one file that zcat and Athena read."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

from isal import isal_zlib

from sidecars.shipper.plan import BodyKind, Compression

# ISA-L's level 1 is several times as fast as zlib's, at the same ratio on logs; its levels 2 and 3 gain nothing there,
# the third for three times the work. zstd's level 3 is its own default.
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3
_GZIP_WINDOW = 31  # zlib's way to say: 32 KiB, with gzip's header (no name, no time) and checksum

# Small, because what follows a member in a piece is copied once per member.
_PIECE = 16 << 10

_SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "none": ""}
_EXTENSIONS = {"text": "log", "out_file": "log", "json": "json", "ltsv": "ltsv"}
_STORED_TYPES = {"gzip": "application/x-gzip", "zstd": "application/x-zst"}
_PLAIN_TYPES = {"json": "application/x-ndjson"}


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def member(data: bytes | bytearray | memoryview, compression: Compression) -> bytes:
    """Compress data into one self-contained gzip member or zstd frame; with none, give the bytes."""
    if compression == "gzip":
        compressed: bytes = isal_zlib.compress(data, _GZIP_LEVEL, _GZIP_WINDOW)
        return compressed
    if compression == "zstd":
        import zstandard

        # A compressor of its own each time: one must not be used by two threads.
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(data)
    return bytes(data)


def recompress(source: str, target: str, compression: Compression, length: int) -> int:
    """Write the members in the first `length` bytes of a file anew as one, synced; give the new length.

    A trickle of lines makes thousands of members of a line or two, each larger than its line. Memory holds one member
    at a time, uncompressed.

    Raises OSError, also when the members are damaged or end beyond `length`; then there is no target.
    """
    try:
        with open(source, "rb") as old, open(target, "wb", opener=_private) as new:
            _write_anew(old, new, compression, length)
            new.flush()
            os.fsync(new.fileno())
            return new.tell()
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        raise


def extension(kind: BodyKind, compression: Compression) -> str:
    """Give the object's file extension, such as log.gz: by its end Athena and zcat know the compression."""
    return _EXTENSIONS[kind] + _SUFFIXES[compression]


def content_type(kind: BodyKind, compression: Compression) -> str:
    """Give the Content-Type of an object: that of the bytes as they are stored, in fluentd's words.

    So there is no Content-Encoding to go with it. With one, browsers and some tools would unpack the object on its way,
    and keep lines under a name that ends in .gz.
    """
    return _STORED_TYPES.get(compression) or _PLAIN_TYPES.get(kind, "text/plain")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o660)


def _write_anew(old: BinaryIO, new: BinaryIO, compression: Compression, length: int) -> None:
    if compression == "none":
        for piece in _pieces(old, length):
            new.write(piece)
        return
    compressor, decompressor, failure = _tools(compression)
    try:
        for text in _texts(old, length, decompressor):
            new.write(compressor.compress(text))
    except failure as error:
        raise OSError(errno.EBADMSG, f"members are damaged ({error})", old.name) from error
    new.write(compressor.flush())


def _tools(compression: Compression) -> tuple[_Compressor, Callable[[], _Decompressor], type[Exception]]:
    if compression == "gzip":
        compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
        failure = cast(type[Exception], isal_zlib.error)  # its stub has an instance
        return compressor, lambda: isal_zlib.decompressobj(_GZIP_WINDOW), failure
    import zstandard

    made = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
    return made, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError


def _texts(source: BinaryIO, length: int, decompressor: Callable[[], _Decompressor]) -> Iterator[bytes]:
    current: _Decompressor | None = None
    for piece in _pieces(source, length):
        rest = piece
        while rest:
            current = current or decompressor()
            yield current.decompress(rest)
            rest = current.unused_data if current.eof else b""
            if current.eof:
                current = None
    if current is not None:
        raise OSError(errno.EBADMSG, f"the last member does not end within {length} bytes", source.name)


def _pieces(source: BinaryIO, length: int) -> Iterator[bytes]:
    left = length
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise OSError(errno.EBADMSG, f"file has only {length - left} of {length} bytes", source.name)
        left -= len(piece)
        yield piece
