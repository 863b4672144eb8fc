"""The git server of the tests keeps git's own contract."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.servers.git_server import Break, Executable, Gitlink, GitServer, Reply, Symlink, environment


def git(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    variables = {**environment(), "GIT_TERMINAL_PROMPT": "0", **variables}
    return subprocess.run(["git", *map(str, words)], env=variables, capture_output=True, text=True, check=False)


def test_what_is_committed_is_cloned(tmp_path):
    with GitServer(tmp_path / "repos") as server:
        repository = server.repository("app.git")
        first = repository.commit({"a/b": "one", "run": Executable("#!/bin/sh\n"), "link": Symlink("a/b"), "gone": "x"})
        second = repository.commit({"a/b": b"\0two", "gone": None, "sub": Gitlink(first)}, message="the second")
        assert git("clone", "-q", server.address("app.git"), tmp_path / "clone").returncode == 0
        assert git("-C", tmp_path / "clone", "rev-parse", "HEAD", "HEAD^").stdout.split() == [second, first]
        assert sorted(each.name for each in (tmp_path / "clone").iterdir()) == [".git", "a", "link", "run", "sub"]
        assert (tmp_path / "clone/link").read_bytes() == b"\0two"
        assert {each.path for each in server.requests} == {"/app.git/info/refs", "/app.git/git-upload-pack"}


def test_a_commit_without_a_parent_replaces_the_branch(tmp_path):
    with GitServer(tmp_path / "repos") as server:
        repository = server.repository("app.git")
        repository.commit({"old": "x"})
        hash = repository.commit({"new": "y"}, parent="")
        assert repository.git("ls-tree", "--name-only", hash) == "new"
        assert repository.git("rev-list", "--count", "main") == "1"


@pytest.mark.parametrize(("userinfo", "good"), [("", False), ("bot:wrong", False), ("bot:hunter2", True)])
def test_a_password_is_asked_for(tmp_path, userinfo, good):
    with GitServer(tmp_path / "repos", username="bot", password="hunter2") as server:
        server.repository("app.git").commit({"a": "one"})
        assert (git("ls-remote", server.address("app.git", userinfo)).returncode == 0) is good
        assert (server.requests[-1].status == 200) is good


def test_tls_is_trusted_by_the_ca_file_alone(tmp_path):
    with GitServer(tmp_path / "repos", tls=True) as server:
        server.repository("app.git").commit({"a": "one"})
        assert git("ls-remote", server.address("app.git")).returncode != 0
        assert git("ls-remote", server.address("app.git"), GIT_SSL_CAINFO=str(server.ca_file)).returncode == 0


def test_it_answers_badly_when_told(tmp_path):
    with GitServer(tmp_path / "repos") as server:
        server.repository("app.git").commit({"a": "one"})
        server.answer = lambda _request: Reply(503, b"busy")
        assert "503" in git("ls-remote", server.address("app.git")).stderr
        server.answer = lambda request: Break(20) if request.method == "POST" else None
        assert git("clone", "-q", server.address("app.git"), tmp_path / "clone").returncode != 0


def test_a_partial_clone_of_one_hash(tmp_path):
    with GitServer(tmp_path / "repos") as server:
        repository = server.repository("app.git")
        first = repository.commit({"a": "one"})
        repository.commit({"a": "two"})
        git("init", "-q", tmp_path / "clone")
        fetch = ("fetch", "-q", "--depth=1", "--filter=blob:none", server.address("app.git"), first)
        assert git("-C", tmp_path / "clone", *fetch).returncode == 0
