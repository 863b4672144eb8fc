from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError
from sidecars.syncer.mirror import Mirror
from sidecars.syncer.publish import Link, make
from sidecars.syncer.settings import Settings
from tests.unit.syncer.trees import plant, read

ONE, TWO = "1" * 40, "2" * 40


def settings(root: Path, **more: object) -> Settings:
    return Settings(repo="https://git.example/team/site.git/", root=str(root), **more)  # type: ignore[arg-type]


def worktree(root: Path, hash: str) -> str:
    return str(plant(root / ".worktrees" / hash, {"file": hash}))


def link(root: Path, **more: object) -> Link:
    made = make(settings(root, **more), str(root))
    assert isinstance(made, Link)
    return made


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("", ("site.git", f".worktrees/{ONE}")),
        ("current", ("current", f".worktrees/{ONE}")),
        ("deep/er/current", ("deep/er/current", f"../../.worktrees/{ONE}")),
        ("../outside", ("../outside", f"root/.worktrees/{ONE}")),
    ],
)
def test_the_link_is_relative_and_called_as_set_or_as_the_repository(
    tmp_path: Path, given: str, target: tuple[str, str]
) -> None:
    root = tmp_path / "root"
    published = link(root, link=given)
    published.publish(worktree(root, ONE), ONE)
    name, to = target
    assert os.readlink(root / name) == to
    assert (root / name / "file").read_text() == ONE
    assert published.current() == ONE


def test_an_absolute_link_may_lie_outside_of_the_root(tmp_path: Path) -> None:
    published = link(tmp_path / "root", link=str(tmp_path / "elsewhere" / "site"))
    published.publish(worktree(tmp_path / "root", ONE), ONE)
    assert os.readlink(tmp_path / "elsewhere" / "site") == f"../root/.worktrees/{ONE}"


def test_readers_find_one_revision_or_the_other_at_every_instant(tmp_path: Path) -> None:
    published = link(tmp_path)
    trees = [(worktree(tmp_path, hash), hash) for hash in (ONE, TWO)]
    published.publish(*trees[0])
    done, seen = threading.Event(), set()

    def look() -> None:
        while not done.is_set():
            seen.add((tmp_path / "site.git" / "file").read_text())

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(500):
        published.publish(*trees[turn % 2])
    done.set()
    reader.join()
    assert seen <= {ONE, TWO}
    assert sorted(os.listdir(tmp_path)) == [".worktrees", "site.git"]


def test_what_an_earlier_git_sync_left_behind_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "tmp-link").symlink_to("somewhere")
    link(tmp_path).publish(worktree(tmp_path, ONE), ONE)
    assert sorted(os.listdir(tmp_path)) == [".worktrees", "site.git"]


@pytest.mark.parametrize("how", ["publish", "mend"])
def test_what_a_crash_left_beside_the_link_is_removed_by_the_next_process_and_nothing_else(
    tmp_path: Path, how: str
) -> None:
    link(tmp_path).publish(worktree(tmp_path, ONE), ONE)
    (tmp_path / ".site.git.0123abcd").symlink_to(f".worktrees/{TWO}")
    (tmp_path / ".site.git.89abcdef").write_text("no link of ours")
    (tmp_path / ".other.0123abcd").symlink_to("elsewhere")
    getattr(link(tmp_path), how)(str(tmp_path / ".worktrees" / ONE), ONE)
    assert sorted(os.listdir(tmp_path)) == [".other.0123abcd", ".site.git.89abcdef", ".worktrees", "site.git"]


@pytest.mark.parametrize("target", [None, "rev-1234", ".worktrees", f"old/{ONE}x"])
def test_what_is_no_revision_is_not_current(tmp_path: Path, target: str | None) -> None:
    if target:
        (tmp_path / "site.git").symlink_to(target)
    assert link(tmp_path).current() is None


def test_a_link_to_a_worktree_of_an_older_layout_is_not_intact(tmp_path: Path) -> None:
    (tmp_path / "site.git").symlink_to(ONE)
    published = link(tmp_path)
    assert (published.current(), published.intact(ONE), published.target()) == (ONE, False, str(tmp_path / ONE))
    published.publish(worktree(tmp_path, ONE), ONE)
    assert published.intact(ONE)
    assert not published.intact(TWO)


def test_a_directory_of_somebody_else_stays_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    plant(tmp_path / "site.git", {"precious": "data"})
    with pytest.raises(SidecarError, match=r"a directory is there; remove it, or use --publish=mirror"):
        link(tmp_path).publish(worktree(tmp_path, ONE), ONE)
    assert read(tmp_path / "site.git") == {"precious": "data"}
    assert sorted(os.listdir(tmp_path)) == [".worktrees", "site.git"]


def test_from_a_mirror_to_a_link_and_back_there_is_always_something(tmp_path: Path) -> None:
    trees = [(worktree(tmp_path, hash), hash) for hash in (ONE, TWO)]
    done, seen = threading.Event(), set()
    link(tmp_path).publish(*trees[0])

    def look() -> None:
        while not done.is_set():
            seen.add((tmp_path / "site.git" / "file").read_text())

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(50):
        made = make(settings(tmp_path, publish="mirror" if turn % 2 else "link"), str(tmp_path))
        assert isinstance(made, Mirror if turn % 2 else Link)
        made.publish(*trees[turn // 2 % 2])
        assert (tmp_path / "site.git").is_symlink() != isinstance(made, Mirror)
        assert made.current() == trees[turn // 2 % 2][1]
    done.set()
    reader.join()
    link(tmp_path).publish(*trees[0])
    assert seen == {ONE, TWO}
    assert sorted(os.listdir(tmp_path)) == [".git-syncer", ".worktrees", "site.git"]
    assert os.listdir(tmp_path / ".git-syncer") == []
