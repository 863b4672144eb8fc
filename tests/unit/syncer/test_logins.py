from __future__ import annotations

import subprocess

import pytest

from sidecars.syncer.gitconfig import Pair, rendered
from sidecars.syncer.logins import Login, LoginFiles, WrongLogin, best, line, taken_out
from tests.servers.git_server import environment


@pytest.mark.parametrize(
    ("repo", "clean", "login"),
    [
        ("https://x/a", "https://x/a", None),
        ("https://bot:p%40ss@x:8443/a?b", "https://x:8443/a?b", ("bot", "p@ss")),
        ("http://bot:a:b@x", "http://x", ("bot", "a:b")),
        ("https://TOKEN@x/a", "https://x/a", ("TOKEN", "")),
        ("HTTPS://a@b:c@x/a", "HTTPS://x/a", ("a@b", "c")),
        ("https://@x/a", "https://x/a", None),
        ("https://x/a@b", "https://x/a@b", None),
        ("ssh://git:pw@x/a", "ssh://git:pw@x/a", None),
        ("git@x:a", "git@x:a", None),
        ("file:///a@b", "file:///a@b", None),
    ],
)
def test_userinfo_is_taken_out_of_the_url(repo, clean, login):
    found, other = taken_out(repo)
    assert (found, other and other[1:]) == (clean, login)


def filled(files: LoginFiles, url: str, tmp_path, **more: str) -> tuple[str, str] | None:
    """What git finds for a URL, by asking git."""
    config = tmp_path / "gitconfig"
    pairs = [Pair("credential.helper", files.helper), *(Pair(f"credential.{key}", text) for key, text in more.items())]
    config.write_text(rendered(pairs) + files.blocks())
    variables = {**environment(), "GIT_CONFIG_GLOBAL": str(config), "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "credential", "fill"]
    done = subprocess.run(command, input=f"url={url}\n", capture_output=True, env=variables, text=True, check=False)
    found = dict(each.split("=", 1) for each in done.stdout.splitlines())
    return (found["username"], found["password"]) if done.returncode == 0 else None


ODD = Login("https://x.example/a b".replace(" ", "%20"), "ä:b@c", "p@ss/w%41ö#?&= '\"\\+")


def test_git_finds_odd_passwords(tmp_path):
    files = LoginFiles([ODD.url], by_path=True)
    files.replace([ODD])
    assert filled(files, "https://x.example/", tmp_path) == ODD[1:]
    files.close()


@pytest.mark.parametrize(
    ("url", "by_path", "alone"),
    [
        ("https://x.example/one/app.git", "first", "first"),
        ("https://x.example/two/app.git", "second", "first"),
        ("https://x.example/two/deep/app.git", "third", "first"),
        ("https://x.example/twofold", "first", "first"),
        ("https://x.example/", "first", "first"),
        ("https://second@x.example/one", "second", "second"),
        ("https://y.example/two", "other", "other"),
        ("http://x.example/one", None, None),
    ],
)
def test_the_longest_path_of_a_host_is_chosen(tmp_path, url, by_path, alone):
    logins = [
        Login("https://x.example/one", "first", "1"),
        Login("https://x.example/two", "second", "2"),
        Login("https://x.example/two/deep/", "third", "3"),
        Login("https://y.example", "other", "4"),
    ]
    for expected, choose in ((by_path, True), (alone, False)):
        files = LoginFiles([login.url for login in logins], by_path=choose)
        files.replace(logins)
        found = filled(files, url, tmp_path)
        assert (found and found[0]) == expected
        if choose and "@" not in url:
            login = best(logins, url)
            assert (login and login.username) == expected
        files.close()


def test_with_use_http_path_git_compares_whole_paths(tmp_path):
    logins = [Login("https://x.example/one", "first", "1"), Login("https://x.example/two", "second", "2")]
    files = LoginFiles([login.url for login in logins], by_path=False)
    files.replace(logins)
    assert filled(files, "https://x.example/two", tmp_path, useHttpPath="true") == ("second", "2")
    assert filled(files, "https://x.example/two/more", tmp_path, useHttpPath="true") is None
    files.close()


def test_what_git_would_forget_is_kept(tmp_path):
    login = Login("https://x.example/", "bot", "hunter2")
    files = LoginFiles([login.url], by_path=True)
    files.replace([login])
    assert filled(files, login.url, tmp_path) == login[1:]
    variables = {**environment(), "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig")}
    text = "url=https://x.example/\nusername=bot\npassword=hunter2\n"
    subprocess.run(["git", "credential", "reject"], input=text, env=variables, text=True, check=True)
    assert filled(files, login.url, tmp_path) == login[1:]
    files.close()


def test_a_replaced_password_is_found_at_once(tmp_path):
    files = LoginFiles(["https://x.example/"], by_path=True)
    for password in ("one", "another"):
        files.replace([Login("https://x.example/", "bot", password)])
        assert filled(files, "https://x.example/", tmp_path) == ("bot", password)
    files.close()


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        (Login("git@x:a", "bot", "hunter2"), "no URL"),
        (Login("https://x/a b", "bot", "hunter2"), "no URL"),
        (Login("https://x/a\nhttps://y", "bot", "hunter2"), "no URL"),
        (Login("https://x/", "bot", "hunter2\nhost=y"), "more than one line"),
        (Login("https://x/", "b\0t", "hunter2"), "more than one line"),
    ],
)
def test_what_git_cannot_be_given_is_refused(login, reason):
    with pytest.raises(WrongLogin, match=reason) as caught:
        line(login)
    assert "hunter2" not in str(caught.value)
