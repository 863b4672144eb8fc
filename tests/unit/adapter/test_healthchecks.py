"""How a --health is read, and what log patterns make of records."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.adapter.healthchecks import Checks, FileAge, Http, LogPattern, Tcp, check
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Json, Objects, Unparsed
from sidecars.core.errors import WrongSettings

READ = [
    ("http://localhost:8080/health", Http, "//localhost:8080/health", {}),
    ("http://localhost", Http, "//localhost", {}),
    ("http://[::1]:80/a?status=500&x=1", Http, "//[::1]:80/a?status=500&x=1", {}),
    ("http://a/b?c=d#status=204&timeout=1s", Http, "//a/b?c=d", {"status": "204", "timeout": "1s"}),
    ("http://a/#status=2xx", Http, "//a/", {"status": "2xx"}),
    ("tcp://localhost:5432#every=10s", Tcp, "//localhost:5432", {"every": "10s"}),
    ("file-age:/run/app/heartbeat#max=5m", FileAge, "/run/app/heartbeat", {"max": "5m"}),
    ("file-age:/odd#name", FileAge, "/odd#name", {}),
    ("file-age:/odd#a=b#", FileAge, "/odd#a=b", {}),
    (r"log-pattern:order #\d+ done", LogPattern, r"order #\d+ done", {}),
    (r"log-pattern:order #\d+ done#within=5m", LogPattern, r"order #\d+ done", {"within": "5m"}),
    ("log-pattern:!panic:#", LogPattern, "!panic:", {}),
]


@pytest.mark.parametrize(("text", "kind", "target", "options"), READ)
def test_what_is_asked_and_how_are_told_apart(text, kind, target, options):
    found = check(text)
    assert type(found) is kind
    assert found.target == target
    assert {name: found.option(name) for name in options} == options


WRONG = [
    ("", "expected http://HOST:PORT/PATH, tcp://HOST:PORT, file-age:PATH or log-pattern:REGEX"),
    ("https://a/", "expected http://"),
    ("http:a", "expected http://"),
    ("http://", "needs a host"),
    ("http://a:99999/", "is no URL that can be asked"),
    ("http://a/é", "is no URL that can be asked"),
    ("http://[::1/", "is no URL that can be asked"),
    ("http://a/b c", "is no URL that can be asked"),
    ("http://a/#status=600", "a status such as 200 or 2xx"),
    ("http://a/#stat=200", "has no option stat; there are every, status, timeout"),
    ("http://a/#timeout=soon", "has timeout=soon, expected seconds, or 90s, 5m, 1h"),
    ("tcp://a", "is no tcp://HOST:PORT"),
    ("tcp://a:1#max=1s", "has no option max"),
    ("file-age:", "names no file"),
    ("log-pattern:", "has no regular expression"),
    ("log-pattern:!", "has no regular expression"),
    ("log-pattern:[", "has no regular expression: unterminated character set"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_check_that_can_be_none_is_a_wrong_setting(text, message):
    with pytest.raises(WrongSettings) as caught:
        Checks(Settings(health=(text,)))
    assert message in str(caught.value)
    assert str(caught.value).startswith("--health ")


def test_a_password_in_a_url_is_shown_nowhere():
    checks = Checks(Settings(health=("http://bob:hunter2@localhost:1/",)))
    assert "hunter2" not in str(checks.result())
    with pytest.raises(WrongSettings) as caught:
        check("http://bob:hunter2@localhost:1/#stat=1")
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=40), st.sampled_from(["http://", "tcp://", "file-age:", "log-pattern:", ""]))
@settings(deadline=None)
def test_every_text_is_read_or_refused(text, kind):
    with contextlib.suppress(WrongSettings):
        check(kind + text)


SEGMENTS = [
    [Json(b'{"message":"started"}\n{"message":"done 7"}\n', 2, frozenset())],
    [Objects([{}, {}], [b"started", b"done 7"])],
    [Unparsed([b"started"], ""), Unparsed([b"done 7 orders"], "")],
]


@pytest.mark.parametrize("segments", SEGMENTS)
def test_a_pattern_is_well_while_records_match(segments):
    pattern = "log-pattern:done \\d#within=50ms"
    checks = Checks(Settings(health=(pattern,)))
    assert checks.result() == (True, [])
    until(lambda: not checks.result()[0])
    assert checks.result() == (False, [f"{pattern}: no record that matches has come for 0 s"])
    checks.observe([Unparsed([b"something else"], "")])
    assert not checks.result()[0]
    checks.observe(segments)
    assert checks.result() == (True, [])


@pytest.mark.parametrize("segments", SEGMENTS)
def test_an_absent_pattern_is_well_while_none_match(segments):
    pattern = "log-pattern:!done \\d#within=50ms"
    checks = Checks(Settings(health=(pattern,)))
    assert checks.result() == (True, [])
    checks.observe(segments)
    assert checks.result() == (False, [f"{pattern}: a record that matches came 0 s ago"])
    until(lambda: checks.result()[0])


def test_the_ends_of_a_line_can_be_matched():
    checks = Checks(Settings(health=("log-pattern:!^bad$",)))
    checks.observe([Unparsed([b"not bad", b"bad luck"], "")])
    assert checks.result()[0]
    checks.observe([Unparsed([b"one", b"bad", b"two"], "")])
    assert not checks.result()[0]


def until(happened) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)
