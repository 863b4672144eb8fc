from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError, TimedOut, WrongSettings
from sidecars.core.settings import load
from sidecars.init import copying
from sidecars.init.filecopy import copy_file, same
from sidecars.init.progress import Progress
from sidecars.init.staging import processors
from sidecars.init.tree import look

WRONG = [
    ("a b c", "copy needs SRC and DEST, and got 3 paths"),
    ("/etc /etc/x", "DEST /etc/x lies in SRC /etc"),
    ("/ /etc/x", "DEST /etc/x lies in SRC /"),
    ("/etc/ssl /etc/", "DEST /etc/ holds SRC"),
    ("/etc /etc/../etc", "is SRC itself"),
    ("a b --mode rw", "--mode is 'rw', expected permissions in octal"),
    ("a b --dir-mode 8", "--dir-mode is '8'"),
    ("a b --jobs 0", "expected 1 to 64"),
    ("a b --miror", "did you mean --mirror?"),
    ("a b --links all", "--links is 'all'"),
]


def settings(*words: str | Path) -> copying.Settings:
    return load(copying.Settings, prog="pod-init copy", prefix="INIT_", argv=list(map(str, words)), environ={})


@pytest.mark.parametrize(("line", "words"), WRONG)
def test_wrong_settings_say_what_to_do(line: str, words: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        settings(*line.split())
    assert words in str(refused.value)


class Disturbed(Progress):
    """Does something to the source whenever something is copied."""

    def __init__(self, disturb: Callable[[int], None]) -> None:
        super().__init__()
        self.times = 0
        self._disturb = disturb

    def add(self, count: int) -> None:
        super().add(count)
        self.times += 1
        self._disturb(self.times)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for name in ("a", "b"):
        (tmp_path / "src" / name).write_text(f"{name} is here")
    return tmp_path / "src"


def append(path: Path) -> None:
    with open(path, "a") as file:
        file.write("more")


def test_a_source_that_is_written_to_all_the_time_is_an_error(source: Path, tmp_path: Path) -> None:
    progress = Disturbed(lambda _: append(source / "a"))
    with pytest.raises(SidecarError, match="while it is copied; copy it when nobody writes to it"):
        copying.copy_directory(settings(source, tmp_path / "dest"), progress)
    assert not (tmp_path / "dest").exists()


def replace(path: Path) -> None:
    path.unlink()
    path.symlink_to("a")


DISTURBED: dict[str, Callable[[Path], None]] = {
    "appended": lambda source: append(source / "a"),
    "another": lambda source: append(source / "b"),
    "removed": lambda source: (source / "b").unlink(),
    "made": lambda source: (source / "c").mkdir(),
    "replaced": lambda source: replace(source / "b"),
    "mode": lambda source: (source / "b").chmod(0o600),
}


@pytest.mark.parametrize("how", DISTURBED)
def test_a_source_that_changes_once_is_copied_again_as_it_is_then(source: Path, tmp_path: Path, how: str) -> None:
    dest = tmp_path / "dest"
    progress = Disturbed(lambda times: DISTURBED[how](source) if times == 1 else None)
    copying.copy_directory(settings(source, dest, "--jobs", "1"), progress)
    assert (dest / "a").read_text() == (source / "a").read_text()
    assert sorted({*os.listdir(source), ".pod-init.json"}) == sorted(os.listdir(dest))
    assert look(str(dest / "b")) == look(str(source / "b"))


def test_time_that_is_up_is_noticed_while_it_copies_and_while_it_reads(source: Path, tmp_path: Path) -> None:
    found = look(str(source / "a"))
    assert found
    progress = Progress(timeout=0)
    with pytest.raises(TimedOut):
        copy_file(str(source / "a"), str(tmp_path / "copy"), found, found, progress.add)
    with pytest.raises(TimedOut):
        same(str(source / "a"), str(source / "a"), progress.look)


@pytest.mark.parametrize("size", [0, 10, 3 << 20])
def test_same_is_by_content(tmp_path: Path, size: int) -> None:
    for name, end in (("one", b"x"), ("other", b"x"), ("third", b"y")):
        (tmp_path / name).write_bytes(bytes(size) + end)
    one, other, third = (str(tmp_path / name) for name in ("one", "other", "third"))
    assert same(one, other, lambda: None)[0] and not same(one, third, lambda: None)[0]


def test_there_is_a_processor() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)
