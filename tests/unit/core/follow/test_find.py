from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sidecars.core.follow.find import COMPRESSED, Patterns, rotated
from sidecars.core.follow.names import bases

ROTATED = [
    ("app.log", "app.log.1"),
    ("app.log", "app.log.10"),
    ("app.log", "app.log-20261123"),
    ("app.log", "app.log-20261123-1763890000"),
    ("app.log", "app.log.2026-11-23"),
    ("app.log", "app.log.2026-11-23T09:30:00+01:00"),
    ("app.log", "app.log.old"),
    ("app.log", "app.log~1"),
    ("app.log", "app-2026-11-23.log"),
    ("app.log", "app.1.log"),
    ("app.log", "app_2026.log"),
    ("app", "app.1"),
    ("app", "app-old"),
    ("app.access.log", "app.access.log.3"),
    ("app.access.log", "app.access.3.log"),
    ("a+b(c).log", "a+b(c).log.1"),
    ("0.log", "0.log.20261123-093000"),
    (".hidden", ".hidden.1"),
]
NOT_ROTATED = [
    ("app.log", "app.log"),
    ("app.log", "app-worker.log"),
    ("app.log", "app.log.1.gz"),
    ("app.log", "app.log-20261123.zst"),
    ("app.log", "app.log.swp"),
    ("app.log", "app.log1"),
    ("app.log", "app.error.log"),
    ("app.log", "xapp.log.1"),
    ("app.log", "app.log.1 copy"),
    ("app.log", "appxlog.1"),
    ("app.log", "application.log.1"),
    ("app.log", ""),
    (".hidden", ".1.hidden"),
]


@pytest.mark.parametrize(("base", "name"), ROTATED)
def test_a_name_that_rotation_gives_is_known(base: str, name: str) -> None:
    assert rotated(base, name)
    assert os.path.join("/logs", base) in bases(os.path.join("/logs", name))


@pytest.mark.parametrize(("base", "name"), NOT_ROTATED)
def test_another_log_is_not_taken_for_a_rotated_one(base: str, name: str) -> None:
    assert not rotated(base, name)
    assert os.path.join("/logs", base) not in bases(os.path.join("/logs", name))


@given(base=st.from_regex(r"[a-z.+(\[-]{1,8}", fullmatch=True), name=st.from_regex(r"[a-z0-9.~_+()\[-]{0,16}"))
def test_bases_are_the_names_of_which_one_is_rotated(base: str, name: str) -> None:
    assert rotated(base, f"{base}.1")
    assert all(rotated(os.path.basename(path), name) for path in bases(name))


# Patterns, against what glob.glob finds in a real tree

NAMES = [
    "a.log",
    "b.log",
    "a.log.1",
    ".hidden",
    "x",
    "ab",
    "a-b",
    "[x]",
    "z.gz",
    "d",
    "é",
    "A",
    "new\nline",
    "-",
    "a]b",
]
SEGMENTS = [
    "*", "*.log", "a*", "?", "??", "[ab]*", "[!a]*", "[a-c].log", "[]x]*", "[^a]*", "[z-a]", "[!]a]*", "[", "[[]x[]]",
    ".*", "[.]hidden", "a.log", "*b", "*-*", "**", "a**", "**b", "x", "d", "[a-]*", "*[0-9]", "[\\]*", "*\n*", "[é]",
]  # fmt: skip
FOLDERS = ["", "d", "d/e", ".h", "d/.h"]


@pytest.fixture(scope="module")
def tree() -> Iterator[str]:
    """The same names in nested directories, hidden ones too."""
    directory = os.path.realpath(tempfile.mkdtemp(prefix="tree-"))
    for folder in FOLDERS:
        os.makedirs(os.path.join(directory, folder), exist_ok=True)
    for folder in FOLDERS:
        for name in NAMES:
            path = os.path.join(directory, folder, name)
            if not os.path.isdir(path):
                Path(path).touch()
    yield directory
    shutil.rmtree(directory)


def files(tree: str) -> list[str]:
    return [os.path.join(directory, name) for directory, _, names in os.walk(tree) for name in names]


@settings(max_examples=300, deadline=None)
@given(segments=st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3))
def test_a_path_is_matched_exactly_when_glob_finds_it(tree: str, segments: list[str]) -> None:
    pattern = "/".join([glob.escape(tree), *segments])
    assume(not os.path.isdir(pattern))
    patterns = Patterns((pattern,))
    found = {os.path.normpath(hit) for hit in glob.glob(pattern, recursive=True) if os.path.isfile(hit)}
    expected = {path for path in found if not path.endswith(COMPRESSED)} | found & {pattern}
    assert {path for path in files(tree) if patterns.matches(path)} == expected
    if not os.path.lexists(pattern):
        assert {path for path in patterns.found() if os.path.isfile(path)} == expected


@settings(max_examples=200, deadline=None)
@given(segments=st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3))
def test_every_found_file_lies_in_a_directory_that_is_watched(tree: str, segments: list[str]) -> None:
    patterns = Patterns(("/".join([glob.escape(tree), *segments]),))
    watched = set(patterns.directories())
    assert {os.path.dirname(path) for path in patterns.found() if os.path.isfile(path)} <= watched
    assert all(directory == os.path.normpath(directory) for directory in watched)


