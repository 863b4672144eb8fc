"""Twemproxy's twelve hashes of a key, bit for bit, as x86 computes them.

Each takes the bytes of a key, and gives a number of 32 bits. C's plain `char` is signed on x86: in
the hashes that add bytes one by one, a byte of 0x80 or more counts as itself less 256.

Source: twemproxy 0.5.0, src/hashkit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import md5 as _md5
from struct import unpack_from
from zlib import crc32 as _crc32

_MASK = 0xFFFFFFFF


def _signed(key: bytes) -> Sequence[int]:
    return key if key.isascii() else memoryview(key).cast("b")


def md5(key: bytes) -> int:
    """Take the first four bytes of MD5, the lowest first."""
    return int.from_bytes(_md5(key, usedforsecurity=False).digest()[:4], "little")


def _crc16_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        crc = value << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
        table.append(crc)
    return tuple(table)


_CRC16 = _crc16_table()


def crc16(key: bytes) -> int:
    """CCITT's CRC-16 in an accumulator of 32 bits, of which the upper ones are kept."""
    crc = 0
    for byte in key:
        crc = (crc << 8 ^ _CRC16[(crc >> 8 ^ byte) & 0xFF]) & _MASK
    return crc


def crc32(key: bytes) -> int:
    """Take the fifteen bits of CRC-32 that libmemcached takes."""
    return _crc32(key) >> 16 & 0x7FFF


def crc32a(key: bytes) -> int:
    """CRC-32, whole."""
    return _crc32(key)


def fnv1_64(key: bytes) -> int:
    """Give the low half of the 64-bit FNV-1."""
    value = 0x84222325
    for byte in _signed(key):
        value = (value * 0x1B3 ^ byte) & _MASK
    return value


def fnv1a_64(key: bytes) -> int:
    """Give the low half of what would be the 64-bit FNV-1a with the low half of its prime."""
    value = 0x84222325
    for byte in _signed(key):
        value = (value ^ byte) * 0x1B3 & _MASK
    return value


def fnv1_32(key: bytes) -> int:
    """FNV-1."""
    value = 2166136261
    for byte in _signed(key):
        value = (value * 16777619 ^ byte) & _MASK
    return value


def fnv1a_32(key: bytes) -> int:
    """FNV-1a."""
    value = 2166136261
    for byte in _signed(key):
        value = (value ^ byte) * 16777619 & _MASK
    return value


def one_at_a_time(key: bytes) -> int:
    """Bob Jenkins's one-at-a-time."""
    value = 0
    for byte in _signed(key):
        value = value + byte & _MASK
        value = value + (value << 10) & _MASK
        value ^= value >> 6
    value = value + (value << 3) & _MASK
    value ^= value >> 11
    return value + (value << 15) & _MASK


def hsieh(key: bytes) -> int:
    """Paul Hsieh's SuperFastHash, begun with zero; of three bytes left over, the last has a sign."""
    value = 0
    whole = len(key) & ~3
    for low, high in zip(*[iter(unpack_from(f"<{whole // 2}H", key))] * 2, strict=True):
        value = value + low & _MASK
        value = (value << 16 ^ high << 11 ^ value) & _MASK
        value = value + (value >> 11) & _MASK
    value = _hsieh_rest(value, key[whole:])
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value = (value ^ value << left) & _MASK
        value = value + (value >> right) & _MASK
    return value


def _hsieh_rest(value: int, rest: bytes) -> int:
    if len(rest) == 3:
        value = value + int.from_bytes(rest[:2], "little") & _MASK
        value = (value ^ value << 16 ^ _signed(rest)[2] << 18) & _MASK
        return value + (value >> 11) & _MASK
    if len(rest) == 2:
        value = value + int.from_bytes(rest, "little") & _MASK
        value = (value ^ value << 11) & _MASK
        return value + (value >> 17) & _MASK
    if len(rest) == 1:
        value = value + rest[0] & _MASK
        value = (value ^ value << 10) & _MASK
        return value + (value >> 1) & _MASK
    return value


def murmur(key: bytes) -> int:
    """Austin Appleby's MurmurHash2, seeded with the length."""
    multiplier = 0x5BD1E995
    length = len(key)
    value = (0xDEADBEEF * length ^ length) & _MASK
    whole = length & ~3
    for word in unpack_from(f"<{whole // 4}I", key):
        word = word * multiplier & _MASK
        word = (word ^ word >> 24) * multiplier & _MASK
        value = value * multiplier & _MASK ^ word
    if rest := key[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * multiplier & _MASK
    value = (value ^ value >> 13) * multiplier & _MASK
    return value ^ value >> 15


def jenkins(key: bytes) -> int:
    """Bob Jenkins's lookup3, hashlittle, begun with 13."""
    a = b = c = 0xDEADBEEF + len(key) + 13 & _MASK
    if not key:
        return c
    # The last block is never mixed like the others, also when it is full; what it lacks counts as zeros.
    blocks = (len(key) + 11) // 12
    words = unpack_from(f"<{blocks * 3}I", key.ljust(blocks * 12, b"\0"))
    for at in range(0, len(words) - 3, 3):
        a, b, c = _mixed(a + words[at], b + words[at + 1], c + words[at + 2])
    return _final(a + words[-3], b + words[-2], c + words[-1])


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _MASK


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    a, b, c = a & _MASK, b & _MASK, c & _MASK
    for bits in (4, 6, 8, 16, 19, 4):
        a = (a - c & _MASK) ^ _rotated(c, bits)
        c = c + b & _MASK
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    a, b, c = a & _MASK, b & _MASK, c & _MASK
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotated(b, bits) & _MASK
        a, b, c = b, c, a
    # The last step has changed what the rotation of names has put in b.
    return b


HASHES: dict[str, Callable[[bytes], int]] = {
    "one_at_a_time": one_at_a_time, "md5": md5, "crc16": crc16, "crc32": crc32, "crc32a": crc32a,
    "fnv1_64": fnv1_64, "fnv1a_64": fnv1a_64, "fnv1_32": fnv1_32, "fnv1a_32": fnv1a_32, "hsieh": hsieh,
    "murmur": murmur, "jenkins": jenkins,
}  # fmt: skip
