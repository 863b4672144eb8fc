"""What kind of archive a file is, by its first bytes and not by its name, and the members that are in it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.init.archives import Archive, Budget, Member, damaged

_PIECE = 256 << 10
_LONGEST_READ = 64 << 20  # what a library asks for at once, of a directory of names or of a header
_WINDOW = 128 << 20  # bytes of memory that a compressed stream may want
_BLOCK = 512
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_SUFFIXES = {_GZIP: ".gz", _BZIP2: ".bz2", _XZ: ".xz", _ZSTD: ".zst"}
_LINK = 4096


def opened(file: IO[bytes], name: str, budget: Budget) -> Archive:
    """Find out what the file is. A compressed file that is no tar is one member, called as the file without its suffix.

    Raises SidecarError for what is no archive, or damaged.
    """
    head = file.read(_BLOCK)
    file.seek(0)
    if head.startswith(_ZIP):
        return Zip(file)
    stream = _unpacked(file, head)
    if stream is None:
        if _is_tar(head):
            return Tar(Forward(file, budget))
        kind = "an HTML page, perhaps of an error" if head.lstrip()[:1] == b"<" else "none that is known"
        raise SidecarError(f"{name} is no archive: it is {kind}, and begins with {head[:16]!r}; leave --extract out")
    forward = Forward(stream, budget)
    if _is_tar(forward.peek(_BLOCK)):
        return Tar(forward)
    suffix = next(text for magic, text in _SUFFIXES.items() if head.startswith(magic))
    return Single(forward, name.removesuffix(suffix) or "content")


def _unpacked(file: IO[bytes], head: bytes) -> Any:
    if head.startswith(_GZIP):
        import gzip

        return gzip.GzipFile(fileobj=file)
    if head.startswith(_BZIP2):
        import bz2

        return _Unpacking(file, bz2.BZ2Decompressor)
    if head.startswith(_XZ):
        import lzma

        return _Unpacking(file, lambda: lzma.LZMADecompressor(memlimit=_WINDOW))
    if head.startswith(_ZSTD):
        return _zstd(file)
    return None


def _zstd(file: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise WrongSettings("this image cannot unpack .zst; take pod-init as it is released") from None
    _check_zstd(file)
    context = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    return context.stream_reader(file, read_across_frames=True, closefd=False)


def _check_zstd(file: IO[bytes]) -> None:
    """See that the last frame is whole, which the library does not say. Source: RFC 8878, 3.1.1.

    It goes from block to block, and reads nothing of what is in them.
    """
    end = file.seek(0, os.SEEK_END)
    at = file.seek(0)
    while at < end:
        at = _after_frame(file, at)
        if at > end:
            raise damaged("ends too early")
    file.seek(0)


def _after_frame(file: IO[bytes], at: int) -> int:
    file.seek(at)
    head = file.read(18)
    magic = int.from_bytes(head[:4], "little")
    if 0x184D2A50 <= magic <= 0x184D2A5F:  # skippable
        return at + 8 + int.from_bytes(head[4:8], "little")
    if head[:4] != _ZSTD or len(head) < 6:
        raise damaged("is followed by what is no zstd")
    descriptor = head[4]
    single = descriptor >> 5 & 1
    size = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    at += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3] + size
    while True:
        file.seek(at)
        head = file.read(3)
        if len(head) < 3:
            raise damaged("ends too early")
        block = int.from_bytes(head, "little")
        at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
        if block & 1:
            return at + 4 * (descriptor >> 2 & 1)


def _is_tar(head: bytes) -> bool:
    """Whether a block is a header of a tar, of whatever age, by its checksum. Source: POSIX, pax, ustar."""
    digits = head[148:156].strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        return False
    return len(head) == _BLOCK and int(digits, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:_BLOCK])


class _Unpacking:
    """What a compressed stream of bzip2 or xz holds, which may be several after each other."""

    def __init__(self, file: IO[bytes], make: Callable[[], Any]) -> None:
        self._file, self._make = file, make
        self._decompressor = make()

    def read(self, size: int) -> bytes:
        """Read some bytes, at most so many; none at the end."""
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._file.read(_PIECE)
                # xz may be padded with zeros.
                rest = rest.lstrip(b"\0")
                if not rest:
                    return b""
                self._decompressor = self._make()
            else:
                rest = self._file.read(_PIECE) if self._decompressor.needs_input else b""
                if not rest and self._decompressor.needs_input:
                    raise EOFError
            if data := self._decompressor.decompress(rest, size):
                return bytes(data)

    def close(self) -> None:
        """Nothing to do: the file is another's."""


class Forward:
    """A stream that is read once, from its beginning to its end, whatever the library that reads it wants.

    Raises SidecarError where the stream is damaged, or a library asks for more than a header can be.
    """

    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._ahead = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        """Give the next bytes without taking them."""
        self._ahead = self.read(size)
        self._at -= len(self._ahead)
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes; fewer only at the end."""
        if not 0 <= size <= _LONGEST_READ:
            raise SidecarError("the archive has a header of more than 64 MiB; is it a bomb?")
        parts, left = [self._ahead[:size]], size - len(self._ahead[:size])
        self._ahead = self._ahead[size:]
        while left:
            piece = self._some(left)
            if not piece:
                break
            parts.append(piece)
            left -= len(piece)
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        self._at += len(data)
        self._budget.passed(self._at)
        return data

    def _some(self, size: int) -> bytes:
        try:
            piece: bytes = self._stream.read(size)
        except EOFError:
            raise damaged("ends too early") from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            if not _is_of_format(error):
                raise
            raise damaged(f"cannot be unpacked ({error})") from error
        return piece

    def tell(self) -> int:
        """Say where it is."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on to a place further on."""
        if whence != os.SEEK_SET or offset < self._at:
            raise damaged("goes back to where it was")
        while self._at < offset:
            if not self.read(min(offset - self._at, _PIECE)):
                break
        return self._at