def test_names_that_are_not_utf_8_are_found_and_matched(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.log")
    Path(path).touch()
    patterns = Patterns((f"{tmp_path}/*.log",))
    assert list(patterns.found()) == [path]
    assert patterns.matches(path)


# Files, globs and directories


def test_a_path_is_given_whether_it_is_there_or_not(tmp_path: Path) -> None:
    path = str(tmp_path / "later.log")
    assert list(Patterns((path,)).found()) == [path]


def test_a_glob_that_matches_nothing_gives_nothing(tmp_path: Path) -> None:
    assert list(Patterns((f"{tmp_path}/*.log",)).found()) == []


def test_a_directory_means_its_files_not_those_of_its_folders_nor_hidden_nor_compressed_ones(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    for name in ("a.log", "b", ".hidden", "old.gz", "folder.log/c.log"):
        (tmp_path / name).touch()
    patterns = Patterns((f"{tmp_path}/",))
    expected = {str(tmp_path / "a.log"), str(tmp_path / "b")}
    assert set(patterns.found()) == expected
    everything = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in everything if patterns.matches(path)} == expected


@pytest.mark.parametrize("path", [".", "./", "./*", "*"])
def test_files_of_the_working_directory_are_found_under_the_paths_that_are_matched(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").touch()
    patterns = Patterns((path,))
    assert list(patterns.found()) == ["a.log"]
    assert patterns.matches("a.log")
    assert not patterns.matches("folder/a.log")
    assert set(patterns.directories()) == {"."}


@pytest.mark.parametrize("name", ["[x].log", "what?.log", "*.log"])
def test_a_file_whose_name_is_a_glob_is_followed_under_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "x.log").touch()
    path = str(tmp_path / name)
    patterns = Patterns((path,))
    assert list(patterns.found()) == [path]
    assert list(patterns.literal()) == [path]
    assert patterns.matches(path)


def test_a_compressed_file_is_followed_only_if_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gz").touch()
    path = str(tmp_path / "a.gz")
    assert list(Patterns((f"{tmp_path}/*",)).found()) == []
    assert list(Patterns((path,)).found()) == [path]
    assert Patterns((path,)).matches(path)


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        ("*.gz", {"/logs/z.gz"}),
        ("debug*", {"/logs/debug.log", "/logs/app/debug.log"}),
        ("debug.log", {"/logs/debug.log", "/logs/app/debug.log"}),
        ("?.log", {"/logs/a.log"}),
        ("[ad]*.log", {"/logs/a.log", "/logs/debug.log", "/logs/app/debug.log"}),
        ("/logs/*.log", {"/logs/debug.log", "/logs/a.log"}),
        ("/logs/app/*", {"/logs/app/debug.log", "/logs/app/x"}),
        ("/logs/**", {"/logs/a.log", "/logs/debug.log", "/logs/app/debug.log", "/logs/app/x", "/logs/z.gz"}),
        ("/logs/**/debug.log", {"/logs/debug.log", "/logs/app/debug.log"}),
        ("logs", set()),
        ("", set()),
    ],
)
def test_an_excluding_pattern_meets_the_name_or_with_a_slash_the_path(pattern: str, excluded: set[str]) -> None:
    paths = {"/logs/a.log", "/logs/debug.log", "/logs/app/debug.log", "/logs/app/x", "/logs/z.gz"}
    patterns = Patterns(("/logs/**",), (pattern,))
    assert {path for path in paths if patterns.excludes(path)} == excluded
    assert not any(patterns.matches(path) for path in excluded)


def test_a_named_file_is_followed_even_if_it_is_excluded(tmp_path: Path) -> None:
    path = str(tmp_path / "a.log")
    patterns = Patterns((path,), ("*.log",))
    assert list(patterns.found()) == [path]
    assert patterns.matches(path)


def test_what_is_not_there_yet_is_watched_for_in_the_nearest_directory_that_is(tmp_path: Path) -> None:
    assert set(Patterns((f"{tmp_path}/a/b/c.log",)).directories()) == {str(tmp_path)}
    assert set(Patterns((f"{tmp_path}/a/*/c.log",)).directories()) == {str(tmp_path)}
    (tmp_path / "a").mkdir()
    assert set(Patterns((f"{tmp_path}/a/b/c.log",)).directories()) == {str(tmp_path / "a")}
    assert set(Patterns((f"{tmp_path}/a/*/c.log",)).directories()) == {str(tmp_path / "a")}


def test_no_pattern_takes_long_to_match() -> None:
    patterns = Patterns(("/logs/" + "*a" * 30 + "/**/" * 5 + "*b*b*b*b*b",))
    assert not patterns.matches("/logs/" + "a" * 200 + "/x" * 60)


def test_a_pattern_is_a_glob_not_a_regular_expression() -> None:
    for character in re.escape("".join(map(chr, range(33, 127)))).replace("\\", ""):
        if character not in "*?[/":
            assert Patterns((f"/logs/*{character}",)).matches(f"/logs/a{character}"), character
