"""log-adapter as a process: what comes out of it, whatever the format, across rotation, restarts and workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.servers.process import Tailer

NGINX = '203.0.113.9 - - [23/Nov/2026:06:26:17 +0000] "GET /cart?n=%d HTTP/1.1" %d 5120 "-" "curl/8.14.1"\n'
JAVA = """\
2026-11-23 06:26:17,123 INFO  [http-nio-8080-exec-3] shop.StockService - item 17 reserved
2026-11-23 06:26:18,123 ERROR [http-nio-8080-exec-3] shop.StockService - item 18 failed
shop.StockException: cannot reserve
\tat shop.Stock.reserve(Stock.java:77)
Caused by: java.lang.IllegalStateException: stock is negative
\t... 3 more
2026-11-23 06:26:19,123 INFO  [http-nio-8080-exec-3] shop.StockService - item 19 reserved
"""


class Adapter(Tailer):
    """log-adapter with these arguments; it serves nothing unless told to."""

    command: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "sidecars.adapter")
    prefix: ClassVar[str] = "ADAPTER_"
    defaults: ClassVar[dict[str, str]] = {
        "ADAPTER_ADMIN": "127.0.0.1:0", "ADAPTER_QUIET": "0.1s", "ADAPTER_STATE_DIR": "off", "ADAPTER_LISTEN": "off",
    }  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        """The JSON lines written so far."""
        # A look may come in the middle of a write.
        whole, _, _ = self.read().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture
def adapt(out: Path) -> Iterator[Callable[..., Adapter]]:
    with contextlib.ExitStack() as running:

        def adapt(*arguments: Any, **options: Any) -> Adapter:
            return running.enter_context(Adapter(*arguments, **{"out": out, **options}))

        yield adapt


@pytest.fixture
def once(adapt: Callable[..., Adapter]) -> Callable[..., list[dict[str, Any]]]:
    """The records that log-adapter --once writes."""

    def once(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        adapter = adapt("--once", *arguments, **options)
        code, _ = adapter.ended()
        assert code == 0, "\n".join(adapter.lines)
        return adapter.records()

    return once


def test_the_format_of_each_file_is_found_and_said(adapt, logs):
    (logs / "access.log").write_text("".join(NGINX % (number, 200) for number in range(30)))
    (logs / "shop.log").write_text(JAVA)
    (logs / "app.json").write_text('{"ts":1795933577.5,"severity":"WARN","msg":"slow","ms":12}\n')
    adapter = adapt(logs).watching()
    adapter.until(lambda: len(adapter.read().splitlines()) == 34)
    records = adapter.records()
    assert {event["format"] for event in adapter.said("format found")} == {"nginx", "log4j", "json"}
    assert {Path(record["file"]).name for record in records} == {"access.log", "shop.log", "app.json"}
    [slow] = [record for record in records if record["file"].endswith(".json")]
    assert slow | {"file": ""} == {
        "file": "", "time": "2026-11-29T06:26:17.5Z", "level": "warning", "message": "slow", "ms": 12,
    }  # fmt: skip
    [trace] = [record for record in records if record.get("level") == "error"]
    assert trace["message"].startswith("item 18 failed\nshop.StockException") and trace["message"].endswith("3 more")
    assert adapter.metric("adapter_requests_total", method="GET", status_class="2xx") == 30
    assert adapter.metric("adapter_events_total", level="error") == 1


def test_a_line_that_is_not_in_the_format_goes_out_raw_in_its_place(adapt, logs):
    lines = [NGINX % (1, 200), "what is this?\n", NGINX % (2, 200)]
    (logs / "access.log").write_text("".join(lines))
    adapter = adapt("--from", "nginx", logs / "access.log").watching()
    adapter.until(lambda: len(adapter.records()) == 3)
    first, odd, last = adapter.records()
    assert (first["path"], last["path"]) == ("/cart?n=1", "/cart?n=2")
    assert odd["message"] == "what is this?" and "nginx" in odd["parse_error"]
    assert adapter.metric("adapter_parse_errors_total") == 1


def test_a_line_longer_than_a_batch_goes_out_in_marked_parts(once, logs):
    line = b"x" * (3 << 20)
    (logs / "app.log").write_bytes(b"before\n" + line + b"\nafter\n")
    before, *parts, after = once("--from", "text", logs / "app.log")
    assert (before["message"], after["message"]) == ("before", "after")
    assert "".join(part["message"] for part in parts).encode() == line
    assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert [part["last"] for part in parts] == [False] * (len(parts) - 1) + [True]


def test_a_file_that_changes_its_format_is_looked_at_again(adapt, logs):
    log = logs / "app.log"
    log.write_text("".join(NGINX % (number, 200) for number in range(30)))
    adapter = adapt(log).watching()
    adapter.until(lambda: len(adapter.records()) == 30)
    with log.open("a") as file:
        file.write("".join(f'{{"level":"info","message":"{number}"}}\n' for number in range(30)))
    adapter.until(lambda: len(adapter.records()) == 60)
    assert [record["message"] for record in adapter.records()[30:]] == [str(number) for number in range(30)]
    adapter.until(lambda: [event["format"] for event in adapter.said("format found")] == ["nginx", "json"])


def test_columns_of_a_header_hold_after_a_restart(adapt, logs, tmp_path):
    log = logs / "table.csv"
    log.write_text("time,who,what\n2026-11-23T06:00:00Z,Zoë,one\n")
    environ = {"ADAPTER_STATE_DIR": str(tmp_path / "state")}
    adapter = adapt("--from", "csv", log, environ=environ).watching()
    adapter.until(lambda: len(adapter.records()) == 1)
    adapter.drained()
    with log.open("a") as file:
        file.write("2026-11-23T06:00:01Z,Zoë,two\n")
    adapter = adapt("--from", "csv", log, environ=environ).watching()
    adapter.until(lambda: len(adapter.records()) == 2)
    assert [record["what"] for record in adapter.records()] == ["one", "two"]


def test_workers_keep_the_order_and_count(adapt, logs):
    log = logs / "access.log"
    log.write_text("".join(NGINX % (number, 200 + number % 2 * 300) for number in range(40_000)))
    adapter = adapt("--workers", "2", "--from", "nginx", log).watching()
    adapter.until(lambda: adapter.read().count(b"\n") == 40_000)
    assert [record["path"] for record in adapter.records()] == [f"/cart?n={number}" for number in range(40_000)]
    adapter.until(lambda: adapter.metric("adapter_requests_total", status_class="5xx") == 20_000)
    assert adapter.metric("adapter_records_total") == 40_000


def test_a_worker_that_is_killed_loses_nothing(adapt, logs):
    log = logs / "access.log"
    log.write_text(NGINX % (0, 200))
    adapter = adapt("--workers", "2", "--from", "nginx", log).watching()
    adapter.until(lambda: len(adapter.records()) == 1)
    for child in adapter.children():
        os.kill(child, signal.SIGKILL)
    with log.open("a") as file:
        file.write("".join(NGINX % (number, 200) for number in range(1, 100)))
    adapter.until(lambda: len(adapter.records()) == 100)
    assert adapter.said("worker died; another one is started")
    adapter.drained()
    assert adapter.children() == []


def test_fields_are_renamed_dropped_added_and_redacted(once, logs):
    (logs / "app.log").write_text('level=info msg="mail to zoe@example.org" token=abc who=Zoë\n')
    [record] = once(
        *("--from", "logfmt", "--redact", "email", "--rename", "who=user", "--drop", "token", "--add", "team=shop"),
        logs / "app.log",
    )
    assert record == {"level": "info", "message": "mail to ***", "user": "Zoë", "team": "shop"}


def test_what_the_standard_input_has_is_adapted_and_then_it_ends(out):
    command = [*Adapter.command, "--from", "nginx", "-", "--admin", "off", "--listen", "off", "--state-dir", "off"]
    text = "".join(NGINX % (number, 200) for number in range(1000))
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line)["path"] for line in ended.stdout.splitlines()] == [f"/cart?n={n}" for n in range(1000)]


def test_a_rotation_loses_nothing(adapt, logs):
    log = logs / "access.log"
    adapter = adapt("--from", "nginx", log).watching()
    for turn in range(5):
        with log.open("a") as file:
            file.write("".join(NGINX % (turn * 10 + number, 200) for number in range(10)))
        log.rename(logs / f"access.log.{turn}")
    adapter.until(lambda: len(adapter.records()) == 50)
    assert sorted(int(record["path"][8:]) for record in adapter.records()) == list(range(50))


def test_a_dead_output_holds_back_no_other(adapt, logs, tmp_path):
    log = logs / "access.log"
    log.write_text(NGINX % (1, 200))
    adapter = adapt("--from", "nginx", "--output", "otlp+http://127.0.0.1:9", "--output", "stdout", log).watching()
    adapter.until(lambda: len(adapter.records()) == 1)
    adapter.until(lambda: adapter.ask("/healthz")[0] == 503)
    assert adapter.ask("/readyz")[0] == 200
    assert adapter.metric("adapter_requests_total") == 1
    adapter.process.terminate()
    adapter.wait_for("draining")
    adapter.process.terminate()
    code, _ = adapter.ended()
    assert code == 1 and "not delivered to otlp" in "\n".join(adapter.lines)


def test_what_is_served_is_what_was_posted(adapt, logs):
    adapter = adapt("--post", "--from", "json", "--listen", "127.0.0.1:0").watching()
    [served] = adapter.said("serving")
    address = served["addresses"][0]
    post = ["curl", "-sS", "--fail", "--data-binary", '{"message":"hello"}', f"http://{address}/logs"]
    assert subprocess.run(post, timeout=10).returncode == 0
    adapter.until(lambda: adapter.records() == [{"message": "hello"}])
    answer = subprocess.run(["curl", "-sS", f"http://{address}/logs"], capture_output=True, timeout=10, text=True)
    assert json.loads(answer.stdout) == [{"message": "hello"}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--from", "nginxx"), "did you mean nginx"),
        (("--from", "(?P<a>"), "--from is"),
        (("--to", "template"), "--template"),
        (("--redact-pattern", "("), "--redact-pattern is"),
        (("--rename", "a"), "expected OLD=NEW"),
        (("--multiline", "("), "--multiline is"),
        (("--time-zone", "Mars"), "Mars"),
        (("--workers", "0"), "--workers is 0, expected 1 to 64"),
        (("--output", "otlp://x"), "is unknown, expected stdout"),
        (("--health", "ftp://x", "--listen", ":0"), "expected http://"),
        (("--post",), "--post needs --listen"),
        (("--syslog", "5514"), "--syslog is '5514', expected udp://"),
        (("--state-dir", "/logs"), "would be read as logs"),
    ],
)
def test_a_wrong_setting_is_refused_in_words(arguments, text):
    command = [*Adapter.command, "--listen", "off", *arguments, "/logs", "--check-config"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2 and text in ended.stderr and "Traceback" not in ended.stderr


def test_a_container_line_in_parts_is_whole_before_its_format_is_known(adapt, logs):
    log = logs / "0.log"
    log.write_text("".join(f"2026-01-31T09:30:00.1Z stdout {part} {text}\n" for part, text in ("Fa", "Pb", "Pc")))
    adapter = adapt(log).watching()
    adapter.until(lambda: len(adapter.records()) == 1)
    with log.open("a") as file:
        file.write("2026-01-31T09:30:00.1Z stdout F d\n")
    adapter.until(lambda: len(adapter.records()) == 2)
    assert [record["message"] for record in adapter.records()] == ["a", "bcd"]
