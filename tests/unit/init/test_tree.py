from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.init.tree import Entry, Selection, checked_mode, look, scan, there


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("a/b", "empty", ".hidden"):
        (root / folder).mkdir(parents=True)
    for file in ("a/b/deep.txt", "a/x.bin", ".hidden/x.txt", "top.txt"):
        (root / file).write_text(file)
    (root / "nothing").touch()
    (root / "link").symlink_to("a")
    (root / "lost").symlink_to("nowhere")
    return root


EVERYTHING = ["a", "a/b", "a/b/deep.txt", "a/x.bin", ".hidden", ".hidden/x.txt", "top.txt", "empty", "nothing", "link",
              "lost"]  # fmt: skip

CHOSEN: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    ((), (), " ".join(EVERYTHING)),
    (("*.txt",), (), "a a/b a/b/deep.txt .hidden .hidden/x.txt top.txt"),
    (("a/*",), (), "a a/b a/b/deep.txt a/x.bin"),
    (("/top.txt",), (), "top.txt"),
    ((), ("a",), ".hidden .hidden/x.txt top.txt empty nothing link lost"),
    ((), ("b/", "lost", "/.hidden/x.txt", "l?nk", "top.*"), "a a/x.bin .hidden empty nothing"),
    (("*.txt",), ("a/b",), ".hidden .hidden/x.txt top.txt"),
    (("*.none",), (), ""),
]


@pytest.mark.parametrize(("include", "exclude", "expected"), CHOSEN)
def test_patterns_choose_by_name_or_by_path_if_they_have_a_slash(
    root: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: str
) -> None:
    assert sorted(scan(str(root), Selection(include, exclude))) == sorted(expected.split())


def test_parents_come_before_what_is_in_them(root: Path) -> None:
    seen: set[str] = {""}
    for path in scan(str(root)):
        assert os.path.dirname(path) in seen
        seen.add(path)


def test_an_entry_is_what_is_there(root: Path) -> None:
    os.utime(root / "top.txt", ns=(1, 1_234_567_891))
    (root / "top.txt").chmod(0o640)
    (root / "a").chmod(0o2755)
    found = scan(str(root))
    assert found["top.txt"] == Entry("file", 7, 1_234_567_891, 0o640)
    assert (found["a"], found["lost"]) == (Entry("dir", mode=0o2755), Entry("link", target="nowhere"))
    assert look(str(root / "none")) is None and look(str(root / "top.txt" / "none")) is None


def test_what_is_ours_or_the_volumes_is_no_content_but_only_at_the_top(root: Path) -> None:
    for folder in ("lost+found", ".pod-init", "a/.pod-init"):
        (root / folder).mkdir()
    (root / ".pod-init.json").touch()
    assert set(scan(str(root))) - set(EVERYTHING) == {"a/.pod-init"}


def test_links_are_followed_when_asked_to_but_not_in_circles(root: Path) -> None:
    with pytest.raises(SidecarError, match="lost leads nowhere; keep the link"):
        scan(str(root), follow=True)
    found = scan(str(root), Selection(exclude=("lost",)), follow=True)
    assert found["link"].kind == "dir" and found["link/b/deep.txt"].size == 12
    (root / "a" / "up").symlink_to("..")
    with pytest.raises(SidecarError, match="leads back to a directory above it"):
        scan(str(root), Selection(exclude=("lost",)), follow=True)


def test_a_socket_is_not_copied_and_said(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(root)  # The address of a socket is short.
        try:
            server.bind("s")
        finally:
            os.chdir(here)
    with pytest.raises(SidecarError, match="/s is neither a file nor a directory nor a link; leave it out"):
        scan(str(root))
    assert set(scan(str(root), Selection(exclude=("s",)))) == set(EVERYTHING)


def test_what_is_behind_a_link_is_not_there(root: Path, tmp_path: Path) -> None:
    wanted = scan(str(root))
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").symlink_to(root / "a")
    found = there(str(other), wanted)
    assert list(found) == ["a"] and found["a"].kind == "link"


@pytest.mark.parametrize("wrong", ["", "8", "0o644", "u+x", "00000", "-1", "٦٤٤"])
def test_a_mode_is_octal(wrong: str) -> None:
    with pytest.raises(WrongSettings, match="expected permissions in octal"):
        checked_mode("--mode", wrong)
    assert (checked_mode("--mode", "644"), checked_mode("--mode", "2775"), checked_mode("--mode", None)) == (
        0o644, 0o2775, None,
    )  # fmt: skip
