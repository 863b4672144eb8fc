"""git-syncer as a process: its hooks, its gate, and what it serves, around real syncs of a real repository."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from tests.unit.core.running import PATIENCE, Running, free_port

SECRET = "hunter2-hunter2"


class Syncer(Running):
    command: ClassVar = (sys.executable, "-m", "sidecars.syncer")
    prefix: ClassVar = "GITSYNC_"


class Origin:
    """A repository to sync from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        identity = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        done = subprocess.run(
            ["git", *words], cwd=self.path, env={**os.environ, **identity}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, text: str) -> str:
        (self.path / "file").write_text(text)
        self.git("add", "file")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")


class Place:
    """A root, and how git-syncer is started on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.origin = Origin(directory / "origin")
        self.running: list[Syncer] = []

    def start(self, *arguments: str, **environ: str) -> Syncer:
        common = (
            f"--repo=file://{self.origin.path}",
            "--ref=main",
            f"--root={self.root}",
            "--link=link",
            "--admin=off",
        )
        self.running.append(Syncer(*common, "--touch-file=touched", *arguments, environ=environ))
        return self.running[-1]

    def script(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def published(self) -> str:
        try:
            return os.path.basename(os.readlink(self.root / "link"))
        except FileNotFoundError:
            return ""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for each in place.running:
        each.__exit__()


def wait_until(happened: Callable[[], object], syncer: Syncer) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline and syncer.process.poll() is None, "\n".join(syncer.lines)[-3000:]
        time.sleep(0.005)


def ask(port: int, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str]]]:
    """A URL to call, and the hashes that it was called with."""
    hashes: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hashes.append(self.headers["Gitsync-Hash"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{SECRET}", hashes
    server.shutdown()
    thread.join()
    server.server_close()


def test_once_all_hooks_run_and_none_of_them_learns_a_secret(place: Place, receiver: tuple[str, list[str]]) -> None:
    url, called = receiver
    hash = place.origin.commit("one")
    hook = place.script(
        "hook", f'(env; pwd; echo "args: $*"; tr "\\0" "\\n" < /proc/$PPID/cmdline) > {place.directory}/told'
    )
    before = place.script("before", f'echo "$GITSYNC_HASH" > {place.directory}/before-told')
    syncer = place.start(
        "--one-time", f"--exechook-command={hook}", "--exechook-arg=a b", f"--pre-publish-exechook-command={before}",
        "-v=3", GITSYNC_WEBHOOK_URL=url, GITSYNC_HOOK_SECRET=SECRET,
        GITSYNC_CREDENTIAL=json.dumps({"url": "https://git.example", "username": "bot", "password": SECRET}),
        GITSYNC_GIT_CONFIG=f"http.extraHeader:X-Key: {SECRET}",
    )  # fmt: skip
    assert syncer.wait() == 0, "\n".join(syncer.lines)
    told = (place.directory / "told").read_text()
    assert f"GITSYNC_HASH={hash}\n" in told
    assert f"\n{place.root}/.worktrees/{hash}\nargs: a b\n" in told
    assert SECRET not in told
    assert (place.directory / "before-told").read_text() == f"{hash}\n"
    assert called == [hash]
    syncer.ended()
    assert SECRET not in "\n".join(syncer.lines)


@pytest.mark.parametrize("flag", ["--exechook-command", "--pre-publish-exechook-command"])
def test_once_a_hook_that_fails_is_exit_1_and_the_revision_is_published(place: Place, flag: str) -> None:
    hash = place.origin.commit("one")
    hook = place.script("hook", f"echo x >> {place.directory}/runs; echo broken >&2; exit 3")
    code, _ = place.start("--one-time", f"{flag}={hook}").ended()
    assert code == 1
    assert place.published() == hash
    assert (place.directory / "runs").read_text() == "x\n"
    failed = [json.loads(line) for line in place.running[0].lines if '"hook failed"' in line]
    assert failed[0]["error"] == f'Run({hook}): exit status 3: {{ stdout: "", stderr: "broken\\n" }}'
    assert (failed[0]["hash"], failed[0]["retry"]) == (hash, "3s")
    assert failed[0]["logger"] == flag[2:].removesuffix("-command")


def test_what_the_gate_refuses_is_not_published_and_the_next_that_passes_is(place: Place) -> None:
    first = place.origin.commit("good")
    gate = place.script(
        "gate", f'grep good file && echo "$GITSYNC_HASH $GITSYNC_PREVIOUS_HASH" >> {place.directory}/passed'
    )
    syncer = place.start(f"--gate-command={gate}", "--period=100ms", "--max-failures=-1")
    wait_until(lambda: place.published() == first, syncer)
    bad = place.origin.commit("bad")
    wait_until(lambda: any('"gate refused"' in line and bad in line for line in syncer.lines), syncer)
    assert place.published() == first
    assert (place.root / "link" / "file").read_text() == "good"
    refusals = [line for line in syncer.lines if '"gate refused"' in line]
    assert len(refusals) == 1, "the same revision is not asked for in each period"
    third = place.origin.commit("good again")
    wait_until(lambda: place.published() == third, syncer)
    assert (place.directory / "passed").read_text() == f"{first} \n{third} {first}\n"


def test_a_hook_under_way_is_killed_with_all_it_has_started_when_the_process_ends(place: Place) -> None:
    place.origin.commit("one")
    child = place.directory / "child"
    hook = place.script("hook", f"sleep 600 & echo $! > {child}.new; mv {child}.new {child}; wait")
    syncer = place.start(f"--exechook-command={hook}", "--exechook-timeout=1h")
    wait_until(child.exists, syncer)
    syncer.send(signal.SIGTERM)
    assert syncer.wait() == 0
    pid = int(child.read_text())
    deadline = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_success_is_counted_as_1_when_the_touch_file_appears(place: Place) -> None:
    place.origin.commit("one")
    port = free_port()
    syncer = place.start(f"--http-bind=127.0.0.1:{port}", "--http-metrics", "--http-pprof")
    wait_until((place.root / "touched").exists, syncer)
    counted = [line for line in ask(port, "/metrics")[1].splitlines() if line.startswith("git_sync_count_total")]
    assert counted == ['git_sync_count_total{status="success"} 1']
    wait_until(lambda: ask(port) == (200, ""), syncer)
    assert ask(port, "/debug/pprof/")[0] == 200


def test_until_the_first_good_pass_the_endpoint_says_so(place: Place) -> None:
    port = free_port()
    syncer = place.start(f"--http-bind=127.0.0.1:{port}", "--max-failures=-1", "--period=100ms")
    wait_until(lambda: any("error syncing repo, will retry" in line for line in syncer.lines), syncer)
    assert ask(port) == (503, "repo is not ready\n")
    place.origin.commit("one")
    wait_until(lambda: ask(port) == (200, ""), syncer)
    assert place.published()


def test_a_push_is_published_though_the_period_is_long(place: Place) -> None:
    first = place.origin.commit("one")
    port = free_port()
    syncer = place.start("--period=1h", f"--hook-bind=127.0.0.1:{port}", GITSYNC_HOOK_SECRET=SECRET)
    wait_until(lambda: place.published() == first, syncer)
    second = place.origin.commit("two")
    body = json.dumps({"ref": "refs/heads/main", "after": second}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/hook", body, {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={signature}"})
    assert connection.getresponse().status == 200
    connection.close()
    wait_until(lambda: place.published() == second, syncer)


@pytest.mark.parametrize("flag", ["--http-bind", "--hook-bind"])
def test_an_address_that_is_taken_is_exit_1_and_named(place: Place, flag: str) -> None:
    place.origin.commit("one")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        syncer = place.start(f"{flag}=127.0.0.1:{taken.getsockname()[1]}", GITSYNC_HOOK_SECRET=SECRET)
        code, _ = syncer.ended()
    assert code == 1
    assert any(f"cannot listen on {flag}" in line for line in syncer.lines)
