"""What goes into a stream: encoded records, each with an end."""

from __future__ import annotations

from sidecars.adapter.deliver.metrics import Delivered
from sidecars.adapter.deliver.pipeline import Pipeline
from sidecars.adapter.deliver.specs import Spec
from sidecars.adapter.portion import Portion

# What these make is sent one by one elsewhere, and has no newline.
_WITHOUT_NEWLINE = ("otlp", "gelf")


class Rendering:
    """Makes the pieces of one stream."""

    def __init__(self, spec: Spec, pipeline: Pipeline, delivered: Delivered) -> None:
        self._pipeline = pipeline
        self._delivered = delivered
        self._newlines = spec.to in _WITHOUT_NEWLINE

    def __call__(self, portion: Portion) -> list[bytes]:
        """Encode a portion."""
        pieces = self._pipeline.encode(portion)
        self._delivered.made(portion)
        return [piece + b"\n" for piece in pieces] if self._newlines else pieces
