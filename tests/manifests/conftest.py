from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.podman import IMAGES, Podman

ENGINE = Path(__file__).parents[2] / ".engine" / "env"
LOST = pytest.StashKey[dict[str, list[str]]]()


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """A podman with our images. Without an engine: one loud skip, or a failure where CI must have one."""
    for reason in filter(None, (why_not("podman"), why_not("docker"), no_engine())):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"NO PODS WERE RUN: {reason}")
    settings = dict(line.split("=", 1) for line in ENGINE.read_text().splitlines())
    # A short path: podman makes sockets below it, whose paths may have 107 bytes at most.
    pods = Podman(tempfile.mkdtemp(prefix="pods-", dir="/tmp"), settings)
    pods.load(IMAGES)
    pods.build_model()
    yield pods
    pods.remove()


def why_not(program: str) -> str | None:
    return None if shutil.which(program) else f"{program} is not installed; make engine installs it (Debian, as root)"


def no_engine() -> str | None:
    return None if ENGINE.exists() else "no engine is set up; make engine does it (Debian, as root), then make images"


@pytest.fixture
def lost(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """What podman could not run as it is written, by manifest; said at the end of the tests."""
    return request.config.stash.setdefault(LOST, {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one process of several, hand on what was lost here."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["lost"] = session.config.stash.get(LOST, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    lost: dict[str, list[str]] = node.config.stash.setdefault(LOST, {})
    lost.update(getattr(node, "workeroutput", {}).get("lost", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if found := config.stash.get(LOST, {}):
        terminalreporter.section("manifests that ran as pods, and what podman could not run of them")
        for name, texts in sorted(found.items()):
            terminalreporter.line(name)
            for text in texts:
                terminalreporter.line(f"  {text}")
