from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import Tailer


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The file that stdout goes to, out of the way of globs."""
    return tmp_path / "out"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The directory that the application writes to."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


@pytest.fixture
def start(out: Path) -> Iterator[Callable[..., Tailer]]:
    """Start a log-tailer; it is killed after the test if it still runs then."""
    with contextlib.ExitStack() as running:

        def start(*arguments: Any, **options: Any) -> Tailer:
            return running.enter_context(Tailer(*arguments, **{"out": out, **options}))

        yield start


@pytest.fixture
def tail(start: Callable[..., Tailer]) -> Callable[..., Tailer]:
    """Start a log-tailer, and wait until its first look is done."""
    return lambda *arguments, **options: start(*arguments, **options).watching()


@pytest.fixture
def once(start: Callable[..., Tailer]) -> Callable[..., bytes]:
    """What log-tailer --once writes."""

    def once(*arguments: Any, **options: Any) -> bytes:
        tailer = start("--once", *arguments, **options)
        code, _ = tailer.ended()
        assert code == 0, "\n".join(tailer.lines)
        return tailer.read()

    return once
