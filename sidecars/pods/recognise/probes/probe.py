"""What a look at something comes to."""

from __future__ import annotations

import msgspec


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at, as targets of pod-init's wait, with scope's marks in them.

    some   one of the targets is enough
    limit  how many seconds the look itself waits
    alone  one look without a loop is a wait too: the command can fail for nothing else
    calls  without a loop it may be no look at all, but a call that does something
    doubt  why pod-init's look is not the same
    """

    pattern: int
    found: str
    wrong: str
    targets: tuple[str, ...]
    some: bool = False
    limit: float | None = None
    image: str = "pod-init"
    alone: bool = True
    calls: bool = False
    doubt: str = ""
    instead: str = ""
    notes: tuple[str, ...] = ()
