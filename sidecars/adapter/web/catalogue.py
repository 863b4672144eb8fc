"""What can be read now, by the names that clients give it; nothing else ever is."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator

from sidecars.adapter.table import Format
from sidecars.adapter.web.cursor import Place, key
from sidecars.adapter.web.refusal import Refusal, shown
from sidecars.adapter.web.scans import HEAD_BYTES, Reader
from sidecars.adapter.web.sieve import Shaped
from sidecars.adapter.web.sources import Origins, Shelf, Source
from sidecars.core.follow.identity import printable

# So many files are read together; of more, those that changed last.
MOST_FILES = 32
_MOST_NAMED = 20
_ROTATED = re.compile(r"[.-]?\d[\d.T_-]*")


class Catalogue:
    """The files that are followed and the origins without a file. Its methods are called in threads, but `refresh`."""

    def __init__(
        self,
        files: Callable[[], list[str]],
        formats_for: Callable[[str, bytes], Format],
        shaping: Shaped,
        origins: Origins,
    ) -> None:
        self.shelf = Shelf()
        self._files = files
        self._formats_for = formats_for
        self._shaping = shaping
        self._origins = origins
        self._paths: list[str] = []

    def refresh(self) -> None:
        """Learn what there is now; on the event loop, where the follower and the queue live."""
        self._origins.refresh()
        self._paths = [*self._files(), *self._origins.by_path]

    @property
    def paths(self) -> list[str]:
        """Every path and origin."""
        return self._paths

    def named(self, name: str | None) -> list[str]:
        """Give the paths that a name means: a path, or the last part of one. Raises Refusal, with status 404."""
        if name is None:
            return self._latest()
        exact = [path for path in self._paths if printable(path) == name]
        found = exact or [path for path in self._paths if os.path.basename(printable(path)) == name]
        if len(found) == 1:
            return found
        known = ", ".join(shown(printable(path)) for path in self._paths[:_MOST_NAMED]) or "none yet"
        more = f" and {len(self._paths) - _MOST_NAMED} more, see /files" if len(self._paths) > _MOST_NAMED else ""
        what = "more than one file has" if found else "no file has"
        raise Refusal(404, f"file is {shown(name)}, a name that {what}; there are: {known}{more}")

    def _latest(self) -> list[str]:
        if len(self._paths) <= MOST_FILES:
            return self._paths
        return sorted(sorted(self._paths, key=_modified)[-MOST_FILES:])

    def open(self, path: str) -> Source | None:
        """Open a path; None where there is nothing to read."""
        return self._origins.by_path.get(path) or self.shelf.open(path)

    @contextlib.contextmanager
    def opened(self, paths: list[str], after: dict[bytes, Place] | None = None) -> Iterator[list[Source]]:
        """Open those of the paths that can be, until the block ends; what is to be read on from a cursor, there."""
        with contextlib.ExitStack() as stack:
            sources = [self._open_after(path, (after or {}).get(key(path))) for path in paths]
            opened = [source for source in sources if source is not None]
            for source in opened:
                stack.callback(source.close)
            yield opened

    def _open_after(self, path: str, place: Place | None) -> Source | None:
        """Open a path, or what was there before a rotation while there is more of that after the place."""
        source = self.open(path)
        if source is None or place is None or source.inode == place.inode:
            return source
        before = self.rotated(path, place)
        if before is None:
            return source
        kept, other = (before, source) if before.size() > place.offset else (source, before)
        other.close()
        return kept

    def format_of(self, source: Source) -> Format:
        """Give the format of a source, by its first lines."""
        head = source.read(source.begin, source.begin + HEAD_BYTES)
        return self._formats_for(source.path, head[: head.rfind(b"\n") + 1] or head)

    def reader(self, source: Source, *, own: bool = False) -> Reader:
        """Give what reads a source."""
        return Reader(source, self.format_of(source), self._shaping, own=own)

    def rotated(self, path: str, place: Place) -> Source | None:
        """Open what was under a path when a place was noted, by that path, if it lies beside it by a rotated name."""
        directory, name = os.path.split(path)
        try:
            with os.scandir(directory or ".") as entries:
                found = [
                    each.path
                    for each in entries
                    if each.inode() == place.inode
                    and each.name.startswith(name)
                    and _ROTATED.fullmatch(each.name, len(name))
                ]
        except OSError:
            return None
        return self.shelf.open(found[0], path) if found else None


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return 0.0
