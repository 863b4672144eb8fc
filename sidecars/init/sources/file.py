"""A file behind a file:// URI."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from sidecars.core.errors import SidecarError, Transient, WrongSettings
from sidecars.init import tree
from sidecars.init.part import Part, Version, too_large
from sidecars.init.sources import Bounds, Changed

_PIECE = 1 << 20


class LocalFile:
    """A file of this machine, such as one of an image volume."""

    def __init__(self, uri: str, bounds: Bounds) -> None:
        split = urlsplit(uri)
        self.path = unquote(split.path, errors="surrogateescape")
        if split.netloc not in ("", "localhost") or not self.path or "\0" in self.path:
            raise WrongSettings(f"{uri} is no file of this machine; write file:///PATH")
        self.shown = f"file://{split.path}"
        self.name = os.path.basename(self.path)
        self._limit = bounds.limit

    def look(self, known: Version | None) -> Version | None:
        """Look at size and time."""
        found = self._found()
        version = Version("", f"{found.size}-{found.mtime_ns}", found.size)
        return None if version == known else version

    def _found(self) -> tree.Entry:
        found = tree.look(self.path, follow=True)
        if found is None:
            raise SidecarError(f"{self.path} does not exist; is it in the image, or is its volume mounted?")
        if found.kind != "file":
            raise SidecarError(f"{self.path} is a directory; pod-init copy is for those")
        if self._limit is not None and found.size > self._limit:
            raise too_large(self._limit)
        return found

    def fill(self, part: Part) -> None:
        """Copy it, as the kernel does. Raises Changed when somebody writes to it."""
        from sidecars.init.filecopy import fill

        found = self._found()
        if f"{found.size}-{found.mtime_ns}" != part.version.modified:
            raise Changed(f"{self.path} changes while it is fetched")
        (piece,) = part.pieces

        def progress(count: int) -> None:
            piece.done += count

        try:
            fill(self.path, part.descriptor, found, progress)
        except Transient as error:
            raise Changed(str(error)) from error
