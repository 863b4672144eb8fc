"""Back to a revision that was published before, until somebody resumes or the remote moves on."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from sidecars.core.door import Answer, Request, Response, text
from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.syncer import documents
from sidecars.syncer.history import History, before

_REVISION = re.compile(r"[0-9a-f]{7,64}")
_FULL = (40, 64)


class Pinned(msgspec.Struct, frozen=True):
    """A revision that is to be published instead of the remote's.

    origin  the remote's revision from which it was rolled back: another one ends the pin
    """

    hash: str
    origin: str
    version: Literal[1] = 1


def wanted(pinned: Pinned | None, remote: str | None) -> str | None:
    """Give the revision to publish: the pinned one unless the remote is known to have moved, else the remote's."""
    return pinned.hash if pinned is not None and remote in (None, pinned.origin) else remote


class Pin:
    """The pinned revision of one repository, kept in a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.pinned = documents.load(path, Pinned)

    @property
    def active(self) -> bool:
        """Whether a revision is pinned."""
        return self.pinned is not None

    @property
    def revision(self) -> str | None:
        """The revision that is pinned."""
        return self.pinned.hash if self.pinned is not None else None

    def set(self, hash: str, origin: str) -> None:
        """Pin a revision, durably. Raises OSError, and then nothing has changed."""
        with self._lock:
            documents.save(self._path, pinned := Pinned(hash, origin))
            self.pinned = pinned

    def clear(self, reason: str) -> bool:
        """Pin nothing, durably, and log why; tell whether something was. Raises OSError: then nothing has changed."""
        with self._lock:
            pinned = self.pinned
            documents.remove(self._path)
            self.pinned = None
        if pinned is not None:
            log.info("rollback ended", reason=reason, pinned=pinned.hash, origin=pinned.origin)
        return pinned is not None

    def wanted(self, remote: str | None) -> str | None:
        """Give the revision to publish now that the remote is there (None: not known); clear a pin that this ends."""
        pinned = self.pinned
        if pinned is not None and remote not in (None, pinned.origin):
            self.clear(f"the remote is at {remote}")
        return wanted(self.pinned, remote)


class Refused(SidecarError):  # noqa: N818
    """A rollback cannot be done; the status is that of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Target:
    """A repository that can be rolled back.

    current  the hash that is published, None where nothing is
    remote   the hash that the ref had when it was last looked at, None before
    there    whether a revision can be published without the remote: at once, so a look at its worktree
    wake     begins a sync now
    """

    name: str
    pin: Pin
    history: History
    current: Callable[[], str | None]
    remote: Callable[[], str | None]
    there: Callable[[str], bool]
    wake: Callable[[], object]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST, which may be empty.

    {"revision": "4f2c...", "repository": "site"}
    """

    revision: str = ""
    repository: str = ""


def posts(targets: Sequence[Target]) -> dict[str, Answer]:
    """Give the answers to POST /rollback and POST /resume."""
    return {
        "/rollback": lambda request: _answered(targets, request, roll_back),
        "/resume": lambda request: _answered(targets, request, resume),
    }


def roll_back(target: Target, order: Order) -> Response:
    """Pin what was published before, or the revision that is ordered: 200, or 202 if it is to be fetched first.

    Raises Refused and OSError.
    """
    current = target.current()
    if current is None:
        raise Refused(409, "nothing is published yet: there is nothing to roll back")
    revision = _revision(target, order.revision) if order.revision else before(target.history.revisions, current)
    if revision is None:
        raise Refused(409, f"nothing was published before {current}: name a revision to roll back to")
    pinned = target.pin.pinned
    origin = pinned.origin if pinned else target.remote() or current
    there = target.there(revision)
    target.pin.set(revision, origin)
    target.wake()
    log.info("rollback asked", repository=target.name, pinned=revision, origin=origin)
    until = f"until POST /resume or until the remote is no longer at {origin}"
    if there:
        return text(200, f"pinned to {revision}, {until}")
    return text(
        202, f"pinned to {revision}, {until}; its worktree is gone: if the remote has it no longer, a log line says so"
    )


def resume(target: Target, _: Order) -> Response:
    """End the pin. Raises Refused and OSError."""
    if not target.pin.clear("POST /resume"):
        raise Refused(409, "nothing is pinned: there is nothing to resume")
    target.wake()
    return text(200, f"following {target.remote() or 'the remote'} again")


def _revision(target: Target, given: str) -> str:
    """Give the full hash for one that is given, whole or by its first seven digits or more."""
    if not _REVISION.fullmatch(given):
        raise Refused(400, f"revision is {given[:80]!r}, expected a hash, or its first 7 digits or more")
    found = target.history.find(given)
    if len(found) > 1:
        raise Refused(409, f"revision {given} is the beginning of several that were published; give more of it")
    if found:
        return found[0]
    if len(given) in _FULL and target.there(given):
        return given
    raise Refused(404, f"revision {given} is unknown: it is not among the last ones published, and has no worktree")


def _answered(targets: Sequence[Target], request: Request, act: Callable[[Target, Order], Response]) -> Response:
    try:
        order = msgspec.json.decode(request.body, type=Order) if request.body.strip() else Order()
        return act(_target(targets, order.repository), order)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return text(400, f'the body is not {{"revision": "HASH", "repository": "NAME"}}: {error}')
    except Refused as error:
        return text(error.status, str(error))
    except OSError as error:
        return text(500, f"cannot be kept over a restart, so nothing has changed: {error.strerror}: {error.filename}")


def _target(targets: Sequence[Target], name: str) -> Target:
    names = ", ".join(each.name for each in targets)
    if not name and len(targets) > 1:
        raise Refused(400, f"several repositories are synced: say which one, as repository: {names}")
    for target in targets:
        if not name or target.name == name:
            return target
    raise Refused(404, f"repository {name[:80]!r} is unknown; there is {names}")
