"""The page for people, in a real Chromium: as it is read, filtered, paused and scrolled, by mouse and by keyboard.

Screenshots are written to the directory that the variable SCREENSHOTS names, tests/output/ by default.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.adapter_web import Served, append, old

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS") or Path(__file__).parents[1] / "output")
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=2> \"'><svg onload=window.hacked=3>"


def shop(count: int, end: float, gap: float = 0.2, seed: int = 3) -> bytes:
    """Lines of a shop, of an access log and of an application, the last one written at `end`."""
    chance = random.Random(seed)
    return b"".join(
        json.dumps(_line(chance, end - (count - 1 - number) * gap, number)).encode() + b"\n" for number in range(count)
    )


def _line(chance: random.Random, when: float, number: int) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{int(when % 1 * 1000):03d}Z"
    paths = ["/api/orders", "/api/orders/1842", "/login", "/static/app.js", "/api/users/77/cart", "/search?q=shoes"]
    if chance.random() < 0.6:
        status = chance.choices([200, 201, 304, 404, 500, 503], [70, 8, 8, 8, 3, 2])[0]
        method = chance.choice(["GET", "GET", "GET", "POST", "DELETE"])
        line = {
            "time": at,
            "client": f"10.0.3.{chance.randint(2, 250)}",
            "method": method,
            "path": chance.choice(paths),
        }
        return {
            **line,
            "status": status,
            "bytes": chance.randint(100, 90_000),
            "duration": chance.random(),
            "n": number,
        }
    level, message = chance.choice(
        [("info", "payment accepted"), ("info", "user signed in"), ("debug", "cache miss, reading from the database"),
         ("warning", "connection to upstream lost, trying again"), ("error", "cannot write: no space left on device")]
    )  # fmt: skip
    logger = "shop." + chance.choice(["checkout", "session", "db"])
    return {"time": at, "level": level, "message": message, "logger": logger, "n": number}


def many(count: int, end: float) -> bytes:
    """As many lines as nobody wants to wait for: some hundred, again and again."""
    lines = [line.partition(', "n"')[0].partition(", ")[2] for line in shop(500, 0).decode().splitlines()]
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end - second)) for second in range(count // 20, -1, -1)]
    return "".join(
        f'{{"time": "{times[number // 20]}", {lines[number % 500]}, "n": {number}}}\n' for number in range(count)
    ).encode()


def said(message: str, **fields: Any) -> bytes:
    """A line that is written now."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"time": at, "level": "info", "message": message, **fields}).encode() + b"\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not os.access(CHROMIUM, os.X_OK):
        if os.environ.get("CI") == "true":
            pytest.fail("THE PAGE HAS NOT BEEN TESTED: there is no chromium; run `make tools` (Debian, as root)")
        pytest.skip("THE PAGE HAS NOT BEEN TESTED: there is no chromium; run `make tools` (Debian, as root)")
    from playwright.sync_api import sync_playwright  # only here is a browser needed

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    old_lines = directory / "shop.log"
    old_lines.write_bytes(shop(3000, time.time() - 5))
    with Served(f"{directory}/*.log", "--from", "json") as served:
        served.until_read(old(old_lines))
        yield served


