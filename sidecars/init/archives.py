"""Archives unpacked below a directory, member by member, by our own checks: what is in them is hostile.

The directory is ours alone and holds only what was made here, so that a name is safe when each directory on its way is
one that was made here, and no link. No link is followed, nothing but files, directories and links is made, and links
lead only to what is below the directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, Protocol

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init.tree import ALL, MANIFEST, STAGING, Entry, Selection, Tree

_PIECE = 1 << 20
_DEEPEST = 128  # directories below each other: what walks through them later goes down by calling itself
_LONGEST = 4096  # bytes of a name or of a link's target, as of the kernel's
_SLACK = 64 << 20  # bytes before a ratio says anything
_LATEST = 1 << 33  # seconds; beyond it few file systems can say a time
_ZEROS = bytes(_PIECE)


class Limits(NamedTuple):
    """How much may come out of an archive.

    size   bytes of all files
    files  members
    ratio  bytes unpacked for each byte of the archive
    """

    size: int = 10 << 30
    files: int = 1_000_000
    ratio: int = 200


class Rules(NamedTuple):
    """What is unpacked, and how.

    strip      leading components of names to take away; what has no more is left out
    skip       leave out what is unsafe, and say so; else it is an error
    mode       permissions of files; None: as in the archive
    dir_mode   permissions of directories, likewise
    """

    limits: Limits = Limits()
    strip: int = 0
    selection: Selection = ALL
    skip: bool = False
    mode: int | None = None
    dir_mode: int | None = None


class Member(NamedTuple):
    """One member of an archive.

    kind    file, dir, link, hardlink, or what it is else
    target  of a link, or the name of the member that a hardlink is the same file as
    sparse  zeros are to be holes
    open    gives the content of a file
    """

    name: str
    kind: str
    size: int
    mode: int | None
    mtime: float
    target: str = ""
    sparse: bool = False
    open: Callable[[], IO[bytes] | None] = lambda: None


class Archive(Protocol):
    """What gives members, in the order in which they lie in the file."""

    def members(self) -> Iterator[Member]:
        """Give them. Raises SidecarError for what is no such archive, or broken."""

    def complaints(self) -> tuple[type[Exception], ...]:
        """Give what is raised where the content of a member is broken."""


class Unsafe(SidecarError):  # noqa: N818
    """A member that could do harm."""


class Budget:
    """What has come out so far. Raises SidecarError when it is too much. `packed` is the size of the archive."""

    def __init__(self, limits: Limits, packed: int) -> None:
        self._limits = limits
        self._packed = packed
        self._files = 0
        self.size = 0
        self._dense = 0

    def file(self, size: int) -> None:
        """Count a member, which says that it is so large."""
        self._files += 1
        if self._files > self._limits.files:
            raise SidecarError(f"the archive has more than --max-files {self._limits.files:,} members; is it a bomb?")
        self._check(self.size + max(size, 0))

    def add(self, count: int, *, hole: bool = False) -> None:
        """Count bytes of a file; those of a hole are no bytes of the archive."""
        self.size += count
        self._dense += 0 if hole else count
        self._check(self.size)
        self.passed(self._dense)

    def passed(self, count: int) -> None:
        """See whether so many bytes can be what the archive was packed from."""
        if count > _SLACK and count > self._limits.ratio * self._packed:
            raise SidecarError(
                f"the archive unpacks to more than --max-ratio {self._limits.ratio} times its size; is it a bomb?"
            )

    def _check(self, size: int) -> None:
        if size > self._limits.size:
            raise SidecarError(
                f"the archive unpacks to more than --max-extracted {self._limits.size:,} bytes; is it a bomb?"
            )


def damaged(how: str) -> SidecarError:
    """Make the error for an archive that something is wrong with."""
    return SidecarError(f"the archive {how}: it is damaged, or not all of it was fetched; fetch it again")


def unpack(archive: Archive, root: str, rules: Rules, budget: Budget) -> Tree:
    """Unpack below an empty directory; what was made, by path. Raises SidecarError, and OSError naming a path."""
    unpacking = Unpacking(root, rules, budget)
    try:
        for member in archive.members():
            unpacking.take(member)
    except archive.complaints() as error:
        raise damaged(f"has a member that cannot be unpacked ({error})") from error
    return unpacking.finish()


class Unpacking:
    """Makes what members say, below a directory that nobody else writes to."""

    def __init__(self, root: str, rules: Rules, budget: Budget) -> None:
        self._root = root
        self._rules = rules
        self._budget = budget
        self._made: Tree = {}
        self._skipped = 0
        self._buffer = memoryview(bytearray(_PIECE))

    def take(self, member: Member) -> None:
        """Make one member."""
        self._budget.file(member.size if member.kind == "file" else 0)
        try:
            path = self._path(member.name)
            if not path or self._is_left_out(path, member.kind):
                return
            self._make(path, member)
        except Unsafe as error:
            if not self._rules.skip:
                raise SidecarError(f"{error}; --unsafe skip leaves such members out") from error
            self._skipped += 1
            if self._skipped <= 10:
                log.warning("left out", reason=str(error))

    def _path(self, name: str) -> str:
        """Where a member belongs; empty when nowhere."""
        parts = safe(name)[self._rules.strip :]
        if parts and parts[0] in (MANIFEST, STAGING):
            raise Unsafe(f"{shown(name)} is a name that pod-init keeps for itself")
        return "/".join(parts)

    def _is_left_out(self, path: str, kind: str) -> bool:
        selection = self._rules.selection
        above = (path[:at] for at, sign in enumerate(path) if sign == "/") if selection.exclude else ()
        if selection.leaves_out(path) or any(map(selection.leaves_out, above)):
            return True
        # Directories follow what is in them.
        return bool(selection.include) and (kind == "dir" or not selection.takes(path))

    def _make(self, path: str, member: Member) -> None:
        make = {"file": self._file, "dir": self._dir, "link": self._link, "hardlink": self._hardlink}.get(member.kind)
        if make is None:
            raise Unsafe(f"{shown(member.name)} is a {member.kind}")
        self._make_parents(path, member)
        make(path, member)

    def _make_parents(self, path: str, member: Member) -> None:
        """See that each directory on the way is one that was made here."""
        at = path.find("/")
        while at >= 0:
            parent = path[:at]
            made = self._made.get(parent)
            if made is None:
                self._mkdir(parent, None)
            elif made.kind != "dir":
                raise Unsafe(f"{shown(member.name)} lies below {shown(parent)}, which is a {made.kind}")
            at = path.find("/", at + 1)

    def _mkdir(self, path: str, mode: int | None) -> None:
        os.mkdir(self._place(path), 0o700)
        self._made[path] = self._folder(mode)

    def _folder(self, mode: int | None) -> Entry:
        """What a directory is to be: its owner can always look into it, to see whether all is there still."""
        if self._rules.dir_mode is not None:
            return Entry("dir", mode=self._rules.dir_mode)
        return Entry("dir", mode=0o755 if mode is None else mode & 0o777 | 0o500)

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _dir(self, path: str, member: Member) -> None:
        made = self._made.get(path)
        if made is None:
            self._mkdir(path, member.mode)
        elif made.kind != "dir":
            raise Unsafe(f"{shown(member.name)} is a directory, and was a {made.kind} before")
        elif member.mode is not None:
            self._made[path] = self._folder(member.mode)

    def _replace(self, path: str, member: Member) -> str:
        """Remove what has this name already: the last member of a name counts, as tar has it."""
        made, place = self._made.pop(path, None), self._place(path)
        if made is not None and made.kind == "dir":
            self._made[path] = made
            raise Unsafe(f"{shown(member.name)} is a {member.kind}, and was a directory before")
        if made is not None:
            os.unlink(place)
        return place

    def _file(self, path: str, member: Member) -> None:
        place = self._replace(path, member)
        mode = self._rules.mode
        if mode is None:
            mode = 0o644 if member.mode is None else member.mode & 0o777
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            content = member.open()
            if content is not None:
                with content:
                    self._write(descriptor, content, member)
            os.fchmod(descriptor, mode)
            time = min(max(member.mtime, 0), _LATEST)
            os.utime(descriptor, (time, time))
            status = os.fstat(descriptor)
        except OSError as error:
            if error.errno is None:  # a library's, of the bytes that it reads
                raise damaged(f"has a member {shown(member.name)} that cannot be unpacked ({error})") from error
            raise OSError(error.errno, error.strerror, place) from error
        finally:
            os.close(descriptor)
        self._made[path] = Entry("file", status.st_size, status.st_mtime_ns, mode)

    def _write(self, descriptor: int, content: IO[bytes], member: Member) -> None:
        """Copy a member's bytes, as many as it says that it has."""
        left, read, buffer = member.size, getattr(content, "readinto", None), self._buffer
        while True:
            data = memoryview(content.read(_PIECE)) if read is None else buffer[: read(buffer)]
            if not data:
                break
            hole = member.sparse and data == _ZEROS[: len(data)]
            self._budget.add(len(data), hole=hole)
            left -= len(data)
            if hole:
                os.lseek(descriptor, len(data), os.SEEK_CUR)
                continue
            while data:
                data = data[os.write(descriptor, data) :]
        if left and member.size >= 0:
            raise SidecarError(f"{shown(member.name)} ends too early: the archive is damaged; fetch it again")
        if member.sparse:
            os.ftruncate(descriptor, member.size)

    def _link(self, path: str, member: Member) -> None:
        check_link(path, member.target)
        place = self._replace(path, member)
        os.symlink(member.target, place)
        self._made[path] = Entry("link", target=member.target)

    def _hardlink(self, path: str, member: Member) -> None:
        target = self._path(member.target)
        made = self._made.get(target)
        if made is None or made.kind != "file":
            raise Unsafe(f"{shown(member.name)} is the same file as {shown(member.target)}, which is none before it")
        if target == path:
            return
        place = self._replace(path, member)
        os.link(self._place(target), place, follow_symlinks=False)
        self._made[path] = made

    def finish(self) -> Tree:
        """Give what was made, directories before what is in them."""
        if self._skipped:
            log.warning("members left out as unsafe", count=self._skipped)
        return dict(sorted(self._made.items(), key=lambda item: item[0].split("/")))


