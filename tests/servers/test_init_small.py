"""pod-init's small subcommands: mkdir, write, render, pause, quit; and its help."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sidecars.core.errors import SidecarError
from sidecars.core.settings import load
from sidecars.init import quitting, writing
from sidecars.init.quitting import DOORS
from tests.servers.initializing import AS_OTHER, COMMAND, PATIENCE, ROOT, Done, ended, init, start
from tests.servers.process import Tailer, as_root
from tests.unit.core.running import free_port

Init = Callable[..., Done]


@pytest.fixture(name="init")
def init_(tmp_path: Path) -> Init:
    return lambda *words, **options: init(tmp_path, *words, **options)


def refused(module: ModuleType, code: int, *words: str) -> str:
    """What a subcommand fails with, without a process."""
    with pytest.raises(SidecarError) as failed:
        module.run(load(module.Settings, prog="pod-init", prefix="INIT_", argv=words, environ={}))
    assert failed.value.exit_code == code
    return str(failed.value)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


# mkdir


def test_directories_are_made_with_a_mode_and_again_nothing_happens(init: Init, tmp_path: Path) -> None:
    words = ("mkdir", tmp_path / "a" / "b", tmp_path / "c", "--mode", "2770")
    assert init(*words).well().said("directory made")["mode"] == "2770"
    (tmp_path / "c" / "x").touch()
    assert init(*words).well().said("directory there")
    assert (mode(tmp_path / "a" / "b"), mode(tmp_path / "c"), os.listdir(tmp_path / "c")) == (0o2770, 0o2770, ["x"])


def test_the_group_of_the_volume_is_handed_down_whatever_the_mode(init: Init, tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    init("mkdir", tmp_path / "a", "--mode", "0750").well()
    assert mode(tmp_path / "a") == 0o2750


@as_root
def test_what_cannot_be_made_is_said_with_what_to_do(init: Init, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"cannot make the directory {tmp_path}/file/x: " in init("mkdir", tmp_path / "file" / "x").failed(1)
    done = init("mkdir", tmp_path / "x", under=AS_OTHER, env={"INIT_TERMINATION_LOG": "/dev/null"})
    assert done.code == 1
    assert "Permission denied; give the pod an fsGroup, or run as its owner" in done.said("failed")["reason"]
    assert "mkdir needs a DIR" in init("mkdir").failed(2)


# write


def test_a_value_is_written_whole_with_its_mode_and_only_when_it_is_another(init: Init, tmp_path: Path) -> None:
    out = tmp_path / "etc" / "key"
    words = ("write", out, "--from-env", "KEY", "--base64", "--mode", "0600")
    assert init(*words, env={"KEY": "c2Vj\ncmV0\n"}).well().said("written")["mode"] == "0600"
    assert (out.read_bytes(), mode(out)) == (b"secret", 0o600)
    inode = out.stat().st_ino
    done = init(*words, env={"KEY": "c2VjcmV0"}).well()
    assert done.said("unchanged") and out.stat().st_ino == inode
    assert "secret" not in done.stderr and "c2Vj" not in done.stderr


def test_text_and_files_are_written_as_they_are(init: Init, tmp_path: Path) -> None:
    init("write", tmp_path / "text", "--text", b"\xff'\"$HOME \\n", "--newline").well()
    assert (tmp_path / "text").read_bytes() == b"\xff'\"$HOME \\n\n" and mode(tmp_path / "text") == 0o640
    (tmp_path / "data").write_bytes(bytes(range(256)))
    (tmp_path / "link").symlink_to(tmp_path / "text")
    init("write", tmp_path / "link", "--from-file", tmp_path / "data").well()
    assert (tmp_path / "link").read_bytes() == bytes(range(256)) and not (tmp_path / "link").is_symlink()
    assert (tmp_path / "text").stat().st_size == 12


WRITES = [
    (["--text", "a", "--from-env", "B"], 2, "give one of --from-env, --from-file and --text"),
    (["--from-env", "NOT_SET_HERE"], 1, "--from-env NOT_SET_HERE is not set"),
    (["--from-file", "/nowhere"], 1, "--from-file /nowhere cannot be read: No such file or directory"),
    (["--from-env", "WRONG_BASE64", "--base64"], 1, "the value is not base64"),
]


@pytest.mark.parametrize(("words", "code", "reason"), WRITES)
def test_what_cannot_be_written_is_said_without_the_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], code: int, reason: str
) -> None:
    monkeypatch.setenv("WRONG_BASE64", "hunter2?")
    said = refused(writing, code, str(tmp_path / "out"), *words)
    assert reason in said and "hunter2" not in said
    assert not (tmp_path / "out").exists()


# render


def test_templates_get_variables_and_secrets(init: Init, tmp_path: Path) -> None:
    templates, secrets = tmp_path / "templates", tmp_path / "secrets"
    for folder in (templates / "..data", secrets):
        folder.mkdir(parents=True)
    (templates / "a.conf").write_bytes(b"host ${DB_HOST};\r\nuri $uri; key '${KEY}'; \xff\n")
    (templates / "b.conf").write_bytes(b"${DB_PORT:-5432} $PASSWORD")
    (secrets / "PASSWORD").write_text("hun'ter\n")
    (tmp_path / "key").write_text("k\n\n")
    words = ("render", f"{templates}:{tmp_path}/out", "--only", "DB_*", "--secrets", secrets, "--vars", "UNUSED",
             "--secret", f"KEY={tmp_path}/key")  # fmt: skip
    done = init(*words, env={"DB_HOST": "db"}).well()
    out = tmp_path / "out"
    assert sorted(os.listdir(out)) == ["a.conf", "b.conf"] and mode(out / "a.conf") == 0o640
    assert (out / "a.conf").read_bytes() == b"host db;\r\nuri $uri; key 'k\n'; \xff\n"
    assert (out / "b.conf").read_bytes() == b"5432 hun'ter"
    assert done.said("variable in no template")["name"] == "UNUSED"
    assert "hun'ter" not in done.stderr
    assert init(*words, env={"DB_HOST": "db"}).well().said("unchanged")


def test_a_file_can_be_its_own_template_or_go_into_a_directory(init: Init, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("$A")
    (tmp_path / "d").mkdir()
    words = ("render", f"{tmp_path}/t:{tmp_path}/t", f"{tmp_path}/t:{tmp_path}/d", "--vars", "A,B")
    init(*words, "--escape", "json", env={"A": '"'}).well()
    assert (tmp_path / "t").read_text() == (tmp_path / "d" / "t").read_text() == '\\"'


def test_nothing_is_written_when_one_variable_is_not_set(init: Init, tmp_path: Path) -> None:
    (tmp_path / "good").write_text("$A")
    (tmp_path / "bad").write_text("\n$B ${C}")
    reason = init("render", f"{tmp_path}/good:{tmp_path}/o1", f"{tmp_path}/bad:{tmp_path}/o2", "--vars", "A,B,C",
                  env={"A": "1"}).failed(1)  # fmt: skip
    assert f"{tmp_path}/bad needs variables that are not set: B in line 2, C in line 2" in reason
    assert not (tmp_path / "o1").exists()
    assert f"{tmp_path}/none cannot be read" in init("render", f"{tmp_path}/none:/x", "--vars", "A").failed(1)


# pause


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pause_ends_well_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    """Also while another thread is there, which logs: the kernel may give the signal to that one."""
    process = start(tmp_path, "pause", env={"INIT_UNKNOWN": "1"})
    try:
        until_it_waits(process.pid)
    finally:
        process.send_signal(number)
    assert ended(tmp_path, process).well().said("told to end")["signal"] == number.name


def until_it_waits(pid: int) -> None:
    """Until the process is Python with the handlers of pause: no other subcommand catches SIGCHLD, but shells do."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with open(f"/proc/{pid}/status") as file:
            caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
        if caught >> (signal.SIGCHLD - 1) & 1 and "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
            return
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_pause_ends_by_itself_when_its_time_is_over(init: Init) -> None:
    init("pause", "--time", "10ms").well()


