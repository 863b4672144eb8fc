"""Records as entries of the forward protocol."""

from __future__ import annotations

import io

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.forward.packing import pack_records

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def unpacked(*timed):
    data, count = pack_records(timed)
    entries = list(msgpack.Unpacker(io.BytesIO(data), raw=False, timestamp=0)) if data else []
    assert len(entries) == count
    return [(int.from_bytes(when.data[:4]), int.from_bytes(when.data[4:]), record) for when, record in entries]


def as_carried(value):
    if isinstance(value, bool) or not isinstance(value, (int, dict, list)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, dict):
        return {key: as_carried(each) for key, each in value.items()}
    return [as_carried(each) for each in value]


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=4))
def test_every_record_arrives_with_its_values_and_integers_beyond_64_bits_as_text(records):
    assert [record for _, _, record in unpacked(*((0, record) for record in records))] == as_carried(records)


@pytest.mark.parametrize(
    ("time_ns", "seconds", "rest"),
    [(1_700_000_000_000_000_001, 1_700_000_000, 1), (-1, 0, 0), (2**32 * 10**9 + 5, 2**32 - 1, 5)],
)
def test_an_events_time_is_exact_within_what_it_can_say(time_ns, seconds, rest):
    assert unpacked((time_ns, {})) == [(seconds, rest, {})]


def test_what_cannot_be_carried_does_not_take_the_rest_along():
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    [(_, _, record)] = unpacked((0, {"deep": deep, "text": "lone \udcff", "a": 1}))
    assert record["text"] == "lone \\udcff" and record["a"] == 1 and "deep" in record
    while isinstance(deep, list) and deep:  # taken apart by hand: its destructor would recurse as well
        deep = deep.pop()
