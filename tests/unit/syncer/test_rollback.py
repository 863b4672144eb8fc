from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecars.core.door import Request
from sidecars.syncer.history import History
from sidecars.syncer.rollback import Pin, Pinned, Target, posts, wanted
from tests.unit.syncer.test_history import Commit

A, B, C, D = (letter * 40 for letter in "abcd")


@dataclass
class Repository:
    """A repository as the loop would keep it."""

    directory: Path
    name: str = "site"
    published: str | None = C
    remote: str | None = C
    worktrees: tuple[str, ...] = (A, B, C)
    woken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pin = Pin(str(self.directory / f"{self.name}.pin.json"))
        self.history = History(str(self.directory / f"{self.name}.history.json"))

    def publish(self, *hashes: str, how: str = "poll") -> Repository:
        for hash in hashes:
            self.history.add(Commit(hash), 0.1, how)
            self.published = hash
        return self

    def sync(self) -> None:
        """Publish what is wanted, as the loop does."""
        hash = self.pin.wanted(self.remote)
        if hash and hash != self.published:
            self.publish(hash, how="rollback" if self.pin.active else "poll")

    def target(self) -> Target:
        return Target(
            self.name,
            self.pin,
            self.history,
            lambda: self.published,
            lambda: self.remote,
            self.worktrees.__contains__,
            lambda: self.woken.append("woken"),
        )


def post(path: str, *repositories: Repository, body: object = None) -> tuple[int, str]:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request("POST", path, {}, ipaddress.ip_address("127.0.0.1"), data)
    answer = posts([each.target() for each in repositories])[path](request)
    return answer.status, answer.body.decode().strip()


@pytest.mark.parametrize(
    ("pinned", "remote", "expected"),
    [
        (None, C, C),
        (None, None, None),
        (Pinned(B, C), C, B),
        (Pinned(B, C), None, B),
        (Pinned(B, C), D, D),
        (Pinned(B, C), B, B),
        (Pinned(C, C), C, C),
    ],
)
def test_the_pinned_revision_is_wanted_until_the_remote_moves(
    tmp_path: Path, pinned: Pinned | None, remote: str | None, expected: str | None
) -> None:
    assert wanted(pinned, remote) == expected
    pin = Pin(str(tmp_path / "pin.json"))
    if pinned:
        pin.set(pinned.hash, pinned.origin)
    assert pin.wanted(remote) == expected
    assert pin.active == (pinned is not None and remote in (None, pinned.origin))
    assert Pin(str(tmp_path / "pin.json")).pinned == pin.pinned


def test_a_rollback_publishes_what_was_before_and_holds_over_a_restart(tmp_path: Path) -> None:
    repository = Repository(tmp_path).publish(A, B, C)
    status, told = post("/rollback", repository)
    assert (status, told) == (200, f"pinned to {B}, until POST /resume or until the remote is no longer at {C}")
    assert repository.woken == ["woken"]
    repository.sync()
    assert repository.published == B
    again = Repository(tmp_path, published=B)
    again.sync()
    assert (again.published, again.pin.revision) == (B, B)


def test_a_second_rollback_goes_one_further_and_then_there_is_no_more(tmp_path: Path) -> None:
    repository = Repository(tmp_path).publish(A, B, C)
    for expected in (B, A):
        assert post("/rollback", repository)[0] == 200
        repository.sync()
        assert repository.published == expected
    assert post("/rollback", repository) == (
        409, f"nothing was published before {A}: name a revision to roll back to"
    )  # fmt: skip
    assert repository.pin.pinned == Pinned(A, C)


def test_a_newer_commit_ends_it_for_good(tmp_path: Path) -> None:
    repository = Repository(tmp_path).publish(A, B, C)
    post("/rollback", repository)
    repository.sync()
    repository.remote = D
    repository.sync()
    assert (repository.published, repository.pin.active) == (D, False)
    repository.remote = C
    repository.sync()
    assert repository.published == C


def test_resume_follows_the_remote_again(tmp_path: Path) -> None:
    repository = Repository(tmp_path).publish(A, B, C)
    post("/rollback", repository)
    repository.sync()
    assert post("/resume", repository) == (200, f"following {C} again")
    repository.sync()
    assert repository.published == C
    assert post("/resume", repository) == (409, "nothing is pinned: there is nothing to resume")
    assert not (tmp_path / "site.pin.json").exists()


