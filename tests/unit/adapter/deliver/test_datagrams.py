"""GELF messages as datagrams."""

from __future__ import annotations

import gzip
import json
import random

from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.deliver.datagrams import MARK, datagrams


def message(**fields: object) -> bytes:
    return json.dumps({"version": "1.1", "host": "h", "short_message": "s", **fields}).encode()


def joined(parts: list[bytes], size: int) -> bytes:
    """Join as Graylog does."""
    assert all(len(part) <= size for part in parts)
    if len(parts) > 1:
        assert len(parts) <= 128
        assert {part[:10] for part in parts} == {b"\x1e\x0f" + parts[0][2:10]}
        assert [(part[10], part[11]) for part in parts] == [(number, len(parts)) for number in range(len(parts))]
        assert all(len(part) == size for part in parts[:-1])
        parts = [b"".join(part[12:] for part in parts)]
    return gzip.decompress(parts[0]) if parts[0].startswith(b"\x1f\x8b") else parts[0]


@given(st.integers(64, 8192), st.integers(0, 20_000), st.sampled_from(["gzip", "off"]))
def test_what_fits_is_joined_to_what_it_was(size, length, compress):
    whole = message(full_message=random.Random(length).randbytes(length // 2).hex())
    parts, cut = datagrams(whole, size, compress)
    read = joined(parts, size)
    assert cut or read == whole
    assert not cut or len(whole) > 128 * (size - 12) or compress == "gzip"
    assert json.loads(read)["host"] == "h"


def test_a_message_that_fits_into_a_datagram_goes_as_it_is():
    assert datagrams(message(), 1420, "gzip") == ([message()], False)


def test_one_that_128_chunks_do_not_hold_loses_the_end_of_its_longest_text():
    text = random.Random(1).randbytes(200_000).hex()
    parts, cut = datagrams(message(full_message=text, _path="/kept", _status=200), 1420, "gzip")
    read = json.loads(joined(parts, 1420))
    assert cut
    assert read["_truncated"] is True
    assert (read["_path"], read["_status"]) == ("/kept", 200)
    assert read["full_message"].endswith(MARK)
    assert text.startswith(read["full_message"].removesuffix(MARK))
    assert len(read["full_message"]) > 10_000


def test_one_that_is_large_without_a_long_text_keeps_what_gelf_needs():
    whole = message(timestamp=1.5, level=6, **{f"_{number}": number for number in range(10_000)})
    parts, cut = datagrams(whole, 64, "off")
    read = {"version": "1.1", "host": "h", "short_message": "s", "timestamp": 1.5, "level": 6, "_truncated": True}
    assert (json.loads(joined(parts, 64)), cut) == (read, True)
