"""How log-tailer ends: everything delivered, or said what was not."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import time
from typing import BinaryIO

import pytest

from tests.servers.process import UNPRIVILEGED, as_root


@pytest.fixture
def pipe() -> tuple[BinaryIO, int]:
    """A pipe that nobody reads yet, and holds 4 KiB only."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with open(reader, "rb", buffering=0) as file:
        yield file, writer
    os.close(writer)


def test_sigterm_delivers_what_is_there_and_exits_0(tail, logs):
    (logs / "a.log").write_bytes(b"line\n" * 1_000_000 + b"last words")
    assert tail(logs / "a.log").drained() == b"line\n" * 1_000_000 + b"last words"


@pytest.mark.parametrize("watch", ["auto", "poll"])
def test_what_is_written_for_1500_ms_after_sigterm_is_delivered(tail, logs, watch):
    """As in a classic pod, where the application is told to end at the same moment; it even rotates meanwhile."""
    path = logs / "a.log"
    path.write_bytes(b"")
    tailer = tail("--quiet=1s", f"--watch={watch}", "--poll-interval=100ms", path)
    tailer.send(signal.SIGTERM)
    count, end = 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        with open(path, "ab") as file:
            file.write(b"%06d\n" % count)
        count += 1
        if count % 50 == 0:
            path.rename(logs / f"a.log.{count}")
            path.write_bytes(b"")
        time.sleep(0.3 if count % 100 < 2 else 0.004)  # the application's pace: in bursts
    assert tailer.ended()[0] == 0
    assert tailer.read() == b"".join(b"%06d\n" % number for number in range(count))


def test_the_deadline_names_what_was_not_delivered(start, logs, pipe, tmp_path):
    _, writer = pipe
    (logs / "a.log").write_bytes(b"x" * 999_999 + b"\n")
    message = tmp_path / "termination"
    message.touch()
    tailer = start("--grace=1s", logs / "a.log", stdout=writer, termination_log=str(message)).watching()
    tailer.send(signal.SIGTERM)
    code, events = tailer.ended()
    assert code == 1
    assert events[-1]["reason"] == f"1000000 bytes of {logs}/a.log not delivered to stdout"
    assert message.read_text() == events[-1]["reason"]


def test_the_deadline_counts_files_in_the_message(start, logs, pipe):
    _, writer = pipe
    for name in "abc":
        (logs / f"{name}.log").write_bytes(b"x" * 99_999 + b"\n")
    tailer = start("--grace=500ms", logs / "*.log", stdout=writer).watching()
    tailer.send(signal.SIGTERM)
    code, events = tailer.ended()
    assert code == 1
    assert events[-1]["reason"].startswith("300000 bytes of ")
    assert events[-1]["reason"].endswith(".log and more not delivered to stdout")


def test_a_second_signal_stops_at_once_and_names_what_was_not_delivered(start, logs, pipe):
    _, writer = pipe
    (logs / "a.log").write_bytes(b"x" * 99_999 + b"\n")
    tailer = start("--grace=1h", logs / "a.log", stdout=writer).watching()
    tailer.send(signal.SIGTERM)
    tailer.wait_for("draining")
    tailer.send(signal.SIGTERM)
    code, events = tailer.ended()
    assert code == 1
    assert events[-1]["reason"] == f"100000 bytes of {logs}/a.log not delivered to stdout"


def test_what_a_stopped_process_had_not_delivered_comes_after_a_restart(start, tail, logs, tmp_path):
    """The pipe took some of it: that much may be repeated, and nothing is missing."""
    data = b"".join(b"%06d\n" % number for number in range(300_000))
    (logs / "a.log").write_bytes(data)
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe:
        options = ["--state-dir", tmp_path / "state", logs / "a.log"]
        first = start("--grace=500ms", *options, stdout=writer).watching()
        os.close(writer)
        taken = pipe.read(500_000)
        first.send(signal.SIGTERM)
        assert first.wait() == 1
        taken += pipe.read()
    second = tail(*options)
    second.until(lambda: data.endswith(second.read()[-1000:]) and second.read())
    rest = second.drained()
    assert data.startswith(taken)
    assert len(taken) + len(rest) >= len(data)
    assert data.endswith(rest)


@pytest.mark.parametrize("milliseconds", [0, 10, 20, 30, 50, 100, 150, 200, 250, 300])
def test_a_signal_at_any_moment_of_the_start_ends_it_in_peace(start, logs, milliseconds):
    (logs / "a.log").write_bytes(b"line\n")
    tailer = start(logs / "a.log")
    time.sleep(milliseconds / 1000)  # the moment is what is tested
    tailer.send(signal.SIGTERM)
    code, _ = tailer.ended()
    # Before the interpreter runs our first line, the signal ends it as it ends any program.
    assert code in (0, -signal.SIGTERM)
    assert not any("Traceback" in line for line in tailer.lines), tailer.lines
    assert tailer.read() == (b"line\n" if tailer.find("watching") else tailer.read())


def test_a_file_that_appears_ends_it(tail, logs, tmp_path):
    (logs / "a.log").write_bytes(b"line\nlast")
    tailer = tail("--exit-on-file", tmp_path / "done", logs / "a.log")
    (tmp_path / "done").touch()
    code, _ = tailer.ended()
    assert (code, tailer.read()) == (0, b"line\nlast")


# --once


def test_once_reads_what_is_there_and_ends(start, logs):
    (logs / "a.log").write_bytes(b"line\nlast")
    tailer = start("--once", logs / "*.log")
    assert tailer.ended()[0] == 0
    assert tailer.read() == b"line\nlast"


