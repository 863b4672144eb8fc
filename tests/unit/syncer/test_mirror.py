from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sidecars.core.errors import SidecarError
from sidecars.syncer.mirror import Mirror
from tests.servers.git_server import Executable, Symlink
from tests.servers.process import as_root
from tests.unit.syncer.trees import Tree, plant, read

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
FIRST: Tree = {
    "a.txt": "a",
    "run": Executable("#!/bin/sh"),
    "to-a": Symlink("a.txt"),
    "lib/one.py": "1",
    "lib/deep/two.py": "2",
    "becomes-directory": "file",
    "becomes-file/x/y": "y",
    "goes/away/now": "bye",
    b"\xff-latin".decode(errors="surrogateescape"): "bytes",
}
SECOND: Tree = {
    "a.txt": "b",
    "run": "no longer run",
    "to-a": Symlink("run"),
    "lib/one.py": "1",
    "lib/deep/two.py": "two",
    "becomes-directory/in/it": "file",
    "becomes-file": "file",
    "new/one": Executable("new"),
    b"\xff-latin".decode(errors="surrogateescape"): "other bytes",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def place(root: Path) -> Path:
    """Where it is published."""
    return root / "site"


def mirror(root: Path) -> Mirror:
    return Mirror(str(root / "site"), str(root))


def worktree(root: Path, hash: str, tree: Tree, previous: str = "") -> str:
    """Make a worktree as the store does: what the previous one has is the same file."""
    made = plant(root / ".worktrees" / hash, tree)
    (made / ".git").write_text(f"gitdir: ../../.git/worktrees/{hash}\n")
    for path, content in read(root / ".worktrees" / previous).items() if previous else ():
        if isinstance(content, str) and tree.get(path) == content:
            (made / path).unlink()
            (made / path).hardlink_to(root / ".worktrees" / previous / path)
    return str(made)


def facts(top: Path) -> dict[str, tuple[int, int]]:
    """What tells whether a file was touched: its inode and its ctime."""
    return {
        os.path.join(folder, name): (found.st_ino, found.st_ctime_ns)
        for folder, _, files in os.walk(top)
        for name in files
        for found in [os.lstat(os.path.join(folder, name))]
    }


def test_it_is_a_real_directory_with_the_modes_and_symlinks_of_the_worktree(root: Path, place: Path) -> None:
    published = mirror(root)
    assert (published.current(), published.target()) == (None, None)
    made = worktree(root, ONE, FIRST)
    published.publish(made, ONE)
    assert place.is_dir()
    assert not place.is_symlink()
    assert read(place) == FIRST
    assert not (place / ".git").exists()
    assert (published.current(), published.target(), published.intact(ONE)) == (ONE, made, True)
    assert all(found.st_nlink == 1 for found in (os.lstat(path) for path in facts(place)))


def test_a_change_leads_to_the_next_revision_and_back(root: Path, place: Path) -> None:
    published = mirror(root)
    one, two = worktree(root, ONE, FIRST), worktree(root, TWO, SECOND)
    for made, hash, tree in ((one, ONE, FIRST), (two, TWO, SECOND), (one, ONE, FIRST)):
        published.publish(made, hash)
        assert read(place) == tree
        assert published.current() == hash
    assert sorted(os.listdir(root)) == [".git-syncer", ".worktrees", "site"]


@pytest.mark.parametrize("linked", [True, False], ids=["same files", "a fresh checkout"])
@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "forgotten"])
def test_what_has_not_changed_is_not_touched(root: Path, place: Path, linked: bool, remembered: bool) -> None:
    mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    before = facts(place)
    two = worktree(root, TWO, {**FIRST, "lib/one.py": "changed"}, previous=ONE if linked else "")
    if not remembered:
        (root / ".git-syncer" / "mirror-files.json").write_text('{"a.txt": [1,')
    mirror(root).publish(two, TWO)
    after = facts(place)
    assert {path for path in after if after[path] != before.get(path)} == {str(place / "lib" / "one.py")}
    assert (place / "lib" / "one.py").read_text() == "changed"


def test_a_mode_alone_changes_without_the_file(root: Path, place: Path) -> None:
    mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    before = os.lstat(place / "run")
    mirror(root).publish(worktree(root, TWO, {**FIRST, "run": "#!/bin/sh"}), TWO)
    after = os.lstat(place / "run")
    assert (after.st_ino, after.st_mtime_ns, after.st_mode & 0o777) == (before.st_ino, before.st_mtime_ns, 0o644)


def test_nothing_is_written_when_nothing_differs(root: Path, place: Path) -> None:
    published, made = mirror(root), worktree(root, ONE, FIRST)
    published.publish(made, ONE)
    published.mend(made, ONE)
    record = os.lstat(root / ".git-syncer" / "mirror.json")
    files = facts(place)
    mirror(root).mend(made, ONE)
    assert os.lstat(root / ".git-syncer" / "mirror.json") == record
    assert facts(place) == files


