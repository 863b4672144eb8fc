"""What a recogniser finds in one statement, and what becomes of the statements that none knows."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sidecars.pods.recognise.scope import known
from sidecars.pods.verdict import Kind


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one statement. The texts have scope's marks in them.

    args     of the image's program: what does the same
    targets  of a wait: what to wait for; waits that follow one another become one
    some     one of the targets is enough
    limit    of a wait: how many seconds it has at most
    paths    what it makes
    file     that is one file
    loops    it runs beside the application and never ends by itself
    doubt    why it is not exact although the arguments are known
    instead  what to do, where that is more than the command line
    """

    kind: Kind = "exact"
    pattern: int
    found: str
    wrong: str
    instead: str = ""
    image: str = "pod-init"
    args: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    some: bool = False
    limit: float | None = None
    paths: tuple[str, ...] = ()
    file: bool = False
    loops: bool = False
    doubt: str = ""
    notes: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()

    @property
    def sure(self) -> bool:
        """All of it is known, so that it can be put in the place of the statement."""
        return self.kind == "exact" and not self.doubt and all(map(known, (*self.args, *self.targets)))


class Change(msgspec.Struct, frozen=True):
    """Something is done to files that an earlier statement, or a later one, may have made: see joining.py.

    verb    chmod, chown, unpack, remove, touch, move
    detail  of chmod the mode, of chown the owner, of unpack the directory and what pod-init is to be told besides, of
            move where to
    """

    verb: str
    paths: tuple[str, ...]
    detail: tuple[str, ...] = ()


class Unclear(msgspec.Struct, frozen=True):
    """A statement that does something, nobody here knows what."""

    name: str = ""


Step: TypeAlias = Finding | Change | Unclear
