from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecars.syncer.history import History, before


class Commit(NamedTuple):
    hash: str
    author: str = "A U Thor"
    subject: str = "a commit"
    time: float = 1_700_000_000.0


def history(path: Path, *hashes: str) -> History:
    """Publish each by a poll, those in brackets by a rollback."""
    made = History(str(path))
    for each in hashes:
        made.add(Commit(each.strip("()")), 0.5, "rollback" if each.startswith("(") else "poll")
    return made


@pytest.mark.parametrize(
    ("published", "current", "expected"),
    [
        ("", "A", None),
        ("A", "A", None),
        ("A A", "A", None),
        ("A B", "B", "A"),
        ("A B B", "B", "A"),
        ("A B C", "C", "B"),
        ("A B C (B)", "B", "A"),
        ("A B C (B) (A)", "A", None),
        ("A B A", "A", "B"),
        ("A B C (B) D", "D", "C"),
        ("A B (Z)", "Z", "B"),
    ],
)
def test_before_a_revision_comes_the_one_that_the_remote_had_before_it(
    tmp_path: Path, published: str, current: str, expected: str | None
) -> None:
    assert before(history(tmp_path / "history.json", *published.split()).revisions, current) == expected


def test_fifty_are_kept_over_a_restart_the_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history.json"
    history(path, *(f"{number:040x}" for number in range(52)))
    again = History(str(path))
    assert [int(each.hash, 16) for each in again.revisions] == list(range(51, 1, -1))


def test_a_row_tells_of_the_commit_and_of_the_sync(tmp_path: Path) -> None:
    made = History(str(tmp_path / "history.json"))
    made.add(Commit("a" * 40, "Zoë", "fix <it>", 1_700_000_000.0), 0.12345, "push")
    (row,) = made.rows()
    age = row.pop("age_seconds")
    assert isinstance(age, float)
    assert 0 <= age < 60
    assert str(row.pop("published")).endswith("Z")
    assert row == {
        "hash": "a" * 40,
        "author": "Zoë",
        "subject": "fix <it>",
        "committed": "2023-11-14T22:13:20Z",
        "sync_seconds": 0.123,
        "how": "push",
    }


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version":2,"revisions":[]}', '{"version":1}', "\udcff"])
def test_a_file_that_cannot_be_read_is_set_aside_and_history_goes_on(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    made = history(path, "A")
    assert [each.hash for each in History(str(path)).revisions] == [each.hash for each in made.revisions] == ["A"]
    (aside,) = [name for name in os.listdir(tmp_path) if name.startswith("history.corrupt-")]
    assert (tmp_path / aside).read_bytes() == text.encode(errors="surrogateescape")


def test_what_cannot_be_written_is_remembered_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = History(str(tmp_path / "file" / "history.json"))
    with pytest.raises(OSError, match=r"history|file"):
        made.add(Commit("A"), 1.0, "poll")
    assert [each.hash for each in made.revisions] == ["A"]


def test_a_hash_is_found_by_its_beginning_once(tmp_path: Path) -> None:
    made = history(tmp_path / "history.json", "abc1", "abd2", "abc1")
    assert made.find("abc") == ["abc1"]
    assert made.find("ab") == ["abc1", "abd2"]
    assert made.find("x") == []


def test_the_file_is_a_document_that_people_can_read(tmp_path: Path) -> None:
    history(tmp_path / "history.json", "A")
    document = json.loads((tmp_path / "history.json").read_bytes())
    assert document["version"] == 1
    assert document["revisions"][0]["hash"] == "A"