def test_what_consumers_did_is_put_right(root: Path, place: Path) -> None:
    made = worktree(root, ONE, FIRST)
    mirror(root).publish(made, ONE)
    (place / "a.txt").write_text("x")  # of the same size
    (place / "run").unlink()
    (place / "lib" / "one.py").chmod(0o600)
    (place / "added").mkdir()
    (place / "added" / "file").write_text("mine")
    (place / "to-a").unlink()
    os.mkfifo(place / "to-a")
    (place / "lib" / "deep").chmod(0)
    mirror(root).mend(made, ONE)
    assert read(place) == FIRST
    assert (place / "lib" / "one.py").stat().st_mode & 0o777 == 0o644
    assert (place / "lib" / "deep").stat().st_mode & 0o777 == 0o755
    assert Path(made, "a.txt").read_text() == "a"


def test_a_change_that_hides_its_time_is_put_right(root: Path, place: Path) -> None:
    made = worktree(root, ONE, FIRST)
    mirror(root).publish(made, ONE)
    mirror(root).mend(made, ONE)
    before = os.lstat(place / "a.txt")
    (place / "a.txt").write_text("x")
    os.utime(place / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    mirror(root).mend(made, ONE)
    assert read(place) == FIRST


@pytest.mark.parametrize("swapped", ["lib", "lib/deep", "goes"])
def test_nothing_outside_is_changed_through_a_symlink(root: Path, place: Path, tmp_path: Path, swapped: str) -> None:
    mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    outside: Tree = {"one.py": "precious", "two.py": "precious", "deep/two.py": "precious", "away/now": "precious"}
    plant(tmp_path / "outside", outside)
    subprocess.run(["rm", "-r", place / swapped], check=True)
    (place / swapped).symlink_to(tmp_path / "outside")
    mirror(root).publish(worktree(root, TWO, SECOND), TWO)
    assert read(place) == SECOND
    assert read(tmp_path / "outside") == outside


def test_a_symlink_of_the_repository_that_leads_out_stays_a_symlink(root: Path, place: Path, tmp_path: Path) -> None:
    plant(tmp_path / "outside", {"file": "precious"})
    one: Tree = {"way-out": Symlink(str(tmp_path / "outside")), "a": "a"}
    mirror(root).publish(worktree(root, ONE, one), ONE)
    assert read(place) == one
    mirror(root).publish(worktree(root, TWO, {"way-out/file": "mine"}), TWO)
    assert read(place) == {"way-out/file": "mine"}
    assert read(tmp_path / "outside") == {"file": "precious"}


def test_the_marker_is_there_while_it_is_mixed_and_names_both(root: Path, place: Path) -> None:
    published = mirror(root)
    published.publish(worktree(root, ONE, FIRST), ONE)
    two = worktree(root, TWO, SECOND)
    for again in (published, mirror(root)):
        with pytest.raises(SidecarError, match=r"can't publish .*/site: File too large"):
            _with_full_disk(again, two)
        assert (place / ".syncing").read_text() == f"old {ONE}\nnew {TWO}\n"
    assert (published.current(), published.target(), mirror(root).current()) == (None, None, None)
    published.publish(two, TWO)
    assert read(place) == SECOND
    assert published.current() == TWO


def _with_full_disk(published: Mirror, two: str) -> None:
    """Publish with a limit on the size of files, which makes the kernel refuse to write a large one."""
    import resource
    import signal

    Path(two, "zz-large").write_bytes(b"x" * 100_000)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        published.publish(two, TWO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
        Path(two, "zz-large").unlink()


def test_a_worktree_that_is_gone_takes_nothing_with_it(root: Path, place: Path) -> None:
    published = mirror(root)
    published.publish(worktree(root, ONE, FIRST), ONE)
    with pytest.raises(SidecarError, match=r"No such file or directory: .*/\.worktrees/2222"):
        published.publish(str(root / ".worktrees" / TWO), TWO)
    assert read(place) == FIRST
    assert published.current() == ONE


def test_a_marker_that_somebody_else_left_does_not_stay(root: Path, place: Path) -> None:
    published, made = mirror(root), worktree(root, ONE, FIRST)
    published.publish(made, ONE)
    (place / ".syncing").write_text("mine")
    assert published.current() is None
    published.publish(made, ONE)
    assert published.current() == ONE
    assert read(place) == FIRST


def test_a_symlink_of_link_mode_gives_way_at_once(root: Path, place: Path) -> None:
    one = worktree(root, ONE, FIRST)
    place.symlink_to(f".worktrees/{ONE}")
    mirror(root).publish(one, ONE)
    assert not place.is_symlink()
    assert read(place) == FIRST
    assert sorted(os.listdir(root)) == [".git-syncer", ".worktrees", "site"]


def test_a_directory_that_waits_empty_is_filled_in_place(root: Path, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "lost+found").mkdir()  # as a fresh volume has it
    inode = place.stat().st_ino
    mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    assert place.stat().st_ino == inode
    assert read(place) == {**FIRST, "lost+found": None}


def test_a_directory_with_files_of_somebody_else_is_refused(root: Path, place: Path) -> None:
    plant(place, {"precious": "data"})
    with pytest.raises(SidecarError, match=r"holds files, and none of them is known to be git-syncer's; empty it"):
        mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    assert read(place) == {"precious": "data"}


def test_a_file_in_its_place_is_refused(root: Path, place: Path) -> None:
    root.mkdir()
    place.write_text("precious")
    with pytest.raises(SidecarError, match="a file is there"):
        mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    assert place.read_text() == "precious"


def test_a_mirror_is_known_again_after_the_root_was_lost(root: Path, place: Path) -> None:
    mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    (root / ".git-syncer" / "mirror.json").write_text("{")
    after = mirror(root)
    assert after.current() is None
    after.publish(worktree(root, TWO, SECOND), TWO)
    assert read(place) == SECOND
    assert any(name.startswith("mirror.corrupt-") for name in os.listdir(root / ".git-syncer"))


def test_a_record_of_another_link_does_not_count(root: Path) -> None:
    mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    other = Mirror(str(root / "other"), str(root))
    assert other.current() is None


def test_gits_own_names_and_the_markers_are_left_out(root: Path, place: Path) -> None:
    tree: Tree = {"sub/.git": "gitdir: elsewhere", "sub/a": "a", ".syncing": "of the repository", "sub/.syncing": "s"}
    mirror(root).publish(worktree(root, ONE, tree), ONE)
    assert read(place) == {"sub/a": "a", "sub/.syncing": "s"}
    assert not (place / "sub" / ".git").exists()


def test_many_changes_and_large_files_arrive_whole(root: Path, place: Path) -> None:
    tree: Tree = {f"d{number % 7}/f{number}": "x" * (number * 9973 % 2_000_000) for number in range(100)}
    mirror(root).publish(worktree(root, ONE, {"d1/f1": "old", "d2": "old"}), ONE)
    mirror(root).publish(worktree(root, TWO, tree), TWO)
    assert read(place) == tree


@as_root
def test_what_a_consumer_with_other_rights_has_added_stays_and_stops_nothing(root: Path, place: Path) -> None:
    made = {hash: worktree(root, hash, tree) for hash, tree in ((ONE, FIRST), (TWO, SECOND))}
    place_for_all(root)
    subprocess.run(["chown", "-R", "65533:65533", root], check=True)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from sidecars.syncer.mirror import Mirror;"
        "os.setgroups([]); os.setgid(65533); os.setuid(65533);"
        "Mirror(sys.argv[2] + '/site', sys.argv[2]).publish(*sys.argv[3:])"
    )

    def publish(hash: str) -> str:
        words = [sys.executable, "-c", code, Path(__file__).parents[3], root, made[hash], hash]
        return subprocess.run(words, capture_output=True, text=True, check=True).stderr

    publish(ONE)
    (place / "goes" / "__pycache__").mkdir()
    (place / "goes" / "__pycache__" / "now.pyc").write_text("bytecode")
    assert "what others have put into the mirror stays" in publish(TWO)
    assert read(place) == {**SECOND, "goes/__pycache__/now.pyc": "bytecode"}
    assert mirror(root).current() == TWO


def place_for_all(path: Path) -> None:
    """Let another user reach a directory of this test."""
    for parent in (path, *path.parents):
        parent.chmod(parent.stat().st_mode | 0o001)


@as_root
def test_a_volume_that_is_mounted_in_it_is_left_alone(root: Path, place: Path, tmp_path: Path) -> None:
    mirror(root).publish(worktree(root, ONE, FIRST), ONE)
    plant(tmp_path / "volume", {"precious": "data"})
    (place / "mounted here").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "volume", place / "mounted here"], check=True)
    try:
        mirror(root).publish(worktree(root, TWO, SECOND), TWO)
        assert read(place) == {**SECOND, "mounted here/precious": "data"}
    finally:
        subprocess.run(["umount", place / "mounted here"], check=True)


