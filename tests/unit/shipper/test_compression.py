import gzip
import subprocess
import sys
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sidecars.shipper.compression import content_type, extension, member, recompress

COMPRESSIONS = ("gzip", "zstd", "none")
LINE = b'203.0.113.9 - - [23/Nov/2026:06:26:17 +0000] "GET /cart HTTP/1.1" 200 5120 "-" "curl/8.14.1" %d\n'


def text_of(data, compression):
    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


def members_of(data, compression):
    count = 0
    while data:
        reader = zlib.decompressobj(31) if compression == "gzip" else zstandard.ZstdDecompressor().decompressobj()
        reader.decompress(data)
        data, count = reader.unused_data, count + 1
    return count


@given(st.lists(st.binary()), st.sampled_from(COMPRESSIONS), st.sampled_from([bytes, bytearray, memoryview]))
def test_members_that_follow_each_other_are_one_file_with_all_that_was_compressed(pieces, compression, kind):
    file = b"".join(member(kind(piece), compression) for piece in pieces)
    assert text_of(file, compression) == b"".join(pieces)


def test_zcat_reads_members_that_follow_each_other(tmp_path):
    path = tmp_path / "chunk.gz"
    path.write_bytes(b"".join(member(LINE % number, "gzip") for number in range(100)))
    assert subprocess.check_output(["zcat", path]) == b"".join(LINE % number for number in range(100))


def test_equal_lines_give_equal_members():
    assert member(LINE, "gzip") == member(LINE, "gzip")


def test_zstandard_is_loaded_only_for_zstd():
    code = """
import sys
from sidecars.shipper.compression import member
member(b"x", "gzip"), print("zstandard" in sys.modules), member(b"x", "zstd"), print("zstandard" in sys.modules)
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\nTrue\n"


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_thousand_small_members_become_one_that_is_much_smaller(tmp_path, compression):
    source, target = tmp_path / "chunk", tmp_path / "whole"
    source.write_bytes(b"".join(member(LINE % number, compression) for number in range(1000)))
    length = recompress(str(source), str(target), compression, source.stat().st_size)
    whole = target.read_bytes()
    assert text_of(whole, compression) == b"".join(LINE % number for number in range(1000))
    assert members_of(whole, compression) == 1
    assert length == len(whole) < source.stat().st_size / 10


@given(st.lists(st.binary(max_size=40_000)), st.sampled_from(COMPRESSIONS))
def test_recompressed_text_is_the_same_whatever_it_is(tmp_path_factory, pieces, compression):
    source, target = (str(tmp_path_factory.mktemp("recompress") / name) for name in ("source", "target"))
    with open(source, "wb") as file:
        file.write(b"".join(member(piece, compression) for piece in pieces))
        length = file.tell()
        file.write(b"written by a process that was killed before it was recorded")
    with open(target, "wb") as file:
        file.write(b"left from an earlier try" * 100)
    new = recompress(source, target, compression, length)
    with open(target, "rb") as file:
        whole = file.read()
    assert text_of(whole, compression) == b"".join(pieces)
    assert new == len(whole)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("harm", ["cut", "short", "changed"])
def test_a_damaged_chunk_is_an_error_and_leaves_no_target(tmp_path, compression, harm):
    source, target = tmp_path / "chunk", tmp_path / "whole"
    data = bytearray(b"".join(member(LINE % number, compression) for number in range(100)))
    length = len(data)
    if harm == "cut":
        length -= 3
    elif harm == "short":
        del data[-3:]
    else:
        data[length // 2] ^= 0xFF
    source.write_bytes(data)
    with pytest.raises(OSError, match=str(source)):
        recompress(str(source), str(target), compression, length)
    assert not target.exists()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_recompressing_holds_a_member_at_a_time(tmp_path, compression):
    source, target = tmp_path / "chunk", tmp_path / "whole"
    block = b"".join(LINE % number for number in range(10_000))
    source.write_bytes(member(block, compression) * 40)
    tracemalloc.start()
    recompress(str(source), str(target), compression, source.stat().st_size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(block)


@pytest.mark.parametrize(
    ("kind", "compression", "name", "type_"),
    [
        ("text", "gzip", "log.gz", "application/x-gzip"),
        ("text", "zstd", "log.zst", "application/x-zst"),
        ("text", "none", "log", "text/plain"),
        ("out_file", "gzip", "log.gz", "application/x-gzip"),
        ("ltsv", "none", "ltsv", "text/plain"),
        ("json", "gzip", "json.gz", "application/x-gzip"),
        ("json", "none", "json", "application/x-ndjson"),
    ],
)
def test_an_object_is_named_and_typed_by_what_is_stored(kind, compression, name, type_):
    assert extension(kind, compression) == name
    assert content_type(kind, compression) == type_
