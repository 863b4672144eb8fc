"""What a worktree holds, however it was made, and when it goes."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError
from sidecars.core.git import GitFailed
from sidecars.syncer import reuse
from sidecars.syncer.store import Interrupted
from tests.unit.syncer.origin import Consumer, Origin, contents

Make = Callable[..., Consumer]
LINES = "a line\n" * 50


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are reused at once, not only when they are older than a tick of the clock."""
    monkeypatch.setattr(reuse, "_TICK", 0)


def two_files(origin: Origin) -> str:
    return origin.commit({"same": LINES, "folder/changed": "one\n"})


def linked(syncer: Consumer, name: str) -> bool:
    return (syncer.link / name).stat().st_nlink > 1


def settle(syncer: Consumer) -> None:
    """Let the index be younger than the files by more than a tick, as it is a moment later."""
    for index in (syncer.root / ".git/worktrees").glob("*/index"):
        later = index.stat().st_mtime_ns + 100_000_001
        os.utime(index, ns=(later, later))


def test_the_layout_is_git_syncs(origin: Origin, consumer: Make) -> None:
    revision = two_files(origin)
    syncer = consumer()
    syncer.sync()
    assert sorted(os.listdir(syncer.root)) == [".git", ".git-syncer", ".worktrees", "link"]
    assert os.listdir(syncer.root / ".worktrees") == [revision]
    assert os.listdir(syncer.root / ".git/worktrees") == [revision]
    assert (syncer.link / ".git").read_text() == f"gitdir: ../../.git/worktrees/{revision}\n"
    assert syncer.inside("status", "--porcelain") == ""
    assert syncer.inside("rev-parse", "HEAD") == revision


def test_an_unchanged_file_is_the_same_and_a_changed_one_another(origin: Origin, consumer: Make) -> None:
    two_files(origin)
    syncer = consumer(stale_worktree_timeout=3600)
    first = syncer.sync()
    settle(syncer)
    second = origin.commit({"folder/changed": "two\n"})
    assert syncer.sync() == second
    trees = syncer.root / ".worktrees"
    assert (trees / first / "same").samefile(trees / second / "same")
    assert (trees / first / "folder/changed").read_text() == "one\n"
    assert (trees / second / "folder/changed").read_text() == "two\n"
    assert syncer.inside("status", "--porcelain") == ""
    third = origin.commit({"same": "now this one\n"})
    settle(syncer)
    syncer.sync()
    assert (trees / second / "same").read_text() == LINES
    assert (trees / third / "folder/changed").samefile(trees / second / "folder/changed")
    assert contents(trees / first) == {"same": LINES, "folder/changed": "one\n"}


def test_a_file_of_the_last_tick_is_written_anew(origin: Origin, consumer: Make) -> None:
    two_files(origin)
    syncer = consumer(stale_worktree_timeout=3600)
    first = syncer.sync()
    index = syncer.root / ".git/worktrees" / first / "index"
    moment = (syncer.link / "same").stat().st_mtime_ns
    os.utime(index, ns=(moment, moment))
    origin.commit({"folder/changed": "two\n"})
    syncer.sync()
    assert not linked(syncer, "same")


def edit(path: Path) -> None:
    with path.open("a") as file:
        file.write("by a consumer")


def edit_backdated(path: Path) -> None:
    before = path.stat()
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_same_size(path: Path) -> None:
    path.write_bytes(path.read_bytes().swapcase())


