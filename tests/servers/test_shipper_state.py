"""What s3-shipper remembers over its own end, and what it does when that is damaged, full or gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecars.shipper.points import Point
from tests.servers.process import as_root
from tests.servers.shipping import append, numbered

INDEX = "%{path}%{index}.%{file_extension}"
FULL = "cannot write to the state volume; nothing is read until it can be"
NOT_ALLOWED = "upload refused; it is tried again until it is allowed"


# Crashes

POINTS = typing.get_args(Point)
# At the start, when there are no lines yet, the process gets there for the first time.
COUNTS = {"chunks synced": 2, "ledger committed": 2}
# Only a chunk of many small members gets there.
REWRITING = ("chunk made whole", "whole recorded")
# Only from here on it makes a difference what the keys are like.
KEYED = ("key recorded", "object stored", "chunk forgotten", "file removed")
CRASHES = [*((point, INDEX if point in KEYED else "") for point in POINTS), ("object stored", "")]


@pytest.mark.parametrize(("point", "key"), CRASHES, ids=lambda value: "index" if value == INDEX else value or "id")
def test_after_a_crash_at_any_point_each_line_is_there_once(shipper, ship, logs, stored, state, point, key):
    """The lines are all the same: nothing but their number tells whether one is missing, or there twice."""
    path, lines = logs / "a.log", 1000
    append(path, b"same\n" * 1000)
    options = ("--slice=0", *([f"--key-format={key}"] if key else []), path)
    if point in REWRITING:
        earlier = ship(*options)
        earlier.until_kept(1000)
        earlier.killed()
        append(path, b"same\n" * 1000)
        lines += 1000
    assert shipper("--once", *options, crash_at=(point, COUNTS.get(point, 1))).wait() == -signal.SIGKILL
    path.rename(logs / "a.log.1")
    append(path, b"same\n" * 1000)
    shipper("--once", *options).done()
    assert b"".join(stored.objects.values()) == b"same\n" * (lines + 1000)
    assert os.listdir(state / "chunks") == []


def test_after_a_kill_at_any_time_each_line_is_there_once_while_files_rotate(ship, logs, stored):
    path, lines = logs / "a.log", numbered(5000)
    path.touch()
    options = ("--slice=1s", "--rotate-wait=100ms", path)
    for generation in range(5):
        shipper = ship(*options)
        for part in range(10):
            first = generation * 1000 + part * 100
            append(path, b"".join(lines[first : first + 100]))
            if part == generation:
                path.rename(logs / f"a.log.{generation}")
                path.touch()
        if generation % 2:
            shipper.until(lambda shipper=shipper: shipper.metric("follow_lag_bytes") == 0)
        shipper.killed()
    ship(*options).drained()
    assert stored.lines == lines


# The state directory


def test_a_ledger_that_cannot_be_read_is_set_aside_and_said_and_all_is_shipped_again(shipper, logs, stored, state):
    append(logs / "a.log", b"one\n")
    shipper("--once", logs / "a.log").done()
    with open(state / "ledger.sqlite3", "r+b") as file:
        file.write(b"no database at all" * 100)
    append(logs / "a.log", b"two\n")
    again = shipper("--once", "--from=end", logs / "a.log")
    events = again.done()
    [said] = [event for event in events if event["event"].startswith("ledger cannot be read")]
    assert said["level"] == "error"
    assert (Path(said["set_aside"]) / "ledger.sqlite3").read_bytes().startswith(b"no database")
    assert stored.lines == [b"one\n", b"one\n", b"two\n"]
    shipper("--once", logs / "a.log").done()
    assert len(stored.keys) == 2


def test_a_state_directory_that_is_lost_between_two_runs_makes_a_first_start(shipper, logs, stored, state):
    append(logs / "a.log", b"one\n")
    shipper("--once", logs / "a.log").done()
    shutil.rmtree(state)
    shipper("--once", logs / "a.log").done()
    assert stored.lines == [b"one\n", b"one\n"]


def test_a_state_directory_that_is_lost_while_it_runs_is_said_and_no_line_is_lost(ship, logs, stored, state):
    append(logs / "a.log", b"one\n")
    shipper = ship("--chunk-age=100ms", logs / "a.log")
    shipper.until(lambda: stored.lines == [b"one\n"])
    shutil.rmtree(state)
    append(logs / "a.log", b"two\n")
    shipper.until(lambda: shipper.ask("/healthz")[0] == 503)
    assert "state" in shipper.ask("/healthz")[1]
    assert shipper.ask("/livez")[0] == 200
    shipper.killed()
    ship(logs / "a.log").drained()
    assert stored.lines == [b"one\n", b"one\n", b"two\n"]


def test_a_chunk_that_somebody_removed_is_said_and_the_others_are_shipped(shipper, ship, logs, stored, state, proxy):
    proxy.fault("refuse", code="AccessDenied")
    for name in ("a", "b"):
        append(logs / f"{name}.log", name.encode() + b"\n")
    options = ("--tag=*", "--compress=none", f"--endpoint={proxy.endpoint}", logs / "*.log")
    shipper = ship(*options)
    shipper.until_kept(2)
    shipper.killed()
    removed = min((state / "chunks").iterdir(), key=lambda path: path.read_bytes())
    removed.unlink()
    proxy.recover()
    shipper = ship(*options)
    shipper.drained()
    [said] = shipper.said(
        "chunk is not on disk as it was recorded; did something remove files from the state directory?"
    )
    assert (said["path"], said["lines"]) == (str(removed), 1)
    assert stored.lines == [b"b\n"]


def test_a_second_process_on_one_state_directory_waits_and_takes_over(shipper, ship, logs, stored, state):
    append(logs / "a.log", b"one\n")
    first = ship(logs / "a.log")
    first.until_kept(1)
    second = shipper(logs / "a.log")
    reason = second.wait_for("waiting for the state directory")["reason"]
    assert reason == f"state directory {state} is locked by another process"
    assert second.ask("/startupz") == (503, reason + "\n")
    first.killed()
    second.watching()
    second.drained()
    assert stored.lines == [b"one\n"]


def test_what_was_collected_with_another_compression_is_shipped_as_it_was_begun(ship, logs, stored):
    append(logs / "a.log", b"one\n")
    shipper = ship("--slice=0", logs / "a.log")
    shipper.until_kept(1)
    shipper.killed()
    append(logs / "a.log", b"two\n")
    ship("--slice=0", "--compress=zstd", logs / "a.log").drained()
    assert sorted((key.rpartition(".")[2], data) for key, data in stored.objects.items()) == [
        ("gz", b"one\n"),
        ("zst", b"two\n"),
    ]


def test_what_waits_for_an_output_that_is_no_longer_set_goes_to_another_and_that_is_said(ship, logs, stored, tmp_path):
    append(logs / "a.log", b"line\n")
    config = tmp_path / "shipper.yaml"
    config.write_text(f"sources:\n- paths: [{logs}/a.log]\n  prefix: old/\n")
    shipper = ship("--config", config)
    shipper.until_kept(1)
    shipper.killed()
    shipper = ship("--prefix=new/", logs / "a.log")
    shipper.drained()
    assert shipper.said("chunk of an output that is no longer set goes to another")
    [(key, data)] = stored.objects.items()
    assert (key[:4], data) == ("new/", b"line\n")


# The volume


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a disk of 48 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(directory: Path) -> None:
    with open(directory / "fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            pass


@as_root
def test_a_full_state_volume_is_said_and_waited_for_and_each_line_is_there_once(ship, logs, stored, small):
    path, lines = logs / "a.log", numbered(2000)
    append(path, b"".join(lines[:1000]))
    shipper = ship("--compress=none", path, state=small)
    shipper.until_kept(1000)
    fill(small)
    append(path, b"".join(lines[1000:]))
    said = shipper.wait_for(FULL)
    assert said["level"] == "error"
    code, reason = shipper.ask("/healthz")
    assert code == 503
    assert reason.startswith("state: cannot write to the state volume: ")
    (small / "fill").unlink()
    shipper.wait_for("state volume can be written again")
    shipper.until(lambda: shipper.ask("/healthz")[0] == 200)
    shipper.until_kept(2000)
    shipper.killed()
    ship("--compress=none", path, state=small).drained()
    assert stored.lines == lines


@as_root
def test_a_volume_that_chunks_have_filled_empties_itself_once_s3_takes_them(ship, logs, stored, small, proxy):
    lines = [b"%06d %s\n" % (number, b"x" * 200) for number in range(300_000)]
    (logs / "a.log").write_bytes(b"".join(lines))
    proxy.fault("refuse", code="AccessDenied")
    options = ("--backlog-limit=100%", "--chunk-size=4MiB", "--compress=none", f"--endpoint={proxy.endpoint}")
    shipper = ship(*options, logs / "a.log", state=small)
    shipper.wait_for(FULL)
    shipper.wait_for(NOT_ALLOWED)
    assert shipper.metric("follow_lag_bytes") > 1 << 20
    proxy.recover()
    shipper.until(lambda: shipper.metric("follow_lag_bytes") == 0)
    shipper.drained()
    assert stored.lines == lines


@as_root
def test_logs_on_a_volume_that_is_mounted_anew_with_another_device_number_are_read_on(ship, stored, tmp_path):
    for name in ("disk", "logs", "other"):
        (tmp_path / name).mkdir()
    layers = ",".join(f"{name}dir={tmp_path}/disk/{name}" for name in ("lower", "upper", "work"))
    mounted: list[Path] = []

    def mount(*options: str, at: Path) -> None:
        subprocess.run(["mount", *options, at], check=True)
        mounted.append(at)

    def umount() -> None:
        subprocess.run(["umount", mounted.pop()], check=True)

    path = tmp_path / "logs" / "a.log"
    try:
        mount("-t", "tmpfs", "tmpfs", at=tmp_path / "disk")
        for name in ("lower", "upper", "work"):
            (tmp_path / "disk" / name).mkdir()
        mount("-t", "overlay", "-o", layers, "overlay", at=tmp_path / "logs")
        append(path, b"one\n")
        before = path.stat()
        ship(path).drained()
        umount()
        mount("-t", "tmpfs", "tmpfs", at=tmp_path / "other")  # takes the number
        mount("-t", "overlay", "-o", layers, "overlay", at=tmp_path / "logs")
        append(path, b"two\n")
        after = path.stat()
        assert after.st_ino == before.st_ino
        assert after.st_dev != before.st_dev
        ship(path).drained()
    finally:
        while mounted:
            umount()
    assert stored.lines == [b"one\n", b"two\n"]


def test_at_the_limit_of_the_backlog_reading_stops_and_goes_on_once_there_is_room(ship, logs, stored, proxy):
    lines = numbered(500_000)
    (logs / "a.log").write_bytes(b"".join(lines))
    proxy.fault("refuse", code="AccessDenied")
    options = ("--compress=none", "--chunk-size=1MiB", "--backlog-limit=2MiB", f"--endpoint={proxy.endpoint}")
    shipper = ship(*options, logs / "a.log")
    said = shipper.wait_for("backlog is full")
    reason = "the backlog has reached its limit of 2097152 bytes; nothing is read until some is uploaded"
    assert (said["level"], said["reason"]) == ("error", reason)
    shipper.wait_for(NOT_ALLOWED)
    code, text = shipper.ask("/healthz")
    assert code == 503
    assert text.startswith(f"backlog: {reason}\ns3: ")
    assert shipper.metric("shipper_backlog_full") == 1
    assert shipper.metric("shipper_backlog_bytes") < 4 << 20
    assert shipper.metric("follow_lag_bytes") > 1 << 20
    proxy.recover()
    shipper.wait_for("backlog is below its limit again")
    shipper.until(lambda: shipper.metric("follow_lag_bytes") == 0)
    assert shipper.metric("shipper_backlog_full") == 0
    shipper.drained()
    assert stored.lines == lines


# The bucket


def test_two_pods_with_one_prefix_and_an_index_take_an_index_each_though_their_lines_are_the_same(
    shipper, logs, stored, tmp_path
):
    for name in range(4):
        append(logs / f"{name}.log", b"same\n" * 100)
    options = ("--once", f"--key-format={INDEX}", "--prefix=p/", "--tag=*", logs / "*.log")
    pods = [shipper(*options, f"--state-dir={tmp_path}/state{pod}") for pod in range(2)]
    for pod in pods:
        pod.done()
    assert stored.objects == {f"p/{index}.log.gz": b"same\n" * 100 for index in range(8)}


def test_a_bucket_that_was_deleted_is_said_and_once_it_is_made_again_shipping_goes_on(ship, logs, stored):
    shipper = ship("--chunk-age=100ms", f"--key-format={INDEX}", logs / "a.log")
    append(logs / "a.log", b"one\n")
    shipper.until(lambda: stored.lines == [b"one\n"])
    client = stored.server.client()
    for object_key in stored.server.keys(stored.name):
        client.delete_object(Bucket=stored.name, Key=object_key)
    client.delete_bucket(Bucket=stored.name)
    append(logs / "a.log", b"two\n")
    said = shipper.wait_for(NOT_ALLOWED)
    assert "The specified bucket does not exist (NoSuchBucket); make the bucket" in said["error"]
    assert shipper.ask("/healthz")[0] == 503
    stored.server.make(stored.name)
    shipper.until(lambda: stored.lines == [b"two\n"])
    shipper.drained()
    assert stored.lines == [b"two\n"]
