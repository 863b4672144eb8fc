from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sidecars import __version__

SIDECARS = str(Path(sys.executable).with_name("sidecars"))


def sidecars(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SIDECARS, *words], capture_output=True, text=True, timeout=60)


def test_help_names_the_commands() -> None:
    said = sidecars("--help")
    assert said.returncode == 0
    assert "demo" in said.stdout


def test_version_is_the_distribution_s() -> None:
    assert sidecars("--version").stdout == f"sidecars {__version__}\n"


@pytest.mark.parametrize("word", ["dmo", "--demo"])
def test_an_unknown_command_is_refused_with_the_nearest_one(word: str) -> None:
    said = sidecars(word)
    assert said.returncode == 2
    assert f"there is no command '{word}'; did you mean demo?" in said.stderr
    assert said.stdout == ""


def test_no_command_is_refused_with_the_usage() -> None:
    said = sidecars()
    assert said.returncode == 2
    assert "usage: sidecars COMMAND" in said.stderr


@pytest.mark.parametrize("words", [("demo", "--help"), ("demo", "app", "--help")])
def test_each_command_has_its_help(words: tuple[str, ...]) -> None:
    said = sidecars(*words)
    assert said.returncode == 0
    assert "--rate" in said.stdout
