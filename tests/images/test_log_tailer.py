"""log-tailer in its container: what the README promises of the image."""

import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def tail(start, logs):
    """Start log-tailer over the folder, mounted read-only at /logs."""

    def tail(*arguments, mounts=None):
        volumes = {str(logs): {"bind": "/logs", "mode": "ro"}} | (mounts or {})
        return start("log-tailer", *arguments, tmpfs=None, volumes=volumes)

    return tail


def test_a_quoted_glob_streams_what_is_there_and_what_comes(logs, tail):
    (logs / "a.log").write_bytes(b"before\n")
    container = tail("/logs/*.log").wait_until_ready()
    with open(logs / "a.log", "ab") as file:
        file.write(b"after\n")
    (logs / "b.txt").write_bytes(b"not of the glob\n")
    (logs / "b.log").write_bytes(b"new file\n")
    container.wait_for(lambda: b"new file" in container.stdout() and b"after" in container.stdout(), "stream")
    assert sorted(container.stdout().splitlines(keepends=True)) == [b"after\n", b"before\n", b"new file\n"]


def test_a_rotated_file_is_followed_into_the_new_one(logs, tail):
    (logs / "a.log").write_bytes(b"one\n")
    container = tail("/logs/*.log").wait_until_ready()
    os.rename(logs / "a.log", logs / "a.log.1")
    (logs / "a.log").write_bytes(b"two\n")
    container.wait_for(lambda: container.stdout() == b"one\ntwo\n", "stream both files, once")


def test_what_is_written_after_sigterm_is_delivered(logs, tail):
    (logs / "a.log").write_bytes(b"before\n")
    container = tail("/logs/*.log").wait_until_ready()
    container.kill(signal="SIGTERM")
    container.wait_for(lambda: not container.is_ready(), "drain")
    with open(logs / "a.log", "ab") as file:
        file.write(b"last words\n")
    assert container.wait() == 0
    assert container.stdout() == b"before\nlast words\n"


def test_once_delivers_every_byte_and_ends(logs):
    """By the engine's own client: what `docker logs` keeps is text."""
    content = b"not UTF-8 \xfe, NUL \x00, CR \r\nno newline at the end"
    (logs / "a.log").write_bytes(content)
    restricted = ["--read-only", "--user", "12345:0", "--cap-drop", "ALL"]
    run = [f"{ROOT}/images/engine", "docker", "run", "--rm", *restricted, "-v", f"{logs}:/logs", "sidecars/log-tailer"]
    done = subprocess.run([*run, "--once", "/logs/*.log"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == content


def test_with_a_state_dir_a_restarted_container_goes_on_where_it_was(logs, state, tail):
    (logs / "a.log").write_bytes(b"one\n")
    container = tail("/logs/*.log", mounts=state)
    container.wait_for(lambda: container.stdout() == b"one\n", "stream")
    container.kill(signal="SIGTERM")
    assert container.wait() == 0
    with open(logs / "a.log", "ab") as file:
        file.write(b"two\n")
    container.start()
    container.wait_for(lambda: container.stdout() == b"one\ntwo\n", "go on")


def test_settings_come_from_a_mounted_file_of_each_kind(tmp_path, logs, tail):
    (logs / "a.log").write_bytes(b"text\n")
    files = {
        "yaml": "sources: [{paths: [/logs/*.log]}]\n",
        "json": '{"paths": ["/logs/*.log"]}',
        "toml": 'paths = ["/logs/*.log"]\n',
    }
    for kind, text in files.items():
        config = tmp_path / f"config.{kind}"
        config.write_text(text)
        config.chmod(0o644)
        mounts = {str(config): {"bind": f"/config.{kind}", "mode": "ro"}}
        container = tail("--config", f"/config.{kind}", "--once", mounts=mounts)
        assert container.wait() == 0, container.stderr()
        assert container.stdout() == b"text\n"
