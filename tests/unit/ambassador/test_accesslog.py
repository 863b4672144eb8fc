"""The access log: complete lines, a file that may be rotated, and no waiting for whoever writes."""

from __future__ import annotations

import json
import os
import time

import pytest

from sidecars.ambassador import accesslog
from sidecars.ambassador.accesslog import AccessLog, rendered
from sidecars.core.errors import WrongSettings


def test_a_record_is_one_line_of_json_with_its_time():
    line = rendered(1769851800.1239, {"client": "10.0.0.1:80\n", "reason": "client"})
    assert line == b'{"time": "2026-01-31T09:30:00.123Z", "client": "10.0.0.1:80\\n", "reason": "client"}\n'


def test_what_was_handed_over_is_in_the_file_when_it_is_closed(tmp_path):
    log = AccessLog(str(tmp_path / "log"))
    for number in range(2000):
        log.write({"number": number})
    log.close(20)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(2000))
    assert log.dropped == 0


def test_a_file_that_was_rotated_is_opened_anew(tmp_path):
    log = AccessLog(str(tmp_path / "log"))
    log.write({"number": 1})
    until(lambda: (tmp_path / "log").read_text())
    os.rename(tmp_path / "log", tmp_path / "log.1")
    log.reopen()
    until(lambda: (tmp_path / "log").exists())
    log.write({"number": 2})
    log.close(20)
    assert '"number": 1' in (tmp_path / "log.1").read_text()
    assert '"number": 2' in (tmp_path / "log").read_text()


def until(happened):
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_reader_that_has_stalled_costs_records_and_no_time(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(tmp_path / "pipe"))
    for _ in range(2 * accesslog._MOST_WAITING):
        log.write({"reason": "x" * 200})
    assert log.dropped > 0
    os.close(reader)  # what blocks the writer ends, with an error
    log.close(20)


def test_a_file_that_cannot_be_written_is_wrong_settings(tmp_path):
    with pytest.raises(WrongSettings, match="--access-log is '/nowhere/log', which cannot be written to"):
        AccessLog("/nowhere/log")