def _is_of_format(error: Exception) -> bool:
    """Whether the error is a library's complaint about the bytes, among them those of libraries not imported here."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.split(".")[0] in (
        "zlib",
        "_lzma",
        "zstandard",
    )


class Tar:
    """The members of a tar."""

    def __init__(self, stream: Forward) -> None:
        self._stream = stream

    def complaints(self) -> tuple[type[Exception], ...]:
        """Give what tarfile raises where a member ends too early."""
        import tarfile

        return (tarfile.TarError, ValueError, OverflowError, IndexError)

    def members(self) -> Iterator[Member]:
        """Give the members, each before the next is looked for."""
        import tarfile

        class Info(tarfile.TarInfo):
            """tarfile takes a header that is none for the end of the archive, unless it is the first."""

            @classmethod
            def fromtarfile(cls, tar: tarfile.TarFile) -> Info:
                try:
                    return super().fromtarfile(tar)
                except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
                    raise damaged(f"is no sound tar ({error})") from error

        try:
            tar = tarfile.TarFile(fileobj=self._stream, tarinfo=Info)  # type: ignore[arg-type]
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # They would fill the memory.
                yield self._member(tar, info)
            while self._stream.read(_PIECE):  # A checksum stands at the end of what is compressed.
                pass
        except (tarfile.TarError, ValueError, OverflowError, IndexError, RecursionError) as error:
            raise damaged(f"is no sound tar ({error})") from error

    def _member(self, tar: Any, info: Any) -> Member:
        kinds = {"isreg": "file", "isdir": "dir", "issym": "link", "islnk": "hardlink", "isfifo": "FIFO"}
        kind = next((kind for name, kind in kinds.items() if getattr(info, name)()), "device, or of an unknown type")
        sparse = info.issparse()
        return Member(
            info.name, kind, info.size, stat.S_IMODE(info.mode), info.mtime, info.linkname, sparse,
            lambda: tar.extractfile(info) if info.size else None,
        )  # fmt: skip


class Zip:
    """The members of a zip."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def complaints(self) -> tuple[type[Exception], ...]:
        """Give what zipfile raises where a member is broken, or packed as it cannot unpack it."""
        import zipfile
        import zlib

        return (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError)

    def members(self) -> Iterator[Member]:
        """Give the members, in the order of the zip's directory."""
        import zipfile
        import zlib

        try:
            with zipfile.ZipFile(_Bounded(self._file)) as opened:
                infos = opened.infolist()
                for info in infos:
                    yield self._member(opened, info)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, NotImplementedError) as error:
            raise damaged(f"is no sound zip ({error})") from error
        except RuntimeError as error:
            raise SidecarError(f"the zip cannot be unpacked: {error}") from error

    def _member(self, opened: Any, info: Any) -> Member:
        if info.flag_bits & 1:
            raise SidecarError("the zip is encrypted; pod-init unpacks those without a password only")
        unix = info.external_attr >> 16 if info.create_system == 3 else 0
        mode = stat.S_IMODE(unix) if unix else None
        when = _time(info.date_time)
        if stat.S_ISLNK(unix):
            if info.file_size > _LINK:
                raise SidecarError("the zip has a link that is longer than any can be; is it damaged?")
            target = os.fsdecode(opened.read(info))
            return Member(info.filename, "link", 0, None, when, target)
        kind = "dir" if info.is_dir() else "file"
        if unix and stat.S_IFMT(unix) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "device, FIFO or socket"
        return Member(info.filename, kind, info.file_size, mode, when, open=lambda: opened.open(info))


def _time(date_time: tuple[int, int, int, int, int, int]) -> float:
    try:
        # It has no zone: everywhere the same.
        import calendar

        return float(calendar.timegm((*date_time, 0, 0, 0)))
    except (ValueError, OverflowError):
        return 0.0


class _Bounded:
    """A file of which a library does not read more at once than fits in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes."""
        if size > _LONGEST_READ:
            raise SidecarError("the zip has a directory of more than 64 MiB; is it a bomb?")
        return self._file.read(size if size >= 0 else _LONGEST_READ)


class Single:
    """A compressed file, as the one member that it is."""

    def __init__(self, stream: Forward, name: str) -> None:
        self._stream = stream
        self._name = name

    def complaints(self) -> tuple[type[Exception], ...]:
        """Give none: the stream has its own."""
        return ()

    def members(self) -> Iterator[Member]:
        """Give it."""
        yield Member(self._name, "file", -1, None, time.time(), open=lambda: _Rest(self._stream))  # type: ignore[arg-type,return-value]


class _Rest:
    """What is left of a stream, as a file to read."""

    def __init__(self, stream: Forward) -> None:
        self.read = stream.read

    def __enter__(self) -> _Rest:
        return self

    def __exit__(self, *_: object) -> None:
        pass
