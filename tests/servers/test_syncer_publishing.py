"""git-syncer as a process: the mirror, the way back to an earlier revision, and signatures, on real repositories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.git_server import Executable, Symlink
from tests.servers.signers import Repository as Signed
from tests.servers.signers import ssh_key
from tests.servers.syncing import Place, Syncer
from tests.unit.syncer.trees import read


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for syncer in place.running:
        syncer.__exit__()


def post(syncer: Syncer, path: str) -> tuple[int, str]:
    return syncer.ask(path, "POST", {"X-Sidecars": "1"})


def revisions(syncer: Syncer) -> list[tuple[str, str]]:
    """What the status page tells of the history."""
    rows = json.loads(syncer.ask("/status")[1])["tables"]["revisions"]
    return [(row["hash"], row["how"]) for row in rows]


def text_of(place: Place) -> str:
    try:
        return (place.link / "file").read_text()
    except FileNotFoundError:
        return ""


def test_a_mirror_follows_the_repository_and_is_put_right_at_the_start(place: Place) -> None:
    place.origin.commit({"file": "one", "run": Executable("#!/bin/sh"), "to": Symlink("file"), "d/gone": "x"})
    syncer = place.follow("--publish=mirror")
    assert not place.link.is_symlink()
    assert read(place.link) == {"file": "one", "run": Executable("#!/bin/sh"), "to": Symlink("file"), "d/gone": "x"}
    kept = place.link.joinpath("run").stat()
    place.origin.commit({"file": "two", "d/gone": None})
    syncer.until(lambda: text_of(place) == "two" and not (place.link / ".syncing").exists())
    assert read(place.link) == {"file": "two", "run": Executable("#!/bin/sh"), "to": Symlink("file")}
    assert place.link.joinpath("run").stat() == kept
    syncer.process.kill()
    syncer.wait()
    (place.link / "file").write_text("changed by a consumer")
    (place.link / "run").unlink()
    place.follow("--publish=mirror")
    assert read(place.link) == {"file": "two", "run": Executable("#!/bin/sh"), "to": Symlink("file")}


def test_from_link_to_mirror_and_back(place: Place) -> None:
    one = place.origin.commit({"file": "one"})
    for publish in ("link", "mirror", "link", "mirror", "link"):
        place.once(f"--publish={publish}")
        assert place.link.is_symlink() == (publish == "link")
        assert text_of(place) == "one"
    assert place.hash == one


def test_a_rollback_holds_over_a_restart_until_somebody_resumes(place: Place) -> None:
    hashes = [place.origin.commit({"file": "one"})]
    options = ("--admin=127.0.0.1:0", "--admin-post", "--keep-worktrees=1")
    syncer = place.follow(*options)
    hashes.append(place.origin.commit({"file": "two"}))
    place.until_published(syncer, hashes[1])
    syncer.until(lambda: post(syncer, "/resume")[0] == 409 and place.hash == hashes[1])
    status, told = post(syncer, "/rollback")
    assert (status, told) == (
        200, f"pinned to {hashes[0]}, until POST /resume or until the remote is no longer at {hashes[1]}\n"
    )  # fmt: skip
    place.until_published(syncer, hashes[0])
    syncer.process.kill()
    syncer.wait()
    syncer = place.follow(*options)
    assert place.hash == hashes[0]
    assert post(syncer, "/resume") == (200, f"following {hashes[1]} again\n")
    place.until_published(syncer, hashes[1])


def test_a_newer_commit_ends_a_rollback(place: Place) -> None:
    hashes = [place.origin.commit({"file": "one"})]
    syncer = place.follow("--admin=127.0.0.1:0", "--admin-post")
    hashes.append(place.origin.commit({"file": "two"}))
    place.until_published(syncer, hashes[1])
    syncer.until(lambda: not (place.root / ".worktrees" / hashes[0]).exists())
    assert post(syncer, "/rollback")[0] == 202  # Its worktree is gone: it is fetched.
    place.until_published(syncer, hashes[0])
    hashes.append(place.origin.commit({"file": "three"}))
    place.until_published(syncer, hashes[2])
    one, two, three = hashes
    expected = [(three, "poll"), (one, "rollback"), (two, "poll"), (one, "poll")]
    syncer.until(lambda: revisions(syncer) == expected)


def test_a_rollback_to_what_the_remote_has_no_longer_ends_without_harm(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    syncer = place.follow("--admin=127.0.0.1:0", "--admin-post")
    second = place.origin.commit({"file": "two"}, parent="")
    place.origin.git("reflog", "expire", "--expire=now", "--all")
    place.origin.git("gc", "-q", "--prune=now")
    place.until_published(syncer, second)
    syncer.until(lambda: not (place.root / ".worktrees" / first).exists())
    assert post(syncer, "/rollback")[0] == 202
    syncer.until(lambda: syncer.find("rollback ended"))
    third = place.origin.commit({"file": "three"})
    place.until_published(syncer, third)
    assert syncer.find("can't fetch the revision to roll back to")


def test_only_what_a_known_key_has_signed_is_published(place: Place, tmp_path: Path) -> None:
    private, public = ssh_key(tmp_path, "key")
    (tmp_path / "signers").write_text(f"carol@example.org {public}\n")
    origin = Signed(tmp_path / "signed", None)
    signed = origin.commit(ssh=private)
    options = ("--verify-signatures=ssh", f"--allowed-signers-file={tmp_path}/signers", "--admin=127.0.0.1:0")
    syncer = place.follow(f"--repo=file://{origin.path}", *options)
    assert place.hash == signed
    unsigned = origin.commit()
    told = f"commit {unsigned} is not published: nobody has signed it"
    syncer.until(lambda: any(each.get("error") == told for each in syncer.events()))
    assert place.hash == signed
    assert syncer.ask("/healthz")[0] == 503
    again = origin.commit(ssh=private)
    place.until_published(syncer, again)
    syncer.until(lambda: syncer.ask("/healthz")[0] == 200)
    syncer.process.kill()
    syncer.wait()
    syncer = place.once(f"--repo=file://{origin.path}", *options, f"--ref={unsigned}", code=1)
    assert told in syncer.log
    assert place.hash == again
