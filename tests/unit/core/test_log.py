"""Log events: what a line holds, and that no value breaks it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sidecars.core.log import as_json, as_text, plain


def run(code: str, **popen: Any) -> list[str]:
    """The lines that a program which logs leaves on its stderr."""
    program = f"from sidecars.core.log import configure, log, recent, stderr\n{code}\nstderr.flush(5)"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True, **popen)
    return done.stderr.splitlines()


def test_an_event_is_one_line_of_json_with_time_level_and_event_first() -> None:
    [line] = run("log.warning('connection lost', upstream='db:5432', attempts=3, path=b'/logs/\\xff')")
    assert re.match(r'\{"time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "level": "warning", "event"', line)
    event = json.loads(line)
    assert (event["event"], event["upstream"], event["attempts"]) == ("connection lost", "db:5432", 3)
    assert event["path"] == "/logs/\\xff"


def test_the_level_decides_what_is_written() -> None:
    lines = run("configure('warning')\nlog.debug('a')\nlog.info('b')\nlog.warning('c')\nlog.error('d')")
    assert [json.loads(line)["event"] for line in lines] == ["c", "d"]


def test_nothing_goes_to_stdout_even_before_the_settings_are_read() -> None:
    program = "from sidecars.core.log import log; log.info('early')"
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout == b""


def test_libraries_are_heard_as_events() -> None:
    [line] = run("import logging\nlogging.getLogger('some.library').warning('slow: %s', 3)\nlogging.info('chatter')")
    event = json.loads(line)
    assert (event["event"], event["logger"], event["level"]) == ("slow: 3", "some.library", "warning")


def test_a_traceback_is_a_field_of_its_event() -> None:
    [line] = run("try: 1 / 0\nexcept ZeroDivisionError: log.exception('crashed')")
    event = json.loads(line)
    assert event["level"] == "error"
    assert event["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_terminal_gets_text_that_it_cannot_obey() -> None:
    ours, theirs = pty.openpty()
    run_on_terminal = "log.warning('lost\\x1b[2J', path='/a b', n=3)"
    program = f"from sidecars.core.log import log, stderr\n{run_on_terminal}\nstderr.flush(5)"
    subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert said.endswith("Z warning 'lost\\x1b[2J' path='/a b' n=3\r\n")


def test_the_format_can_be_chosen() -> None:
    assert run("configure('info', 'text')\nlog.info('started', pid=1)")[0].endswith("Z info    started pid=1")


def test_the_last_20_warnings_and_errors_are_kept() -> None:
    lines = run(
        "for n in range(30): log.info('i', n=n); log.warning('w', n=n)\n"
        "log.info('kept', numbers=[each['n'] for each in recent()])"
    )
    assert json.loads(lines[-1])["numbers"] == list(range(10, 30))


def test_a_burst_is_written_whole_while_somebody_reads() -> None:
    lines = run("for n in range(3000): log.info('n', n=n)")
    assert [json.loads(line)["n"] for line in lines] == list(range(3000))


def test_lines_that_wait_too_long_are_counted() -> None:
    """Nobody reads at first: the pipe and then the queue fill, and the rest is counted."""
    program = """
import os, sys
from sidecars.core.log import log, stderr
for n in range(9000):
    log.info("n", n=n, filler="x" * 200)
print("full", flush=True)
sys.stdin.readline()
stderr.flush(5)
log.info("after")
stderr.flush(5)
"""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as process:
        assert process.stdout and process.stdin and process.stderr
        assert process.stdout.readline() == "full\n"
        first = [process.stderr.readline() for _ in range(3000)]
        process.stdin.write("\n")
        process.stdin.flush()
        events = [json.loads(line) for line in [*first, *process.stderr]]
    dropped = sum(each["count"] for each in events if each["event"] == "log events dropped")
    written = [each["n"] for each in events if each["event"] == "n"]
    assert written == sorted(set(written))
    assert dropped == 9000 - len(written) > 0
    assert events[-1]["event"] == "after"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (2.5, 2.5),
        (float("nan"), "nan"),
        (b"\xff\x00", "\\xff\x00"),
        ("/logs/\udcff", "/logs/\\udcff"),
        ("https://a:b@c/", "https://***@c/"),
        ({"u": ["https://a:b@c/"], 1: (2,)}, {"u": ["https://***@c/"], "1": [2]}),
        (OSError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
        ("x" * 5000, "x" * 4096 + "..."),
    ],
)
def test_values_are_made_plain(value: object, shown: object) -> None:
    assert plain(value) == shown


scalars = some.none() | some.booleans() | some.integers() | some.floats() | some.text() | some.binary()
values = some.recursive(scalars, lambda each: some.lists(each) | some.dictionaries(some.text(), each), max_leaves=5)
SURROGATES = some.text(some.characters(codec=None, categories=None))


@given(some.dictionaries(some.text(), values | SURROGATES))
def test_whatever_the_values_a_line_is_one_line_of_strict_json(fields: dict[str, object]) -> None:
    line = as_json({"time": "t", "level": "info", "event": "e", **{k: plain(v) for k, v in fields.items()}})
    assert line.isascii()
    assert line.isprintable()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(line, parse_constant=refuse)


@given(some.text(), some.dictionaries(some.text(), values | SURROGATES))
def test_whatever_the_values_text_is_printable(event: str, fields: dict[str, object]) -> None:
    fields = {key: plain(value) for key, value in fields.items() if key not in ("time", "level", "event", "exception")}
    line = as_text({"time": "t", "level": "info", "event": event, **fields})
    assert line.isprintable()
