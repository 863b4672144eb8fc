"""Cursors, as clients keep them and give them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.web.cursor import Place, decode, encode, key
from sidecars.adapter.web.refusal import Refusal

numbers = st.integers(0, 2**64 - 1)
places = st.builds(
    Place, st.binary(min_size=6, max_size=6), numbers, numbers, st.integers(0, 64), st.binary(min_size=4, max_size=4)
)


@given(st.lists(places, max_size=5, unique_by=lambda place: place.key))
def test_a_cursor_comes_back_as_it_was(made):
    assert list(decode(encode(made), "after").values()) == made


@given(st.lists(places, max_size=3))
def test_cursors_can_be_put_together(made):
    # The page does so, to go on before lines that it let go of.
    assert encode(made).replace("-", "", not made) == "".join(encode([place]) for place in made)


@pytest.mark.parametrize("text", ["x", "AAAA", "../../etc/passwd", "é", "A" * 35, "=" * 36])
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(Refusal, match="which is no cursor"):
        decode(text, "after")


def test_a_path_of_any_bytes_has_a_key():
    assert len({key("a"), key("b"), key("\udcff")}) == 3
