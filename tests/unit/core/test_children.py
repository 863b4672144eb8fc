"""The tiny parent: a real PID 1 in a namespace of its own."""

from __future__ import annotations

import os
import pty
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.core.running import Running

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="NOT PROVEN HERE: needs root to be PID 1")

AS_PID_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def run(*arguments: str, **how: Any) -> Running:
    return Running(*arguments, environ={"CHILDREN": "1"}, **{"under": AS_PID_1, **how})


def parent_of(life: Running) -> psutil.Process:
    """PID 1 of the namespace, as seen from here."""
    [pid] = Path(f"/proc/{life.pid}/task/{life.pid}/children").read_text().split()
    return psutil.Process(int(pid))


def worker_of(life: Running) -> psutil.Process:
    [worker] = psutil.Process(life.pid).children(recursive=True)[-1:]
    return worker


def test_orphans_are_reaped_and_the_worker_gets_its_own_childrens_exit_codes() -> None:
    with run("--work", "raise_children") as life:
        ended = life.wait_for("children ended")
        assert ended["codes"] == list(range(20))
        assert (ended["parent"], ended["pid"] > 1) == (1, True)
        parent = parent_of(life)
        deadline = time.monotonic() + 10
        while len(left := parent.children(recursive=True)) > 1:
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
        assert [each.status() for each in left] == [psutil.STATUS_SLEEPING]  # the worker alone


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_signal_reaches_the_worker_once_and_its_exit_code_comes_back(number: signal.Signals, code: int) -> None:
    with run() as life:
        life.wait_for("running")
        parent_of(life).send_signal(number)
        found, events = life.ended()
    assert found == code
    assert [each["event"] for each in events].count("draining") == 1
    assert "stopping" not in [each["event"] for each in events]


def test_ctrl_c_in_a_terminal_reaches_the_worker_once() -> None:
    """The terminal signals every process of its foreground group: parent and worker, were they in one."""
    ours, theirs = pty.openpty()
    with run("--work", "wait", stdin=theirs, under=["setsid", "--ctty", "--wait", *AS_PID_1]) as life:
        os.close(theirs)
        life.wait_for("running")
        assert worker_of(life).pid == os.getpgid(worker_of(life).pid)
        os.write(ours, b"\x03")
        code, events = life.ended()
    os.close(ours)
    assert code == 0
    assert [each["event"] for each in events if each["event"] in ("draining", "stopping")] == ["draining"]


def test_a_second_signal_is_passed_on_too() -> None:
    with run("--work", "linger") as life:
        life.wait_for("running")
        parent_of(life).send_signal(signal.SIGTERM)
        life.wait_for("draining")
        parent_of(life).send_signal(signal.SIGTERM)
        assert life.wait() == 0
        life.wait_for("stopping")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--work", "impossible"], 125),
        (["--work", "die"], 137),
        (["--nonsense"], 2),
        (["--left", "x", "--work", "end"], 1),
    ],
)
def test_the_parent_ends_as_the_worker_ends(arguments: list[str], code: int) -> None:
    with run(*arguments) as life:
        assert life.wait() == code


def test_other_signals_are_passed_on() -> None:
    with run() as life:
        life.wait_for("running")
        parent_of(life).send_signal(signal.SIGHUP)
        life.wait_for("SIGHUP ignored")


def test_the_parent_is_tiny() -> None:
    with run() as life:
        life.wait_for("running")
        parent = parent_of(life)
        [worker] = parent.children()
        assert parent.memory_info().rss < 16 * 1024 * 1024
        assert parent.memory_info().rss < worker.memory_info().rss * 0.6
        assert parent.num_threads() == 1


def test_without_children_pid_1_is_the_program_itself() -> None:
    with Running("--work", "raise_children", under=AS_PID_1) as life:
        assert life.wait_for("children ended")["pid"] == 1


def test_below_another_parent_there_is_none_of_ours() -> None:
    with Running("--work", "raise_children", environ={"CHILDREN": "1"}) as life:
        assert life.wait_for("children ended")["pid"] == life.pid
