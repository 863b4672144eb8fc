"""GELF messages as datagrams: whole, compressed, in chunks, or cut to what chunks can hold.

Source: Graylog, "GELF via UDP": a chunk is 0x1e 0x0f, 8 bytes of message id, its number, their count, and its part.
"""

from __future__ import annotations

import gzip
import os
from typing import Literal

import msgspec

_MAGIC = b"\x1e\x0f"
_HEADER_BYTES = 12
_MOST_CHUNKS = 128
_SHORTEST = 64
MARK = "… (truncated)"
# What GELF knows itself; the fields of a record are left out when cutting their texts is not enough.
_ESSENTIAL = ("version", "host", "short_message", "timestamp", "level")


def datagrams(message: bytes, size: int, compress: Literal["gzip", "off"]) -> tuple[list[bytes], bool]:
    """Give a message as datagrams of at most `size` bytes, and whether it was cut for that.

    One that fits into a datagram as it is goes uncompressed: receivers tell by its first bytes.
    """
    if len(message) <= size:
        return [message], False
    most = (size - _HEADER_BYTES) * _MOST_CHUNKS
    payload = _payload(message, compress)
    if len(payload) <= most:
        return _chunks(payload, size), False
    return _chunks(_cut(message, most, compress), size), True


def _payload(message: bytes, compress: Literal["gzip", "off"]) -> bytes:
    return gzip.compress(message, 1, mtime=0) if compress == "gzip" else message


def _chunks(payload: bytes, size: int) -> list[bytes]:
    if len(payload) <= size:
        return [payload]
    step = size - _HEADER_BYTES
    parts = [payload[start : start + step] for start in range(0, len(payload), step)]
    name = os.urandom(8)
    return [_MAGIC + name + bytes((number, len(parts))) + part for number, part in enumerate(parts)]


def _cut(message: bytes, most: int, compress: Literal["gzip", "off"]) -> bytes:
    """Halve the longest text until the message fits, and say so in it."""
    fields = msgspec.json.decode(message, type=dict[str, object])
    fields["_truncated"] = True
    while len(payload := _payload(msgspec.json.encode(fields), compress)) > most:
        texts = {name: value for name, value in fields.items() if isinstance(value, str) and len(value) > _SHORTEST}
        if not texts:
            fields = {name: fields[name] for name in _ESSENTIAL if name in fields} | {"_truncated": True}
            return _payload(msgspec.json.encode(fields), compress)
        longest = max(texts, key=lambda name: len(texts[name]))
        text = texts[longest].removesuffix(MARK)
        fields[longest] = text[: len(text) // 2] + MARK
    return payload
