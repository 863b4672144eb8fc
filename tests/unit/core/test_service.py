"""The lifecycle, against the real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.core.running import Running, free_port

QUIT = {"X-Sidecars": "1"}
as_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT PROVEN HERE: needs root to make namespaces and mounts")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_for_the_drain_and_a_clean_one_exits_0(number: signal.Signals) -> None:
    with Running() as life:
        life.wait_for("running")
        life.send(number)
        assert life.ended()[0] == 0
        assert life.wait_for("draining")["reason"] == number.name
        life.wait_for("done")


def test_a_service_that_ends_by_itself_exits_0() -> None:
    with Running("--work", "end") as life:
        assert life.wait() == 0


def test_what_is_undelivered_at_the_end_makes_exit_1_and_the_termination_message(tmp_path: Path) -> None:
    left = "812 bytes of /logs/a.log not delivered to stdout"
    with Running("--left", left, termination_log=str(tmp_path / "message")) as life:
        life.wait_for("running")
        life.send(signal.SIGTERM)
        assert life.ended()[0] == 1
        assert life.wait_for("failed")["reason"] == left
        assert (tmp_path / "message").read_text() == left


def test_a_termination_message_replaces_an_older_one_and_keeps_to_1_kib(tmp_path: Path) -> None:
    message = tmp_path / "message"
    message.write_text("x" * 5000)
    with Running("--work", "bug", termination_log=str(message)) as life:
        assert life.wait() == 1
    assert message.read_text() == "ZeroDivisionError: é" + "x" * 1003
    assert len(message.read_bytes()) == 1024


def test_a_clean_end_leaves_the_termination_message_alone(tmp_path: Path) -> None:
    with Running("--work", "end", termination_log=str(tmp_path / "message")) as life:
        assert life.wait() == 0
    assert not (tmp_path / "message").exists()


def test_a_termination_message_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    with Running("--work", "transient", termination_log=str(tmp_path / "absent" / "message")) as life:
        code, events = life.ended()
    assert code == 1
    assert [each["event"] for each in events if each["level"] in ("warning", "error")] == ["failed"]


def test_a_second_signal_stops_at_once() -> None:
    with Running("--work", "linger", "--grace", "1h") as life:
        life.wait_for("running")
        life.send(signal.SIGTERM)
        life.wait_for("draining")
        life.send(signal.SIGTERM)
        assert life.wait(5) == 0
        assert life.wait_for("stopping")["reason"] == "SIGTERM again"


def test_the_deadline_stops_a_drain_that_does_not_end() -> None:
    with Running("--work", "linger", "--grace", "200ms", "--left", "all of it") as life:
        life.wait_for("running")
        life.send(signal.SIGTERM)
        assert life.wait(5) == 1
        assert life.wait_for("stopping")["reason"] == "the grace is spent"


def test_a_service_that_ignores_its_cancellation_is_left_behind() -> None:
    with Running("--work", "cling", "--grace", "0s") as life:
        life.wait_for("running")
        life.send(signal.SIGTERM)
        assert life.wait(5) == 0
        life.wait_for("service does not let go")


def test_a_thread_blocked_in_write_does_not_hold_back_the_exit() -> None:
    with Running("--work", "block_in_write", "--grace", "0s", "--left", "6 MB", stdout=subprocess.PIPE) as life:
        life.wait_for("running")
        assert life.process.stdout and os.read(life.process.stdout.fileno(), 1)  # It writes, and now nobody reads.
        assert life.ask("/livez")[0] == 200
        life.send(signal.SIGTERM)
        assert life.wait(5) == 1


def test_remaining_counts_down_from_the_grace_once_the_drain_is_asked() -> None:
    with Running("--work", "remaining", "--grace", "30s") as life:
        assert life.wait_for("before")["remaining"] == "inf"
        life.send(signal.SIGTERM)
        assert 25 < life.wait_for("after")["remaining"] <= 30


def test_sighup_is_survived_and_explained() -> None:
    with Running() as life:
        life.wait_for("running")
        life.send(signal.SIGHUP)
        life.wait_for("SIGHUP ignored")
        assert life.ask("/readyz")[0] == 200


def test_a_file_that_appears_asks_for_the_drain(tmp_path: Path) -> None:
    tombstone = tmp_path / "main-ended"
    with Running("--exit-on-file", str(tombstone)) as life:
        life.wait_for("running")
        tombstone.touch()
        assert life.wait(5) == 0
        assert life.wait_for("draining")["reason"] == f"{tombstone} exists"


def test_quitquitquit_drains_and_exits_0() -> None:
    with Running("--admin-post", "--once") as life:
        life.wait_for("running")
        assert life.ask("/quitquitquit", "POST", QUIT) == (200, "draining\n")
        assert life.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_one_shot_command_ended_by_a_signal_exits_128_plus_its_number(number: signal.Signals, tmp_path: Path) -> None:
    with Running("--once", "--left", "half of it", termination_log=str(tmp_path / "message")) as life:
        life.wait_for("running")
        life.send(number)
        assert life.wait(5) == 128 + number
    assert (tmp_path / "message").read_text() == f"ended by {number.name}; half of it"


def test_a_one_shot_command_that_is_done_exits_0() -> None:
    with Running("--once", "--work", "end") as life:
        assert life.wait() == 0


def test_an_error_of_ours_gives_its_exit_code_and_its_words_without_the_secret(tmp_path: Path) -> None:
    with Running("--work", "impossible", termination_log=str(tmp_path / "message")) as life:
        code, events = life.ended()
    said = "--repo is 'https://***@git/', which has no branch 'x'; choose another --ref"
    assert code == 125
    assert (events[-1]["event"], events[-1]["reason"]) == ("failed", said)
    assert (tmp_path / "message").read_text() == said
    assert not any("crashed" in line or "hunter2" in line for line in life.lines)


def test_what_stood_for_a_variable_in_the_config_file_is_shown_nowhere(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text('work: told\nleft: "12 bytes for ${TOKEN} from ${POD_NAME}"\n')
    environ = {"TOKEN": "hunter2", "POD_NAME": "web-0"}
    message = tmp_path / "message"
    with Running("--config", str(config), environ=environ, termination_log=str(message)) as life:
        life.wait_for("told")
        shown = [life.ask(path)[1] for path in ("/status", "/healthz")]
        life.send(signal.SIGTERM)
        assert life.ended()[0] == 1
    assert message.read_text() == "12 bytes for ${TOKEN} from web-0"
    assert all("${TOKEN}" in text and "web-0" in text for text in shown)
    assert not [text for text in [*shown, *life.lines] if "hunter2" in text]


def test_a_bug_shows_its_traceback_as_one_event_and_exits_1() -> None:
    with Running("--work", "bug") as life:
        code, events = life.ended()
    crash = next(each for each in events if each["event"] == "crashed")
    assert code == 1
    assert "raise ZeroDivisionError" in crash["exception"]
    assert all(line.startswith("{") for line in life.lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--grce", "5"], "--grce is unknown"),
        (["--grace", "soon"], "--grace is 'soon'"),
        (["--work", "unbuilt"], "--work is 'unbuilt', expected something to do; give another"),
    ],
)
def test_wrong_settings_are_said_in_plain_text_and_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    message = tmp_path / "message"
    with Running(*arguments, f"--termination-log={message}") as life:
        assert life.ended()[0] == 2
    assert life.lines[0].startswith(f"lifecycle: {said}")
    assert message.read_text().startswith(said)


def test_a_variable_that_no_setting_has_is_logged() -> None:
    with Running("--work", "end", environ={"LIFE_GRCE": "1"}) as life:
        assert "LIFE_GRCE" in life.wait_for("setting ignored")["reason"]


def test_a_thread_that_crashes_is_an_event() -> None:
    with Running("--work", "crash_a_thread") as life:
        assert "ZeroDivisionError" in life.wait_for("thread crashed")["exception"]


@as_root
def test_a_signal_that_comes_to_pid_1_before_any_handler_is_not_lost(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with Running(under=["unshare", "--pid", "--fork", "--kill-child"], environ={"GATE": str(gate)}) as life:
        with open(gate, "w"):  # Opens when the program has begun its imports.
            [pid] = Path(f"/proc/{life.pid}/task/{life.pid}/children").read_text().split()
            os.kill(int(pid), signal.SIGTERM)
        assert life.ended()[0] == 0
        assert life.wait_for("draining")["reason"] == "SIGTERM"


# The state directory


def test_without_a_state_directory_state_is_in_memory_and_said_once() -> None:
    if os.path.isdir("/state"):
        pytest.skip("NOT PROVEN HERE: this machine has a /state")
    with Running("--work", "end") as life:
        _, events = life.ended()
    assert [each["event"] for each in events].count("state is in memory") == 1
    assert life.wait_for("running")["state_dir"] is None


def test_state_dir_off_never_looks_for_one() -> None:
    with Running("--work", "end", "--state-dir", "off") as life:
        _, events = life.ended()
    assert "state is in memory" not in [each["event"] for each in events]


def test_a_given_state_directory_is_made_and_held(tmp_path: Path) -> None:
    with Running("--work", "end", "--state-dir", str(tmp_path / "a" / "b")) as life:
        assert life.ended()[0] == 0
    assert life.wait_for("running")["state_dir"] == str(tmp_path / "a" / "b")


def test_a_given_state_directory_that_cannot_be_is_exit_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Running("--state-dir", str(tmp_path / "file" / "state")) as life:
        code, events = life.ended()
    assert code == 2
    assert events[-1]["reason"] == (
        f"--state-dir {tmp_path}/file/state cannot be used: Not a directory; "
        "give a writable directory, or off for memory"
    )


@as_root
def test_a_given_state_directory_on_a_read_only_disk_is_exit_2(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], check=True)
    try:
        with Running("--state-dir", str(tmp_path)) as life:
            assert life.ended()[0] == 2
        assert life.wait_for("failed")["reason"].startswith(
            f"--state-dir {tmp_path} cannot be used: Read-only file system;"
        )
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@as_root
@pytest.mark.parametrize(("options", "held"), [("rw", "/state"), ("ro", None)])
def test_the_default_state_directory_is_held_if_it_is_writable(options: str, held: str | None, tmp_path: Path) -> None:
    """In a root of its own: a /state on this machine would be every other test's as well."""
    for name in ("upper", "work", "root"):
        (tmp_path / name).mkdir()
    layers = f"lowerdir=/,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    script = f"""
        mount -t tmpfs tmpfs {tmp_path} && mkdir {tmp_path}/upper {tmp_path}/work {tmp_path}/root &&
        mount -t overlay overlay -o {layers} {tmp_path}/root && mkdir {tmp_path}/root/state &&
        mount -t tmpfs -o {options} tmpfs {tmp_path}/root/state && mount --rbind /proc {tmp_path}/root/proc &&
        mount --rbind /dev {tmp_path}/root/dev && exec chroot {tmp_path}/root "$@"
    """
    with Running("--work", "end", under=["unshare", "--mount", "sh", "-c", script, "sh"], cwd="/") as life:
        assert life.ended()[0] == 0, life.lines
        assert life.wait_for("running")["state_dir"] == held


def test_a_second_process_on_a_state_directory_waits_unready_and_takes_over(tmp_path: Path) -> None:
    reason = f"state directory {tmp_path} is locked by another process"
    with Running("--state-dir", str(tmp_path)) as first:
        first.wait_for("running")
        with Running("--state-dir", str(tmp_path)) as second:
            assert second.wait_for("waiting for the state directory")["reason"] == reason
            assert second.ask("/readyz") == (503, reason + "\n")
            assert second.ask("/startupz") == (503, reason + "\n")
            assert second.ask("/livez")[0] == 200
            assert not second.find("running")
            first.send(signal.SIGKILL)
            second.wait_for("running")
            assert second.ask("/startupz")[0] == 200


def test_a_signal_ends_the_wait_for_a_state_directory_with_0(tmp_path: Path) -> None:
    state = ["--state-dir", str(tmp_path)]
    with Running(*state) as first:
        first.wait_for("running")
        with Running(*state, "--left", "not begun") as second:
            second.wait_for("waiting for the state directory")
            second.send(signal.SIGTERM)
            assert second.wait(5) == 0


# stderr


def test_it_lives_on_without_a_stderr() -> None:
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    with Running("--work", "end", "--left", "a bit", under=closed, stderr=None) as life:
        assert life.wait() == 1


def test_a_stderr_that_nobody_reads_blocks_neither_the_loop_nor_the_exit() -> None:
    reader, writer = os.pipe()
    arguments = ["--work", "shout", "--left", "a bit", "--admin", f"127.0.0.1:{free_port()}"]
    with os.fdopen(reader), os.fdopen(writer), Running(*arguments, stderr=writer) as life:
        life.wait_until_ready()
        assert life.ask("/livez", patience=5)[0] == 200
        life.send(signal.SIGTERM)
        assert life.wait(10) == 1


def test_the_modules_that_a_start_imports_are_few() -> None:
    """Each costs time and memory in every pod. `rich` and `colorama` belong to no image; tests have them by chance."""
    absent = "import sys; sys.modules['rich'] = sys.modules['colorama'] = None"
    listed = f"{absent}; import sidecars.core.service; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", listed], text=True).split()
    heavy = {"aiohttp", "boto3", "yaml", "tomllib", "watchdog", "ctypes", "multiprocessing", "stamina"}
    assert not heavy & set(modules)
    assert len(modules) < 320
