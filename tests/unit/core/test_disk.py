"""Atomic replacement, proven by readers and by kill -9; and the lock."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecars.core.disk import Locked, lock, replace_directory, replace_file, replace_symlink

as_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT PROVEN HERE: needs root to mount a small filesystem")

REPLACES_FOR_EVER = """
import sys
from sidecars.core.disk import lock, replace_file
with lock(sys.argv[1]):
    for number in range(10**9):
        replace_file(sys.argv[1] + "/state", b"%d\\n" % (number % 10) * 20_000)
        if number == 0:
            print("begun", flush=True)
"""


def test_a_file_is_written_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_file(str(tmp_path / "state"), b"one", 0o640)
    finally:
        os.umask(before)
    assert (tmp_path / "state").read_bytes() == b"one"
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["state"]


def test_a_relative_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    replace_file("state", b"one")
    assert (tmp_path / "state").read_bytes() == b"one"


def test_whoever_reads_meanwhile_reads_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "state"
    old, new = b"old" * 30_000, b"new" * 40_000
    replace_file(str(path), old)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            replace_file(str(path), new)
            replace_file(str(path), old)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {path.read_bytes() for _ in range(500)} <= {old, new}
    finally:
        stop.set()
        writer.join()


def test_a_killed_writer_leaves_a_whole_file_and_the_next_holder_clears_its_leftovers(tmp_path: Path) -> None:
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", REPLACES_FOR_EVER, tmp_path], stdout=subprocess.PIPE)
        with process:
            assert process.stdout and process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGKILL)
        lines = (tmp_path / "state").read_bytes().split()
        assert len(lines) == 20_000
        assert len(set(lines)) == 1
    (
        tmp_path / ".state.0123abcd.tmp-sidecars"
    ).touch()  # A kill between two system calls is rare: this is what one leaves.
    with lock(str(tmp_path)):
        assert sorted(os.listdir(tmp_path)) == [".lock", "state"]


def test_a_symlink_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for target in ("a", "b"):
        replace_symlink(str(link), target)
        assert os.readlink(link) == target
    assert os.listdir(tmp_path) == ["current"]


@pytest.mark.parametrize("before", ["absent", "empty", "full"])
def test_a_directory_is_replaced_and_the_old_one_is_gone(tmp_path: Path, before: str) -> None:
    path, source = tmp_path / "site", tmp_path / "site.new"
    if before != "absent":
        path.mkdir()
    if before == "full":
        (path / "old").mkdir()
        (path / "old" / "file").write_text("old")
    (source / "new").mkdir(parents=True)
    (source / "new" / "file").write_text("new")
    (source / "link").symlink_to("nowhere")
    replace_directory(str(path), str(source))
    assert (path / "new" / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["site"]
    assert sorted(os.listdir(path)) == ["link", "new"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 64 KiB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mounted], check=True)
    yield mounted
    subprocess.run(["umount", mounted], check=True)


@as_root
def test_a_full_disk_names_the_path_keeps_the_old_content_and_leaves_nothing(small: Path) -> None:
    path = str(small / "state")
    replace_file(path, b"old")
    with pytest.raises(OSError) as raised:
        replace_file(path, bytes(100_000))
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, path)
    assert (small / "state").read_bytes() == b"old"
    assert os.listdir(small) == ["state"]


@as_root
def test_a_read_only_disk_names_the_path(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(OSError) as raised:
        replace_file(str(small / "state"), b"")
    assert (raised.value.errno, raised.value.filename) == (errno.EROFS, str(small / "state"))


def test_what_cannot_be_replaced_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        replace_file(str(tmp_path / "directory"), b"")
    assert raised.value.filename == str(tmp_path / "directory")
    assert os.listdir(tmp_path) == ["directory"]


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", REPLACES_FOR_EVER, tmp_path], stdout=subprocess.PIPE)
    with process:
        assert process.stdout and process.stdout.readline() == b"begun\n"
        with pytest.raises(Locked, match="is locked by another process"), lock(str(tmp_path)):
            pass
        process.kill()
        process.wait()
        with lock(str(tmp_path)):
            pass


def test_a_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    with lock(str(tmp_path)):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with lock(str(tmp_path)):
            pass
    finally:
        child.kill()
        child.wait()
