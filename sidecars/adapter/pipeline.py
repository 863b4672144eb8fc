"""The way of a portion from its bytes to those of an output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sidecars.adapter.portion import Portion
from sidecars.adapter.reading import Formats, Reader, total
from sidecars.adapter.table import Record, Segment

if TYPE_CHECKING:
    from sidecars.adapter.encode import Encoder
    from sidecars.adapter.encode.shaping import Shaping

Observe = Callable[[Sequence[Segment]], None]


class Pipeline:
    """Reads portions and encodes them for one output; used in that output's thread alone.

    `observe` is shown what was read: one pipeline of the program counts for the metrics. `count` is how many records
    the portion has that was read last.
    """

    def __init__(
        self, formats: Formats, shaping: Shaping, encoder: Encoder | None, observe: Observe | None = None
    ) -> None:
        self._reader = Reader(formats)
        self._shaping = shaping
        self._encoder = encoder
        self._observe = observe
        self.count = 0

    def segments(self, portion: Portion) -> list[Segment]:
        """Read a portion; portions of one origin in their order."""
        segments = self._reader.segments(portion)
        self.count = total(segments)
        if self._observe is not None:
            self._observe(segments)
        return segments

    def encode(self, portion: Portion) -> list[bytes]:
        """Read a portion and give what the output is to be sent."""
        assert self._encoder is not None  # noqa: S101  (an output that encodes was given one)
        return self._encoder.encode(self.segments(portion), portion.origin)

    def records(self, portion: Portion) -> Iterator[Record]:
        """Read a portion and give its records as they may leave this process."""
        return self._shaping.records(self.segments(portion), portion.origin)
