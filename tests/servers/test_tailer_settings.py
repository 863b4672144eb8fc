"""Command lines that cannot work: exit 2 and one line that says what to do, in plain text, before anything is read."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecars.tailer", "--termination-log=/dev/null", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin", **environ})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["nothing to read", "PATH", "TAILER_PATHS"]),
        ([""], ["PATH is empty"]),
        (["/a", "--fromm=end"], ["--fromm", "did you mean --from?"]),
        (["/a", "--from=middle"], ["--from", "middle", "start", "end"]),
        (["/a", "--format=xml"], ["--format", "xml", "raw", "json"]),
        (["/a", "--label=full"], ["--label", "full", "path", "name"]),
        (["/a", "--quiet=soon"], ["--quiet", "soon", "90s"]),
        (["/a", "--rotate-wait"], ["--rotate-wait has no value"]),
        (["/a", "--rate-limit=fast"], ["--rate-limit", "fast"]),
        (["/a", "--rate-limit=0"], ["--rate-limit is 0"]),
        (["/a", "--max-line=1KiB"], ["--max-line", "--format json"]),
        (["/a", "--max-line=0", "--format=json"], ["--max-line is 0"]),
        (["/a", "--poll-interval=0"], ["--poll-interval"]),
        (["/a", "--multiline=("], ["--multiline", "java, python, go"]),
        (["/a", "--watch=inotify"], ["--watch", "inotify", "auto", "poll"]),
        (["/a", "--output=file:///x"], ["file:///x", "stdout", "forward://"]),
        (["/a", "--output=forward://h?tagg=x"], ["tagg", "tag"]),
        (["/a", "--output=forward://h?ca=/x"], ["ca", "tls"]),
        (["/a", "--output=forward://h:port"], ["HOST:PORT"]),
        (["/a", "--output=stdout", "--output=stdout"], ["stdout is given twice"]),
        (["/a", "--output=forward://u:hunter2@h"], ["TAILER_OUTPUT"]),
        (["/a", "--forward-key=hunter2"], ["--forward-key", "--forward-key-file"]),
        (["/a", "--forward-key-file=/does/not/exist"], ["/does/not/exist"]),
        (["/a", "--ready-when=fresh"], ["--ready-when", "started", "delivering"]),
        (["/a", "--admin=nowhere"], ["--admin", "nowhere"]),
        (["/a", "--config=/does/not/exist.yaml"], ["/does/not/exist.yaml"]),
        (["/a/*.json", "--state-dir=/a"], ["--state-dir is /a", "another directory"]),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_a_wrong_setting_is_exit_2_and_says_what_to_do(arguments, words):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("log-tailer: ")
    assert [word for word in words if word not in line] == [], line
    assert "hunter2" not in line


def test_a_wrong_variable_is_named_as_such():
    done = run("/a", TAILER_FROM="middle")
    assert done.returncode == 2
    assert "TAILER_FROM" in done.stderr


def test_check_config_checks_and_reads_nothing(tmp_path):
    (tmp_path / "a.log").write_bytes(b"line\n")
    good = run("--check-config", str(tmp_path / "a.log"))
    assert good.returncode == 0
    assert "line\n" not in good.stdout.splitlines(keepends=True)
    assert run("--check-config", str(tmp_path / "a.log"), "--from=middle").returncode == 2


def test_variables_are_enough(tmp_path):
    (tmp_path / "a.log").write_bytes(b"line\n")
    (tmp_path / "b.txt").write_bytes(b"other\n")
    done = run(
        TAILER_PATHS=f"{tmp_path}/*.log,{tmp_path}/*.txt", TAILER_EXCLUDE="b*", TAILER_ONCE="true",
        TAILER_LABEL="name", TAILER_ADMIN="off", TAILER_STATE_DIR="off",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "a.log: line\n")
