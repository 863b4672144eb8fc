from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecars.core.follow.watch import Watch

PATIENCE = 20.0


class Told:
    """What a watch has told so far."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.everything = 0
        self._news = threading.Condition()

    def __call__(self, paths: set[str], everything: bool) -> None:
        with self._news:
            self.paths |= paths
            self.everything += everything
            self._news.notify_all()

    def until(self, met: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(met, PATIENCE), (self.paths, self.everything)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(told: Told) -> Iterator[Watch]:
    watch = Watch(told)
    watch.start()
    yield watch
    watch.stop()
    watch.join(PATIENCE)
    assert not watch.is_alive()


def test_a_file_that_comes_grows_and_moves_is_told_by_its_path(tmp_path: Path, watch: Watch, told: Told) -> None:
    watch.add(str(tmp_path))
    path = tmp_path / "a.log"
    for change in (path.touch, lambda: path.write_bytes(b"1"), lambda: path.chmod(0o600), path.unlink):
        told.paths.clear()
        change()
        told.until(lambda: told.paths == {str(path)})
    path.touch()
    path.rename(f"{path}.1")
    told.until(lambda: told.paths == {str(path), f"{path}.1"})
    assert not told.everything


@pytest.mark.parametrize("name", [b"new\nline", b"caf\xe9", b"with space"])
def test_any_name_is_told(tmp_path: Path, watch: Watch, told: Told, name: bytes) -> None:
    watch.add(str(tmp_path))
    path = os.path.join(tmp_path, os.fsdecode(name))
    Path(path).touch()
    told.until(lambda: told.paths == {path})


def test_the_working_directory_s_files_are_told_by_their_names(
    tmp_path: Path, watch: Watch, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watch.add(".")
    Path("a.log").touch()
    told.until(lambda: told.paths == {"a.log"})


def test_a_directory_of_several_names_is_told_by_each(tmp_path: Path, watch: Watch, told: Told) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name in ("link", "real", "link"):
        watch.add(str(tmp_path / name))
    (tmp_path / "real" / "a.log").touch()
    told.until(lambda: told.paths == {str(tmp_path / name / "a.log") for name in ("link", "real")})


def test_a_directory_that_goes_and_comes_is_to_be_looked_at_and_can_be_watched_again(
    tmp_path: Path, watch: Watch, told: Told
) -> None:
    directory = tmp_path / "logs"
    for leave in (directory.rmdir, lambda: directory.rename(tmp_path / "moved")):
        directory.mkdir()
        watch.add(str(directory))
        before = told.everything
        leave()
        told.until(lambda before=before: told.everything > before)  # type: ignore[misc]
        told.until(lambda: not watch.covers(str(directory)))
    (tmp_path / "moved").rename(directory)
    watch.add(str(directory))
    (directory / "a.log").touch()
    told.until(lambda: str(directory / "a.log") in told.paths)


def test_a_new_folder_is_a_reason_to_look_at_everything(tmp_path: Path, watch: Watch, told: Told) -> None:
    watch.add(str(tmp_path))
    (tmp_path / "folder").mkdir()
    told.until(lambda: told.everything > 0)


def test_a_directory_that_is_not_there_cannot_be_watched(tmp_path: Path, watch: Watch) -> None:
    with pytest.raises(FileNotFoundError):
        watch.add(str(tmp_path / "none"))
