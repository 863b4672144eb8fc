"""A repository and its consumers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.syncer.origin import Consumer, Origin


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def consumer(origin: Origin, tmp_path: Path) -> Callable[..., Consumer]:
    """Make a consumer; called again it is the next process on the same root."""

    def make(**settings: Any) -> Consumer:
        root = Path(settings.pop("root", tmp_path / "root"))
        return Consumer(settings.pop("origin", origin), root, **settings)

    return make
