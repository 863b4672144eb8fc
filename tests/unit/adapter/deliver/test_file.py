"""The file that records are appended to, renamed, removed and full at any moment."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecars.adapter.deliver.file import Appending
from sidecars.core.errors import DeliveryFailed


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def appending(out: Path) -> Iterator[Appending]:
    made = Appending(str(out))
    yield made
    made.close()


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the kernel refuse what would make a file larger (EFBIG), as a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_not_synced_is_written_again_when_its_file_was_removed(out, appending):
    appending.add([b"one\n"])
    appending.sync()
    appending.add([b"two\n"])
    appending.write()
    out.unlink()
    appending.add([b"three\n"])
    appending.write()
    assert out.read_bytes() == b"two\nthree\n"


def test_what_was_not_synced_is_synced_in_a_file_that_was_renamed(out, appending, tmp_path):
    appending.add([b"one\n"])
    appending.write()
    out.rename(tmp_path / "rotated")
    appending.add([b"two\n"])
    appending.sync()
    assert ((tmp_path / "rotated").read_bytes(), out.read_bytes()) == (b"one\n", b"two\n")


def test_a_record_is_never_torn_between_two_files(out, appending, tmp_path):
    appending.add([b"a record of 24 characters\n"])
    with files_of_at_most(10), pytest.raises(DeliveryFailed, match="make room") as failed:
        appending.write()
    assert failed.value.code == "disk_full"
    out.rename(tmp_path / "rotated")
    appending.write()
    appending.add([b"next\n"])
    appending.write()
    assert (tmp_path / "rotated").read_bytes() == b"a record of 24 characters\n"
    assert out.read_bytes() == b"next\n"


def test_a_full_file_that_is_removed_frees_its_room_and_is_begun_anew(out, appending):
    appending.add([b"a record of 24 characters\n", b"next\n"])
    with files_of_at_most(10), pytest.raises(DeliveryFailed):
        appending.write()
    out.unlink()
    appending.write()
    assert out.read_bytes() == b"a record of 24 characters\nnext\n"


def test_a_fifo_without_a_reader_is_waited_for_without_blocking(out, appending):
    os.mkfifo(out)
    appending.add([b"one\n"])
    with pytest.raises(DeliveryFailed) as failed:
        appending.write()
    assert failed.value.code == "enxio"
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    appending.sync()
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    appending.add([b"two\n"])
    with pytest.raises(DeliveryFailed) as failed:
        appending.write()
    assert failed.value.code == "epipe"


def test_open_descriptors_stay_few_over_200_rotations(out, appending, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        appending.add([b"%d\n" % number])
        appending.write()
        out.rename(tmp_path / "rotated")
    assert len(os.listdir("/proc/self/fd")) <= before + 1