@as_root
def test_what_was_published_and_cannot_be_removed_is_an_error(root: Path, place: Path, tmp_path: Path) -> None:
    published = mirror(root)
    published.publish(worktree(root, ONE, FIRST), ONE)
    (tmp_path / "file").touch()
    subprocess.run(["mount", "--bind", tmp_path / "file", place / "goes" / "away" / "now"], check=True)
    try:
        with pytest.raises(SidecarError, match=r"can't publish .*: Device or resource busy"):
            published.publish(worktree(root, TWO, SECOND), TWO)
    finally:
        subprocess.run(["umount", place / "goes" / "away" / "now"], check=True)
    assert published.current() is None
    published.publish(str(root / ".worktrees" / TWO), TWO)
    assert read(place) == SECOND


@pytest.mark.parametrize("start", ["mirror", "link", "nothing"])
def test_killed_at_any_step_it_is_never_half_a_file_and_is_repaired(tmp_path: Path, start: str) -> None:
    program = Path(__file__).with_name("mirror_crashing.py")
    in_memory = os.access("/dev/shm", os.W_OK)  # where fsync is free
    with tempfile.TemporaryDirectory(dir="/dev/shm" if in_memory else tmp_path) as directory:
        words = [sys.executable, program, directory, start]
        told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    summary: dict[str, Any] = json.loads(told.stdout)
    print(summary)
    assert summary["deaths"] > 25
    assert summary["mixed"] > 10 if start == "mirror" else summary["mixed"] == 0
