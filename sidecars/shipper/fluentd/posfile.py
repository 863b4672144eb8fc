"""fluentd's file of offsets: one line for each file that it follows.

    /var/log/app.log<TAB>000000000000012f<TAB>00000000000a3b4c

the path, the offset and the inode, both in hexadecimal. Source: fluentd's lib/fluent/plugin/in_tail/position_file.rb.
"""

from __future__ import annotations

import os
import re

Entry = tuple[str, int, int]

_LINE = re.compile(rb"([^\t]+)\t([0-9a-fA-F]{1,16})\t([0-9a-fA-F]{1,16})\s*")
# The offset of a file that fluentd has ceased to follow.
_UNWATCHED = 0xFFFF_FFFF_FFFF_FFFF


def read(path: str) -> tuple[list[Entry], list[str]]:
    """Give (path, offset, inode) of each file that fluentd followed, and what is wrong with lines that are damaged.

    Of several lines for one file the last counts, as it does for fluentd; with follow_inodes a path has a line for each
    of its inodes. Raises OSError when the file cannot be read.
    """
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    entries: dict[tuple[str, int], Entry] = {}
    damaged: list[str] = []
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line)
        if found:
            _take(entries, (os.fsdecode(found[1]), int(found[2], 16), int(found[3], 16)))
        elif line.strip():
            damaged.append(f"{path}:{number}: it is not a path, an offset and an inode with tabs between")
    return list(entries.values()), damaged


def _take(entries: dict[tuple[str, int], Entry], entry: Entry) -> None:
    path, offset, inode = entry
    entries.pop((path, inode), None)
    # An inode of 0 is an entry that was made before its file was there.
    if offset != _UNWATCHED and inode:
        entries[path, inode] = entry
