"""Attempts are repeated until one succeeds, and trouble is said."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from prometheus_client import REGISTRY

from sidecars.core import log
from sidecars.core.delivery import Attempts
from sidecars.core.errors import DeliveryFailed
from sidecars.core.health import Health


class Failing:
    """A call that fails with these before it succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(time.monotonic())
        if self._failures:
            raise self._failures.pop(0)
        return "delivered"


def failed(code: str, pause: float = 0.01) -> DeliveryFailed:
    return DeliveryFailed(code, f"cannot: {code}", pause)


def test_each_kind_of_trouble_is_said_once_until_it_is_over(capfd):
    health = Health()
    health.started()
    attempts = Attempts("out-said", health)
    first = Failing(failed("connect"), failed("connect"), failed("closed"), failed("connect"))
    for call in (first, Failing(failed("connect"))):
        assert asyncio.run(attempts.until_delivered(call)) == "delivered"
        assert health.why_not_delivering() == []
    log.stderr.flush(1.0)
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [event.get("error", event["event"]) for event in events] == [
        "cannot: connect",
        "cannot: closed",
        "delivery works again",
        "cannot: connect",
        "delivery works again",
    ]
    assert REGISTRY.get_sample_value("delivery_errors_total", {"output": "out-said", "code": "connect"}) == 4


def test_a_failure_names_its_pause():
    call = Failing(failed("http_429", 0.3))
    asyncio.run(Attempts("out-pause", Health()).until_delivered(call))
    assert 0.3 <= call.at[1] - call.at[0] < 0.6


def test_what_is_no_failed_delivery_comes_out():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Attempts("out-bug", Health()).until_delivered(Failing(ZeroDivisionError())))
