from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sidecars.shipper import chunk
from sidecars.shipper.ledger import Ledger, open_ledger


def a_chunk(**facts: object) -> chunk.Chunk:
    made = chunk.new("s3", "gzip/text", "web", 1200, 1234.5)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def test_a_chunk_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    ledger, _ = open_ledger(str(tmp_path))
    recorded = a_chunk(length=812, lines=7, sealed=True, key="web/a", index=3, unfinished=99)
    ledger.commit([recorded], b"{}")
    ledger.close()
    ledger, was_corrupt = open_ledger(str(tmp_path))
    assert not was_corrupt
    [found] = ledger.chunks()
    assert all(getattr(found, name) == getattr(recorded, name) for name in chunk.Chunk.__struct_fields__)
    assert ledger.offsets() == b"{}"
    ledger.close()


def test_offsets_and_chunks_change_together_or_not_at_all(tmp_path: Path) -> None:
    ledger, _ = open_ledger(str(tmp_path))
    ledger.commit([a_chunk()], b"before")
    broken = a_chunk(lines=object())
    with pytest.raises(OSError, match="cannot write the ledger"):
        ledger.commit([a_chunk(), broken], b"after")
    assert ledger.offsets() == b"before"
    assert len(ledger.chunks()) == 1
    ledger.close()


def test_the_last_index_of_each_kind_of_key_is_kept(tmp_path: Path) -> None:
    ledger, _ = open_ledger(str(tmp_path))
    made = a_chunk()
    assert ledger.last_index("s3", "a\0b") is None
    for index in (0, 1, 2):
        ledger.take_index(made, "a\0b", index)
    ledger.take_index(made, "c\0d", 7)
    assert (ledger.last_index("s3", "a\0b"), ledger.last_index("s3", "c\0d")) == (2, 7)
    assert ledger.last_index("other", "a\0b") is None
    ledger.close()


def test_a_chunk_that_is_forgotten_is_gone(tmp_path: Path) -> None:
    ledger, _ = open_ledger(str(tmp_path))
    made, other = a_chunk(), a_chunk()
    ledger.commit([made, other])
    ledger.forget(made)
    assert [found.id for found in ledger.chunks()] == [other.id]
    ledger.close()


@pytest.mark.parametrize("content", [b"this is no database at all, but text" * 200, b"\0" * 8192])
def test_a_ledger_that_cannot_be_read_is_set_aside_with_its_chunks(tmp_path: Path, content: bytes, capsys) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(content)
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / "abc").write_bytes(b"lines")
    ledger, was_corrupt = open_ledger(str(tmp_path))
    ledger.close()
    assert was_corrupt
    [aside] = tmp_path.glob("corrupt-*")
    assert (aside / "ledger.sqlite3").read_bytes() == content
    assert (aside / "chunks" / "abc").read_bytes() == b"lines"


def test_a_ledger_of_another_version_is_set_aside(tmp_path: Path) -> None:
    Ledger(str(tmp_path / "ledger.sqlite3")).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as db:
        db.execute("UPDATE facts SET value = ? WHERE name = 'version'", (b"99",))
    db.close()
    ledger, was_corrupt = open_ledger(str(tmp_path))
    ledger.close()
    assert was_corrupt


def test_every_commit_is_synced(tmp_path: Path) -> None:
    ledger, _ = open_ledger(str(tmp_path))
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    ledger.close()