def safe(name: str) -> list[str]:
    """Split a member's name; Unsafe when it is absolute, goes up, or is none of a file.

    "./a//b/" -> ["a", "b"]
    """
    if "\0" in name or len(os.fsencode(name)) > _LONGEST:
        raise Unsafe(f"{shown(name)} has a name that no file can have")
    if name.startswith("/"):
        raise Unsafe(f"{shown(name)} is absolute")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unsafe(f"{shown(name)} leads out of the directory")
    if len(parts) > _DEEPEST:
        raise Unsafe(f"{shown(name)} lies more than {_DEEPEST} directories deep")
    return parts


def check_link(path: str, target: str) -> None:
    """Raise Unsafe for a link that leads, or could lead, out of the directory.

    None of the directories above the link is a link, so that each `..` at the beginning goes up one of them. Those
    after a name could go up from wherever another link leads to.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((count for count, part in enumerate(parts) if part != ".."), len(parts))
    unfit = not target or "\0" in target or len(os.fsencode(target)) > _LONGEST
    if unfit or target.startswith("/") or ups > path.count("/") or ".." in parts[ups:]:
        raise Unsafe(f"{shown(path)} is a link to {shown(target)}, out of the directory")


def shown(name: str) -> str:
    """A member's name as it may be seen: on one line, and not for ever."""
    return ascii(name if len(name) <= 120 else f"{name[:117]}...")
