"""The demo's git host: what it serves is what git clones."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecars.demo.host import response
from tests.unit.demo.process import Process

HOST = (sys.executable, "-m", "sidecars.demo", "git", "--listen", "127.0.0.1:0", "--log-format", "json")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Process]:
    with Process(*HOST, "--dir", str(tmp_path / "served"), "--every", "0.2s") as process:
        yield process


def address(host: Process) -> str:
    return f"http://{host.wait_for(r'127[.]0[.]0[.]1:[0-9]+', 'stderr')[0]}"


def cloned(url: str, folder: Path) -> list[str]:
    """Clone, and give the subjects of the commits, the newest first."""
    quiet = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "clone", "--quiet", url, folder], check=True, env=quiet, timeout=30)
    said = subprocess.run(
        ["git", "log", "--format=%s"], check=True, env=quiet, timeout=30, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    return said.stdout.splitlines()


def test_what_is_cloned_grows_by_commits(host: Process, tmp_path: Path) -> None:
    url = f"{address(host)}/shop.git"
    first = cloned(url, tmp_path / "first")
    assert {"README.md", "dags", "site"} <= set(os.listdir(tmp_path / "first"))
    for attempt in range(100):
        if len(later := cloned(url, tmp_path / f"again{attempt}")) > len(first):
            break
    assert later[-len(first) :] == first
    compile((tmp_path / "first" / "dags" / "orders.py").read_text(), "orders.py", "exec")


def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path) -> None:
    words = (*HOST, "--dir", str(tmp_path / "served"), "--every", "0")
    for run in range(2):
        with Process(*words) as host:
            assert cloned(f"{address(host)}/shop.git", tmp_path / f"clone{run}") == ["Green tea costs 3.05"]
            host.popen.terminate()
            assert host.end() == 0


def test_nothing_but_the_repository_is_served_and_nothing_is_taken(host: Process) -> None:
    for path, status in (("/info/refs", 404), ("/shop.git/git-receive-pack", 403)):
        asked = urllib.request.Request(f"{address(host)}{path}", data=b"0000" if status == 403 else None)
        asked.add_header("Content-Type", "application/x-git-receive-pack-request")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=10)
        assert refused.value.code == status, path
        refused.value.close()


def test_what_cgi_says_becomes_an_answer() -> None:
    found = response(b"Status: 404 Not Found\r\nContent-Type: text/html\r\n\r\nnone\r\n\r\nhere")
    assert (found.status, found.content_type, found.body) == (404, "text/html", b"none\r\n\r\nhere")
    assert response(b"Content-Type: a/b\r\n\r\n").status == 200
