"""Passwords for git over HTTP, from every place that they can come from."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from sidecars.core.errors import SidecarError
from sidecars.core.git import Git, GitFailed
from sidecars.core.units import Secret
from sidecars.syncer.asking import NoAnswer
from sidecars.syncer.credentials import Access, NoAccess
from sidecars.syncer.gitconfig import WrongPairs
from sidecars.syncer.settings import Settings
from tests.servers.git_server import Gitlink, GitServer, Request

PASSWORD = "hunter2-and/more:@"
URL_LOGIN = "bot:hunter2-and%2Fmore%3A%40"


class Entrance:
    """One Access with the git that it serves, and what it has said and counted."""

    def __init__(self, tmp: Path, environ: dict[str, str] | None = None, **settings: Any) -> None:
        self.git = Git(settings.get("git", "git"), {"HOME": "/nonexistent"})
        environ = {"TMPDIR": str(tmp), "HOME": "/nonexistent", **(environ or {})}
        self.access = Access(Settings(**settings), self.git, environ)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.renewed: list[str] = []
        self.access.say = self.said.append
        self.access.asked = self.asked.append
        self.access.token_refreshed = self.renewed.append

    def refresh(self) -> None:
        self.access.refresh(time.monotonic() + 20)

    def listed(self, url: str = "") -> str:
        """What git sees of the repository, or of another one."""
        return self.git.run("ls-remote", url or self.access.url, cwd="/", deadline=time.monotonic() + 20).text

    def let_in(self, url: str = "") -> bool:
        """Whether git gets in, once refreshed."""
        self.refresh()
        try:
            self.listed(url)
        except GitFailed as error:
            assert "uthentication failed" in error.stderr, error
            return False
        return True


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Callable[..., Entrance]]:
    """Make an Access with these settings, and start it."""
    (tmp_path / "tmp").mkdir()
    with contextlib.ExitStack() as open_:

        def enter(**settings: Any) -> Entrance:
            entrance = Entrance(tmp_path / "tmp", **settings)
            open_.callback(entrance.access.close)
            entrance.access.start()
            return entrance

        yield enter
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """A server that wants a password, with one repository."""
    with GitServer(tmp_path / "repos", username="bot", password=PASSWORD) as server:
        server.repository("app.git").commit({"a": "one"})
        yield server


def test_a_password_lets_in(enter, server):
    right = {"repo": server.address("app.git"), "username": "bot"}
    assert enter(**right, password=Secret(PASSWORD)).let_in()
    assert not enter(**right, password=Secret("wrong")).let_in()
    assert not enter(repo=server.address("app.git")).let_in()


def test_a_password_file_is_read_anew(enter, server, tmp_path):
    file = tmp_path / "password"
    file.write_text("wrong\n")
    entrance = enter(repo=server.address("app.git"), username="bot", password=Secret(file=str(file)))
    assert not entrance.let_in()
    renewed = tmp_path / "renewed"
    renewed.write_text(PASSWORD + "\n\n")
    renewed.rename(file)
    assert entrance.let_in()
    assert PASSWORD in entrance.access.secrets()
    assert "wrong" in entrance.access.secrets()


def test_a_password_file_that_is_missing_fails_the_pass(enter, server, tmp_path):
    entrance = enter(repo=server.address("app.git"), username="bot", password=Secret(file=str(tmp_path / "missing")))
    with pytest.raises(NoAccess, match="missing"):
        entrance.refresh()
    (tmp_path / "missing").write_text(PASSWORD)
    assert entrance.let_in()


def test_a_password_in_the_url_is_taken_out_of_it(enter, server):
    entrance = enter(repo=server.address("app.git", URL_LOGIN))
    assert entrance.access.url == server.address("app.git")
    assert PASSWORD in entrance.access.secrets()
    assert entrance.let_in()
    assert entrance.access.login() == ("bot", PASSWORD)


def test_a_token_in_the_place_of_the_user_has_an_empty_password(enter, server):
    server.logins = {"ghp_0123456789": "", "git": ""}
    entrance = enter(repo=server.address("app.git", "ghp_0123456789"))
    assert entrance.let_in()
    assert entrance.access.conceal("it is ghp_0123456789") == "it is REDACTED"
    entrance = enter(repo=server.address("app.git", "git"))
    assert entrance.let_in()
    assert entrance.access.conceal("git says") == "git says"


def test_a_list_of_credentials_serves_submodules_on_other_hosts(enter, server, tmp_path):
    with GitServer(tmp_path / "others", username="alice", password="another") as other:
        hash = other.repository("sub.git").commit({"b": "two"})
        server.repository("app.git").commit(
            {"sub": Gitlink(hash), ".gitmodules": f'[submodule "sub"]\n\tpath = sub\n\turl = {other.url}/sub.git\n'}
        )
        file = tmp_path / "password"
        file.write_text("another\n")
        credentials = (
            json.dumps({"url": server.url, "username": "bot", "password": PASSWORD}),
            json.dumps({"url": other.url, "username": "alice", "password-file": str(file)}),
        )
        entrance = enter(repo=server.address("app.git"), credential=credentials)
        entrance.refresh()
        entrance.git.run("clone", "-q", "--recurse-submodules", entrance.access.url, "clone", cwd=str(tmp_path))
        assert (tmp_path / "clone/sub/b").read_text() == "two"


def test_two_credentials_of_one_host_are_chosen_by_their_path(enter, server):
    server.repository("one/app.git")
    server.repository("two/app.git")
    credentials = tuple(
        json.dumps({"url": f"{server.url}/{path}", "username": "x", "password": path}) for path in ("one", "two")
    )
    entrance = enter(repo=server.address("two/app.git"), credential=credentials)
    entrance.refresh()
    for path in ("one", "two"):
        server.logins = {"x": path}
        entrance.listed(f"{server.url}/{path}/app.git")
    assert entrance.access.login() == ("x", "two")


def test_with_use_http_path_two_credentials_are_chosen_by_the_whole_path(enter, server):
    server.repository("one.git")
    credentials = tuple(
        json.dumps({"url": f"{server.url}/{path}.git", "username": "x", "password": path}) for path in ("app", "one")
    )
    settings = {"repo": server.address("one.git"), "credential": credentials}
    entrance = enter(**settings, git_config="credential.useHttpPath:true")
    for path in ("app", "one"):
        server.logins = {"x": path}
        assert entrance.let_in(f"{server.url}/{path}.git")


def test_a_server_that_refuses_once_does_not_cost_the_password(enter, server):
    entrance = enter(repo=server.address("app.git"), username="bot", password=Secret(PASSWORD))
    entrance.refresh()
    known, server.logins = server.logins, {"nobody": ""}
    with pytest.raises(GitFailed):
        entrance.listed()
    server.logins = known
    entrance.listed()


def test_no_process_has_the_password_on_its_command_line_and_no_file_of_the_root_has_it(server, tmp_path):
    seen: set[str] = set()

    def look(_request: Request) -> None:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                seen.add(" ".join(process.cmdline()))

    server.answer = look
    root, log = tmp_path / "root", tmp_path / "log"
    variables = {**os.environ, "GITSYNC_REPO": server.address("app.git", URL_LOGIN), "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "sidecars.syncer", f"--root={root}", "--one-time", "--admin=off", "-v=9"]
    with open(log, "wb") as stderr:
        assert subprocess.run(command, env=variables, stderr=stderr, check=False).returncode == 0, log.read_text()
    assert (root / "app.git" / "a").read_text() == "one"
    assert any("remote-http" in command for command in seen)
    assert not [command for command in seen if "hunter2" in command]
    files = [path for path in [log, *root.rglob("*")] if path.is_file()]
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert f"url = {server.address('app.git')}\n" in (root / ".git" / "config").read_text()


def test_no_child_of_git_has_the_password_in_its_environment(enter, server, monkeypatch):
    monkeypatch.setenv("GITSYNC_PASSWORD", PASSWORD)
    entrance = enter(repo=server.address("app.git", URL_LOGIN))
    entrance.refresh()
    seen: dict[str, str] = {}

    def look(_request: Request) -> None:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                seen[process.name()] = str(process.environ())

    server.answer = look
    entrance.listed()
    assert "git-remote-http" in seen
    assert not [name for name, variables in seen.items() if "hunter2" in variables]


def test_the_password_is_in_no_error(enter, server):
    entrance = enter(repo=server.address("app.git"), username="bot", password=Secret(PASSWORD))
    entrance.refresh()
    with pytest.raises(GitFailed) as caught:
        entrance.listed(server.address("missing.git", URL_LOGIN))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(GitFailed) as caught:
        entrance.git.run("nonsense", PASSWORD, cwd="/")
    assert "hunter2" not in str(caught.value)


def test_what_must_not_be_shown_is_concealed(enter):
    entrance = enter(
        repo="https://bot:p%40ssword@x.example/a",
        git_config="http.extraHeader:Authorization: Bearer t0ken",
        credential=(json.dumps({"url": "https://alice@y.example", "username": "alice", "password": "s3cret"}),),
    )
    entrance.refresh()
    text = "p@ssword p%40ssword Ym90OnBAc3N3b3Jk t0ken s3cret https://x:y@z/"
    assert entrance.access.conceal(text) == "REDACTED REDACTED REDACTED REDACTED REDACTED https://***@z/"


def test_a_wrapper_of_git_is_told_of_the_logins(enter, server, tmp_path):
    wrapper, told = tmp_path / "wrapper", tmp_path / "told"
    wrapper.write_text(f'#!/bin/sh\nif [ "$1" = credential ]; then cat > {told}; else exec git "$@"; fi\n')
    wrapper.chmod(0o755)
    entrance = enter(repo=server.address("app.git"), username="bot", password=Secret(PASSWORD), git=str(wrapper))
    assert entrance.let_in()
    assert told.read_text() == f"url={server.address('app.git')}\nusername=bot\npassword={PASSWORD}\n"


def test_a_wrapper_finds_the_password_of_a_file_url_by_credential_fill(enter, tmp_path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(
        '#!/bin/sh\n[ "$1" = ls-remote ] || exec git "$@"\n'
        'echo "url=$2" | git credential fill | grep -q "^password=my-password$" || exit 9\n'
    )
    wrapper.chmod(0o755)
    settings = {"repo": f"file://{tmp_path}/repo", "username": "me", "git": str(wrapper)}
    entrance = enter(**settings, password=Secret("my-password"))
    entrance.refresh()
    entrance.listed()
    other = enter(**settings, password=Secret("wrong"))
    other.refresh()
    with pytest.raises(GitFailed, match="exit status 9"):
        other.listed()


def test_a_helper_of_the_user_stores_the_logins(enter, server, tmp_path):
    store = tmp_path / "store"
    entrance = enter(
        repo=server.address("app.git"),
        username="bot",
        password=Secret(PASSWORD),
        git_config=f"credential.helper:store --file={store}",
    )
    assert entrance.let_in()
    assert "bot" in store.read_text()


def test_a_helper_of_the_user_takes_the_place_of_ours_for_every_path(enter, server):
    credentials = tuple(
        json.dumps({"url": f"{server.url}/{path}", "username": "bot", "password": "ours"}) for path in ("app.git", "b")
    )
    helper = f"!f() {{ echo username=bot; echo 'password={PASSWORD}'; }}; f"
    entrance = enter(repo=server.address("app.git"), credential=credentials, git_config=f"credential.helper:{helper}")
    assert entrance.let_in()


def test_the_configuration_is_git_syncs_with_the_users_over_it(enter, tmp_path):
    entrance = enter(
        repo="https://x.example/a",
        git_config="gc.pruneExpire:2.weeks,user.name:A U Thor",
        git_config_add=("user.name:B", r"http.extraHeader:X: a\,b"),
    )
    path = entrance.access.environment()["GIT_CONFIG_GLOBAL"]
    assert Path(path).parent == tmp_path / "tmp"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    listed = entrance.git.run("config", "--global", "--list", cwd="/").text.splitlines()
    assert [each for each in listed if not each.startswith("credential.")] == [
        "gc.autodetach=false",
        "gc.pruneexpire=2.weeks",
        "core.askpass=true",
        "safe.directory=*",
        "user.name=B",
        "http.extraheader=X: a,b",
    ]


@pytest.mark.parametrize("flag", ["git_config", "git_config_add"])
def test_a_configuration_that_cannot_be_read_stops_the_program(enter, flag):
    with pytest.raises(WrongPairs, match=f"--{flag.replace('_', '-')} cannot be read"):
        enter(repo="https://x.example/a", **{flag: "nonsense" if flag == "git_config" else ("nonsense",)})


def test_a_cookie_file_is_used(enter, server, tmp_path, monkeypatch):
    monkeypatch.setattr(Access, "cookie_file", str(tmp_path / "cookies"))
    with pytest.raises(NoAccess, match="there is no"):
        enter(repo=server.address("app.git"), cookie_file=True)
    (tmp_path / "cookies").write_text("127.0.0.1\tFALSE\t/\tFALSE\t0\ttoken\tsweet\n")
    server.logins = {}
    entrance = enter(repo=server.address("app.git"), cookie_file=True)
    entrance.listed()
    assert server.requests[0].headers["Cookie"] == "token=sweet"


def test_the_ca_file_is_trusted_and_nothing_else(enter, tmp_path):
    with GitServer(tmp_path / "secured", tls=True) as server:
        server.repository("app.git").commit({"a": "one"})
        entrance = enter(repo=server.address("app.git"), ca_file=str(server.ca_file))
        entrance.listed()
        assert entrance.access.environment()["SSL_CERT_FILE"] == str(server.ca_file)
        with pytest.raises(GitFailed, match="certificate"):
            enter(repo=server.address("app.git")).listed()


def test_what_is_written_follows_group_write(enter, tmp_path):
    for number, (group_write, mode) in enumerate(((False, 0o755), (True, 0o775))):
        entrance = enter(repo="https://x.example/a", group_write=group_write)
        entrance.git.run("init", "-q", str(tmp_path / str(number)), cwd="/")
        assert stat.S_IMODE((tmp_path / str(number)).stat().st_mode) == mode


class AskpassServer:
    """Answers every GET with a status and a body; a slow one sends a byte at a time, until it is closed."""

    def __init__(self) -> None:
        self.status, self.body, self.headers, self.slow = 200, b"", {}, threading.Event()
        self.slow.set()
        self.got: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.got.append(f"{self.path} {self.headers.get('Authorization', '')}".strip())
                self.send_response(owner.status)
                for name, text in owner.headers.items():
                    self.send_header(name, text)
                self.end_headers()
                for byte in owner.body:
                    self.wfile.write(bytes([byte]))
                    owner.slow.wait(0.1)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.slow.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def askpass() -> Iterator[AskpassServer]:
    server = AskpassServer()
    yield server
    server.close()


def test_askpass_lets_in(enter, server, askpass):
    askpass.body = f"hello\nusername=wrong\nusername=bot\r\npassword={PASSWORD}\nnoise=1".encode()
    entrance = enter(repo=server.address("app.git"), askpass_url=askpass.url)
    assert entrance.let_in()
    assert entrance.let_in()
    assert askpass.got == ["/token"] * 2
    assert entrance.asked == ["success"] * 2
    askpass.body = b"username=bot\npassword=wrong"
    assert not entrance.let_in()
    assert PASSWORD in entrance.access.secrets()


def test_askpass_knows_its_caller_by_the_url(enter, server, askpass):
    askpass.body = f"username=bot\npassword={PASSWORD}".encode()
    entrance = enter(repo=server.address("app.git"), askpass_url=askpass.url.replace("//", "//me:pw@"))
    assert entrance.let_in()
    assert askpass.got == ["/token Basic bWU6cHc="]


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (500, {}, b"password=x", "answers 500"),
        (201, {}, b"password=x", "answers 201"),
        (302, {"Location": "/other"}, b"password=x", "answers 302"),
        (200, {}, b"username=bot", "no line that begins with password="),
        (200, {}, b"", "no line that begins with password="),
        (200, {"Content-Length": "99"}, b"password=x", "is not answered"),
    ],
)
def test_an_answer_of_askpass_that_is_no_password_fails_the_pass(enter, askpass, status, headers, body, reason):
    askpass.status, askpass.headers, askpass.body = status, headers, body
    entrance = enter(repo="https://x.example/a", askpass_url=askpass.url)
    with pytest.raises(SidecarError, match=reason):
        entrance.refresh()
    assert entrance.asked == ["error"]
    assert askpass.got == ["/token"]


def test_askpass_has_a_second(enter, askpass):
    askpass.slow.clear()
    askpass.body = b"x" * 1000
    entrance = enter(repo="https://x.example/a", askpass_url=askpass.url)
    with pytest.raises(NoAnswer, match="timed out"):
        entrance.refresh()


def test_askpass_that_is_not_there_fails_the_pass(enter):
    entrance = enter(repo="https://x.example/a", askpass_url="http://127.0.0.1:1/")
    with pytest.raises(NoAnswer, match="Connection refused"):
        entrance.refresh()


def test_without_a_writable_tmpdir_all_is_in_memory(server, tmp_path):
    entrance = Entrance(tmp_path / "missing", repo=server.address("app.git"), username="bot", password=Secret(PASSWORD))
    entrance.access.start()
    assert entrance.let_in()
    entrance.access.close()


def test_no_descriptor_is_left_open(enter, server, tmp_path):
    def once(password: str) -> None:
        entrance = Entrance(tmp_path, repo=server.address("app.git"), username="bot", password=Secret(password))
        entrance.access.start()
        entrance.refresh()
        entrance.refresh()
        entrance.access.close()

    once("first")
    before = psutil.Process().num_fds()
    for number in range(5):
        once(str(number))
    assert psutil.Process().num_fds() == before
