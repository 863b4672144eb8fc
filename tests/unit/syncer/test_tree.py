from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError
from sidecars.syncer.mirror import Mirror
from sidecars.syncer.tree import Tree, copy, mounts, remove_tree
from tests.unit.syncer.trees import plant, read


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return plant(tmp_path / "outside", {"file": "precious", "folder/file": "precious"})


@pytest.mark.parametrize(
    "act",
    [
        lambda tree: tree.open("way/file"),
        lambda tree: tree.target("way/file"),
        lambda tree: tree.look("way/file"),
        lambda tree: tree.write("way/new", 0o644, lambda file: None, durably=False),
        lambda tree: tree.link("way/new", "target"),
        lambda tree: tree.make("way/new", 0o755),
        lambda tree: tree.allow("way/file", 0o600),
        lambda tree: tree.remove("way/file", directory=False),
        lambda tree: tree.remove("way/folder/file", directory=False),
        lambda tree: tree.open("to-file"),
    ],
)
def test_no_step_leads_through_a_symlink(tmp_path: Path, outside: Path, act: Callable[[Tree], object]) -> None:
    top = plant(tmp_path / "top", {"file": "mine"})
    (top / "way").symlink_to(outside)
    (top / "to-file").symlink_to(outside / "file")
    before = read(outside), (outside / "file").stat()
    with Tree(str(top)) as tree, pytest.raises(OSError, match=r"Not a directory|Too many levels of symbolic links"):
        act(tree)
    assert (read(outside), (outside / "file").stat()) == before


def test_the_top_is_no_symlink(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "top").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        Tree(str(tmp_path / "top"))


def test_a_directory_that_becomes_a_symlink_at_any_moment_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "root"
    trees = [plant(root / ".worktrees" / (hash * 40), {f"way/{n}": hash for n in range(20)}) for hash in "12"]
    published = Mirror(str(root / "site"), str(root))
    published.publish(str(trees[0]), "1" * 40)
    done = threading.Event()

    def swap() -> None:
        way, aside = root / "site" / "way", tmp_path / "aside"
        while not done.is_set():
            try:
                way.rename(aside)
                way.symlink_to(outside)
                way.unlink()
                aside.rename(way)
            except OSError:  # The mirror was quicker.
                continue

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for turn in range(40):
            try:
                published.publish(str(trees[turn % 2]), "12"[turn % 2] * 40)
            except SidecarError:
                continue
    finally:
        done.set()
        swapping.join()
    assert read(outside) == {"file": "precious", "folder/file": "precious"}
    published.publish(str(trees[1]), "2" * 40)
    assert read(root / "site") == read(trees[1])


def test_a_tree_is_removed_without_what_its_symlinks_lead_to(tmp_path: Path, outside: Path) -> None:
    top = plant(tmp_path / "top", {"a/b/c": "x", "d": None})
    (top / "a" / "way").symlink_to(outside)
    remove_tree(str(top))
    assert not top.exists()
    assert read(outside) == {"file": "precious", "folder/file": "precious"}


def test_deep_trees_need_no_more_descriptors(tmp_path: Path) -> None:
    deep, folder = tmp_path / "deep", "d/" * 300
    deep.mkdir()
    here = os.getcwd()
    os.chdir(deep)
    try:
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    with Tree(str(deep)) as tree:
        before = len(os.listdir("/proc/self/fd"))
        assert len(tree.scan(lambda _folder, _name: False, whole=True)) == 300
        tree.write(folder + "file", 0o644, lambda file: None, durably=False)
        assert len(os.listdir("/proc/self/fd")) == before
    remove_tree(str(deep))


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_copy_is_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "source").write_bytes(os.urandom(size))
    with open(tmp_path / "source", "rb") as source, open(tmp_path / "target", "wb") as target:
        copy(source.fileno(), target.fileno())
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="NOT PROVEN HERE: there is no other filesystem")
def test_a_copy_to_another_filesystem_is_whole(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(3_000_000))
    target = os.open("/dev/shm", os.O_RDWR | os.O_TMPFILE)
    try:
        with open(tmp_path / "source", "rb") as source:
            copy(source.fileno(), target)
        assert os.pread(target, 4_000_000, 0) == (tmp_path / "source").read_bytes()
    finally:
        os.close(target)


def test_what_is_mounted_is_told_relative_to_a_directory() -> None:
    assert "sys" in mounts("/") or "proc" in mounts("/")
    assert mounts("/nonexistent") == set()
