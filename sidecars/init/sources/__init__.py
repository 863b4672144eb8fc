"""Where pod-init fetches from: one module for each kind of URI, imported when one is given.

A source of one file has `name`, how such a file is called, and `fetch`, which fills a Part. A source of a tree fills a
directory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sidecars.core.errors import SidecarError, Transient
from sidecars.init.archives import Rules
from sidecars.init.part import Part, Version
from sidecars.init.tree import Tree

_FIRST = 8 << 20


class Again(Transient):
    """An attempt failed, and the next may not; `pause` is how many seconds to wait at least, where the server says."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class Changed(SidecarError):  # noqa: N818
    """The source has become another while it was fetched."""


class Patience(NamedTuple):
    """How often and how long to try.

    retries   attempts after the first, without progress
    interval  seconds before the second attempt; doubled for each that follows
    note      is told why an attempt has failed
    """

    retries: int
    interval: float
    connect: float
    read: float
    note: Callable[[str], None] = lambda _: None


class File(Protocol):
    """A source of one file."""

    name: str
    shown: str  # the URI as it may be seen: without userinfo and query

    def look(self, known: Version | None) -> Version | None:
        """Say what it holds; None when that is what is known. Raises SidecarError."""

    def fill(self, part: Part) -> None:
        """Fetch what `look` has found, or what the part has begun with. Raises SidecarError, and Changed."""


class Directory(Protocol):
    """A source of a tree of files."""

    shown: str

    def look(self, rules: Rules) -> str:
        """Say which version it has. Raises SidecarError."""

    def stage(self, staging: str, dest: str | None, rules: Rules) -> Tree:
        """Fetch into the staging directory what DEST, where there is one, has not; give what DEST is to hold then.

        Raises SidecarError, OSError, and Changed when it has become another since it was looked at.
        """


class Bounds(NamedTuple):
    """How the work is divided.

    jobs   ranges or objects at once
    piece  bytes of a range at most
    limit  bytes of a file at most
    """

    jobs: int
    piece: int
    limit: int | None

    @property
    def first(self) -> int:
        """Bytes of the first range, which is asked for before the size is known."""
        return min(self.piece, _FIRST)

    def rest(self, size: int) -> int:
        """Bytes of the other ranges of a file: small enough that all jobs have as much to do, to the end."""
        return max(self.first, min(self.piece, size // (4 * self.jobs)))
