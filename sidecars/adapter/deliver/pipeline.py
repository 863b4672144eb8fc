"""What an output needs of the way from a portion to what is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sidecars.adapter.portion import Portion
from sidecars.adapter.table import Record


class Pipeline(Protocol):
    """Reads each portion once, those of an origin in their order.

    count  how many records the portion has that was read last
    """

    count: int

    def encode(self, portion: Portion) -> list[bytes]:
        """Give what is to be sent, encoded."""

    def records(self, portion: Portion) -> Iterator[Record]:
        """Give what is to be sent, as values."""