def test_what_the_gate_has_kept_out_does_not_end_a_rollback(tmp_path: Path) -> None:
    repository = Repository(tmp_path, remote=D).publish(A, B, C)
    post("/rollback", repository)
    repository.sync()
    assert repository.published == B


@pytest.mark.parametrize(
    ("revision", "status", "told"),
    [
        (A, 200, f"pinned to {A}"),
        (A[:7], 200, f"pinned to {A}"),
        (D, 200, f"pinned to {D}"),
        ("e" * 40, 404, f"revision {'e' * 40} is unknown"),
        ("eeeeeee", 404, "revision eeeeeee is unknown"),
        (D[:7], 404, "is unknown"),
        ("aaa", 400, "expected a hash, or its first 7 digits or more"),
        ("HEAD~1", 400, "expected a hash"),
        ("--upload-pack=x", 400, "expected a hash"),
        ("../../etc/passwd", 400, "expected a hash"),
    ],
)
def test_a_revision_can_be_named(tmp_path: Path, revision: str, status: int, told: str) -> None:
    repository = Repository(tmp_path, worktrees=(A, B, C, D)).publish(A, B, C)
    answer = post("/rollback", repository, body={"revision": revision})
    assert answer[0] == status
    assert told in answer[1]
    assert repository.pin.active == (status == 200)


def test_a_beginning_of_several_is_refused(tmp_path: Path) -> None:
    repository = Repository(tmp_path).publish("1234567" + "a" * 33, "1234567" + "b" * 33, C)
    status, told = post("/rollback", repository, body={"revision": "1234567"})
    assert (status, "several" in told) == (409, True)


def test_a_revision_whose_worktree_is_gone_is_accepted_to_be_fetched(tmp_path: Path) -> None:
    repository = Repository(tmp_path, worktrees=(C,)).publish(B, C)
    status, told = post("/rollback", repository)
    assert status == 202
    assert "its worktree is gone" in told
    assert repository.pin.revision == B


def test_nothing_published_is_nothing_to_roll_back(tmp_path: Path) -> None:
    status, told = post("/rollback", Repository(tmp_path, published=None))
    assert (status, told) == (409, "nothing is published yet: there is nothing to roll back")


def test_of_several_repositories_one_is_named(tmp_path: Path) -> None:
    site, docs = Repository(tmp_path).publish(A, C), Repository(tmp_path, "docs").publish(B, C)
    assert post("/rollback", site, docs) == (
        400, "several repositories are synced: say which one, as repository: site, docs"
    )  # fmt: skip
    assert post("/rollback", site, docs, body={"repository": "wiki"}) == (
        404, "repository 'wiki' is unknown; there is site, docs"
    )  # fmt: skip
    assert post("/rollback", site, docs, body={"repository": "docs"})[0] == 200
    assert (site.pin.active, docs.pin.revision) == (False, B)
    assert post("/resume", site, docs, body={"repository": "docs"})[0] == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", {"revison": A}, {"revision": 7}])
def test_a_body_that_is_none_is_refused(tmp_path: Path, body: object) -> None:
    repository = Repository(tmp_path).publish(A, C)
    status, told = post("/rollback", repository, body=body)
    assert (status, told.startswith('the body is not {"revision": "HASH", "repository": "NAME"}')) == (400, True)
    assert not repository.pin.active


def test_a_pin_that_cannot_be_kept_is_none(tmp_path: Path) -> None:
    repository = Repository(tmp_path).publish(A, C)
    (tmp_path / "file").touch()
    repository.pin = Pin(str(tmp_path / "file" / "pin.json"))
    repository.pin.pinned = None
    status, told = post("/rollback", repository)
    assert (status, told.startswith("cannot be kept over a restart, so nothing has changed")) == (500, True)
    assert not repository.pin.active


def test_a_pin_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "pin.json").write_text('{"hash": 1}')
    assert not Pin(str(tmp_path / "pin.json")).active
    assert [name.startswith("pin.corrupt-") for name in os.listdir(tmp_path)] == [True]
