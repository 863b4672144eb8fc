"""Records become bytes: one encoder per value of --to, each imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Segment


class Encoder(Protocol):
    """Makes bytes of records; used by one thread at a time, and picklable before its first use."""

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode the records of one origin in their order. Raises nothing, whatever the records.

        jsonl, ecs, logfmt, csv, template   pieces to be written one after another; each record ends with a newline
        otlp                                bodies of requests, each of at most 1,000 records
        gelf                                messages, one per record
        """


def encoder(settings: Settings, to: str) -> Encoder:
    """Give the encoder that --to names. Raises WrongSettings for what is wrong in the settings it needs."""
    from importlib import import_module

    from sidecars.adapter.encode.shaping import Shaping

    made: Encoder = import_module(f"sidecars.adapter.encode.{to}").Encoder(settings, Shaping(settings))
    return made
