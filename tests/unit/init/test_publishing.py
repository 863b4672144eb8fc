from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError, TimedOut
from sidecars.init import manifest, placing, publishing
from sidecars.init.publishing import Publication
from sidecars.init.tree import ALL, MANIFEST, STAGING, Entry, Selection, Tree, scan
from tests.servers.process import as_root

WANTED = {"sub": 0o755, "sub/file": 0o644, "top": 0o600}


def publish(dest: Path, text: str = "new", mirror: Selection | None = None) -> Tree:
    """Publish WANTED with this content."""
    with Publication(str(dest)) as publication:
        staging = Path(publication.staging)
        (staging / "sub").mkdir(exist_ok=True)
        for name in ("sub/file", "top"):
            (staging / name).write_text(text)
            (staging / name).chmod(WANTED[name])
        wanted = scan(str(staging))
        publication.commit("somewhere", wanted, mirror=mirror)
    return wanted


def names(root: Path) -> list[str]:
    return sorted(os.path.relpath(os.path.join(base, name), root) for base, folders, files in os.walk(root)
                  for name in (*folders, *files))  # fmt: skip


@pytest.mark.parametrize("there", [False, True])
def test_what_is_published_is_complete_and_leaves_nothing_beside(tmp_path: Path, there: bool) -> None:
    dest = tmp_path / "dest"
    if there:
        dest.mkdir()
    wanted = publish(dest)
    assert manifest.complete(str(dest), wanted)
    assert manifest.holds(str(dest), "somewhere") and not manifest.holds(str(dest), "elsewhere")
    assert names(dest) == [MANIFEST, "sub", "sub/file", "top"]
    assert os.listdir(tmp_path) == ["dest"]


