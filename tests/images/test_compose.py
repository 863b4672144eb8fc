"""docker-compose.yml, brought up as a newcomer does."""

import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import boto3
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def ports():
    """Ports of this machine for the pages and S3, instead of those that a demo may hold."""
    names = (
        "ADMIN_PORT",
        "ADAPTER_PORT",
        "SHIPPER_PORT",
        "S3_PORT",
        "SYNCER_PORT",
        "WEB_PORT",
        "AMBASSADOR_PORT",
        "REDIS_PORT",
    )
    with contextlib.ExitStack() as held:
        return {name: held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for name in names}


@pytest.fixture(scope="module")
def compose(engine_host, ports):
    """Run a command of the oldest compose that the file is written for, or of the machine's own."""
    words = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    ours = {"DOCKER_HOST": engine_host, "COMPOSE_PROJECT_NAME": "sidecars-test", "S3_IMAGE": "sidecars/s3-server"}
    ours["REDIS_IMAGE"] = "sidecars/redis"
    ours |= {name: str(port) for name, port in ports.items()}

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


def test_the_status_pages_are_open_on_this_machine(up, ports):
    pages = {"log-tailer": "ADMIN", "s3-shipper": "SHIPPER", "git-syncer": "SYNCER", "ambassador": "AMBASSADOR"}
    for name, word in pages.items():
        port = f"{word}_PORT"
        assert json.loads(fetched(f"http://127.0.0.1:{ports[port]}/status"))["name"] == name


def test_the_page_of_the_logs_is_open_on_this_machine_and_has_records(up, ports):
    page = f"http://127.0.0.1:{ports['ADAPTER_PORT']}"
    assert b"<html" in fetched(f"{page}/", Accept="text/html")
    deadline = time.monotonic() + 30
    while not (records := json.loads(fetched(f"{page}/logs?tail=1"))):
        assert time.monotonic() < deadline, up("logs", "--no-color", "log-adapter")
        time.sleep(0.2)
    assert "time" in records[0]


def test_the_site_follows_the_commits_of_its_repository(up, ports):
    deadline = time.monotonic() + 40
    seen: set[bytes] = set()
    while len(seen) < 2:
        assert time.monotonic() < deadline, up("logs", "--no-color", "git-syncer", "git", "web")
        time.sleep(0.2)
        seen |= set(re.findall(rb"This is revision \d+", fetched(f"http://127.0.0.1:{ports['WEB_PORT']}/")))


def test_the_bucket_fills_with_objects_that_can_be_listed_and_read(up, ports):
    """With curl, the head of the file says; it signs as boto3 does."""
    server = f"http://127.0.0.1:{ports['S3_PORT']}"
    deadline = time.monotonic() + 40
    while not (keys := re.findall(r"<Key>(demo/[^<]+\.gz)</Key>", fetched(f"{server}/logs?list-type=2").decode())):
        assert time.monotonic() < deadline, up("logs", "--no-color", "s3-shipper")
        time.sleep(0.2)
    names = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo-secret"}
    body = boto3.client("s3", "us-east-1", endpoint_url=server, **names).get_object(Bucket="logs", Key=keys[0])["Body"]
    assert gzip.decompress(body.read()).endswith(b"\n")


def test_the_keys_are_on_both_redis_servers_and_the_application_counts(up, ports):
    with socket.create_connection(("127.0.0.1", ports["REDIS_PORT"]), 10) as client, client.makefile("rb") as answers:
        client.sendall(b"".join(b"SET %d:visits %d\r\n" % (each, each) for each in range(40)))
        assert [answers.readline() for _ in range(40)] == [b"+OK\r\n"] * 40
    sizes = [int(up("exec", "-T", f"redis-{number}", "redis-cli", "dbsize")) for number in range(2)]
    assert all(sizes) and sum(sizes) >= 40
    deadline = time.monotonic() + 30
    while not re.search(r"visits_1 .*\d|visits-1 .*\d", up("logs", "--no-color", "visits")):
        assert time.monotonic() < deadline, up("logs", "--no-color", "visits", "ambassador")
        time.sleep(0.2)


def test_an_application_starts_once_what_it_needs_has_answered(up):
    said = up("logs", "--no-color", "wait")
    assert re.search(r'"event": "met", .*"target": "redis://127.0.0.1:6380"', said), said
    [state] = [line for line in up("ps", "--all", "wait").splitlines() if "wait" in line]
    assert re.search(r"Exit 0|Exited \(0\)", state)


def fetched(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return answer.read()
