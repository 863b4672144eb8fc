"""One followed path: which file is under it now, and which were before it and still have something to read."""

from __future__ import annotations

import os
import time

import msgspec

from sidecars.core.follow.file import File
from sidecars.core.follow.find import Patterns
from sidecars.core.follow.identity import Position, printable
from sidecars.core.follow.join import Lines, Records
from sidecars.core.log import log

# How many contents that a truncation ended are remembered per path, to know late copies of them; and how many of
# rotated files that are delivered and forgotten, to know what is made of them by compression: who compresses later than
# at the second rotation after keeps the time of the original, as gzip does. A checkpoint has them all.
_CONTENTS = 4
_DELIVERED = 2


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to follow. Times in seconds.

    rotate_wait      a rotated file is read on so long after its end was reached, for late writers
    partial_timeout  a last line without newline goes out after so long; None: at the drain only
    record_timeout   the last of joined records goes out after so long
    poll_interval    how often to look where inotify cannot tell
    watch            use inotify
    once             end at the end of the files
    keep_rotated     remember rotated files as long as they are there, for whoever removes them
    open_files       descriptors to hold at most
    rate_limit       bytes a second; None: as fast as they are taken
    settled          a file that came and went unseen is found, at the latest, so long after its beginning
    checkpoints      write one a second; False: whoever follows calls `record` when what it has can be relied on
    """

    rotate_wait: float = 5.0
    partial_timeout: float | None = None
    record_timeout: float = 1.0
    poll_interval: float = 1.0
    watch: bool = True
    once: bool = False
    keep_rotated: bool = False
    open_files: int = 512
    rate_limit: int | None = None
    settled: float = 10.0
    checkpoints: bool = True


class Source:
    """Files to follow together: their paths, where to begin in those there at the very first start, their records.

    decompress  a path that names a .gz or .zst file exactly means what is in it
    """

    def __init__(
        self,
        paths: tuple[str, ...],
        *,
        exclude: tuple[str, ...] = (),
        from_end: bool = False,
        records: Records | None = None,
        decompress: bool = False,
    ) -> None:
        self.patterns = Patterns(paths, exclude)
        self.from_end = from_end
        self.decompress = decompress
        self.records = records or Lines()


class Lane:
    """A followed path.

    records   how its bytes are cut; `cut_as` sets another way once somebody has seen what is in it
    recut     what is held was held in another way, and is to be looked at again
    files     what is to be read, oldest first; the last may be the one under the path now
    current   the file under the path now
    since     nanoseconds: what was begun before is known, or none of ours
    delivered positions at the ends of rotated files that are not known by inode any more
    contents  positions in contents of the current file that a truncation ended
    """

    __slots__ = (
        "contents",
        "current",
        "delivered",
        "directory_modified",
        "files",
        "gone_since",
        "literal",
        "path",
        "records",
        "recut",
        "since",
        "source",
        "trouble",
    )

    def __init__(self, path: str, source: Source, literal: bool, since: int) -> None:
        self.path = path
        self.since = since
        self.source = source
        self.records = source.records
        self.recut = False
        self.literal = literal
        self.files: list[File] = []  # a list: a deque of none takes 600 bytes, for each of 10,000 paths
        self.current: File | None = None
        self.contents: tuple[Position, ...] = ()
        self.delivered: tuple[Position, ...] = ()
        self.gone_since: float | None = None
        self.directory_modified = 0
        self.trouble: str | None = None

    @property
    def joined(self) -> bool:
        """Whether a record may be several lines: only the next one, or time, tells that it has ended."""
        return self.recut or not isinstance(self.records, Lines)

    def cut_as(self, records: Records) -> None:
        """Cut its bytes so from now on, what is held too. From any thread."""
        self.records = records
        self.recut = True

    @property
    def directory(self) -> str:
        """Where the path's last name is."""
        return os.path.dirname(self.path) or "."

    def cannot_read(self, what: str, output: str, advice: str = "let this process's user or group read it") -> None:
        """Say once why this path cannot be read; `trouble` keeps it until it can."""
        if self.trouble != what:
            self.trouble = what
            advice += ", or leave it out with --exclude"
            log.error("cannot read", path=printable(self.path), error=what, advice=advice, output=output)

    def all_files(self) -> list[File]:
        """Give the files that are to be read, and the one under the path."""
        current = self.current
        return self.files if current is None or current in self.files else [*self.files, current]

    def add(self, file: File, before: File | None = None) -> None:
        """Put a file into the order of reading: at the end, or before another one."""
        file.lane = self
        file.path = self.path
        self.files.insert(self.files.index(before) if before in self.files else len(self.files), file)

    def resume(self, file: File) -> None:
        """Put a file that grew, or that comes before the others, at their head again."""
        if file not in self.files:
            self.files.insert(0, file)

    def leave(self, position: Position) -> None:
        """Remember how far a rotated file was delivered that is known by its inode no longer; for a while, from now."""
        others = [each for each in self.delivered if (each.inode, each.born) != (position.inode, position.born)]
        now = max(position.modified, time.time_ns())
        self.delivered = (*others, msgspec.structs.replace(position, done=True, modified=now))
        self.forget()

    def forget(self) -> None:
        """Drop what was delivered, but for the last ones, and those so young that they may be taken for unread ones."""
        if len(self.delivered) > _DELIVERED:
            older, last = self.delivered[:-_DELIVERED], self.delivered[-_DELIVERED:]
            self.delivered = (*(each for each in older if each.modified > self.since), *last)

    def ended(self, content: Position) -> None:
        """Remember how far a content was read that a truncation ended: a late copy of it is then known."""
        self.contents = (*self.contents, content)[-_CONTENTS:]
