"""Remembering: how far each file was delivered, on disk, so that a restart goes on where this process stopped."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import Protocol

import msgspec

from sidecars.core import disk
from sidecars.core.follow.identity import Position
from sidecars.core.log import log

VERSION = 1


class Document(msgspec.Struct, frozen=True):
    """What a store keeps: the place in each file, and when, in nanoseconds since the epoch, it began and was saved."""

    version: int
    saved: int
    files: list[Position]
    begun: int = 0


class Store(Protocol):
    """Where positions are kept. Called from a thread: may block."""

    def load(self) -> Document | None:
        """Give what was saved; None when nothing was ever saved."""

    def save(self, positions: Iterable[Position], begun: int = 0) -> None:
        """Keep these, all of them, durably. Raises OSError."""


class JsonStore:
    """One JSON document, replaced atomically and durably. One that cannot be read is set aside, not deleted."""

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> Document | None:
        """Read the document. One that is corrupt counts as empty: what is there is delivered again, not skipped."""
        try:
            with open(self._path, "rb") as file:
                document = msgspec.json.decode(file.read(), type=Document)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            return self._set_aside(str(error))
        if document.version != VERSION:
            return self._set_aside(f"version is {document.version}, this program writes {VERSION}")
        return document

    def _set_aside(self, reason: str) -> Document:
        aside = f"{self._path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        with contextlib.suppress(OSError):
            os.replace(self._path, aside)
        log.error("checkpoint cannot be read; starting anew", path=self._path, error=reason, set_aside=aside)
        return Document(VERSION, time.time_ns(), [], time.time_ns())

    def save(self, positions: Iterable[Position], begun: int = 0) -> None:
        """Write the document."""
        disk.replace_file(self._path, encoded(positions, begun))


def encoded(positions: Iterable[Position], begun: int) -> bytes:
    """Give a document as JSON, encoded position by position: 10,000 of them at once would take much memory."""
    encoder = msgspec.json.Encoder()
    document = bytearray(b'{"version":%d,"begun":%d,"saved":%d,"files":[' % (VERSION, begun, time.time_ns()))
    for position in positions:
        encoder.encode_into(position, document, -1)
        document += b","
    return bytes(document.removesuffix(b",")) + b"]}\n"