@as_root
def test_pause_as_pid_1_reaps_what_others_leave_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """A child of a shell that has become pod-init: it is the parent, and so is it of the child's children."""
    orphans = f"(sleep 0.01 & sleep 0.02 & exec true) & exec {sys.executable} -m sidecars.init pause"
    under = ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", orphans)
    process = subprocess.Popen(under, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        pid = child_of(process.pid)
        until_it_waits(pid)
        deadline = time.monotonic() + PATIENCE
        while children_of(pid):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(pid, signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    finally:
        process.kill()
    assert process.returncode == 0 and "told to end" in stderr, stderr


def child_of(pid: int) -> int:
    deadline = time.monotonic() + PATIENCE
    while not (found := children_of(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found[0]


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


# quit


class Door(http.server.BaseHTTPRequestHandler):
    """Answers as it is told to, and keeps what it was asked."""

    answer = 200
    asked: list[str]

    def do_POST(self) -> None:
        self.asked.append(f"{self.path} {self.headers['X-Sidecars'] or ''}".strip())
        if self.answer:
            self.send_response(self.answer)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def door(status: int = 200, port: int = 0) -> Iterator[tuple[str, list[str]]]:
    """A sidecar's door that answers with this status, or with 0 ends instead; its URL, and what it was asked."""
    asked: list[str] = []
    kind = type("Answering", (Door,), {"answer": status, "asked": asked})
    with http.server.HTTPServer(("127.0.0.1", port), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_others_are_asked_and_the_absent_ignored(init: Init) -> None:
    with door() as (good, asked), door(0) as (hasty, asked_too):
        done = init("quit", f"{good}/exit?now=1,{hasty}", f"http://127.0.0.1:{free_port()}/x").well()
    assert (asked, asked_too) == (["/exit?now=1"], ["/"])
    answers = [each.get("status") or each["answer"] for each in done.events if each["event"] == "asked to end"]
    assert answers == [200, "none"]


def test_all_are_asked_before_a_refusal_is_told(init: Init) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    hanging = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with silent, door(403) as (refusing, _), door(302) as (moved, _), door() as (good, asked), babbling() as nonsense:
        reason = init("quit", f"{refusing},{hanging}", moved, nonsense, good, "--timeout", "200ms").failed(1)
    assert asked == ["/"]
    said = reason.split("; ")
    assert said[0].endswith("refuses / with 403") and "does not answer: timed out" in reason
    assert "refuses / with 302" in reason and "does not speak HTTP" in reason


@contextlib.contextmanager
def babbling() -> Iterator[str]:
    """A server that speaks no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as client:
                client.recv(1000)
                client.sendall(b"220 mail.example ESMTP\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "quit needs a NAME; known are istio, linkerd, dapr, cloud-sql-proxy, sidecars"),
        (["istoi"], "did you mean istio?"),
        (["sidecars", "https://a/"], "'https://a/' is no URL to ask"),
        (["http://[::1/x"], "is no URL to ask"),
        (["http://a:b@127.0.0.1:0/"], "holds a password"),
    ],
)
def test_whom_to_ask_must_be_known(words: list[str], reason: str) -> None:
    assert reason in refused(quitting, 2, *words)


@as_root
def test_our_own_sidecars_end_when_they_let_that_be_asked(init: Init, tmp_path: Path, logs: Path, out: Path) -> None:
    """In a network namespace of its own, where their ports are free; without IPv6, as some nodes are."""
    words = ("--admin", "127.0.0.1:9101", str(logs / "*.log"))
    script = 'ip link set lo up && "$@"'
    (tmp_path / "inside.py").write_text(INSIDE)
    inside = ("unshare", "--net", "sh", "-c", script, "sh", sys.executable, tmp_path / "inside.py", *words)
    done = subprocess.run(inside, cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert Tailer.command and DOORS["sidecars"] and COMMAND


INSIDE = """
import subprocess, sys
quitting = [sys.executable, "-m", "sidecars.init", "quit", "sidecars,istio,linkerd,dapr,cloud-sql-proxy"]
def run(*words):
    tailer = subprocess.Popen([sys.executable, "-m", "sidecars.tailer", *words], stderr=subprocess.PIPE, text=True)
    while "watching" not in tailer.stderr.readline(): assert tailer.poll() is None
    return tailer
tailer = run("--admin-post", "--quiet", "0", *sys.argv[1:])
assert subprocess.run(quitting).returncode == 0
assert tailer.wait(30) == 0
tailer = run(*sys.argv[1:])
done = subprocess.run(quitting, stderr=subprocess.PIPE, text=True)
assert done.returncode == 1 and "start it with --admin-post" in done.stderr, done.stderr
tailer.kill()
assert subprocess.run(quitting).returncode == 0
"""


# help


@pytest.mark.parametrize("name", ["copy", "pause"])
def test_help_says_what_each_can_be_told(name: str) -> None:
    done = subprocess.run([*COMMAND, name, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pod-init {name}" in done.stdout and "--termination-log" in done.stdout


def test_a_signal_ends_it_as_that_signal(tmp_path: Path) -> None:
    """Whatever it waits for, here a file that nobody writes: it is not taken for done."""
    os.mkfifo(tmp_path / "fifo")
    process = start(tmp_path, "write", tmp_path / "out", "--from-file", tmp_path / "fifo")
    with open(opened(tmp_path / "fifo", process), "wb"):
        process.terminate()
        assert "ended by SIGTERM" in ended(tmp_path, process).failed(143)
    assert not (tmp_path / "out").exists()


def opened(fifo: Path, process: subprocess.Popen[bytes]) -> int:
    """The fifo, once somebody reads it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