class Reading:
    """A page that somebody reads, and what it complained of."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1360, "height": 820}, **options)
        self.context.set_default_timeout(20_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def rows(self) -> list[str]:
        return [text.replace("\n", " ") for text in self.page.locator(".row").all_inner_texts()]

    def sees(self, text: str) -> None:
        """Wait until a line with this text is seen."""
        self.page.locator(".row", has_text=text).first.wait_for()

    def until(self, script: str, value: Any = None) -> None:
        self.page.wait_for_function(script, arg=value)

    def counts(self, text: str) -> None:
        self.until("text => document.getElementById('count').textContent === text", text)

    def picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"page-{name}.png")


@pytest.fixture
def read(browser: Browser, served: Served) -> Iterator[Callable[..., Reading]]:
    """Open the page; whatever happens, it complains of nothing and asks nobody else."""
    opened: list[Reading] = []

    def read(query: str = "?file=PATH", path: Path | None = None, url: str = served.url, **options: Any) -> Reading:
        address = f"{url}/{query.replace('PATH', str(path))}" if path else f"{url}/"
        opened.append(Reading(browser, address, **options))
        return opened[-1]

    yield read
    for each in opened:
        each.context.close()
        assert not each.complaints
        assert all(url.startswith("http://127.0.0.1:") for url in each.asked)


@pytest.fixture
def log(directory: Path, served: Served, request: pytest.FixtureRequest) -> Path:
    """A log of its own for a test."""
    path = directory / f"{request.node.name}.log"
    path.write_bytes(shop(1500, time.time() - 2, seed=len(path.name)))
    served.until_read(path)
    return path


def test_lines_appear_as_they_are_written(read, log):
    reading = read(path=log)
    reading.until("() => document.getElementById('state').textContent === 'live'")
    for word in ("first", "second"):
        append(log, said(f"the {word} new line"))
        reading.sees(f"the {word} new line")
    assert "the second new line" in reading.rows()[-1]
    reading.picture("live")


def test_a_filter_narrows_what_is_loaded_and_finds_what_is_not(read, log):
    append(log, said("a needle", status=503, user={"name": "ada"}))
    append(log, shop(1400, time.time(), seed=9))
    reading = read(path=log)
    reading.counts("1,000 lines")  # The needle is further up.
    reading.page.keyboard.press("/")
    reading.page.keyboard.type("NEEDLE")
    reading.counts("1 line found")
    assert "a needle" in reading.rows()[0]
    assert reading.page.locator("mark").inner_text() == "needle"
    for words in ('needle status>=500 user.name=ada -lost "a nee"', "user.name=a*a", "needle level:info"):
        reading.page.fill("#filter", words)
        reading.counts("1 line found")
    reading.page.fill("#filter", "needle level:error")
    reading.page.get_by_text("No line is so.").wait_for()
    reading.page.fill("#filter", "")
    reading.page.get_by_role("radio", name="Error").check()
    reading.until("() => /found$/.test(document.getElementById('count').textContent)")
    reading.until("() => [...document.querySelectorAll('.row')].every(row => row.classList.contains('error'))")
    reading.picture("filter")


def test_pausing_holds_what_comes(read, log):
    reading = read(path=log)
    reading.until("() => document.getElementById('state').textContent === 'live'")
    reading.page.keyboard.press("Space")
    append(log, said("it waits") + said("it waits too"))
    reading.page.get_by_text("Resume (2)").wait_for()
    assert not any("it waits" in row for row in reading.rows())
    reading.picture("paused")
    reading.page.get_by_text("Resume (2)").click()
    reading.sees("it waits too")
    assert "it waits too" in reading.rows()[-1]


def test_100_000_lines_scroll(read, directory, served):
    path = directory / "many.log"
    path.write_bytes(many(100_000, time.time()))
    served.until_read(old(path))
    reading = read(path=path)
    reading.sees("n=99999")
    reading.page.evaluate(
        """async () => {
            const box = document.getElementById("log"), note = document.getElementById("note");
            while (note.textContent !== "This is all there is") {
                box.scrollTop = 0;
                await new Promise(resume => setTimeout(resume, 20));
            }
        }"""
    )
    reading.counts("100,000 lines")
    most = reading.page.evaluate(
        """async () => {
            const box = document.getElementById("log");
            let most = 0;
            for (let step = 0; step <= 60; step++) {
                box.scrollTop = step * box.scrollHeight / 60;
                await new Promise(requestAnimationFrame);
                await new Promise(requestAnimationFrame);
                most = Math.max(most, document.querySelectorAll(".row").length);
            }
            return most;
        }"""
    )
    assert most < 120  # However many lines there are, so many are in the document.
    reading.page.keyboard.press("g")
    reading.sees("n=0")
    reading.page.keyboard.press("G")
    reading.sees("n=99999")
    reading.page.fill("#filter", "status=503")
    reading.until("() => /^[0-9],[0-9]+ lines found$/.test(document.getElementById('count').textContent)")
    reading.picture("100000")


def test_a_script_in_a_line_does_nothing(read, log):
    append(
        log, said(HOSTILE, **{HOSTILE: HOSTILE, "path": HOSTILE, "method": HOSTILE, "status": 200, "__proto__": "x"})
    )
    append(log, HOSTILE.encode() + b"\n")
    reading = read(path=log)
    reading.sees(HOSTILE)
    reading.page.keyboard.press("k")
    reading.page.keyboard.press("k")
    reading.page.keyboard.press("Enter")
    reading.page.locator(".detail").wait_for()
    assert HOSTILE in reading.page.locator(".detail").inner_text()
    reading.page.fill("#filter", HOSTILE[:12])
    reading.counts("2 lines found")
    assert reading.page.evaluate("window.hacked") is None
    assert reading.page.locator("#rows script, #rows img, .row svg").count() == 0


def test_the_keyboard_is_enough(read, log):
    reading = read(path=log)
    append(log, said("the last line", order=4711, user={"id": 7}))
    reading.sees("the last line")
    press = reading.page.keyboard.press
    press("k")
    assert "the last line" in reading.page.locator(".row[aria-selected=true]").inner_text()
    press("Enter")
    reading.page.locator(".detail").wait_for()
    assert reading.page.locator(".row[aria-expanded=true]").count() == 1
    assert "user.id" in reading.page.locator(".detail").inner_text()
    reading.picture("fields")
    press("k")  # The fields go along.
    reading.until("() => !document.querySelector('.detail').textContent.includes('the last line')")
    press("ArrowDown")
    reading.until("() => document.querySelector('.detail').textContent.includes('the last line')")
    press("Escape")
    assert reading.page.locator(".detail").count() == 0
    press("/")
    assert reading.page.evaluate("document.activeElement.id") == "filter"
    reading.page.keyboard.type("order=4711 j k")  # Letters that are keys elsewhere.
    assert reading.page.input_value("#filter") == "order=4711 j k"
    press("Escape")
    assert reading.page.input_value("#filter") == ""
    press("Escape")
    press("?")
    assert reading.page.locator("#help").is_visible()
    reading.picture("help")
    press("Escape")
    assert not reading.page.locator("#help").is_visible()


def test_the_focus_goes_round_in_the_order_of_the_page_and_is_seen(read, log):
    reading = read(path=log)
    reading.page.locator(".row").first.wait_for()
    reading.page.focus("#file")
    passed = ["file"]
    for _ in range(6):
        reading.page.keyboard.press("Tab")
        passed.append(reading.page.evaluate("document.activeElement.id || document.activeElement.name"))
        # Of a radio button that is drawn by its label, it is the label.
        seen = reading.page.evaluate(
            """() => [document.activeElement, document.activeElement.nextElementSibling ?? document.activeElement]
                .map(each => getComputedStyle(each)).map(style => style.outlineStyle + style.boxShadow).join()"""
        )
        assert "solid" in seen or "inset" in seen
    assert passed == ["file", "pause", "theme", "ask", "filter", "level", "log"]
    unnamed = reading.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=grid], canvas")]
            .filter(each => !(each.ariaLabel || each.textContent.trim() || each.labels?.length || each.ariaHidden))
            .map(each => each.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_is_dark_or_light_as_the_system_is_or_as_one_chooses(read, log, scheme):
    reading = read(path=log, color_scheme=scheme)
    reading.page.locator(".row.error").first.wait_for()
    dark = (
        "() => { const [r] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g); return Number(r) < 100; }"
    )
    assert reading.page.evaluate(dark) is (scheme == "dark")
    reading.picture(scheme)
    reading.page.keyboard.press("t")
    assert reading.page.evaluate(dark) is (scheme != "dark")
    reading.page.reload()
    assert reading.page.evaluate(dark) is (scheme != "dark")


def test_a_link_leads_to_the_line(read, log, served):
    append(log, said("the one that is meant"))
    append(log, shop(1400, time.time(), seed=9))
    reading = read(path=log)
    reading.page.fill("#filter", "meant")
    reading.sees("the one that is meant")
    reading.page.locator(".row", has_text="the one that is meant").click()
    reading.until("() => location.search.includes('at=')")
    address = reading.page.url.replace("filter=meant", "")
    again = read(url=address.partition("?")[0].rstrip("/"), query="?" + address.partition("?")[2], path=log)
    again.page.locator(".row[aria-selected=true]", has_text="the one that is meant").wait_for()
    assert len(again.rows()) > 20
    assert again.page.inner_text("#state") == "history"
    again.page.get_by_role("button", name="Newest").click()
    again.until("() => document.getElementById('state').textContent === 'live'")


def test_with_a_token_the_page_asks_for_it(read, browser, tmp_path):
    (tmp_path / "a.log").write_bytes(said("a secret line"))
    with Served(tmp_path / "a.log", "--from", "json", environ={"ADAPTER_AUTH_TOKEN": "the token"}) as locked:
        assert locked.get("/logs").status == 401
        reading = Reading(browser, f"{locked.url}/")
        reading.page.locator("#token").fill("the token")
        reading.page.keyboard.press("Enter")
        reading.sees("a secret line")
        assert "the token" not in reading.page.url
        reading.context.close()


def test_it_goes_on_after_the_server_was_away(read, browser, tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(said("before"))
    with Served(path, "--from", "json") as first:
        port = first.address[1]
        reading = Reading(browser, f"{first.url}/")
        reading.sees("before")
    reading.until("() => document.getElementById('state').textContent === 'lost'")
    append(path, said("meanwhile"))
    with Served(path, "--from", "json", "--listen", f"127.0.0.1:{port}"):
        reading.sees("meanwhile")
        assert len(reading.rows()) == 2
        reading.context.close()
