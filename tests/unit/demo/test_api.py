"""The demo's API that fails, the application that calls it, and the ambassador between them."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from itertools import groupby
from random import Random

import pytest

from sidecars.demo.api import Failing
from tests.servers.ambassador import running
from tests.unit.demo.process import Process

DEMO = (sys.executable, "-m", "sidecars.demo")
CALLS = 200


@pytest.fixture
def api() -> Iterator[str]:
    """The address of an API that fails one request in five."""
    with Process(*DEMO, "api", "--listen", "127.0.0.1:0", "--fail", "20") as process:
        yield process.wait_for("127[.]0[.]0[.]1:[0-9]+", "stderr")[0]


def counts(api: str) -> dict[str, int]:
    with urllib.request.urlopen(f"http://{api}/counts", timeout=30) as answer:
        return dict(json.load(answer))


def calling(url: str) -> Process:
    return Process(*DEMO, "caller", "--url", url, "--count", str(CALLS), "--rate", "100000")


@pytest.mark.parametrize("percent", [0, 20, 50, 100])
def test_a_share_fails_and_never_three_in_a_row(percent: int) -> None:
    failing = Failing(percent / 100, Random(percent))
    failed = [failing.next() is not None for _ in range(2000)]
    assert failing.counts == {"requests_total": 2000, "failed_total": sum(failed)}
    assert max((len(list(row)) for bad, row in groupby(failed) if bad), default=0) == (2 if percent else 0)
    assert not percent or percent / 2 < sum(failed) / 20 <= percent + 3


def test_behind_the_ambassador_no_call_fails_and_the_metrics_say_why(api: str) -> None:
    # So many calls in one second are more than the budget is made for.
    route = f":0=http://{api}?retry-budget=100"
    with running(route) as ambassador, calling(f"http://127.0.0.1:{ambassador.listens_at()}/") as caller:
        assert caller.end(60) == 0, caller.said
        assert f'"requests": {CALLS}, "errors": 0' in caller.said["stderr"]
        told = counts(api)
        assert told["failed_total"] > 0
        assert ambassador.sum("http_retries_total", reason="status") == told["failed_total"]
        assert ambassador.sum("http_requests_total", **{"class": "2xx"}) == CALLS
        assert told["requests_total"] == CALLS + told["failed_total"]


def test_without_the_ambassador_calls_fail(api: str) -> None:
    with calling(f"http://{api}/") as caller:
        assert caller.end(60) == 1
        failed = counts(api)["failed_total"]
        assert failed > 0 and f"{failed} of {CALLS} calls of http://{api}/ came to nothing" in caller.said["stderr"]
