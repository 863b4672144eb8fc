"""What an operator wants changed in a message's headers."""

from __future__ import annotations

import re

from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import HeaderChanges

# They say where a message ends and what becomes of the connection: whoever changed them would break it.
FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding", b"upgrade", b"keep-alive", b"te"})


class Changes:
    """Changes of headers, ready to be made: what is removed, then rewritten, then set, then added."""

    __slots__ = ("_add", "_beginnings", "_names", "_replaced", "_rewrites", "_set")

    def __init__(self, changes: HeaderChanges) -> None:
        removed = [name.lower().encode("latin-1") for name in changes.remove]
        self._names = frozenset(name for name in removed if not name.endswith(b"*")) - FRAMING
        self._beginnings = tuple(name[:-1] for name in removed if name.endswith(b"*"))
        self._rewrites = [
            (each.name.lower().encode("latin-1"), re.compile(each.matches.encode()), each.to.encode())
            for each in changes.rewrite
        ]
        self._set = [(each.name.encode("latin-1"), each.value.encode()) for each in changes.set]
        self._add = [(each.name.encode("latin-1"), each.value.encode()) for each in changes.add]
        self._replaced = frozenset(name.lower() for name, _ in self._set)

    def made(self, headers: Headers) -> Headers:
        """Give the headers as they are to be."""
        kept = [pair for pair in headers if not self._goes(pair[0].lower())]
        for wanted, pattern, to in self._rewrites:
            kept = [(name, _clean(pattern.sub(to, value))) if name.lower() == wanted else (name, value)
                    for name, value in kept]  # fmt: skip
        if self._replaced:
            kept = [pair for pair in kept if pair[0].lower() not in self._replaced]
        return kept + self._set + self._add

    def _goes(self, low: bytes) -> bool:
        return low in self._names or bool(self._beginnings and low.startswith(self._beginnings) and low not in FRAMING)


def _clean(value: bytes) -> bytes:
    """Keep a rewritten value one line: \\n in `to` would begin a header of its own."""
    return value.translate(None, b"\r\n\0")


def changes(wanted: HeaderChanges) -> Changes | None:
    """Give the changes; None where there are none."""
    return Changes(wanted) if wanted != HeaderChanges() else None
