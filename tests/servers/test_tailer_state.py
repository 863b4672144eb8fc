"""What log-tailer remembers over its own end, and what it does where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process import Tailer, as_root


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a disk of 64 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def remembered(state: Path) -> dict[str, int]:
    """Give the offset of each path in the checkpoint."""
    try:
        document = json.loads((state / "tailer-stdout.json").read_bytes())
    except FileNotFoundError:
        return {}
    return {row["path"]: row["offset"] for row in document["files"]}


def until_remembered(tailer: Tailer, state: Path, path: Path) -> None:
    tailer.until(lambda: remembered(state).get(str(path)) == path.stat().st_size)


def append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def test_after_a_clean_end_nothing_is_repeated_and_nothing_missing(tail, logs, state):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--state-dir", state, logs / "*.log")
    append(logs / "a.log", b"two\n")
    tailer.until_written(b"one\ntwo\n")
    tailer.drained()
    append(logs / "a.log", b"three\n")
    tail("--state-dir", state, logs / "*.log").until_written(b"one\ntwo\nthree\n")


def test_after_a_kill_nothing_is_missing_and_what_the_checkpoint_holds_is_not_repeated(tail, logs, state):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--state-dir", state, logs / "*.log")
    tailer.until_written(b"one\n")
    until_remembered(tailer, state, logs / "a.log")
    tailer.send(signal.SIGKILL)
    tailer.wait()
    append(logs / "a.log", b"two\n")
    tail("--state-dir", state, logs / "*.log").until_written(b"one\ntwo\n")


def test_what_was_rotated_meanwhile_is_read_from_where_it_was_left(tail, logs, state):
    path = logs / "a.log"
    path.write_bytes(b"one\n")
    tail("--state-dir", state, path).drained()
    append(path, b"two\n")
    for rotation in range(3):
        for number in range(rotation, 0, -1):
            (logs / f"a.log.{number}").rename(logs / f"a.log.{number + 1}")
        path.rename(logs / "a.log.1")
        path.write_bytes(b"generation %d\n" % rotation)
    tail("--state-dir", state, path).until_written(b"one\ntwo\ngeneration 0\ngeneration 1\ngeneration 2\n")


def test_a_last_line_goes_out_at_the_drain_and_a_restart_goes_on_inside_it(tail, logs, state):
    (logs / "a.log").write_bytes(b"whole\nhalf")
    tailer = tail("--state-dir", state, logs / "a.log")
    tailer.until_written(b"whole\n")
    assert tailer.drained() == b"whole\nhalf"
    append(logs / "a.log", b" and half\nnext\n")
    tail("--state-dir", state, logs / "a.log").until_written(b"whole\nhalf and half\nnext\n")


def test_from_end_counts_at_the_very_first_start_only(tail, logs, state):
    (logs / "a.log").write_bytes(b"old\n")
    tailer = tail("--from=end", "--state-dir", state, logs / "*.log")
    assert tailer.drained() == b""
    append(logs / "a.log", b"new\n")
    (logs / "b.log").write_bytes(b"other\n")
    tailer = tail("--from=end", "--state-dir", state, logs / "*.log")
    tailer.until(lambda: len(tailer.read()) >= 10)
    assert sorted(tailer.read().splitlines()) == [b"new", b"other"]


def test_without_a_state_directory_a_restart_begins_anew(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    assert tail(logs / "a.log").drained() == b"one\n"
    tail(logs / "a.log").until_written(b"one\none\n")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"version":1}', b'{"version":2,"saved":0,"files":[]}', b"\xff\x00" * 100],
    ids=["empty", "torn", "other", "incomplete", "of_the_future", "noise"],
)
def test_a_checkpoint_that_cannot_be_read_is_set_aside_and_said_and_nothing_is_skipped(tail, logs, state, content):
    state.mkdir()
    (state / "tailer-stdout.json").write_bytes(content)
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--state-dir", state, "--from", "end", logs / "a.log")
    tailer.until_written(b"one\n")
    said = tailer.wait_for("checkpoint cannot be read; starting anew")
    assert said["path"] == str(state / "tailer-stdout.json")
    assert said["error"]
    assert Path(said["set_aside"]).read_bytes() == content
    until_remembered(tailer, state, logs / "a.log")


@as_root
def test_a_full_state_disk_is_said_and_counted_and_logs_flow_on(tail, logs, small):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--state-dir", small, logs / "a.log")
    tailer.until_written(b"one\n")
    until_remembered(tailer, small, logs / "a.log")
    assert tailer.metric("follow_checkpoint_errors_total", output="stdout") == 0
    fill(small)
    append(logs / "a.log", b"two\n")
    tailer.until_written(b"one\ntwo\n")
    tailer.until(lambda: tailer.metric("follow_checkpoint_errors_total", output="stdout") >= 1)
    tailer.wait_for("cannot write checkpoint; a restart would repeat what was delivered since the last one")
    assert len({each["event"] for each in tailer.events() if each["level"] == "error"}) == 1
    append(logs / "a.log", b"three\n")
    tailer.until_written(b"one\ntwo\nthree\n")
    (small / "fill").unlink()
    until_remembered(tailer, small, logs / "a.log")
    tailer.send(signal.SIGKILL)
    tailer.wait()
    append(logs / "a.log", b"four\n")
    tail("--state-dir", small, logs / "a.log").until_written(b"one\ntwo\nthree\nfour\n")


def fill(directory: Path) -> None:
    with open(directory / "fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            pass


def test_a_state_directory_that_is_removed_is_said_and_logs_flow_on(tail, logs, state):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--state-dir", state, logs / "a.log")
    tailer.until_written(b"one\n")
    until_remembered(tailer, state, logs / "a.log")
    shutil.rmtree(state)
    append(logs / "a.log", b"two\n")
    tailer.until(lambda: tailer.metric("follow_checkpoint_errors_total", output="stdout") >= 1)
    append(logs / "a.log", b"three\n")
    tailer.until_written(b"one\ntwo\nthree\n")
    assert tailer.ask("/livez")[0] == 200


def test_a_second_process_on_one_state_directory_waits_and_takes_over(start, tail, logs, state, tmp_path):
    (logs / "a.log").write_bytes(b"one\n")
    first = tail("--state-dir", state, logs / "a.log")
    first.until_written(b"one\n")
    second = start("--state-dir", state, logs / "a.log", out=tmp_path / "second")
    reason = second.wait_for("waiting for the state directory")["reason"]
    assert reason == f"state directory {state} is locked by another process"
    assert second.ask("/startupz") == (503, reason + "\n")
    append(logs / "a.log", b"two\n")
    first.until_written(b"one\ntwo\n")
    until_remembered(first, state, logs / "a.log")
    assert second.read() == b""
    first.send(signal.SIGKILL)
    second.watching()
    append(logs / "a.log", b"three\n")
    second.until_written(b"three\n")
    assert second.ask("/startupz")[0] == 200


@pytest.mark.parametrize("inside", ["logs", "logs/below"])
def test_a_state_directory_inside_the_globs_is_refused(start, logs, tmp_path, inside):
    tailer = start("--state-dir", tmp_path / inside, logs / "**", logs / "*.json")
    assert tailer.ended()[0] == 2
    assert f"--state-dir is {tmp_path / inside}" in tailer.lines[-1]


def test_a_state_directory_given_by_a_relative_path_is_found_in_the_globs_too(start, logs):
    tailer = start("--state-dir", "logs", logs / "*.json", cwd=logs.parent)
    assert tailer.ended()[0] == 2, tailer.lines


def test_no_line_of_a_log_is_readable_in_the_checkpoint(tail, logs, state):
    (logs / "a.log").write_bytes(b"password=hunter2\n")
    tail("--state-dir", state, logs / "a.log").drained()
    assert b"hunter2" not in (state / "tailer-stdout.json").read_bytes()
    assert os.stat(state / "tailer-stdout.json").st_mode & 0o007 == 0


@pytest.mark.parametrize("compressor", [["gzip"], ["zstd", "-q", "--rm"]], ids=["gzip", "zstd"])
def test_what_was_rotated_and_compressed_meanwhile_goes_on_where_it_was_left(tail, logs, state, compressor):
    log = logs / "a.log"
    log.write_bytes(b"one\n")
    tailer = tail("--state-dir", state, log)
    tailer.until_written(b"one\n")
    tailer.drained()
    append(log, b"two\n")
    log.rename(logs / "a.log.1")
    subprocess.run([*compressor, logs / "a.log.1"], check=True)
    append(log, b"three\n")
    tailer = tail("--state-dir", state, log)
    tailer.until_written(b"one\ntwo\nthree\n")
    assert tailer.drained() == b"one\ntwo\nthree\n"
