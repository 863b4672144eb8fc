"""The door to git: what reaches the command, what it says, and when it is given up."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecars.core.errors import TimedOut
from sidecars.core.git import Event, Git, GitFailed

Script = Callable[[str], Git]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A program of a few lines of shell in git's place."""

    def write(lines: str) -> Git:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        return Git(str(program))

    return write


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_git_answers(tmp_path: Path) -> None:
    assert Git().run("version", cwd=str(tmp_path)).text.startswith("git version 2.")


def test_an_error_is_worded_as_git_sync_words_it(tmp_path: Path) -> None:
    with pytest.raises(GitFailed) as failed:
        Git().run("fetch", "file:///nonesuch", "a branch", cwd=str(tmp_path))
    assert str(failed.value) == (
        'Run(git fetch file:///nonesuch "a branch"): exit status 128: { stdout: "", stderr: '
        '"fatal: not a git repository (or any of the parent directories): .git\\n" }'
    )
    assert failed.value.stderr.startswith("fatal: not a git repository")


def test_an_exit_code_that_is_expected_is_no_error(script: Script) -> None:
    assert script("exit 5").run(cwd="/", ok=(0, 5)).code == 5


def test_no_secret_is_in_an_error_or_an_event(script: Script) -> None:
    git = script('echo "hunter+2 and hunter%2B2 at https://bot:hunter+2@host/"; exit 1')
    events: list[Event] = []
    git.watch, git.secrets = events.append, lambda: ["hunter+2", ""]
    with pytest.raises(GitFailed) as failed:
        git.run("fetch", "https://other:sesame@host/app", cwd="/")
    assert 'stdout: "REDACTED and REDACTED at https://***@host/\\n"' in str(failed.value)
    assert [event.code for event in events] == [None, 1]
    for text in (str(failed.value), failed.value.stderr, repr(events)):
        assert "hunter" not in text and "sesame" not in text


def test_a_program_that_is_not_there_and_a_directory_that_is_not(tmp_path: Path) -> None:
    with pytest.raises(
        GitFailed, match=r'Run\(nonesuch version\): exec: "nonesuch": executable file not found in \$PATH'
    ):
        Git("nonesuch").run("version", cwd="/")
    with pytest.raises(GitFailed, match="permission denied"):
        Git(str(tmp_path)).run("version", cwd="/")
    with pytest.raises(GitFailed, match=r"chdir .*/gone: no such"):
        Git().run("version", cwd=str(tmp_path / "gone"))


def test_a_directory_by_the_name_of_a_variable_is_not_expanded(tmp_path: Path, script: Script) -> None:
    (tmp_path / "$HOME").mkdir()
    assert script("pwd").run(cwd=str(tmp_path / "$HOME")).text == str(tmp_path / "$HOME")


def test_the_environment_has_what_git_needs_and_no_secret(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITSYNC_PASSWORD", "GIT_SYNC_PASSWORD", "GITSYNC_REPO", "DB_PASSWORD", "KEPT"):
        monkeypatch.setenv(name, "sesame")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    git = script("env")
    git.environment["GIT_CONFIG_GLOBAL"] = "/tmp/config"
    lines = git.run(cwd="/").text.splitlines()
    assert [line for line in lines if "sesame" in line] == ["KEPT=sesame"]
    assert {"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/tmp/config", "GIT_CONFIG_NOSYSTEM=true"} <= {
        *lines
    }


def test_the_configuration_of_a_call_goes_behind_what_is_in_the_environment(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "an.operator")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "has set this")
    said = Git().run("config", "--list", cwd=str(tmp_path), config={"a.b": "one\ntwo"}).text
    assert [line for line in said.splitlines() if line.startswith(("an.", "a.", "protocol.", "two"))] == [
        "an.operator=has set this", "protocol.ext.allow=never", "a.b=one", "two",
    ]  # fmt: skip


def test_a_url_that_is_a_command_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="transport 'ext' not allowed"):
        Git().run("ls-remote", f"ext::touch {tmp_path}/run", cwd=str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_variable_of_a_git_hook_leads_nowhere_else(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    subprocess.run(["git", "init", "-q", elsewhere], check=True)
    program = (
        "import sys; from sidecars.core.git import Git\n"
        "print(Git().run('rev-parse', cwd=sys.argv[1], ok=(0, 128)).code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env={**os.environ, "GIT_DIR": str(elsewhere / ".git")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == "128\n"


def test_neither_the_import_nor_a_missing_git_starts_or_needs_a_program(tmp_path: Path) -> None:
    program = (
        "import sys, os; from sidecars.core import git; assert 'git.cmd' not in sys.modules\n"
        "print(git.Git('/bin/echo').run('works', cwd='/').text, [n for n in os.environ if 'PYTHON_' in n])"
    )
    environment = {"PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "works []\n"


def test_what_is_typed_reaches_the_command_however_long(script: Script) -> None:
    assert script("cat").run(cwd="/", input=b"x" * 300_000).stdout == b"x" * 300_000
    assert script("cat").run(cwd="/").stdout == b""


def test_a_process_that_keeps_the_pipes_does_not_hold_up_the_answer(script: Script, tmp_path: Path) -> None:
    git = script(f"sleep 60 & echo $! > {tmp_path}/pid; echo done")
    assert git.run(cwd="/").text == "done"
    left = int((tmp_path / "pid").read_text())
    assert alive(left)  # It may be the credential cache.
    os.kill(left, 9)


def test_the_deadline_kills_the_whole_group(script: Script, tmp_path: Path) -> None:
    git = script(f"sleep 60 & echo $! > {tmp_path}/pid; echo begun; wait")
    with pytest.raises(TimedOut, match=r'context deadline exceeded: { stdout: "begun'):
        git.run(cwd="/", deadline=time.monotonic() + 0.2)
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_kill_all_ends_what_runs_and_lets_nothing_begin(script: Script, tmp_path: Path) -> None:
    git = script(f"sleep 60 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait")
    errors: list[str] = []

    def run() -> None:
        try:
            git.run(cwd="/")
        except GitFailed as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until((tmp_path / "pid").exists)
    git.kill_all()
    thread.join(10)
    assert len(errors) == 1 and "signal: killed" in errors[0]
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))
    with pytest.raises(GitFailed, match="the program ends"):
        git.run(cwd="/")


def test_what_a_server_says_without_end_is_not_kept(script: Script) -> None:
    output = script("head -c 3000000 /dev/zero >&2; echo the end >&2").run(cwd="/")
    assert len(output.stderr) <= 64 << 10 and output.stderr.endswith(b"the end\n")
    with pytest.raises(GitFailed, match="more than 64 MiB of output"):
        script("cat /dev/zero").run(cwd="/")


def test_the_umask_is_the_commands_own(script: Script, tmp_path: Path) -> None:
    git = script(f"touch {tmp_path}/file")
    git.umask = 0o027
    git.run(cwd="/")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_nothing_is_left_open(script: Script) -> None:
    git = script("echo")
    git.run(cwd="/")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        git.run(cwd="/", input=b"x", deadline=time.monotonic() + 10)
    assert len(os.listdir("/proc/self/fd")) == before
