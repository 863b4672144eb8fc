"""The forms in which records are answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from sidecars.adapter.table import Objects
from sidecars.adapter.web.query import Query
from sidecars.adapter.web.sieve import Entry, Names, Shaped
from sidecars.core.follow.identity import printable

if TYPE_CHECKING:
    from sidecars.adapter.settings import Settings

_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "ecs": "application/x-ndjson",
    "page": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}
_ENCODED = ("ecs", "logfmt", "csv")
_TEXT = "text/plain; charset=utf-8"


def as_json(value: object) -> bytes:
    """Encode a value, whatever came out of a log."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return json.dumps(value, default=str).encode()


def encoded(form: str) -> bool:
    """Tell whether a form is made by an encoder, which shapes the records itself."""
    return form in _ENCODED


class Rendering:
    """One request's form: `head`, then the pieces of all records with `between` among them, then `foot`."""

    def __init__(self, query: Query, settings: Settings, shaping: Shaped) -> None:
        self._settings = settings
        self._shaping = shaping
        self._names = Names(shaping)
        self.form = query.form
        self.type = "text/event-stream" if query.events else _TYPES.get(query.form, _TEXT)
        array = query.form == "json"
        self.head, self.between, self.foot = (b"[", b",\n", b"]\n") if array else (b"", b"\n", b"\n")
        self._encoder = None
        if encoded(query.form):
            from sidecars.adapter.encode import encoder  # only who asks for such a form pays for it

            self._encoder = encoder(settings, query.form)

    def piece(self, entry: Entry) -> bytes:
        """Give one record, without anything at its end."""
        if self._encoder is not None:
            segment = Objects([entry.own or {}], [entry.line])
            return b"".join(self._encoder.encode([segment], entry.origin)).removesuffix(b"\n")
        if self.form == "raw":
            return self._raw(entry).encode("utf-8", "replace")
        if self.form == "page":
            return self._for_page(entry)
        return as_json(entry.record)

    def _raw(self, entry: Entry) -> str:
        return self._shaping.redacted(entry.line.decode("utf-8", "replace"))

    def _for_page(self, entry: Entry) -> bytes:
        return as_json(
            {
                "at": entry.at,
                "file": printable(entry.origin),
                "time": round(entry.time * 1000),
                "level": self._names.severity(entry.record),
                "raw": self._raw(entry),
                "record": entry.record,
            }
        )

    def body(self, entries: Sequence[Entry]) -> bytes:
        """Give a whole answer."""
        pieces = self.between.join([self.piece(entry) for entry in entries])
        return self.head + pieces + (self.foot if pieces or self.form == "json" else b"")


def event(piece: bytes, cursor: str) -> bytes:
    """Give a record as a server-sent event; after a break the browser says its id, and it goes on from there."""
    data = b"".join(b"data: " + line + b"\n" for line in piece.replace(b"\r", b"").split(b"\n"))
    return (f"id: {cursor}\n".encode() if cursor else b"") + data + b"\n"
