from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.core.follow.identity import (
    HEAD_BYTES,
    NO_HEAD,
    TAIL_BYTES,
    Head,
    born,
    digest,
    head_of,
    printable,
    same_content,
)
from tests.unit.core.follow.opened import opened


def test_a_birth_is_told_and_outlives_a_rename_and_a_write(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"a") as file:
        birth = born(file.fd)
        if birth is None:
            pytest.skip("this file system tells no birth times: nothing of them is tested here")
        assert abs(birth - time.time_ns()) < 60_000_000_000
        path.rename(tmp_path / "b.log")
        os.truncate(tmp_path / "b.log", 0)
        assert born(file.fd) == birth


def test_a_descriptor_that_is_closed_has_no_birth() -> None:
    assert born(-1) is None


def test_a_head_is_as_much_as_there_is(tmp_path: Path) -> None:
    with opened(tmp_path / "a.log", b"") as file:
        assert head_of(file.fd) == NO_HEAD
    with opened(tmp_path / "b.log", b"x" * 10) as file:
        assert head_of(file.fd) == Head(10, digest(b"x" * 10))
    with opened(tmp_path / "c.log", b"x" * 5000) as file:
        assert head_of(file.fd) == Head(HEAD_BYTES, digest(b"x" * HEAD_BYTES))
        assert head_of(file.fd, 7) == Head(7, digest(b"x" * 7))


@settings(max_examples=60, deadline=None)
@given(
    before=st.binary(max_size=2000),
    after=st.binary(max_size=50),
    place=st.floats(0, 1),
    flip=st.none() | st.floats(0, 0.999),
)
def test_content_is_the_same_as_long_as_its_head_and_what_precedes_the_offset_are(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes, place: float, flip: float | None
) -> None:
    """Bytes are added, or one of the old ones is another: seen where it is hashed, at both ends."""
    path = tmp_path_factory.mktemp("identity") / "a.log"
    with opened(path, before) as file:
        file.start_at(int(len(before) * place))
        position = file.position()
        changed = bytearray(before + after)
        different = False
        if flip is not None and before:
            index = int(flip * len(before))
            changed[index] ^= 1
            different = index < position.head_bytes or position.offset - TAIL_BYTES <= index < position.offset
        path.write_bytes(changed)
        assert same_content(file.fd, position) is not different


def test_a_shorter_file_is_not_the_same_content(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with opened(path, b"x" * 3000) as file:
        file.start_at(3000)
        position = file.position()
        os.truncate(path, 2999)
        assert not same_content(file.fd, position)


@given(st.binary(max_size=40))
def test_any_path_can_be_printed_and_stored(path: bytes) -> None:
    text = printable(os.fsdecode(path))
    assert msgspec.json.decode(msgspec.json.encode(text)) == text
    if path.isascii():
        assert text == path.decode()


def test_bytes_of_a_path_that_are_not_utf_8_are_shown_by_their_number() -> None:
    assert printable(os.fsdecode(b"/logs/caf\xe9.log")) == "/logs/caf\\xe9.log"
    assert printable("/logs/café.log") == "/logs/café.log"
