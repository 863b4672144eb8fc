"""HTTP mode as people see it: numbers and refusals in /status, and the page that draws them, in a real Chromium."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ambassador import PATIENCE, Ambassador, configured, running
from tests.servers.mirror import Mirror
from tests.servers.test_adapter_page import SCREENSHOTS, Reading, browser  # noqa: F401  (a fixture)

HOSTILE = "/<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def ambassador(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ambassador]:
    folder: Path = tmp_path_factory.mktemp("page")
    with Mirror() as one, Mirror(flaky=True) as two:
        listeners = [
            {
                "listen": f"127.0.0.{number}:0",
                "upstreams": [{"address": mirror.address, "name": name}],
                "http": {"paths": ["/items/**"], "methods": ["GET", "POST"], "retry": {"tries": 1}},
            }
            for number, (name, mirror) in enumerate({"steady": one, "flaky": two}.items(), 1)
        ]
        with running(configured(folder / "page.json", *listeners, workers=request.param)) as ambassador:
            yield ambassador


def asked(ambassador: Ambassador, listener: str, path: str, method: str = "GET") -> int:
    client = http.client.HTTPConnection(listener.rpartition(":")[0], ambassador.listens_at(listener), timeout=PATIENCE)
    client.putrequest(method, path.replace(" ", "%20"))
    client.endheaders()
    status = client.getresponse().status
    client.close()
    return status


def counted(ambassador: Ambassador) -> dict[str, Any]:
    numbers: dict[str, Any] = ambassador.status()["numbers"]
    return {name: value for name, value in numbers.items() if name.startswith("http_")}


def test_the_status_tells_requests_by_class_and_the_last_refusals_with_their_rule(ambassador: Ambassador) -> None:
    before = counted(ambassador)
    assert [asked(ambassador, "127.0.0.1:0", "/items/7") for _ in range(3)] == [200] * 3
    assert asked(ambassador, "127.0.0.2:0", "/items/7") == 200
    assert asked(ambassador, "127.0.0.1:0", "/admin?token=hunter2") == 403
    assert asked(ambassador, "127.0.0.1:0", "/items/7", "DELETE") == 405
    wanted = {"http_2xx_total": 4, "http_4xx_total": 2, "http_refused_total": 2, "http_retries_total": 1}
    ambassador.until(lambda: all(counted(ambassador)[name] == before[name] + more for name, more in wanted.items()))
    status = ambassador.status()
    rows = {row["listener"]: row for row in status["tables"]["http"]}
    assert rows["127.0.0.2:0"]["retries"] and not rows["127.0.0.1:0"]["retries"]
    assert "path" in rows["127.0.0.1:0"]["refused"] and "method" in rows["127.0.0.1:0"]["refused"]
    assert {row["upstream"]: row["state"] for row in status["tables"]["upstreams"]} == {"steady": "up", "flaky": "up"}
    refusals = status["tables"]["last_refusals"][:2]
    told = {(row["listener"], row["method"], row["path"], row["status"], row["rule"]) for row in refusals}
    assert told == {
        ("127.0.0.1:0", "DELETE", "/items/7", 405, "method"), ("127.0.0.1:0", "GET", "/admin", 403, "path"),
    }  # fmt: skip
    assert "hunter2" not in str(status)


@pytest.mark.parametrize("ambassador", [1], indirect=True, ids=["one process"])
def test_the_page_draws_rates_and_shows_what_was_refused_as_text(ambassador: Ambassador, browser: Any) -> None:  # noqa: F811
    reading = Reading(browser, f"http://127.0.0.1:{ambassador.port}/")
    for number in range(12):
        asked(ambassador, "127.0.0.1:0", f"/items/{number}")
        asked(ambassador, "127.0.0.2:0", f"/items/{number}")
    asked(ambassador, "127.0.0.1:0", HOSTILE)
    reading.page.locator("h2", has_text="Last refusals").wait_for()
    reading.page.locator("td", has_text="onerror").first.wait_for()
    reading.until("() => [...document.querySelectorAll('dt')].some(each => each.textContent === 'HTTP 2xx')")
    reading.until("() => document.querySelectorAll('.number polyline').length > 3")
    assert reading.page.evaluate("() => window.hacked") is None
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    reading.page.screenshot(path=SCREENSHOTS / "page-ambassador-http.png", full_page=True)
    reading.context.close()
    assert not reading.complaints
