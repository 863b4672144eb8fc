from __future__ import annotations

import gzip
import os
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecars.core.follow import compressed
from sidecars.core.follow.compressed import Damaged, Unfinished
from sidecars.core.follow.find import ENDINGS

SAMPLE = random.Random(4).randbytes(3000) * 400


def packed(data: bytes, ending: str) -> bytes:
    if ending == ".gz":
        return gzip.compress(data, 1)
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def unpacked(path: Path, data: bytes, *offsets: int) -> compressed.Contents:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return compressed.contents(fd, path.suffix, offsets)
    finally:
        os.close(fd)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(0, 400_000), min_size=1, max_size=3), offsets=st.lists(st.integers(0, 10**6)))
def test_what_was_compressed_comes_out_whatever_the_members(
    tmp_path: Path, ending: str, sizes: list[int], offsets: list[int]
) -> None:
    pieces = [SAMPLE[:size] for size in sizes]
    whole = b"".join(pieces)
    found = unpacked(tmp_path / f"a{ending}", b"".join(packed(piece, ending) for piece in pieces), *offsets)
    assert (found.size, found.head) == (len(whole), whole[:1024])
    expected = {offset for offset in (0, len(whole), *offsets) if offset <= len(whole)}
    assert found.tails == {offset: whole[max(0, offset - 128) : offset] for offset in expected}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.9999])
def test_a_file_that_ends_too_early_is_not_whole(tmp_path: Path, ending: str, share: float) -> None:
    data = packed(SAMPLE, ending)
    with pytest.raises(Unfinished):
        unpacked(tmp_path / f"a{ending}", data[: int(len(data) * share)])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("place", [0, 0.01, 0.5, 0.999])
def test_a_damaged_file_is_told(tmp_path: Path, ending: str, place: float) -> None:
    data = bytearray(packed(random.Random(1).randbytes(100_000), ending))
    data[int(len(data) * place)] ^= 0xFF
    with pytest.raises((Damaged, Unfinished)):
        unpacked(tmp_path / f"a{ending}", bytes(data))


def test_zeros_after_the_last_member_are_padding(tmp_path: Path) -> None:
    assert unpacked(tmp_path / "a.gz", gzip.compress(b"line\n") + bytes(512)).size == 5


def test_other_bytes_after_the_last_member_are_damage(tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        unpacked(tmp_path / "a.gz", gzip.compress(b"line\n") + b"line\n")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_becomes_large_is_uncompressed_in_little_memory(tmp_path: Path, ending: str) -> None:
    data = packed(bytes(1 << 26), ending)
    tracemalloc.start()
    try:
        assert unpacked(tmp_path / f"a{ending}", data).size == 1 << 26
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_size_that_a_file_claims_is_what_is_in_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(packed(SAMPLE, ending))
    with path.open("rb") as file:
        assert compressed.claimed(file.fileno(), ending, path.stat().st_size) == len(SAMPLE)


def test_a_file_that_says_nothing_of_its_size_claims_none(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    writer = zstandard.ZstdCompressor().compressobj()
    path.write_bytes(writer.compress(SAMPLE) + writer.flush())
    with path.open("rb") as file:
        assert compressed.claimed(file.fileno(), ".zst", path.stat().st_size) is None
    path.write_bytes(zlib.compress(b""))
    with path.open("rb") as file:
        assert compressed.claimed(file.fileno(), ".gz", path.stat().st_size) is None
