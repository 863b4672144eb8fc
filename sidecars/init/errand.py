"""What pod-init fetch is to do, what it has done before, and how far it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from sidecars.core.errors import TimedOut
from sidecars.core.log import log
from sidecars.init.archives import Budget, Rules
from sidecars.init.part import Version
from sidecars.init.sources import Bounds
from sidecars.init.tree import Selection


class Stamp(NamedTuple):
    """What was fetched, from where, and how: written down to know it again.

    query, how  digests: a query may hold a secret, and options are many
    place       size, time and inode of the file; of a directory, the manifest tells
    """

    uri: str
    query: str = ""
    how: str = ""
    etag: str = ""
    modified: str = ""
    size: int | None = None
    sha256: str = ""
    place: tuple[int, ...] = ()
    boot: str = ""

    @property
    def key(self) -> str:
        """What was asked for, and how."""
        return f"{self.uri} {self.query} {self.how}"

    @property
    def version(self) -> Version:
        """What the source held."""
        return Version(self.etag, self.modified, self.size)

    def text(self) -> str:
        """Write it as JSON, of which nothing is secret."""
        return json.dumps({name: value for name, value in self._asdict().items() if value not in ("", None, ())})


def stamp(text: object) -> Stamp | None:
    """Read what text() wrote; None for what is none."""
    with contextlib.suppress(TypeError, ValueError, AttributeError, RecursionError):
        read = json.loads(str(text))
        made = Stamp(**{**read, "place": tuple(read.get("place", ()))})
        texts = (made.uri, made.query, made.how, made.etag, made.modified, made.sha256, made.boot)
        return made if all(isinstance(each, str) for each in texts) else None
    return None


def short(text: str) -> str:
    """A digest of a text that is not to be seen, or is long; empty for none."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32] if text else ""


class Underway(Protocol):
    """What is on its way."""

    version: Version

    @property
    def there(self) -> int:
        """How many bytes of it are there."""

    def save(self) -> None:
        """Note what is there."""


class Meter:
    """How far it is, for people who wait, and whether there is time left."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self.began = time.monotonic()
        self.part: Underway | None = None
        self.before = 0  # bytes that an earlier run has fetched
        self.budget: Budget | None = None
        self._failure = ""
        self.stop: Callable[[], None] = lambda: None  # ends the programs that were started

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self.began, 3)

    def look(self) -> None:
        """Raise TimedOut when the time is up."""
        if self._timeout is not None and self.seconds() > self._timeout:
            why = f"; the last failure: {self._failure}" if self._failure else ""
            raise TimedOut(
                f"not done within {self._timeout:g} s{why}; give more --timeout, or run it again: it goes on there"
            )

    def note(self, failure: str) -> None:
        """Keep why an attempt has failed, for when the time is up."""
        self._failure = failure

    def save(self) -> None:
        """Note what is there, for a run after this one."""
        if self.part is not None:
            self.part.save()

    def beat(self) -> None:
        """Say how far it is."""
        if self.budget is not None:
            log.info("unpacking", bytes=self.budget.size, seconds=self.seconds())
        elif self.part is not None:
            there, size = self.part.there, self.part.version.size
            rate = (there - self.before) / max(self.seconds(), 0.001)
            left = round((size - there) / rate) if rate > 0 and size is not None else None
            share = min(100, round(100 * there / size)) if size else None
            log.info(
                "fetching", percent=share, bytes=there, megabytes_per_second=round(rate / 1e6, 1), seconds_left=left
            )

    def told(self, size: int) -> dict[str, object]:
        """What to say at the end."""
        rate = (size - self.before) / max(self.seconds(), 0.001)
        return {"bytes": size, "seconds": self.seconds(), "megabytes_per_second": round(rate / 1e6, 1)}


class Errand(NamedTuple):
    """What is to be done.

    wanted    the SHA-256 that it must have, in hex; empty: any
    mode      of a file; of those of an archive: in rules
    mirror    what of DEST is removed when it is not in the archive; None: only what an earlier version left
    """

    stamp: Stamp
    dest: str
    bounds: Bounds
    patience: float
    wanted: str = ""
    mode: int = 0o644
    rules: Rules = Rules()
    mirror: Selection | None = None
