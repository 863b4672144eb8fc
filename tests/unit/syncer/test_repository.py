"""What is fetched, by every form of a ref, and how a repository is mended."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecars.core.disk import Locked
from sidecars.core.errors import TimedOut, WrongSettings
from sidecars.core.git import GitFailed
from sidecars.syncer.repository import damaged
from sidecars.syncer.root import RootUnusable
from tests.unit.syncer.origin import Consumer, Origin

Make = Callable[..., Consumer]
as_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT PROVEN HERE: needs root to mount a small filesystem")


@pytest.mark.parametrize("form", ["HEAD", "main", "refs/heads/main", "v1", "refs/tags/v1", "light", "hash", "main~0"])
def test_every_form_of_a_ref(form: str, origin: Origin, consumer: Make) -> None:
    revision = origin.commit({"file": "one"})
    origin.git("tag", "-a", "v1", "-m", "annotated")
    origin.git("tag", "light")
    if form == "main~0":
        with pytest.raises(GitFailed, match=r"couldn't find remote ref|invalid refspec"):
            consumer().sync(form)
        return
    syncer = consumer()
    assert syncer.sync(revision if form == "hash" else form) == revision
    assert syncer.files() == {"file": "one"}


def test_a_tag_wins_over_a_branch_of_its_name(origin: Origin, consumer: Make) -> None:
    tagged = origin.commit({"file": "one"})
    origin.git("tag", "both")
    origin.commit({"file": "two"})
    origin.git("branch", "both")
    assert consumer().sync("both") == tagged


def test_an_old_hash_is_checked_out(origin: Origin, consumer: Make) -> None:
    old = origin.commit({"file": "one"})
    origin.commit({"file": "two"})
    syncer = consumer()
    syncer.sync("main")
    assert syncer.sync(old) == old
    assert syncer.files() == {"file": "one"}


@pytest.mark.parametrize("ref", ["absent", "0" * 40])
def test_a_missing_ref_is_an_error_and_nothing_is_lost(ref: str, origin: Origin, consumer: Make) -> None:
    origin.commit({"file": "one"})
    syncer = consumer()
    syncer.sync()
    with pytest.raises(GitFailed, match=r"couldn't find remote ref absent|not our ref"):
        syncer.sync(ref)
    assert syncer.files() == {"file": "one"}
    assert not any("init" in command for command in syncer.commands[5:])


def test_what_looks_like_an_option_reaches_no_git(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    syncer = consumer()
    syncer.store.prepare()
    before = len(syncer.commands)
    with pytest.raises(GitFailed, match="no ref begins with a dash"):
        syncer.store.fetch(f"--upload-pack=touch {tmp_path}/run")
    assert len(syncer.commands) == before
    for flag in ("repo", "ref", "filter"):
        with pytest.raises(WrongSettings, match=f"--{flag} is '-x'"):
            consumer(**{flag: "-x"})


def test_a_force_push_and_a_branch_that_moves_back_are_followed(origin: Origin, consumer: Make) -> None:
    first = origin.commit({"file": "one"})
    second = origin.commit({"file": "two"})
    syncer = consumer()
    assert syncer.sync() == second
    origin.git("reset", "-q", "--hard", first)
    forced = origin.commit({"file": "three"})
    assert syncer.sync() == forced
    assert syncer.files() == {"file": "three"}
    origin.git("reset", "-q", "--hard", first)
    assert syncer.sync() == first
    assert syncer.files() == {"file": "one"}


def test_a_branch_that_is_deleted_leaves_what_is_published(origin: Origin, consumer: Make) -> None:
    origin.commit({"file": "one"})
    origin.git("branch", "topic")
    syncer = consumer(ref="topic")
    syncer.sync()
    origin.git("branch", "-D", "topic")
    with pytest.raises(GitFailed, match="couldn't find remote ref topic"):
        syncer.sync()
    assert syncer.files() == {"file": "one"}


def test_a_repository_that_is_replaced_by_another(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    origin.commit({"file": "one"})
    syncer = consumer()
    syncer.sync()
    shutil.rmtree(origin.path)
    other = Origin(tmp_path / "origin")
    revision = other.commit({"other": "content"})
    assert syncer.sync() == revision
    assert syncer.files() == {"other": "content"}


def test_another_url_on_the_same_root(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    origin.commit({"file": "one"})
    consumer(filter="blob:none").sync()
    (tmp_path / "other").mkdir()
    other = Origin(tmp_path / "other" / "repository")
    revision = other.commit({"other": "content"})
    syncer = consumer(origin=other, filter="blob:none")
    assert syncer.sync() == revision
    assert syncer.inside("remote", "get-url", "origin") == other.url
    assert origin.url not in (syncer.root / ".git" / "config").read_text()


def test_the_depth_goes_down_and_up(origin: Origin, consumer: Make) -> None:
    for number in range(4):
        origin.commit({"file": str(number)})

    def known(depth: int) -> int:
        syncer = consumer(depth=depth)
        syncer.sync()
        return int(syncer.inside("rev-list", "--count", "HEAD"))

    assert [known(depth) for depth in (1, 3, 0, 2, 0)] == [1, 3, 4, 2, 4]


def test_a_filter_leaves_blobs_with_the_remote(origin: Origin, consumer: Make) -> None:
    origin.commit({"file": "one", "big": "x" * 100_000})
    origin.commit({"file": "two"})
    syncer = consumer(filter="blob:none", depth=0)
    syncer.sync()
    assert list((syncer.root / ".git/objects/pack").glob("*.promisor"))
    assert syncer.files()["file"] == "two"
    origin.commit({"file": "three"})
    syncer.sync()
    assert syncer.files() == {"file": "three", "big": "x" * 100_000}


def test_a_commit_is_described(origin: Origin, consumer: Make) -> None:
    before = int(time.time())
    revision = origin.commit({"file": "one"}, "Füge hinzu\n\nwith a body")
    syncer = consumer()
    syncer.sync()
    commit = syncer.store.describe(revision)
    assert (commit.hash, commit.author, commit.subject) == (revision, "Ada", "Füge hinzu")
    assert before <= commit.time <= time.time()


def test_nothing_changed_costs_one_command_beside_the_fetch(origin: Origin, consumer: Make) -> None:
    revision = origin.commit({"file": "one"})
    syncer = consumer()
    syncer.sync()
    del syncer.commands[:]
    syncer.store.prepare()
    assert syncer.commands == []
    syncer.store.fetch("HEAD")
    assert syncer.store.sound(revision)
    assert [command.split()[1] for command in syncer.commands] == ["fetch", "rev-parse"]


def test_the_wrapper_sees_the_command_first_and_the_url(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    origin.commit({"file": "one"})
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nexec git "$@"\n')
    wrapper.chmod(0o755)
    syncer = consumer()
    syncer.git.program = str(wrapper)
    syncer.sync()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith("fetch ")] == [
        f"fetch --verbose --no-progress --prune --no-auto-gc --depth 1 -- {origin.url} HEAD"
    ]
    assert not any(call.startswith("-") for call in calls)


def test_a_root_inside_another_repository_gets_its_own(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    revision = origin.commit({"file": "one"})
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    syncer = consumer()
    assert syncer.sync() == revision
    assert syncer.inside("rev-parse", "HEAD") == revision


def test_a_root_behind_a_symlink_is_resolved(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    origin.commit({"file": "one"})
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    syncer = consumer(root=tmp_path / "root")
    syncer.sync()
    assert syncer.store.path == str(tmp_path / "real")
    assert syncer.files() == {"file": "one"}


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no repository": lambda git: shutil.rmtree(git),
    "an empty directory": lambda git: (shutil.rmtree(git), git.mkdir()),
    "a file in its place": lambda git: (shutil.rmtree(git), git.write_text("gitdir: elsewhere\n")),
    "a symlink to nowhere": lambda git: (shutil.rmtree(git), git.symlink_to("nowhere")),
    "HEAD to nowhere": lambda git: (git / "HEAD").write_text("ref: refs/heads/nonexist\n"),
    "HEAD is nonsense": lambda git: (git / "HEAD").write_text("nonsense\n"),
    "HEAD is empty": lambda git: (git / "HEAD").write_text(""),
    "no HEAD": lambda git: (git / "HEAD").unlink(),
    "no objects": lambda git: shutil.rmtree(git / "objects"),
    "objects gone": lambda git: [shutil.rmtree(one) for one in (git / "objects").iterdir()],
    "objects empty": lambda git: [one.write_bytes(b"") for one in objects(git)],
    "objects nonsense": lambda git: [one.write_bytes(b"nonsense" * 9) for one in objects(git)],
    "packs cut": lambda git: [one.write_bytes(one.read_bytes()[:40]) for one in objects(git)],
    "config is nonsense": lambda git: (git / "config").write_text("[[["),
    "an empty branch": lambda git: (git / "refs/heads/git-sync").write_text(""),
    "shallow is nonsense": lambda git: (git / "shallow").write_text("nonsense\n"),
    "an index of nonsense": lambda git: [one.write_bytes(b"DIRCx") for one in git.glob("worktrees/*/index")],
    "worktrees unknown": lambda git: shutil.rmtree(git / "worktrees"),
}


def objects(git: Path) -> list[Path]:
    found = [path for path in (git / "objects").rglob("*") if path.is_file()]
    for path in found:
        path.chmod(0o644)
    return found


UNMOVED = ["no repository", "HEAD is nonsense", "objects empty", "an index of nonsense", "worktrees unknown"]


@pytest.mark.parametrize(
    ("damage", "moved"), [*((damage, True) for damage in DAMAGES), *((damage, False) for damage in UNMOVED)]
)
def test_a_damaged_repository_is_mended_and_readers_are_spared(
    damage: str, moved: bool, origin: Origin, consumer: Make
) -> None:
    origin.commit({"file": "one", "folder/other": "content"})
    syncer = consumer(depth=0)
    syncer.sync()
    (syncer.root / "unrelated").write_text("kept")
    if moved:
        origin.commit({"file": "two"})
    reader = os.open(syncer.link, os.O_RDONLY)
    DAMAGES[damage](syncer.root / ".git")
    watched: list[bool] = []
    syncer = consumer(depth=0)
    note = syncer.git.watch
    syncer.git.watch = lambda event: (watched.append((syncer.link / "file").exists()), note(event))[1]
    syncer.sync()
    assert syncer.files() == {"file": "two" if moved else "one", "folder/other": "content"}
    assert all(watched) and watched
    assert (syncer.root / "unrelated").read_text() == "kept"
    os.close(reader)
    origin.commit({"file": "three"})
    syncer.sync()
    assert syncer.files() == {"file": "three", "folder/other": "content"}
    assert syncer.inside("fsck", "--connectivity-only") == ""
    assert os.listdir(syncer.root / ".git-syncer") == []


LOCKS = [
    "index.lock", "HEAD.lock", "shallow.lock", "config.lock", "packed-refs.lock", "ORIG_HEAD.lock", "gc.pid",
    "refs/heads/git-sync.lock", "objects/info/commit-graphs/commit-graph-chain.lock", "worktrees/{}/index.lock",
    "worktrees/{}/HEAD.lock", "worktrees/{}/ORIG_HEAD.lock", "objects/pack/tmp_pack_x1",
    "objects/pack/.tmp-1-pack-2.pack",
]  # fmt: skip


def test_locks_that_a_killed_git_leaves_behind_are_removed(origin: Origin, consumer: Make) -> None:
    origin.commit({"file": "one"})
    syncer = consumer()
    published = syncer.sync()
    left = [syncer.root / ".git" / lock.format(published) for lock in LOCKS]
    for lock in left:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    for name, reason in (("1", "initializing"), ("2", "")):  # Killed after the reason was written, and before.
        (syncer.root / ".git/worktrees" / name).mkdir()
        (syncer.root / ".git/worktrees" / name / "locked").write_text(reason)
    syncer = consumer()
    syncer.sync()
    assert [lock for lock in left if lock.exists()] == []
    revision = origin.commit({"file": "two"})
    assert syncer.sync() == revision
    assert os.listdir(syncer.root / ".git/worktrees") == [revision]


def test_locks_are_removed_after_a_failed_pass(origin: Origin, consumer: Make) -> None:
    revision = origin.commit({"file": "one"})
    syncer = consumer()
    syncer.store.prepare()
    (syncer.root / ".git/shallow.lock").touch()
    with pytest.raises(GitFailed, match=r"shallow\.lock"):
        syncer.sync()
    assert syncer.sync() == revision


def test_a_root_has_one_holder(origin: Origin, consumer: Make) -> None:
    first, second = consumer(), consumer()
    with first.store.held(), pytest.raises(Locked), second.store.held():
        pass
    with second.store.held():
        pass


@pytest.mark.parametrize("said", [
    "error: object file .git/objects/d6/70460b4b4aece5915caf5c68d12f560a9fe3e4 is empty",
    "fatal: loose object 8b137891791fe96927ad78e64b0aad7bded08bdc (stored in .git/objects/8b/13) is corrupt",
    "error: inflate: data stream error (incorrect header check)",
    "fatal: unable to read tree (8b137891791fe96927ad78e64b0aad7bded08bdc)",
    "fatal: bad object HEAD",
])  # fmt: skip
def test_words_of_damage(said: str) -> None:
    assert damaged(said)
    assert not damaged("remote: " + said)


@pytest.mark.parametrize("said", [
    "fatal: couldn't find remote ref absent",
    "fatal: unable to access 'https://host/x/': Could not resolve host: host",
    "fatal: write error: No space left on device\nfatal: index-pack failed: corrupt loose object",
    "fatal: Unable to create '/git/.git/shallow.lock': File exists.",
    "fatal: Authentication failed for 'https://host/x/'",
    "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
    "fatal: '/nonesuch' does not appear to be a git repository",
    "",
])  # fmt: skip
def test_words_of_other_troubles(said: str) -> None:
    assert not damaged(said)


def test_a_deadline_ends_a_fetch_that_hangs(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    revision = origin.commit({"file": "one"})
    wrapper = tmp_path / "wrapper"
    wrapper.write_text('#!/bin/sh\ntest "$1" = fetch && sleep 60\nexec git "$@"\n')
    wrapper.chmod(0o755)
    syncer = consumer()
    syncer.store.prepare()
    syncer.git.program = str(wrapper)
    with pytest.raises(TimedOut, match=r"Run\(.*/wrapper fetch .*context deadline exceeded"):
        syncer.store.fetch("HEAD", time.monotonic() + 0.1)
    syncer.git.program = "git"
    assert syncer.sync() == revision


@as_root
def test_a_root_on_a_read_only_mount_says_so(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    origin.commit({"file": "one"})
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", root], check=True)
    try:
        with pytest.raises(
            RootUnusable, match=rf"cannot use {root}/\.git-syncer: Read-only file system; --root {root}"
        ):
            consumer().sync()
    finally:
        subprocess.run(["umount", root], check=True)


@as_root
def test_a_full_disk_leaves_what_is_published_and_recovers(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    origin.commit({"file": "one"})
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", root], check=True)
    try:
        syncer = consumer(root=root)
        syncer.sync()
        (origin.path / "big").write_bytes(os.urandom(1_500_000))
        origin.commit({"file": "two"})
        for _ in range(2):
            with pytest.raises((GitFailed, RootUnusable), match=r"No space left on device|unable to write|write error"):
                syncer.sync()
            assert syncer.files() == {"file": "one"}
        (origin.path / "big").write_bytes(os.urandom(1000))
        origin.git("add", "--all")
        origin.git("commit", "-q", "--amend", "-m", "smaller")
        syncer.sync()
        assert sorted(syncer.files()) == ["big", "file"]
    finally:
        subprocess.run(["umount", root], check=True)
