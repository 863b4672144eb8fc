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

# Encoders that make one request of what they are given.
TOGETHER = ("otlp",)
Observe = Callable[[Sequence[Segment]], None]


class Pipeline:
    """Reads portions and encodes them for one output; used in that output's thread alone.

    `together`: the encoder is given a portion at once, for what it makes is not to be small. `observe` is shown what
    was read: one pipeline of the program counts for the metrics. `count` is how many records the portion has that was
    read last.
    """

    def __init__(
        self,
        formats: Formats,
        shaping: Shaping,
        encoder: Encoder | None,
        observe: Observe | None = None,
        *,
        together: bool = False,
    ) -> None:
        self._reader = Reader(formats)
        self._shaping = shaping
        self._encoder = encoder
        self._observe = observe
        self._together = together
        self.count = 0

    def segments(self, portion: Portion) -> list[Segment]:
        """Read a portion; portions of one origin in their order."""
        return [segment for some in self._read(portion) for segment in some]

    def _read(self, portion: Portion) -> Iterator[list[Segment]]:
        self.count = 0
        for segments in self._reader.read(portion):
            self.count += total(segments)
            if self._observe is not None:
                self._observe(segments)
            yield segments

    def encode(self, portion: Portion) -> list[bytes]:
        """Read a portion and give what the output is to be sent."""
        assert self._encoder is not None  # noqa: S101  (an output that encodes was given one)
        read = [self.segments(portion)] if self._together else self._read(portion)
        return [piece for segments in read for piece in self._encoder.encode(segments, portion.origin)]

    def records(self, portion: Portion) -> Iterator[Record]:
        """Read a portion and give its records as they may leave this process."""
        return self._shaping.records(self.segments(portion), portion.origin)
