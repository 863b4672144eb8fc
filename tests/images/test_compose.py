"""docker-compose.yml, brought up as a newcomer does."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def port():
    """A port of this machine for the status page, instead of the one that a demo may hold."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def compose(engine_host, port):
    """Run a command of the oldest compose that the file is written for, or of the machine's own."""
    words = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    ours = {"DOCKER_HOST": engine_host, "COMPOSE_PROJECT_NAME": "sidecars-test", "ADMIN_PORT": str(port)}

    def compose(*arguments):
        done = subprocess.run(
            [*words, *arguments],
            cwd=ROOT,
            env=os.environ | ours,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return compose


@pytest.fixture(scope="module")
def up(compose):
    """Everything that the file names, running."""
    try:
        compose("up", "--detach", "--no-build")
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "10")


def test_compose_shows_the_lines_of_the_application_with_the_names_of_their_files(up):
    deadline = time.monotonic() + 30
    names: set[str] = set()
    while len(names) < 2:
        assert time.monotonic() < deadline, up("logs", "--no-color")
        time.sleep(0.2)
        names = files_of(up("logs", "--no-color", "log-tailer"))


def files_of(output):
    """The names that lines are labelled with; log-tailer's own events are JSON and have none."""
    lines = [line.partition("| ")[2] for line in output.splitlines()]
    labels = {line.split(" ", 1)[0] for line in lines if not line.startswith("{")}
    return {label for label in labels if ".log" in label}


def test_the_status_page_is_open_on_this_machine(up, port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
        assert json.load(answer)["name"] == "log-tailer"
