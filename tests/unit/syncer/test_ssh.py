from __future__ import annotations

import os
import subprocess

import pytest

from sidecars.syncer import ssh
from sidecars.syncer.settings import Settings

NOBODYS = 54_321  # a user that no passwd file has


@pytest.mark.parametrize(
    ("repo", "spoken"),
    [
        ("ssh://git@x/a", True),
        ("git+ssh://x/a", True),
        ("git@x:a", True),
        ("x:a", True),
        ("/a:b", False),
        ("./a:b", False),
        ("file:///a", False),
        ("https://x:1/a", False),
        ("/a", False),
    ],
)
def test_who_speaks_ssh(repo, spoken):
    assert ssh.spoken(repo) is spoken


@pytest.mark.parametrize(
    ("program", "more", "expected"),
    [
        ("", {}, "ssh -i /k -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/etc/git-secret/known_hosts"),
        ("", {"verbose": 4, "ssh_known_hosts": False}, "ssh -i /k -o StrictHostKeyChecking=no"),
        ("", {"verbose": 5, "ssh_known_hosts": False}, "ssh -v -i /k -o StrictHostKeyChecking=no"),
        ("", {"verbose": 7, "ssh_known_hosts": False}, "ssh -vv -i /k -o StrictHostKeyChecking=no"),
        ("", {"verbose": 9, "ssh_known_hosts": False}, "ssh -vvv -i /k -o StrictHostKeyChecking=no"),
        ("ssh -4", {"ssh_known_hosts": False}, "ssh -4 -i /k -o StrictHostKeyChecking=no"),
    ],
)
def test_the_command(program, more, expected):
    assert ssh.command(program, Settings(**more), ["/k"]) == expected


@pytest.mark.parametrize("name", ["a key's", "a key's 50%"])
def test_odd_paths_reach_ssh_as_they_are(tmp_path, name):
    key, known = tmp_path / name, tmp_path / 'known "hosts" 100%'
    key.touch()
    settings = Settings(ssh_known_hosts_file=str(known))
    command = f"{ssh.command('', settings, [str(key)])} -G host.example"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    told = [each for each in done.stdout.splitlines() if each.startswith(("identityfile", "userknownhostsfile"))]
    # It shows the one as it is before tokens are read, and the other as it is afterwards.
    assert sorted(told) == [f"identityfile {key}".replace("%", "%%"), f"userknownhostsfile {known}"]


def test_a_key_that_others_may_read_is_copied(tmp_path):
    said: list[str] = []
    fine, open_, missing = (tmp_path / name for name in ("fine", "open", "missing"))
    fine.write_text("fine")
    fine.chmod(0o600)
    open_.write_text("one")
    open_.chmod(0o640)
    keys = ssh.Keys([str(fine), str(open_), str(missing)], said.append)
    first = keys.paths()
    assert first[0] == str(fine)
    assert first[2] == str(missing)
    with open(first[1]) as copy:
        assert copy.read() == "one"
    assert os.stat(first[1]).st_mode & 0o777 == 0o600
    open_.write_text("another")
    assert keys.paths() == first
    with open(first[1]) as copy:
        assert copy.read() == "another"
    assert len(said) == 1
    assert str(open_) in said[0]
    assert "0640" in said[0]
    keys.close()
    assert not os.path.exists(first[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVEN HERE: needs root, as CI has it")
def test_a_key_of_another_user_is_used_as_it_is(tmp_path):
    key = tmp_path / "key"
    key.write_text("key")
    key.chmod(0o640)
    os.chown(key, NOBODYS, 0)
    assert ssh.Keys([str(key)], pytest.fail).paths() == [str(key)]


@pytest.mark.parametrize("text", ["", "root:x:0:0::/:/bin/sh\n", "root:x:0:0::/:/bin/sh"])
def test_a_user_is_added(tmp_path, text):
    path = tmp_path / "passwd"
    path.write_text(text)
    ssh.add_user(NOBODYS, 7, "/tmp", str(path))
    assert path.read_text().splitlines() == [*text.splitlines(), f"git-sync:x:{NOBODYS}:7::/tmp:/sbin/nologin"]
    assert path.read_text().endswith("\n")


def test_a_user_that_is_known_is_not_added(tmp_path):
    ssh.add_user(0, 0, "/root", str(tmp_path / "missing"))


@pytest.mark.parametrize(("home", "reason"), [("/tmp", "No such file"), ("/a:b", "HOME"), ("/a\nroot", "HOME")])
def test_a_user_that_cannot_be_added_is_an_error(tmp_path, home, reason):
    with pytest.raises(ssh.NoUser, match=reason):
        ssh.add_user(NOBODYS, 0, home, str(tmp_path / "missing"))
