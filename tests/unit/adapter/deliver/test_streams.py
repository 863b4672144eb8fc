"""What goes into a stream ends with a newline, whatever the encoder makes."""

from __future__ import annotations

import pytest

from sidecars.adapter.deliver.metrics import Delivered
from sidecars.adapter.deliver.specs import Spec, Stdout
from sidecars.adapter.deliver.streams import Rendering
from sidecars.adapter.portion import Portion


class Fixed:
    """A pipeline that gives always the same."""

    count = 2

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def encode(self, portion: Portion) -> list[bytes]:
        return self._pieces

    def records(self, portion: Portion):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("to", "pieces", "stream"),
    [("jsonl", (b"1\n2\n", b"3\n"), b"1\n2\n3\n"), ("gelf", (b"1", b"2"), b"1\n2\n"), ("otlp", (b"1",), b"1\n")],
)
def test_every_piece_ends_with_one_newline(to, pieces, stream):
    pipeline = Fixed(*pieces)
    rendering = Rendering(Spec("stdout", Stdout(), to, True), pipeline, Delivered("stdout", pipeline))
    assert b"".join(rendering(Portion("/a", b""))) == stream
