"""What came before and after a file under its path: rotated generations that no look has seen, copies, moved files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sidecars.core.follow.file import File, open_file
from sidecars.core.follow.identity import HEAD_BYTES, TAIL_BYTES, Position, head_of, same_content
from sidecars.core.follow.names import Entry, Names

# While names move on, so many listings are made at most.
_LISTINGS = 5
# Content shorter than this says too little to take a file with another inode for the same one after a restart.
_TELLING_BYTES = 512

Identity = tuple[int, int]


class Known(NamedTuple):
    """What tells whether a file is known already: from a stat, as far as that goes, and from the open file."""

    of_stat: Callable[[os.stat_result], bool]
    of_file: Callable[[File], bool]


def _opened(path: str, name: str) -> File | None:
    """Open what is under a name now; None when nothing is any more, or it may not be read."""
    try:
        return File(path, open_file(name))
    except OSError:
        return None


def _begun(file: File, since: int) -> bool:
    """Tell whether a rotated file was begun since then."""
    return (file.modified if file.born is None else file.born) > since


def until(files: list[File], last: File) -> list[File]:
    """Give those that were not begun after another one; close the others."""
    later = [file for file in files if file.born is not None and last.born is not None and file.born > last.born]
    for file in later:
        file.close()
    return [file for file in files if file not in later]


def listed(path: str) -> Iterator[Entry]:
    """Give what rotation may have made of the file under `path`, listed until two listings agree.

    A listing overlooks a file that gets another name while it is read, and may show one that was rotated later.
    """
    last: set[tuple[str, int]] | None = None
    for _ in range(_LISTINGS):
        names = Names()
        entries = names.of(path)
        shown = {(name, status.st_ino) for name, status in entries}
        if shown == last:
            return
        yield from entries
        if names.settled():
            return
        last = shown


def missed(path: str, since: int, known: Known, entries: Iterable[Entry]) -> list[File]:
    """Open the generations that were under `path` since a time, in nanoseconds, and were rotated away unseen.

    Oldest first. While names move on all the time, one may still be overlooked: who needs to be sure lists again later.
    """
    found: dict[Identity, File] = {}  # names move on while they are read, so one file may be met under two
    for name, status in entries:
        if (status.st_dev, status.st_ino) in found:
            continue
        file = _opened(path, name) if status.st_mtime_ns > since and not known.of_stat(status) else None
        if file is None:
            continue
        if file.identity not in found and not known.of_file(file) and _begun(file, since):
            found[file.identity] = file
        else:
            file.close()
    return sorted(found.values(), key=lambda file: (file.born or 0, file.modified))


def moved(path: str, position: Position, names: Names) -> File | None:
    """Open the file of this position under the name that rotation gave it since; at its offset."""
    entry = names.with_inode(path, position.real, position.inode)
    file = _opened(path, entry[0]) if entry is not None else None
    if file is None:
        return None
    if is_inode_of(file, position) and holds(file, position):
        file.start_at(position.offset, position.partial)
        return file
    file.close()
    return None


def copy(path: str, position: Position, known: Known, names: Names) -> File | None:
    """Open the copy that copytruncate made of this content before it cut the file; at the position's offset."""
    for name, status in names.of(path, position.real):
        fitting = status.st_size >= position.offset and not known.of_stat(status)
        file = _opened(path, name) if fitting else None
        if file is not None:
            if not known.of_file(file) and holds(file, position):
                file.start_at(position.offset, position.partial)
                return file
            file.close()
    return None


def is_inode_of(file: File, position: Position) -> bool:
    """Tell whether the inode is the position's, and not one that was given to a new file since."""
    return file.inode == position.inode and (file.born == position.born or None in (file.born, position.born))


def holds(file: File, position: Position) -> bool:
    """Tell whether an open file has the content that this position is in, at least up to its offset."""
    return (
        not file.packed
        and file.open
        and same_content(file.fd, position)
        and os.fstat(file.fd).st_size >= position.offset
    )


def begins_like(file: File, content: Position) -> bool:
    """Tell whether a file is an early copy of a content that was read beyond the copy's end.

    Its beginning is all that can be compared. Less than TAIL_BYTES of it say too little.
    """
    telling = TAIL_BYTES <= content.head_bytes <= file.size <= content.offset
    return telling and head_of(file.fd, content.head_bytes).digest == content.head


def same_file_elsewhere(file: File, position: Position) -> bool:
    """Tell whether a file with another inode is the same one: a volume that was restored, a file that was replaced."""
    return position.offset >= _TELLING_BYTES and holds(file, position)


def copies(file: File, original: File) -> bool:
    """Tell whether `file` was copied from the content that `original` has now, as far as it goes."""
    if not original.open or not TAIL_BYTES <= file.size <= original.size:
        return False
    # In one tick of the clock, generations are born with the same time. A copy is younger than what it was made of.
    if file.born is not None and original.born is not None and file.born <= original.born:
        return False
    last = file.size - TAIL_BYTES
    head = min(HEAD_BYTES, file.size)
    return os.pread(file.fd, head, 0) == os.pread(original.fd, head, 0) and os.pread(
        file.fd, TAIL_BYTES, last
    ) == os.pread(original.fd, TAIL_BYTES, last)
