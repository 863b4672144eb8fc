"""git-syncer beside git-sync: idle polls, a first sync and a one-file change of a large repository, push latency.

python bench/syncer.py                # all of it, about three minutes
python bench/syncer.py idle large     # parts: idle small large latency
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure
from tests.servers.git_server import GitServer, Repository

SYNCER = [measure.PYTHON, "-I", "-m", "sidecars.syncer", "--admin", "off"]
SECRET = "a secret of this run"

# git-sync 4.7.1 on one machine, November 2026: seconds, and for the idle poll seconds of CPU.
GIT_SYNC = {"one-time, tiny": 0.114, "idle poll": 0.067, "first sync, large": 8.3, "first sync, large, fastest": 3.2,
            "one file, large": 4.5, "push, period 1 s": 0.60}  # fmt: skip


@contextlib.contextmanager
def running(*words: str, link: Path) -> Iterator[psutil.Popen]:
    """Give a git-syncer that has published once."""
    process = psutil.Popen([*SYNCER, *words], stderr=subprocess.DEVNULL)
    try:
        until(lambda: os.path.islink(link), process)
        yield process
    finally:
        process.terminate()
        process.wait()


def until(happened: Callable[[], bool], process: psutil.Popen) -> None:
    """Wait until something is so."""
    while not happened():
        if process.poll() is not None:
            raise SystemExit(f"git-syncer ended early with {process.returncode}")
        time.sleep(0.0005)


def idle() -> None:
    """CPU and programs of a poll that finds nothing new, over http with a password."""
    with measure.scratch() as directory, GitServer(Path(directory) / "repos", username="bot", password="pw") as server:
        server.repository("app.git").commit({"index.html": "one"})
        root = Path(directory) / "root"
        words = ("--repo", server.address("app.git", "bot:pw"), "--root", str(root), "--link", "l")
        rows, figures = [], {}
        # A poll by git costs three requests: the first one is refused, for git sends a password only when it is asked.
        for name, extra, requests in (
            ("in the process", (), 1),
            ("by git ls-remote, with --git-config http.x:y", ("--git-config", "http.lowSpeedLimit:1"), 3),
        ):
            shutil.rmtree(root, ignore_errors=True)
            with running(*words, *extra, "--period", "50ms", link=root / "l") as process:
                asked = len(server.requests) + 20
                until(lambda: len(server.requests) >= asked, process)  # noqa: B023
                before, own, others = len(server.requests), *cpu(process)
                time.sleep(6)
                polls = (len(server.requests) - before) / requests
                own, others = (now - then for now, then in zip(cpu(process), (own, others), strict=True))
                figures[name] = {
                    "cpu": (own + others) / polls,
                    "cpu of programs it started": others / polls,
                    "rss": process.memory_info().rss / 2**20,
                }
            found = figures[name]
            started = f"{found['cpu of programs it started'] * 1000:.1f}"
            rows.append([name, f"{found['cpu'] * 1000:.1f}", started, f"{found['rss']:.0f}"])
        rows.append(["git-sync (not run here)", f"{GIT_SYNC['idle poll'] * 1000:.0f}", "", "14 + 4"])
        measure.table(
            "An idle poll over http with a password", ("", "CPU ms", "of it programs that it started", "RSS MB"), rows
        )
        measure.save("syncer", {"idle": figures})


def cpu(process: psutil.Popen) -> tuple[float, float]:
    """Seconds of CPU of a process, and of its children that have ended."""
    times = process.cpu_times()
    return times.user + times.system, times.children_user + times.children_system


def small() -> None:
    """From the process's start to the link, for a small repository."""
    with measure.scratch() as directory:
        repository = Repository(Path(directory) / "app.git")
        repository.commit({"index.html": "one"})
        root = Path(directory) / "root"

        def once() -> dict[str, float]:
            shutil.rmtree(root, ignore_errors=True)
            began = time.perf_counter()
            command = [*SYNCER, "--repo", f"file://{repository.path}", "--root", str(root), "--one-time"]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            return {"wall": time.perf_counter() - began}

        figures = measure.in_turn({"git-syncer": once})
        rows = [
            ["git-syncer", f"{figures['git-syncer']['wall']:.2f}"],
            ["git-sync (not run here)", GIT_SYNC["one-time, tiny"]],
        ]
        measure.table("A small repository, --one-time", ("", "wall s"), rows)
        measure.save("syncer", {"small": figures})


