"""Where a reader was, as text that a client keeps and gives back: a place in each of the files it reads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence

import msgspec

from sidecars.adapter.web.refusal import Refusal, shown

# key, inode, offset, count and hash of the bytes before the offset
_PLACE = struct.Struct(">6sQQB4s")
BEFORE_BYTES = 64


class Place(msgspec.Struct, frozen=True):
    """A place in one file: the key of its path, its inode, and the offset, with what stands before that.

    `digest` is the hash of the `count` bytes before the offset. It tells a file that was truncated and filled again.
    """

    key: bytes
    inode: int
    offset: int
    count: int
    digest: bytes


def key(path: str) -> bytes:
    """Give what stands for a path in a cursor."""
    return hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=6).digest()


def digest(data: bytes) -> bytes:
    """Give the hash of the bytes before an offset."""
    return hashlib.blake2b(data, digest_size=4).digest()


def encode(places: Sequence[Place]) -> str:
    """Give the text of a cursor."""
    data = b"".join(_PLACE.pack(p.key, p.inode, p.offset, p.count, p.digest) for p in places)
    return base64.urlsafe_b64encode(data).decode() or "-"


def decode(text: str, name: str) -> dict[bytes, Place]:
    """Read the text of a cursor, by the keys of the paths. Raises Refusal."""
    try:
        data = b"" if text == "-" else base64.b64decode(text.encode("ascii"), b"-_", validate=True)
        places = [Place(*fields) for fields in _PLACE.iter_unpack(data)]
    except (ValueError, binascii.Error, struct.error) as error:
        raise Refusal(400, f"{name} is {shown(text)}, which is no cursor; take one from X-Next or a Link") from error
    return {place.key: place for place in places}