def test_once_delivers_what_is_there_and_fails_for_a_file_that_is_not(start, logs):
    (logs / "a.log").write_bytes(b"line\n")
    tailer = start("--once", logs / "a.log", logs / "missing.log")
    code, events = tailer.ended()
    assert (code, tailer.read()) == (1, b"line\n")
    assert events[-1]["reason"].startswith(f"no such file: {logs}/missing.log; ")


def test_once_is_content_with_a_glob_that_matches_nothing(start, logs):
    tailer = start("--once", logs / "*.log")
    assert tailer.ended()[0] == 0
    assert tailer.read() == b""


@as_root
def test_once_fails_for_a_file_that_cannot_be_read(start, logs, out):
    (logs / "a.log").write_bytes(b"line\n")
    (logs / "secret.log").write_bytes(b"secret\n")
    (logs / "secret.log").chmod(0)
    tailer = start("--once", logs / "*.log", under=UNPRIVILEGED)
    code, events = tailer.ended()
    assert (code, tailer.read()) == (1, b"line\n")
    assert events[-1]["reason"].startswith(f"cannot read {logs}/secret.log; ")


def test_once_reads_rotated_files_that_the_paths_mean(once, logs):
    (logs / "a.log").write_bytes(b"new\n")
    (logs / "a.log.1").write_bytes(b"old\n")
    assert sorted(once(logs / "a.log*").splitlines()) == [b"new", b"old"]


def test_a_signal_ends_once_with_128_plus_its_number(start, logs, pipe):
    _, writer = pipe
    (logs / "a.log").write_bytes(b"x" * 99_999 + b"\n")
    tailer = start("--once", "--grace=300ms", logs / "a.log", stdout=writer).watching()
    tailer.send(signal.SIGTERM)
    code, events = tailer.ended()
    assert code == 128 + signal.SIGTERM
    assert f"100000 bytes of {logs}/a.log not delivered" in events[-1]["reason"]


# stdout that does not take it


def test_a_pipe_that_nobody_reads_loses_nothing_takes_no_memory_and_is_seen(start, logs, pipe):
    reader, writer = pipe
    data = random.Random(1).randbytes(100_000_000) + b"\n"
    (logs / "a.log").write_bytes(data)
    tailer = start(logs / "a.log", stdout=writer).watching()
    tailer.wait_for("stdout is stalled")
    assert tailer.ask("/livez")[0] == 200
    assert tailer.ask("/readyz")[0] == 200
    code, reason = tailer.ask("/healthz")
    assert code == 503
    assert reason.startswith("stdout: stdout has taken nothing for 5 s")
    assert tailer.memory < 48
    assert tailer.metric("follow_lag_bytes", output="stdout") == len(data)
    assert tailer.metric("oldest_undelivered_seconds") >= 5
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 2**20)
    position = 0
    while position < len(data):
        piece = os.read(reader.fileno(), 2**20)
        assert data.startswith(piece, position)
        position += len(piece)
    tailer.wait_for("stdout moves again")
    assert tailer.ask("/healthz")[0] == 200
    assert tailer.memory < 48
    tailer.until(lambda: tailer.metric("follow_lag_bytes", output="stdout") == 0)
    assert tailer.metric("follow_read_bytes_total", output="stdout") == len(data)
    assert tailer.metric("tailer_delivered_bytes_total", output="stdout") == len(data)
    tailer.send(signal.SIGTERM)
    assert tailer.wait() == 0
    (logs / "a.log").unlink()


def test_a_reader_that_went_away_is_a_failure_that_says_so(start, logs):
    (logs / "a.log").write_bytes(b"line\n" * 100_000)
    with subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as head:
        tailer = start(logs / "a.log", stdout=head.stdin)
        head.stdin.close()
        assert head.stdout.read() == b"line\n"
        code, events = tailer.ended()
    assert code == 1
    assert events[-1]["reason"] == "stdout was closed by its reader; start it again, or write to a file"
    assert not tailer.find("crashed")


@as_root
def test_a_full_disk_under_stdout_is_waited_for(start, logs, tmp_path):
    data = b"".join(b"%06d\n" % number for number in range(300_000))
    (logs / "a.log").write_bytes(data)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        tailer = start(logs / "a.log", out=disk / "out").watching()
        tailer.until(lambda: tailer.metric("delivery_errors_total", output="stdout", code="disk_full") >= 1)
        tailer.wait_for("stdout is stalled")
        assert tailer.ask("/healthz")[0] == 503
        assert tailer.read() == data[: len(tailer.read())]
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        tailer.until_written(data)
        tailer.wait_for("stdout moves again")
        assert tailer.drained() == data
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_closed_stdout_is_a_failure_that_says_so(start, logs, out):
    (logs / "a.log").write_bytes(b"line\n")
    out.touch()
    tailer = start("--once", logs / "a.log", under=["sh", "-c", 'exec "$@" >&-', "sh"])
    code, events = tailer.ended()
    assert code == 1, tailer.lines
    assert "stdout" in events[-1]["reason"]


def test_other_descriptors_than_stdout_stay_clean(start, logs):
    """stderr carries events only, one JSON object a line, also when the application's lines are strange."""
    (logs / "a.log").write_bytes(b"\x1b]0;title\x07\xff\n")
    tailer = start("--once", logs / "a.log")
    tailer.ended()
    assert all(line.startswith("{") for line in tailer.lines)
