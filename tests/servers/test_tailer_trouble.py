"""Paths that cannot be read, are something else, are not there yet, or cannot be watched: said, and never the end."""

from __future__ import annotations

import os
import shutil
import socket

import pytest

from tests.servers.process import UNPRIVILEGED, as_root


@as_root
def test_a_file_that_may_not_be_read_is_said_and_read_once_it_may(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    (logs / "secret.log").write_bytes(b"secret\n")
    (logs / "secret.log").chmod(0)
    tailer = tail("--poll-interval=100ms", logs / "*.log", under=UNPRIVILEGED)
    tailer.until_written(b"one\n")
    said = tailer.wait_for("cannot read")
    assert (said["path"], said["error"]) == (str(logs / "secret.log"), "Permission denied")
    assert "group" in said["advice"]
    tailer.until(lambda: tailer.ask("/healthz") == (503, f"files: cannot read {logs}/secret.log\n"))
    assert tailer.metric("follow_unreadable_files", output="stdout") == 1
    assert tailer.ask("/readyz")[0] == 200
    (logs / "secret.log").chmod(0o644)
    tailer.until_written(b"one\nsecret\n")
    tailer.until(lambda: tailer.ask("/healthz")[0] == 200)
    assert len(tailer.said("cannot read")) == 1


@as_root
def test_a_directory_that_may_not_be_read_is_said(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    logs.chmod(0)
    tailer = tail("--poll-interval=100ms", logs / "a.log", under=UNPRIVILEGED)
    assert tailer.wait_for("cannot read")["path"] == str(logs / "a.log")
    logs.chmod(0o755)
    tailer.until_written(b"one\n")


def test_a_fifo_a_socket_and_a_device_are_said_and_block_nothing(tail, logs):
    os.mkfifo(logs / "fifo.log")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{logs}/socket.log")
        (logs / "zero.log").symlink_to("/dev/zero")
        (logs / "a.log").write_bytes(b"line\n")
        tailer = tail(logs / "*.log")
        tailer.until_written(b"line\n")
    said = {(row["path"], row["error"]) for row in tailer.said("cannot read")}
    assert said == {(f"{logs}/{name}.log", "it is not a regular file") for name in ("fifo", "socket", "zero")}
    assert tailer.drained() == b"line\n"


def test_a_path_that_is_a_directory_means_the_files_in_it(tail, logs):
    (logs / "a.txt").write_bytes(b"one\n")
    (logs / "below").mkdir()
    (logs / "below" / "b.txt").write_bytes(b"below\n")
    (logs / ".hidden").write_bytes(b"hidden\n")
    tailer = tail(logs)
    tailer.until_written(b"one\n")
    (logs / "later").write_bytes(b"two\n")
    tailer.until_written(b"one\ntwo\n")
    assert not tailer.said("cannot read")


def test_a_directory_that_takes_a_files_place_is_waited_out(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--poll-interval=100ms", logs / "a.log")
    tailer.until_written(b"one\n")
    (logs / "a.log").unlink()
    (logs / "a.log").mkdir()
    (logs / "a.log").rmdir()
    (logs / "a.log").write_bytes(b"two\n")
    tailer.until_written(b"one\ntwo\n")


def test_a_glob_that_matches_nothing_waits(tail, logs):
    tailer = tail(logs / "*.log")
    assert tailer.find("watching")["paths"] == 0
    assert tailer.ask("/readyz")[0] == 200
    (logs / "a.log").write_bytes(b"line\n")
    tailer.until_written(b"line\n")


@pytest.mark.parametrize("pattern", ["deep/er/a.log", "deep/er/*.log", "*/er/*.log", "deep", "**/*.log"])
def test_a_directory_that_does_not_exist_yet_is_waited_for(tail, tmp_path, pattern):
    if pattern == "deep":
        (tmp_path / "root").mkdir()
    tailer = tail("--poll-interval=100ms", tmp_path / "root" / pattern)
    target = tmp_path / "root" / ("deep" if pattern == "deep" else "deep/er")
    target.mkdir(parents=True)
    (target / "a.log").write_bytes(b"line\n")
    tailer.until_written(b"line\n")
    with open(target / "a.log", "ab") as file:
        file.write(b"next\n")
    tailer.until_written(b"line\nnext\n")


def test_a_directory_that_is_removed_comes_back(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--poll-interval=100ms", logs / "*.log")
    tailer.until_written(b"one\n")
    shutil.rmtree(logs)
    logs.mkdir()
    (logs / "a.log").write_bytes(b"two\n")
    tailer.until_written(b"one\ntwo\n")
    with open(logs / "a.log", "ab") as file:
        file.write(b"three\n")
    tailer.until_written(b"one\ntwo\nthree\n")


def test_a_directory_that_is_exchanged_by_a_symlink_is_followed(tail, tmp_path):
    for number in (1, 2):
        (tmp_path / f"release{number}").mkdir()
    (tmp_path / "logs").symlink_to("release1")
    (tmp_path / "logs" / "a.log").write_bytes(b"one\n")
    tailer = tail("--poll-interval=100ms", tmp_path / "logs" / "a.log")
    tailer.until_written(b"one\n")
    (tmp_path / "release2" / "a.log").write_bytes(b"two\n")
    (tmp_path / "new").symlink_to("release2")
    (tmp_path / "new").rename(tmp_path / "logs")
    tailer.until_written(b"one\ntwo\n")


# inotify


@as_root
@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_without_inotify_it_polls_says_so_and_loses_nothing(start, logs, limit):
    """In a user namespace, whose limits are its own: no other process on this machine is short of anything."""
    (logs / "a.log").write_bytes(b"one\n")
    script = f'echo 0 > /proc/sys/user/{limit} && exec "$@"'
    under = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    tailer = start("--poll-interval=50ms", logs / "a.log", logs / "*.log", under=under).watching()
    data = b"one\n"
    for number in range(30):
        tailer.until_written(data)
        line = b"generation %d\n" % number
        with open(logs / "a.log", "ab") as file:
            file.write(line)
        (logs / "a.log").rename(logs / f"a.log.{number}")
        (logs / "a.log").touch()
        data += line
    tailer.until_written(data)
    assert tailer.metric("follow_polling", output="stdout") == 1
    assert len([event for event in tailer.events() if "polling instead" in event["event"]]) == 1
    assert tailer.drained() == data


def test_polling_is_taken_when_asked_for_and_needs_no_warning(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    tailer = tail("--watch=poll", "--poll-interval=50ms", logs / "*.log")
    tailer.until_written(b"one\n")
    (logs / "b.log").write_bytes(b"two\n")
    tailer.until_written(b"one\ntwo\n")
    assert tailer.metric("follow_polling", output="stdout") == 1
    assert not [event for event in tailer.events() if event["level"] == "warning"]


def test_with_inotify_it_does_not_poll(tail, logs):
    assert tail(logs / "*.log").metric("follow_polling", output="stdout") == 0
