"""Going on where fluentd stopped: its files of offsets, and its tags made of paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from sidecars.core.follow.checkpoint import VERSION, Document
from sidecars.core.follow.file import File, open_file
from sidecars.core.follow.find import Patterns
from sidecars.core.follow.identity import Position, printable
from sidecars.core.follow.names import Names
from sidecars.core.log import log
from sidecars.shipper.plan import Plan, Stream


def tag(stream: Stream, path: str) -> str:
    """Give the tag of a file's lines: the first `*` is the path, as fluentd writes it, var.log.a.log."""
    if "*" not in stream.tag:
        return stream.tag
    return stream.tag.replace("*", re.sub(r"[/.]+", ".", printable(path)).removeprefix("."), 1)


def document(plan: Plan) -> Document | None:
    """Give the offsets that fluentd left behind, for the very first start; None when it left none."""
    streams = [stream for stream in plan.streams if stream.pos_file and os.path.exists(stream.pos_file)]
    if not streams:
        return None
    positions: dict[tuple[str, int], Position] = {}
    for stream in streams:
        taken = {position.path: position for position in _of_posfile(stream)}
        # A file that fluentd did not know is new since, and is read from where it would have begun.
        untold = [path for path in Patterns(stream.paths, stream.exclude).found() if path not in taken]
        ends = [position for path in untold if stream.from_end for position in _end_of(path)]
        positions |= {(position.path, position.inode): position for position in (*taken.values(), *ends)}
        log.info("offsets of fluentd taken over", path=stream.pos_file, files=len(taken))
    now = os.stat(streams[0].pos_file or "").st_mtime_ns
    return Document(VERSION, now, list(positions.values()), now)


def _of_posfile(stream: Stream) -> Iterator[Position]:
    from sidecars.shipper.fluentd import posfile  # only its users pay for it

    entries, damaged = posfile.read(stream.pos_file or "")
    for reason in damaged:
        log.warning("line of fluentd's offsets is damaged; its file is read from the beginning", reason=reason)
    for path, offset, inode in entries:
        position = _position(path, inode, offset)
        if position is not None:
            yield position


def _position(path: str, inode: int, offset: int) -> Position | None:
    """Find the file that fluentd had read, under its path or the name that rotation gave it since."""
    for name in (path, *(name for name, _ in Names().of(path, ""))):
        try:
            file = File(path, open_file(name))
        except OSError:
            continue
        try:
            if file.inode == inode:
                file.start_at(min(offset, file.size))
                return file.position()
        finally:
            file.close()
    return None


def _end_of(path: str) -> Iterator[Position]:
    try:
        file = File(path, open_file(path))
    except OSError:
        return
    file.start_at(file.size)
    yield file.position()
    file.close()
