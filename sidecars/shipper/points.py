"""The named points of the protocol at which a crash must lose nothing and repeat nothing: see docs/s3-shipper.md."""

from __future__ import annotations

from typing import Literal

Point = Literal[
    "batch appended",
    "member written",
    "chunks synced",
    "ledger committed",
    "chunk made whole",
    "whole recorded",
    "key recorded",
    "object stored",
    "chunk forgotten",
    "file removed",
]


def reached(point: Point) -> None:
    """Do nothing: the crash tests put a kill -9 here."""
