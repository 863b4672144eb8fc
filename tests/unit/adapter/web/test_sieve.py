"""Which records a request wants."""

from __future__ import annotations

from typing import Any

import pytest

from sidecars.adapter.web.query import read
from sidecars.adapter.web.sieve import Entry, Sieve


class Plain:
    """Shaping that hides a name, and calls the level severity."""

    def records(self, segments: Any, origin: str) -> Any:
        return iter(())

    def redacted(self, text: str) -> str:
        return text.replace("Ada", "***")

    def name(self, name: str) -> str | None:
        return "severity" if name == "level" else name


def entry(line: str, time: float = 0.0, **record: object) -> Entry:
    made = Entry("a", 0, 0, line.encode(), record, None)
    made.time = time
    return made


ENTRIES = {
    "get": entry("GET /api/Orders 200", 10, status=200, method="GET", path="/api/Orders", duration=0.5),
    "fail": entry("POST /x 503", 20, status=503, method="POST", path="/x", ok=False, user={"id": 7}),
    "app": entry("an ÄRGER of Ada [1]", 30, severity="warning", message="[1]*?"),
    "bare": entry("no level", 40),
}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"q": "orders"}, "get"),
        ({"q": "ärger"}, "app"),
        ({"q": "a"}, "get app"),
        ({"level": "warning"}, "fail app"),
        ({"level": "info"}, "get fail app"),
        ({"level": "warning,"}, "app"),
        ({"status": "503"}, "fail"),
        ({"status>": "200"}, "get fail"),
        ({"status>200": ""}, "fail"),
        ({"duration<": "0.5"}, "get"),
        ({"method!": "GET"}, "fail app bare"),
        ({"path": "/api/*"}, "get"),
        ({"path": "*"}, "get fail app bare"),
        ({"message": "[1]*"}, "app"),
        ({"message": "[*?"}, "app"),
        ({"ok": "false"}, "fail"),
        ({"user.id": "7"}, "fail"),
        ({"user.id.x": "7"}, ""),
        ({"since": "20", "until": "30"}, "fail app"),
        ({"level": "info", "q": "x"}, "fail"),
    ],
)
def test_what_is_wanted(parameters, expected):
    sieve = Sieve(read(parameters.items(), "", 0.0), Plain(), redacts=False)
    wanted = sieve.wanted(list(ENTRIES.values()))
    assert [name for name, each in ENTRIES.items() if each in wanted] == expected.split()


def test_what_is_blacked_out_is_found_by_no_filter():
    sieve = Sieve(read([("q", "ada")], "", 0.0), Plain(), redacts=True)
    assert not sieve.hopeless(b"nothing is skipped unread")
    assert not sieve.wanted(list(ENTRIES.values()))


def test_a_block_without_the_text_is_not_read():
    sieve = Sieve(read([("q", "Needle")], "", 0.0), Plain(), redacts=False)
    assert sieve.hopeless(b"hay")
    assert not sieve.hopeless(b"a NEEDLE in hay")


def test_many_stars_take_no_time():
    sieve = Sieve(read([("path", "*a" * 200 + "b")], "", 0.0), Plain(), redacts=False)
    assert not sieve.wanted([entry("", path="a" * 100_000)])