def exchange(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().swapcase())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def exchange_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")
    edit(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "appended": edit,
    "appended, time set back": edit_backdated,
    "same size": edit_same_size,
    "another file, same size and time": exchange,
    "mode": lambda path: path.chmod(0o600),
    "removed": Path.unlink,
    "a directory in its place": lambda path: (path.unlink(), path.mkdir(), edit(path / "file")),
    "a symlink in its place": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "its directory behind a symlink": exchange_folder,
    "a file beside it": lambda path: path.with_name("beside").write_text("new"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_consumer_changed_does_not_come_along(change: str, origin: Origin, consumer: Make) -> None:
    origin.commit({"folder/file": LINES, "changed": "one", "same": LINES})
    syncer = consumer()
    syncer.sync()
    settle(syncer)
    CHANGES[change](syncer.link / "folder/file")
    origin.commit({"changed": "two"})
    syncer.sync()
    assert syncer.files() == {"folder/file": LINES, "changed": "two", "same": LINES}
    assert stat.S_IMODE((syncer.link / "folder/file").stat().st_mode) == 0o644
    assert syncer.inside("status", "--porcelain") == ""


def test_a_consumer_that_writes_in_place_gets_files_of_its_own(origin: Origin, consumer: Make) -> None:
    origin.commit({"written": LINES, "changed": "one", "same": LINES})
    syncer = consumer(stale_worktree_timeout=3600)
    first = syncer.sync()
    settle(syncer)
    edit(syncer.link / "written")
    origin.commit({"changed": "two"})
    syncer.sync()
    edit(syncer.root / ".worktrees" / first / "same")
    assert syncer.files() == {"written": LINES, "changed": "two", "same": LINES}


def test_other_attributes_write_an_unchanged_file_otherwise(origin: Origin, consumer: Make) -> None:
    origin.commit({"text": "one\ntwo\n", "folder/text": "three\n"})
    syncer = consumer()
    syncer.sync()
    settle(syncer)
    origin.commit({"folder/.gitattributes": "text eol=crlf\n"})
    syncer.sync()
    assert syncer.files() == {
        "text": "one\ntwo\n",
        "folder/text": "three\r\n",
        "folder/.gitattributes": "text eol=crlf\n",
    }


def test_other_settings_write_everything_anew(origin: Origin, consumer: Make) -> None:
    two_files(origin)
    syncer = consumer(stale_worktree_timeout=3600)
    syncer.sync()
    settle(syncer)
    origin.commit({"folder/changed": "two\n"})
    syncer = consumer(git_config="core.eol:crlf", stale_worktree_timeout=3600)
    syncer.sync()
    assert not linked(syncer, "same")


class History:
    """Random commits, and a consumer who meddles with what is published."""

    def __init__(self, origin: Origin, seed: int) -> None:
        self.origin, self.random = origin, random.Random(seed)

    def commit(self) -> str:
        for _ in range(self.random.randint(1, 5)):
            self.random.choice(
                [self.write, self.write, self.remove, self.mode, self.link, self.folder, self.attribute]
            )()
        return self.origin.commit({})

    def meddle(self, published: Path) -> None:
        names = [name for name in contents(published) if not (published / name).is_symlink()]
        if names and self.random.random() < 0.5:
            path = published / self.random.choice(names)
            self.random.choice([edit, Path.unlink, lambda path: path.chmod(0o640), exchange, edit_backdated])(path)

    def write(self) -> None:
        path = self.fresh(f"{self.random.choice('abc')}/{self.random.choice('de')}/{self.random.choice('fgh')}")
        path.write_text(self.random.choice(["$Id$\n", "x\ny\n", "x\n", ""]) * self.random.randint(0, 4))

    def remove(self) -> None:
        if path := self.some():
            path.unlink()

    def mode(self) -> None:
        if (path := self.some()) and not path.is_symlink():
            path.chmod(path.stat().st_mode ^ 0o111)

    def link(self) -> None:
        path = self.fresh(f"{self.random.choice('abc')}/{self.random.choice('dei')}")
        path.symlink_to(self.random.choice(["../b", "f", "/nonesuch"]))

    def folder(self) -> None:
        self.fresh(self.random.choice("abc")).write_text("a file where a folder may have been\n")

    def attribute(self) -> None:
        folder = self.random.choice(["", "a/", "b/d/"])
        text = self.random.choice(["* eol=crlf\n", "f ident\n", "* -text\n"])
        self.fresh(folder + ".gitattributes").write_text(text)

    def some(self) -> Path | None:
        names = sorted(contents(self.origin.path))
        names = [name for name in names if not name.startswith(".git/")]
        return self.origin.path / self.random.choice(names) if names else None

    def fresh(self, name: str) -> Path:
        """The path, with nothing there, and folders above it whatever was there."""
        path = self.origin.path / name
        for above in [*reversed(path.parents), path]:
            inside = above.is_relative_to(self.origin.path) and above != self.origin.path
            if inside and (above.is_symlink() or above.is_file()):
                above.unlink()
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@pytest.mark.usefixtures("aged")
@pytest.mark.parametrize("turn", range(3))
def test_any_history_gives_what_a_fresh_checkout_gives(
    turn: int, origin: Origin, consumer: Make, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)  # here, for two workers must find tests of the same names
    history = History(origin, seed)
    origin.commit({f"kept/{number}": LINES for number in range(3)})
    syncer = consumer(stale_worktree_timeout=3600)
    syncer.sync()
    settle(syncer)
    # Later revisions may change attributes each time, and then share nothing: here it is seen that files are shared.
    origin.commit({"kept/0": "changed\n"})
    syncer.sync()
    assert (syncer.link / "kept/1").lstat().st_nlink > 1
    settle(syncer)
    for number in range(8):
        revision = history.commit()
        syncer.sync()
        fresh = tmp_path / f"fresh{number}"
        origin.git("worktree", "add", "--force", "--detach", str(fresh), revision)
        assert syncer.files() == contents(fresh), seed
        assert syncer.inside("status", "--porcelain") == "", seed
        settle(syncer)
        history.meddle(syncer.link)


def test_sparse_checkout(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    origin.commit({"file1": "1", "file2": "2", "folder/file3": "3"})
    patterns = tmp_path / "sparse"
    patterns.write_text("!/*\n!/*/\nfile2\n")
    syncer = consumer(sparse_checkout_file=str(patterns))
    syncer.sync()
    assert syncer.files() == {"file2": "2"}
    origin.commit({"file1": "one", "file2": "two"})
    revision = syncer.sync()
    assert syncer.files() == {"file2": "two"}
    patterns.write_text("!/*\n!/*/\nfile1\n")
    consumer(sparse_checkout_file=str(patterns)).sync()
    assert syncer.files() == {"file1": "one"}
    consumer().sync()
    assert syncer.files() == {"file1": "one", "file2": "two", "folder/file3": "3"}
    assert syncer.inside("rev-parse", "HEAD") == revision
    origin.commit({"file1": "again"})
    consumer().sync()
    assert syncer.files() == {"file1": "again", "file2": "two", "folder/file3": "3"}
    origin.commit({"file1": "and again"})
    with pytest.raises(SidecarError, match=r"--sparse-checkout-file .*/gone cannot be read: No such file"):
        consumer(sparse_checkout_file=str(tmp_path / "gone")).sync()


@pytest.fixture
def nested(origin: Origin, tmp_path: Path) -> Origin:
    """A repository with a submodule, by a relative URL, that has one itself."""
    inner, outer = Origin(tmp_path / "inner"), Origin(tmp_path / "outer")
    inner.commit({"deep": "one"})
    outer.commit({"top": "one"})
    outer.git("submodule", "add", "-q", "../inner", "lib/inner")
    outer.commit({})
    origin.commit({"file": "one"})
    origin.git("submodule", "add", "-q", "../outer", "lib/outer")
    origin.commit({})
    return origin


@pytest.mark.parametrize(("mode", "names"), [
    ("recursive", ["lib/outer/lib/inner/deep", "lib/outer/top"]), ("shallow", ["lib/outer/top"]), ("off", []),
])  # fmt: skip
def test_submodules(mode: str, names: list[str], nested: Origin, consumer: Make) -> None:
    syncer = consumer(submodules=mode, stale_worktree_timeout=3600)
    first = syncer.sync()
    found = [name for name in sorted(syncer.files()) if name.startswith("lib/") and not name.endswith(".gitmodules")]
    assert found == names
    assert syncer.inside("status", "--porcelain") == ""
    for folder in {os.path.dirname(name) for name in names}:
        assert syncer.inside("-C", folder, "status", "--porcelain") == ""
        assert syncer.inside("-C", folder, "rev-list", "--count", "HEAD") == "1"
        assert syncer.inside("-C", folder, "rev-parse", "--show-toplevel") == str(
            syncer.root / ".worktrees" / first / folder
        )
    settle(syncer)
    nested.commit({"file": "two"})
    second = syncer.sync()
    assert linked(syncer, ".gitmodules")
    found = [name for name in sorted(syncer.files()) if name.startswith("lib/") and not name.endswith(".gitmodules")]
    assert found == names
    assert first != second


def test_submodules_are_turned_on_in_place(nested: Origin, consumer: Make) -> None:
    consumer(submodules="off").sync()
    syncer = consumer()
    before = os.stat(syncer.link)
    syncer.sync()
    assert syncer.files()["lib/outer/lib/inner/deep"] == "one"
    assert os.path.samestat(before, os.stat(syncer.link))


@pytest.mark.parametrize(("group_write", "modes"), [(False, {0o755, 0o644}), (True, {0o775, 0o664})])
def test_modes(group_write: bool, modes: set[int], origin: Origin, consumer: Make) -> None:
    two_files(origin)
    syncer = consumer(group_write=group_write, stale_worktree_timeout=3600)
    syncer.sync()
    settle(syncer)
    origin.commit({"folder/changed": "two"})
    syncer.sync()
    assert linked(syncer, "same")
    found = {stat.S_IMODE(path.stat().st_mode) for path in [syncer.root, syncer.link, *syncer.link.rglob("*")]}
    assert found == modes
    git = [path for path in (syncer.root / ".git").rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in git} == {max(modes)}


def test_a_worktree_that_is_not_sound_is_made_anew(origin: Origin, consumer: Make) -> None:
    first = origin.commit({"file": "one"})
    second = origin.commit({"file": "two"})
    syncer = consumer(depth=0)
    damages: list[Callable[[Path], object]] = [
        lambda path: shutil.rmtree(path),
        lambda path: [shutil.rmtree(path), path.mkdir()],
        lambda path: subprocess.run(["git", "checkout", "-q", first], cwd=path, check=True),
        lambda path: (path / ".git").unlink(),
    ]
    for damage in damages:
        syncer.sync()
        assert syncer.store.sound(second)
        damage(syncer.root / ".worktrees" / second)
        assert not syncer.store.sound(second)
        syncer.sync()
        assert syncer.files() == {"file": "two"}
    assert not syncer.store.sound("not a hash") and not syncer.store.sound(first)


def test_a_replaced_worktree_is_complete_until_the_new_one_is(origin: Origin, consumer: Make) -> None:
    """A published worktree at the wrong HEAD: it is exchanged for the right one, never emptied."""
    first = origin.commit({"file": "one"})
    origin.commit({"file": "two"})
    syncer = consumer(depth=0)
    syncer.sync()
    subprocess.run(["git", "checkout", "-q", first], cwd=syncer.link, check=True)
    seen: set[str] = set()
    syncer.git.watch = lambda event: seen.add((syncer.link / "file").read_text())
    syncer.sync()
    assert seen == {"one"}
    assert syncer.files() == {"file": "two"}


def test_configure_brings_back_what_a_consumer_changed(origin: Origin, consumer: Make) -> None:
    two_files(origin)
    syncer = consumer()
    revision = syncer.sync()
    (syncer.link / "same").unlink()
    edit(syncer.link / "folder/changed")
    consumer().store.prepare()
    syncer.store.configure(revision)
    assert syncer.files() == {"same": LINES, "folder/changed": "one\n"}


def test_a_root_that_is_mounted_elsewhere_goes_on(origin: Origin, consumer: Make, tmp_path: Path) -> None:
    two_files(origin)
    first = consumer().sync()
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    syncer = consumer(root=tmp_path / "elsewhere")
    assert syncer.sync() == first
    assert syncer.inside("status", "--porcelain") == ""
    syncer.store.clean([])
    origin.commit({"folder/changed": "two\n"})
    syncer.sync()
    assert syncer.inside("status", "--porcelain") == ""


def names(syncer: Consumer) -> set[str]:
    return set(os.listdir(syncer.root / ".worktrees"))


def test_stale_worktrees_go_by_their_age_and_number(origin: Origin, consumer: Make) -> None:
    syncer = consumer(stale_worktree_timeout=100, keep_worktrees=1)
    revisions = []
    for number in range(4):
        revisions.append(origin.commit({"file": str(number)}))
        syncer.sync()
    (syncer.root / ".worktrees/stray").write_text("left")
    now = time.time()
    for name, age in zip([*revisions, "stray"], (300, 200, 150, 0, 400), strict=True):
        os.utime(syncer.root / ".worktrees" / name, (now - age, now - age))
    assert syncer.store.clean([revisions[3]])
    assert names(syncer) == {revisions[3], revisions[2]}
    assert set(os.listdir(syncer.root / ".git/worktrees")) == names(syncer)
    assert not syncer.store.clean([revisions[3]])
    syncer.store.retire(revisions[2])
    assert consumer(stale_worktree_timeout=100).store.clean([revisions[3]]) is False
    os.utime(syncer.root / ".worktrees" / revisions[2], (now + 9999, now + 9999))
    assert consumer(stale_worktree_timeout=100).store.clean([revisions[3]]) is False
    assert (syncer.root / ".worktrees" / revisions[2]).stat().st_mtime <= time.time()
    assert consumer().store.clean([revisions[3]])
    assert names(syncer) == {revisions[3]}


def test_a_worktree_without_the_right_to_write_goes_too(origin: Origin, consumer: Make) -> None:
    two_files(origin)
    syncer = consumer()
    syncer.sync()
    (syncer.link / "folder").chmod(0o500)
    origin.commit({"folder/changed": "two"})
    revision = syncer.sync()
    assert names(syncer) == {revision}


def size(path: Path) -> int:
    return int(subprocess.run(["du", "-sk", path], check=True, capture_output=True, text=True).stdout.split()[0])


@pytest.mark.parametrize(("gc", "gone"), [("always", True), ("aggressive", True), ("auto", False), ("off", False)])
def test_old_objects_are_gone_after_a_change(gc: str, gone: bool, origin: Origin, consumer: Make) -> None:
    small = origin.commit({"file": "one"})
    (origin.path / "big").write_bytes(os.urandom(1_000_000))
    big = origin.commit({})
    for depth in (0, 1):
        syncer = consumer(git_gc=gc, depth=depth)
        syncer.sync(big)
        assert size(syncer.root) > 1900
        syncer.sync(small)
        assert (size(syncer.root) < 300) is gone


def test_removing_what_a_crash_left_is_followed_by_gc(origin: Origin, consumer: Make) -> None:
    revision = two_files(origin)
    syncer = consumer(git_gc="always")
    syncer.sync()
    (syncer.root / ".git-syncer/old-1/folder").mkdir(parents=True)
    syncer = consumer(git_gc="always")
    syncer.sync()
    assert os.listdir(syncer.root / ".git-syncer") == []
    assert "git gc" in syncer.commands
    assert not syncer.store.clean([revision])


def test_the_removal_of_a_worktree_is_interrupted_and_goes_on_later(origin: Origin, consumer: Make) -> None:
    origin.commit({f"folder/{number}": "x" for number in range(50)})
    syncer = consumer(git_gc="always")
    old = syncer.sync()
    new = origin.commit({"folder/1": "y"})
    syncer.store.checkout(syncer.store.fetch("HEAD"), old)
    syncer.publish(syncer.root / ".worktrees" / new)
    unlink, gone = os.unlink, itertools.count(1)

    def interrupting(path: str) -> None:
        unlink(path)
        if next(gone) == 10:
            syncer.git.interrupt()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("sidecars.syncer.leftovers.os.unlink", interrupting)
        syncer.store.clean([new])
    assert names(syncer) == {new}
    trash = list((syncer.root / ".git-syncer").glob("old-*/folder/*"))
    assert 30 < len(trash) < 50
    syncer.store.prepare()
    assert all(path.exists() for path in trash)
    assert syncer.store.clean([new])
    assert os.listdir(syncer.root / ".git-syncer") == []
    assert syncer.commands[-1] == "git gc"


def test_a_checkout_of_what_is_not_there_fails_and_leaves_nothing(origin: Origin, consumer: Make) -> None:
    origin.commit({"file": "one"})
    syncer = consumer()
    first = syncer.sync()
    with pytest.raises(GitFailed):
        syncer.store.checkout("1" * 40, first)
    assert names(syncer) == {first}
    assert os.listdir(syncer.root / ".git-syncer") == []


def test_killed_at_any_moment_it_publishes_only_what_is_whole_and_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.unit.syncer.killing", str(tmp_path), "20", str(random.randrange(10**6))],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert int(ran.stdout.split()[0]) > 3, ran.stdout