def large() -> None:
    """20,000 files, 200 MB: the first sync, and changes of one file."""
    with measure.scratch() as directory, GitServer(Path(directory) / "repos") as server:
        repository = server.repository("large.git")
        dice = random.Random(1)
        repository.commit({f"dir{n % 200}/file{n}": dice.randbytes(5000).hex() for n in range(20_000)})
        firsts = []
        root = Path(directory) / "root"
        for _ in range(3):
            shutil.rmtree(root, ignore_errors=True)
            began = time.perf_counter()
            words = ("--repo", f"{server.url}/large.git", "--root", str(root), "--link", "l", "--period", "100ms")
            with running(*words, link=root / "l") as process:
                firsts.append(time.perf_counter() - began)
                changes = [change(repository, root / "l", process, f"{n}") for n in range(10)]
        figures = {
            "first": statistics.median(firsts),
            "one file": statistics.median(changes),
            "one file, worst": max(changes),
        }
        fastest = GIT_SYNC["first sync, large, fastest"]
        rows = [
            ["first sync", f"{figures['first']:.1f}", f"{GIT_SYNC['first sync, large']} (fastest {fastest})"],
            ["a commit that changes one file, to the link; period 100 ms", f"{figures['one file']:.2f}",
             f"{GIT_SYNC['one file, large']} (period 1 s)"],
        ]  # fmt: skip
        measure.table("20,000 files, 200 MB, over http", ("", "git-syncer s", "git-sync s (not run here)"), rows)
        measure.save("syncer", {"large": figures})


def change(repository: Repository, link: Path, process: psutil.Popen, text: str) -> float:
    """Seconds from a commit of one file until the link leads to it."""
    hash = repository.commit({"dir0/changed": text})
    began = time.perf_counter()
    until(lambda: os.path.basename(os.readlink(link)) == hash, process)
    return time.perf_counter() - began


def latency() -> None:
    """From a push to the link: told by a webhook, and found by the poll."""
    with measure.scratch() as directory, GitServer(Path(directory) / "repos") as server:
        repository = server.repository("app.git")
        repository.commit({"index.html": "one"})
        secret = Path(directory) / "secret"
        secret.write_text(SECRET)
        figures = {}
        for name, words in (
            ("webhook", ("--hook-bind", "127.0.0.1:18099", "--hook-secret-file", str(secret), "--period", "1h")),
            ("poll, period 1 s", ("--period", "1s")),
        ):
            root = Path(directory) / name.partition(",")[0]
            base = ("--repo", f"{server.url}/app.git", "--root", str(root), "--link", "l")
            with running(*base, *words, link=root / "l") as process:
                taken = []
                for number in range(30 if name == "webhook" else 10):
                    hash = repository.commit({"index.html": f"{name}{number}"})
                    began = time.perf_counter()
                    if name == "webhook":
                        announce(hash)
                    until(lambda: os.path.basename(os.readlink(root / "l")) == hash, process)  # noqa: B023
                    taken.append(time.perf_counter() - began)
                    time.sleep(random.uniform(0.1, 0.5))
            figures[name] = {"p50": statistics.median(taken), "worst": max(taken)}
        rows = [[name, f"{f['p50'] * 1000:.0f}", f"{f['worst'] * 1000:.0f}"] for name, f in figures.items()]
        rows.append(["git-sync, period 1 s (not run here)", f"{GIT_SYNC['push, period 1 s'] * 1000:.0f}", "1100"])
        measure.table("A push, to the link", ("", "p50 ms", "worst ms"), rows)
        measure.save("syncer", {"latency": figures})


def announce(hash: str) -> None:
    """Announce a push as GitHub does."""
    body = json.dumps({"ref": "refs/heads/main", "after": hash, "repository": {"default_branch": "main"}}).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}
    request = urllib.request.Request("http://127.0.0.1:18099/hook", body, headers)
    urllib.request.urlopen(request, timeout=5).close()


PARTS = {"idle": idle, "small": small, "large": large, "latency": latency}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