def test_a_complete_directory_holds_what_it_got(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    wanted = publish(dest)
    for spoil in (
        lambda: (dest / "top").write_text("other"),
        lambda: (dest / "top").unlink(),
        lambda: (dest / "sub").rename(dest / "elsewhere"),
    ):
        publish(dest)
        wanted = scan(str(dest))
        assert manifest.complete(str(dest), wanted)
        spoil()
        assert not manifest.complete(str(dest), wanted) and not manifest.holds(str(dest), "somewhere")


LIES: list[bytes] = [
    b"", b"{", b"[]", b"null", b'{"version":1}', b'{"version":2,"boot":"BOOT","entries":{}}', b"[" * 100_000, b"\xff",
    b'{"version":1,"boot":"another","entries":{}}', b'{"version":1,"boot":"","entries":{}}',
    b'{"version":1,"boot":"BOOT","entries":[]}',
]  # fmt: skip


@pytest.mark.parametrize("text", LIES)
def test_a_manifest_of_another_boot_or_none_at_all_is_not_believed(tmp_path: Path, text: bytes) -> None:
    assert manifest.boot()
    (tmp_path / MANIFEST).write_bytes(text.replace(b"BOOT", manifest.boot().encode()))
    assert manifest.believed(str(tmp_path)) is None
    assert not manifest.complete(str(tmp_path), {})


def test_entries_that_cannot_be_understood_are_no_empty_directory(tmp_path: Path) -> None:
    told = {"version": 1, "boot": manifest.boot(), "source": "s", "entries": {"a": {"kind": "file", "new": 1}}}
    (tmp_path / MANIFEST).write_text(json.dumps(told))
    assert manifest.believed(str(tmp_path))
    assert not manifest.holds(str(tmp_path), "s")


def test_what_another_boot_has_completed_is_doubted(tmp_path: Path) -> None:
    publish(tmp_path / "dest")
    assert not manifest.doubted(str(tmp_path / "dest"))
    told = json.loads((tmp_path / "dest" / MANIFEST).read_text())
    (tmp_path / "dest" / MANIFEST).write_text(json.dumps({**told, "boot": "another"}))
    assert manifest.doubted(str(tmp_path / "dest"))


def test_a_symlink_is_filled_where_it_leads_also_when_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    publish(tmp_path / "link")
    assert (tmp_path / "real" / "top").read_text() == "new" and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("kind", ["file", "loop", "fifo"])
def test_what_is_no_directory_is_not_replaced(tmp_path: Path, kind: str) -> None:
    dest = tmp_path / "dest"
    {"file": dest.touch, "loop": lambda: dest.symlink_to("dest"), "fifo": lambda: os.mkfifo(dest)}[kind]()
    with pytest.raises((SidecarError, OSError)):
        publish(dest)
    assert os.listdir(tmp_path) == ["dest"]


def test_nothing_is_written_through_a_symlink_or_into_what_is_of_another_kind(tmp_path: Path) -> None:
    dest, outside = tmp_path / "dest", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside")
    dest.mkdir()
    (dest / "sub").symlink_to(outside)
    (dest / "top").mkdir()
    (dest / "top" / "x").touch()
    publish(dest)
    assert names(outside) == ["file"] and (outside / "file").read_text() == "outside"
    assert (dest / "sub" / "file").read_text() == (dest / "top").read_text() == "new"
    (dest / "top").unlink()
    os.mkfifo(dest / "top")
    (dest / "sub" / "file").unlink()
    (dest / "sub" / "file").symlink_to(outside / "file")
    publish(dest, "newer")
    assert (outside / "file").read_text() == "outside"
    assert (dest / "sub" / "file").read_text() == (dest / "top").read_text() == "newer"


def test_a_staged_entry_that_somebody_has_taken_away_is_an_error_and_no_complete_directory(tmp_path: Path) -> None:
    tmp_path.joinpath("dest").mkdir()
    with pytest.raises(SidecarError, match="was removed by somebody else"), Publication(str(tmp_path / "dest")) as made:
        made.commit("s", {"gone": Entry("file", 1, 1, 0o644)})
    assert not (tmp_path / "dest" / MANIFEST).exists()


def test_one_at_a_time_and_who_waits_gives_up_in_time(tmp_path: Path) -> None:
    with (
        Publication(str(tmp_path / "dest")),
        pytest.raises(TimedOut, match="being filled by another process"),
        Publication(str(tmp_path / "dest"), patience=0.01),
    ):
        pass


def test_tidying_leaves_the_staging_that_somebody_works_in(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (tmp_path / f".dest{STAGING}" / "x").mkdir(parents=True)
    with Publication(str(dest)) as publication:
        publishing.tidy(str(dest))
        assert os.path.isdir(publication.staging) and os.listdir(tmp_path) == ["dest"]
    publishing.tidy(str(dest))
    assert os.listdir(dest) == []


def test_mirror_removes_what_is_not_wanted_but_what_is_spared_with_the_directories_above_it(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    for file in ("old/gone", "old/keep.log", "old/deep/gone", "stale", "sub/stale", "lost+found/x", "kept/x"):
        (dest / file).parent.mkdir(parents=True, exist_ok=True)
        (dest / file).touch()
    (dest / "old" / "deep").chmod(0)
    publish(dest, mirror=Selection(exclude=("*.log", "kept")))
    assert names(dest) == [
        MANIFEST, "kept", "kept/x", "lost+found", "lost+found/x", "old", "old/keep.log", "sub", "sub/file", "top",
    ]  # fmt: skip


def test_what_is_not_included_is_not_removed(tmp_path: Path) -> None:
    for file in ("a.bin", "b.txt", "d/c.bin", "e/c.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert placing.unwanted(str(tmp_path), {}, Selection(include=("*.bin",))) == ["a.bin", "d"]


@as_root
def test_another_volume_below_is_filled_and_neither_emptied_nor_replaced() -> None:
    """In a mount namespace of its own."""
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", MOUNTED], capture_output=True,
        text=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


MOUNTED = """
import os, subprocess, tempfile
from pathlib import Path
from sidecars.core.errors import SidecarError
from sidecars.init.tree import ALL, Entry, scan
from tests.unit.init.test_publishing import names, publish
root = Path(tempfile.mkdtemp()); dest = root / "dest"; other = root / "other volume"
for folder in (dest / "sub", dest / "mine", dest / "x" / "theirs", other): folder.mkdir(parents=True)
(other / "data").touch()
subprocess.run(["mount", "--bind", other, dest / "sub"], check=True)     # of the same device, as emptyDirs are
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", dest / "mine"], check=True)
subprocess.run(["mount", "--bind", other, dest / "x" / "theirs"], check=True)
publish(dest, mirror=ALL)
assert (other / "file").read_text() == "new" and names(other) == ["data", "file"], names(other)
assert (dest / "mine").is_dir() and (dest / "x" / "theirs" / "file").exists()
(dest / "top").unlink(); (dest / "top").mkdir()
subprocess.run(["mount", "--bind", other, dest / "top"], check=True)
try: publish(dest)
except SidecarError as error: assert "has a volume at" in str(error), error
else: raise AssertionError
assert (other / "file").exists() and not (dest / ".pod-init.json").exists()
subprocess.run(["umount", dest / "top", dest / "sub", dest / "mine", dest / "x" / "theirs"], check=True)
"""


def test_the_machine_was_booted_before_now_and_after_its_files_were_made(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert 0 < manifest.booted() < (tmp_path / "x").stat().st_ctime
    assert ALL.takes("x")
