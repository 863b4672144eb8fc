"""The revisions that were published: for people who look at the status page, and for going back to one of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from sidecars.syncer import documents

_KEPT = 50


class Commit(Protocol):
    """What is told of a commit; time in seconds since 1970."""

    @property
    def hash(self) -> str: ...  # noqa: D102
    @property
    def author(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def time(self) -> float: ...  # noqa: D102


class Published(msgspec.Struct, frozen=True):
    """One publication.

    committed, published  seconds since 1970
    seconds               how long the sync took, from the look at the remote until it was published
    how                   what began the sync: poll, push, signal or rollback
    """

    hash: str
    author: str
    subject: str
    committed: float
    published: float
    seconds: float
    how: str


class _Document(msgspec.Struct, frozen=True):
    version: Literal[1]
    revisions: tuple[Published, ...]


class History:
    """The last 50 publications, the newest first; kept in a file, one version-1 JSON document.

    A file that cannot be read counts as empty and is set aside.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.revisions: tuple[Published, ...] = ()
        document = documents.load(path, _Document)
        if document is not None:
            self.revisions = document.revisions[:_KEPT]

    def add(self, commit: Commit, seconds: float, how: str) -> None:
        """Remember a publication that has just been made; blocking.

        Raises OSError where the file cannot be written: then it is remembered in memory alone.
        """
        made = Published(commit.hash, commit.author, commit.subject, commit.time, time.time(), seconds, how)
        self.revisions = (made, *self.revisions)[:_KEPT]
        documents.save(self._path, _Document(1, self.revisions))

    def find(self, prefix: str) -> list[str]:
        """Give the hashes that begin so, each once."""
        return list(dict.fromkeys(each.hash for each in self.revisions if each.hash.startswith(prefix)))

    def rows(self) -> list[dict[str, object]]:
        """Give rows for a table of the status page."""
        now = time.time()
        return [
            {
                "hash": each.hash,
                "author": each.author,
                "subject": each.subject,
                "committed": _moment(each.committed),
                "published": _moment(each.published),
                "age_seconds": round(max(0.0, now - each.published), 1),
                "sync_seconds": round(each.seconds, 3),
                "how": each.how,
            }
            for each in self.revisions
        ]


def before(revisions: Sequence[Published], current: str) -> str | None:
    """Give the hash that was published before the current one; None where none was. The newest comes first.

    What a rollback has published does not count as news: two rollbacks after A, B, C lead to B and then to A.
    """
    forward = [each.hash for each in revisions if each.how != "rollback"]
    older = forward[forward.index(current) + 1 :] if current in forward else forward
    return next((each for each in older if each != current), None)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
