"""From a push to the published link, announced as each git host does, or found by the poll: a table, which -s shows.

Timings are told, never asserted; how many syncs it took is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers.git_server import GitServer
from tests.servers.syncing import Place, Syncer
from tests.unit.core.running import free_port

SECRET = "s3cret-s3cret"
PUSHES = 3
ZERO = "0" * 40


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for syncer in place.running:
        syncer.__exit__()


def signature(body: bytes) -> str:
    return hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def github(hash: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"ref": "refs/heads/main", "before": ZERO, "after": hash}).encode()
    return body, {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={signature(body)}"}


def gitlab(hash: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"object_kind": "push", "ref": "refs/heads/main", "after": hash}).encode()
    return body, {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET}


def gitea(hash: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"ref": "refs/heads/main", "after": hash}).encode()
    return body, {"X-Gitea-Event": "push", "X-Gitea-Signature": signature(body)}


def bitbucket(hash: str) -> tuple[bytes, dict[str, str]]:
    new = {"type": "branch", "name": "main", "target": {"hash": hash}}
    body = json.dumps({"push": {"changes": [{"new": new, "old": None}]}}).encode()
    return body, {"X-Event-Key": "repo:push", "X-Hub-Signature": f"sha256={signature(body)}"}


HOSTS: Mapping[str, Callable[[str], tuple[bytes, dict[str, str]]]] = {
    "GitHub": github, "GitLab": gitlab, "Gitea": gitea, "Bitbucket": bitbucket,
}  # fmt: skip


def passes(syncer: Syncer) -> int:
    """How many passes have published something; the first one is among them."""
    return int(syncer.metric("git_sync_count_total", status="success"))


def test_from_a_push_to_the_published_link(tmp_path: Path, place: Place) -> None:
    rows: dict[str, list[float]] = {}
    with GitServer(tmp_path / "served") as server:
        repository = server.repository("app")
        repository.commit({"file": "0", **{f"same/{each}": "same" for each in range(50)}})
        flags = (f"--repo={server.address('app')}", "--ref=main", "--admin=127.0.0.1:0")
        port = free_port()
        syncer = place.follow(*flags, "--period=1h", f"--hook-bind=127.0.0.1:{port}", GITSYNC_HOOK_SECRET=SECRET)

        def publish(name: str, tell: Callable[[str], None]) -> None:
            hash = repository.commit({"file": f"{name} {time.time_ns()}"})
            began = time.monotonic()
            tell(hash)
            place.until_published(syncer, hash)
            rows.setdefault(name, []).append(time.monotonic() - began)

        def announce(host: str, hash: str) -> None:
            body, headers = HOSTS[host](hash)
            url = f"http://127.0.0.1:{port}/hook"
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
                assert answer.read() == b"syncing\n"

        for host in HOSTS:
            for _ in range(PUSHES):
                publish(host, lambda hash, host=host: announce(host, hash))  # type: ignore[misc]
        syncer.until(lambda: passes(syncer) == 1 + PUSHES * len(HOSTS))
        assert not syncer.said("error syncing repo, will retry")
        syncer.process.terminate()
        syncer.wait()
        syncer = place.follow(*flags, "--period=200ms")
        for _ in range(PUSHES):
            publish("poll, period 200 ms", lambda _: None)
        syncer.until(lambda: passes(syncer) == 1 + PUSHES)
    print("\n| told by | pushes | median | worst |\n| --- | --- | --- | --- |")
    for name, seconds in rows.items():
        median, worst = (1000 * each for each in (statistics.median(seconds), max(seconds)))
        print(f"| {name} | {len(seconds)} | {median:.0f} ms | {worst:.0f} ms |")
