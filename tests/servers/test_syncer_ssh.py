"""git over a real sshd."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecars.core.git import GitFailed
from tests.servers.git_server import Repository
from tests.servers.ssh_server import SshServer, needed
from tests.servers.test_syncer_access import Entrance
from tests.unit.core.running import free_port

needed()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("ssh") / "server", free_port()) as server:
        yield server


@pytest.fixture
def enter(tmp_path: Path, server: SshServer) -> Iterator[Callable[..., Entrance]]:
    """Make an Access to a repository behind that server, and start it."""
    repository = Repository(tmp_path / "repos" / "app.git")
    repository.commit({"a": "one"})
    with contextlib.ExitStack() as open_:

        def enter(**settings: Any) -> Entrance:
            known: dict[str, Any] = {
                "repo": server.address(repository.path),
                "ssh_key_file": (str(server.key),),
                "ssh_known_hosts_file": str(server.known_hosts),
            }
            entrance = Entrance(tmp_path, **{**known, **settings})
            open_.callback(entrance.access.close)
            entrance.access.start()
            entrance.refresh()
            return entrance

        yield enter


def test_a_key_lets_in(enter):
    entrance = enter()
    assert "refs/heads/main" in entrance.listed()
    assert entrance.said == []


def test_another_key_does_not_let_in(enter, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    with pytest.raises(GitFailed, match="Permission denied"):
        enter(ssh_key_file=(str(tmp_path / "key"),)).listed()


def test_the_second_of_two_keys_lets_in_though_the_first_is_missing(enter, server):
    assert "main" in enter(ssh_key_file=("/missing/key", str(server.key))).listed()


def test_a_host_that_is_not_known_is_refused_unless_told(enter, tmp_path):
    with pytest.raises(GitFailed, match="Host key verification failed"):
        enter(ssh_known_hosts_file=str(tmp_path / "missing")).listed()
    assert "main" in enter(ssh_known_hosts_file=str(tmp_path / "missing"), ssh_known_hosts=False).listed()


@pytest.mark.parametrize("mode", [0o640, 0o444])
def test_a_key_of_ours_that_others_can_read_lets_in(enter, server, tmp_path, mode):
    key = tmp_path / "mounted key"
    key.write_bytes(server.key.read_bytes())
    key.chmod(mode)
    entrance = enter(ssh_key_file=(str(key),))
    assert "main" in entrance.listed()
    assert [str(key) in text for text in entrance.said] == [True]


def test_a_key_that_is_renewed_lets_in(enter, server, tmp_path):
    key = tmp_path / "key"
    key.write_text("not a key\n")
    key.chmod(0o640)
    entrance = enter(ssh_key_file=(str(key),))
    with pytest.raises(GitFailed):
        entrance.listed()
    key.write_bytes(server.key.read_bytes())
    entrance.refresh()
    assert "main" in entrance.listed()


def test_verbosity_reaches_ssh(enter):
    entrance = enter(verbose=5)
    done = entrance.git.run("ls-remote", entrance.access.url, cwd="/")
    assert b"debug1: " in done.stderr


def test_the_inherited_ssh_command_is_kept(enter, tmp_path):
    wrapper = tmp_path / "my-ssh"
    wrapper.write_text(f'#!/bin/sh\ntouch {tmp_path}/used\nexec ssh "$@"\n')
    wrapper.chmod(0o755)
    assert "main" in enter(environ={"GIT_SSH_COMMAND": str(wrapper)}).listed()
    assert (tmp_path / "used").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVEN HERE: needs root, as CI has it")
def test_a_user_without_an_entry_is_told_of(tmp_path):
    program = (
        "import sys; from tests.servers.test_syncer_access import Entrance; from pathlib import Path\n"
        "entrance = Entrance(Path(sys.argv[1]), repo=sys.argv[2], add_user=bool(sys.argv[3]))\n"
        "entrance.access.start(); print(*entrance.said); entrance.access.close()\n"
    )
    user = (
        "setpriv",
        "--reuid=54321",
        "--clear-groups",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    )

    def told(repo: str, add_user: str = "") -> subprocess.CompletedProcess[str]:
        command = [*user, sys.executable, "-c", program, tmp_path, repo, add_user]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "the user 54321 has no entry in /etc/passwd" in told("git@x.example:a").stdout
    assert told("https://x.example/a").stdout == "\n"
    assert "--add-user cannot write /etc/passwd: Permission denied" in told("git@x.example:a", "1").stderr
