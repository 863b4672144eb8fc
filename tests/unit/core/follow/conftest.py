from __future__ import annotations

import pytest

from sidecars.core.follow.lane import Options


@pytest.fixture(params=["told", "polling"])
def options(request: pytest.FixtureRequest) -> Options:
    """Woken by inotify, and by the clock alone: what arrives is the same."""
    return (
        Options(rotate_wait=0.2)
        if request.param == "told"
        else Options(rotate_wait=0.2, watch=False, poll_interval=0.01)
    )
