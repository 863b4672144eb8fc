"""What log-tailer bounds: its rate, its memory, its descriptors, and the disk that rotated files take."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers.forward_receiver import Faults, Receiver
from tests.servers.process import UNPRIVILEGED, Tailer, as_root

SWEEP = ("--remove-rotated-after=200ms", "--rotate-wait=100ms")


# --rate-limit


def test_the_rate_limit_is_kept(tail, logs):
    (logs / "a.log").write_bytes(b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 99_999)
    tailer = tail("--rate-limit=1MB", "--grace=1ms", logs / "a.log")
    tailer.until(lambda: tailer.out.stat().st_size)
    began, before = time.monotonic(), tailer.out.stat().st_size
    tailer.until(lambda: time.monotonic() - began >= 2)
    delivered, seconds = tailer.out.stat().st_size - before, time.monotonic() - began
    assert 0 < delivered / seconds < 1.5e6


def test_all_of_it_comes_at_a_limited_rate(tail, logs):
    data = b"".join(b"%06d\n" % number for number in range(100_000))
    (logs / "a.log").write_bytes(data)
    assert tail("--rate-limit=1MB", logs / "a.log").drained() == data


# --remove-rotated-after


def rotate(logs: Path, number: int) -> Path:
    rotated = logs / f"a.log.{number}"
    (logs / "a.log").rename(rotated)
    (logs / "a.log").write_bytes(b"next\n")
    return rotated


def test_rotated_files_are_removed_once_they_are_delivered(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    (logs / "other.1").write_bytes(b"another's\n")
    tailer = tail(*SWEEP, logs / "a.log")
    tailer.until_written(b"one\n")
    rotated = rotate(logs, 1)
    tailer.until(lambda: not rotated.exists())
    tailer.until_written(b"one\nnext\n")
    removed = tailer.wait_for("rotated file removed")
    assert (removed["path"], removed["size"]) == (str(rotated), 4)
    assert tailer.metric("tailer_removed_files_total") == 1
    assert tailer.metric("tailer_removed_bytes_total") == 4
    assert sorted(path.name for path in logs.iterdir()) == ["a.log", "other.1"]


def test_a_rotated_file_that_was_never_read_stays(tail, logs):
    (logs / "a.log.2").write_bytes(b"from before our time\n")
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail(*SWEEP, "--from=start", logs / "a.log")
    rotated = rotate(logs, 1)
    tailer.until(lambda: not rotated.exists())
    assert (logs / "a.log.2").exists()


def test_the_file_that_is_written_to_stays_however_old_it_is(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    (logs / "b.log").write_bytes(b"b\n")
    os.utime(logs / "b.log", (0, 0))
    tailer = tail(*SWEEP, logs / "*.log")
    rotated = rotate(logs, 1)
    tailer.until(lambda: not rotated.exists())
    assert (logs / "b.log").exists()


def test_a_rotated_file_stays_until_every_output_has_it(tail, logs):
    with Receiver(faults=Faults(("no_ack",))) as receiver:
        (logs / "a.log").write_bytes(b"one\n")
        dead = f"forward://127.0.0.1:{receiver.port}"
        tailer = tail(*SWEEP, "--output=stdout", f"--output={dead}", "--grace=100ms", logs / "a.log")
        rotated = rotate(logs, 1)
        tailer.until_written(b"one\nnext\n")
        receiver.wait_for(lambda: receiver.chunks > 0)
        began = time.monotonic()
        # Many times as long as an output that is alive would need.
        tailer.until(lambda: time.monotonic() - began > 1.5)
        assert rotated.exists()
        assert tailer.metric("tailer_removed_files_total") == 0


def test_a_rotated_file_stays_until_it_is_old_enough(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--remove-rotated-after=1500ms", "--rotate-wait=0", logs / "a.log")
    rotated = rotate(logs, 1)
    written = rotated.stat().st_mtime
    tailer.until(lambda: not rotated.exists())
    assert time.time() - written >= 1.5


def test_a_rotated_file_with_late_lines_stays_until_they_are_delivered(tail, logs):
    with open(logs / "a.log", "ab", buffering=0) as writer:
        tailer = tail("--remove-rotated-after=1s", logs / "a.log")
        writer.write(b"one\n")
        tailer.until_written(b"one\n")
        rotated = rotate(logs, 1)
        writer.write(b"late\n")
        tailer.until(lambda: not rotated.exists())
        assert sorted(tailer.read().splitlines()) == [b"late", b"next", b"one"]


@as_root
def test_a_mount_that_cannot_be_written_to_is_refused_at_the_start(start, logs):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", logs], check=True)
    try:
        tailer = start(*SWEEP, logs / "*.log")
        assert tailer.ended()[0] == 2
        assert f"--remove-rotated-after needs to write to {logs}" in tailer.lines[-1]
        assert "readOnly" in tailer.lines[-1]
    finally:
        subprocess.run(["umount", logs], check=True)


@as_root
def test_a_directory_that_this_user_may_not_write_to_is_refused_at_the_start(start, logs):
    logs.chmod(0o555)
    tailer = start(*SWEEP, logs / "a.log", under=UNPRIVILEGED)
    assert tailer.ended()[0] == 2
    assert f"--remove-rotated-after needs to write to {logs}" in tailer.lines[-1]


# Memory and descriptors

CLOCK_REALTIME_COARSE = 5  # of linux/time.h; the time module has no name for it


def test_a_thousand_rotations_leave_nothing_behind(tail, logs):
    (logs / "a.log").write_bytes(b"")
    tailer = tail("--rotate-wait=0", logs / "a.log")
    data = bytearray()

    def rotations(first: int, last: int) -> None:
        for number in range(first, last):
            line = b"%05d\n" % number
            with open(logs / "a.log", "ab") as file:
                file.write(line)
            for older in (3, 2, 1):
                if (logs / f"a.log.{older}").exists():
                    (logs / f"a.log.{older}").rename(logs / f"a.log.{older + 1}")
            (logs / "a.log").rename(logs / "a.log.1")
            (logs / "a.log").touch()
            # Two files of one tick of the clock that gives files their birth could have been made in either order. It
            # ticks every 4 ms, and later on a busy machine.
            made = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
            while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) == made:
                time.sleep(0.001)
            data.extend(line)
            if number % 4 == 3:
                tailer.until(lambda: len(tailer.read()) == len(data))

    rotations(0, 200)
    descriptors, memory = tailer.descriptors, tailer.memory
    rotations(200, 1200)
    tailer.until(lambda: tailer.metric("follow_files", output="stdout") < 100)
    tailer.until(lambda: tailer.descriptors <= descriptors)
    assert tailer.read() == data
    assert tailer.memory < memory + 1.5
    assert tailer.metric("follow_rotations_total", output="stdout") > 300  # those that were seen as they happened
    assert tailer.metric("follow_lost_bytes_total", output="stdout") == 0


def test_many_files_take_few_descriptors_and_little_memory(tail, logs):
    for number in range(3000):
        (logs / f"{number}.log").write_bytes(b"%04d\n" % number)
    tailer = tail(logs / "*.log")
    tailer.until(lambda: tailer.out.stat().st_size == 5 * 3000)
    assert sorted(tailer.read().splitlines()) == [b"%04d" % number for number in range(3000)]
    assert tailer.descriptors < 600
    assert tailer.memory < 48
    # A file that was closed meanwhile goes on where it was.
    with open(logs / "7.log", "ab") as file:
        file.write(b"more\n")
    tailer.until(lambda: tailer.read().endswith(b"more\n"))
    assert len(tailer.drained()) == 5 * 3001


def test_a_deleted_file_is_read_to_its_end_and_then_let_go(tail, logs):
    data = b"line\n" * 2_000_000
    (logs / "a.log").write_bytes(data)
    tailer = tail("--rotate-wait=100ms", "--rate-limit=20MB", logs / "a.log")
    (logs / "a.log").unlink()
    tailer.until(lambda: tailer.out.stat().st_size == len(data))
    tailer.until(lambda: not any(os.readlink(link).endswith("(deleted)") for link in links(tailer)))
    assert tailer.metric("follow_lost_bytes_total", output="stdout") == 0


def links(tailer: Tailer) -> list[Path]:
    return [path for path in Path(f"/proc/{tailer.pid}/fd").iterdir() if path.is_symlink()]


def test_what_was_gone_before_it_could_be_read_is_counted(tail, logs):
    """copytruncate without a copy: nothing could have saved these bytes, and the operator is to know."""
    (logs / "a.log").write_bytes(b"x" * 999_999 + b"\n")
    tailer = tail("--rate-limit=100kB", "--grace=100ms", logs / "a.log")
    tailer.until(lambda: tailer.out.stat().st_size)
    (logs / "a.log").write_bytes(b"")
    tailer.until(lambda: tailer.metric("follow_lost_bytes_total", output="stdout") > 0)
    lost = tailer.metric("follow_lost_bytes_total", output="stdout")
    assert 0 < lost < 1_000_000
    assert tailer.metric("follow_truncations_total", output="stdout") == 1


# What is said of it


def test_status_and_metrics_say_how_far_each_file_is(tail, logs):
    (logs / "a.log").write_bytes(b"one\ntwo")
    tailer = tail(logs / "a.log")
    tailer.until_written(b"one\n")
    tailer.until(lambda: tailer.metric("tailer_delivered_bytes_total", output="stdout") == 4)
    assert tailer.metric("follow_read_bytes_total", output="stdout") == 4
    assert tailer.metric("follow_lag_bytes", output="stdout") == 3
    assert tailer.metric("follow_files", output="stdout") == 1
    assert tailer.metric("follow_open_files", output="stdout") == 1
    assert tailer.metric("tailer_delivered_batches_total", output="stdout") == 1
    assert tailer.metric("follow_truncations_total", output="stdout") == 0
    assert tailer.metric("sidecar_ready") == 1
    [row] = status(tailer)["tables"]["files"]
    inode = (logs / "a.log").stat().st_ino
    assert row == {
        "output": "stdout",
        "path": str(logs / "a.log"),
        "state": "followed",
        "size_bytes": 7,
        "delivered_bytes": 4,
        "lag_bytes": 3,
        "inode": inode,
    }
    assert status(tailer)["numbers"] == {"delivered_bytes_total": 4, "lag_bytes": 3, "paths": 1}
    with open(logs / "a.log", "ab") as file:
        file.write(b"\n")
    tailer.until(lambda: tailer.metric("follow_lag_bytes", output="stdout") == 0)
    assert tailer.metric("oldest_undelivered_seconds") == 0
    (logs / "a.log").write_bytes(b"")
    tailer.until(lambda: tailer.metric("follow_truncations_total", output="stdout") == 1)


def status(tailer: Tailer) -> dict[str, dict[str, object]]:
    code, text = tailer.ask("/status")
    assert code == 200
    return json.loads(text)


@pytest.mark.parametrize(
    "name", ["follow_lost_bytes_total", "follow_checkpoint_errors_total", "follow_hole_bytes_total"]
)
def test_what_has_not_happened_is_0_and_not_absent(tail, logs, name):
    """An alert on a series that does not exist never fires."""
    _, text = tail(logs / "*.log").ask("/metrics")
    assert f'\n{name}{{output="stdout"}} 0.0' in text
