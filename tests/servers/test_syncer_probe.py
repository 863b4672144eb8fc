from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecars.syncer.probe import NotAnswered, Probe, found, names, packet, packets, understands
from sidecars.syncer.settings import Settings
from tests.servers.git_server import Break, GitServer, Reply, Repository, Request

HASH, OTHER = "4" * 40, "5" * 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "repos") as server:
        yield server


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a commit, to be copied: that is quicker than to make one."""
    repository = Repository(tmp_path_factory.mktemp("template") / "app.git")
    repository.commit({"file": "one"})
    return repository.path


@pytest.fixture
def repository(server: GitServer, template: Path) -> Repository:
    shutil.copytree(template, server.directory / "app.git")
    return server.repository("app.git")


def probe(server: GitServer, ref: str = "main", login: tuple[str, str] | None = None, ca_file: str = "") -> Probe:
    return Probe(server.address("app.git"), ref, lambda: login, ca_file)


def ask(
    probe: Probe, times: int = 1, between: Callable[[], object] = lambda: None, seconds: float = 10
) -> list[object]:
    """Ask so many times over; give the answers, or what was raised."""

    async def asked() -> list[object]:
        answers: list[object] = []
        for turn in range(times):
            if turn:
                await asyncio.to_thread(between)
            try:
                answers.append(await probe.hash_of_ref(seconds))
            except NotAnswered as error:
                answers.append(error)
        await probe.close()
        return answers

    return asyncio.run(asked())


@pytest.mark.parametrize("ref", ["main", "HEAD", "refs/heads/main", "heads/main"])
def test_it_knows_what_git_would_fetch(server: GitServer, repository: Repository, ref: str) -> None:
    assert ask(probe(server, ref)) == [repository.tip()]


def test_an_annotated_tag_is_what_it_points_to(server: GitServer, repository: Repository) -> None:
    repository.git("-c", "user.name=n", "-c", "user.email=e@e", "tag", "-m", "annotated", "v1", "main")
    assert repository.tip("refs/tags/v1") != repository.tip()
    for ref in ("v1", "refs/tags/v1", "tags/v1"):
        assert ask(probe(server, ref)) == [repository.tip()]


def test_a_tag_wins_over_a_branch_of_its_name_as_it_does_for_git(server: GitServer, repository: Repository) -> None:
    other = repository.commit({"file": "two"}, ref="refs/tags/both", parent="")
    repository.git("branch", "both", "main")
    assert ask(probe(server, "both")) == [other]
    assert other == _fetched(server, "both")


def _fetched(server: GitServer, ref: str) -> str:
    own = Repository(server.directory / "own.git")
    own.git("fetch", "-q", server.address("app.git"), ref)
    return own.git("rev-parse", "FETCH_HEAD^{}")


def test_a_ref_that_is_not_there_is_none_and_a_longer_one_is_another(server: GitServer, repository: Repository) -> None:
    repository.git("branch", "main2", "main")
    assert ask(probe(server, "mai")) == [None]
    assert ask(probe(server, "gone")) == [None]


def test_an_empty_repository_has_no_ref(server: GitServer) -> None:
    server.repository("app.git")
    assert ask(probe(server, "HEAD")) == [None]


def test_a_poll_is_one_request_on_a_connection_that_is_kept(server: GitServer, repository: Repository) -> None:
    first = repository.tip()
    made: list[str] = []

    def commit() -> None:
        made.append(repository.commit({"file": str(len(made))}))

    assert ask(probe(server), 4, commit) == [first, *made]
    assert [request.method for request in server.requests] == ["GET", "POST", "POST", "POST", "POST"]


def test_a_connection_that_was_closed_meanwhile_is_made_anew(server: GitServer, repository: Repository) -> None:
    assert ask(probe(server), 3, server.cut) == [repository.tip()] * 3


def test_a_password_is_given_and_a_wrong_one_is_left_to_git(tmp_path: Path) -> None:
    with GitServer(tmp_path / "repos", username="bot", password="hunter2") as server:
        tip = server.repository("app.git").commit({"file": "one"})
        assert ask(probe(server, login=("bot", "hunter2"))) == [tip]
        for login in (None, ("bot", "wrong")):
            (answer,) = ask(probe(server, login=login))
            assert str(answer) == "the server answered 401"
            assert "hunter2" not in repr(answer)


def test_tls_is_checked_against_the_file_that_is_given(tmp_path: Path) -> None:
    with GitServer(tmp_path / "repos", tls=True) as server:
        tip = server.repository("app.git").commit({"file": "one"})
        assert ask(probe(server, ca_file=str(server.ca_file)), 2) == [tip, tip]
        (answer,) = ask(probe(server))
        assert "certificate verify failed" in str(answer)


def nothing(_: Request) -> None:
    return None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: Reply(503), "the server answered 503"),
        (lambda _: Reply(301, b"", {"Location": "http://elsewhere.example/"}), "the server answered 301"),
        (lambda _: Reply(200, b"<html>log in, please</html>"), ""),
        (lambda _: Reply(200, b""), "does not speak version 2"),
        (lambda _: Reply(200, b"001e# service=git-upload-pack\n0000" b"0000"), "does not speak version 2"),
        (lambda request: Reply(200, packet("ERR no\n")) if request.method == "POST" else None, "does not end"),
        (lambda request: Reply(200, packet("ERR no\n") + b"0000") if request.method == "POST" else None, "ERR no"),
        (lambda request: Reply(200, b"x" * (5 << 20)) if request.method == "POST" else None, "longer than 4 MiB"),
        (lambda request: Break(20) if request.method == "POST" else None, ""),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_left_to_git_and_forgotten(
    server: GitServer, repository: Repository, answer: Callable[[Request], Reply | Break | None], said: str
) -> None:
    server.answer = answer
    first, second = ask(probe(server), 2, lambda: setattr(server, "answer", nothing))
    assert isinstance(first, NotAnswered)
    assert said in str(first)
    assert second == repository.tip()


def test_nobody_at_the_port_is_left_to_git(server: GitServer, repository: Repository) -> None:
    there = probe(server)
    with GitServer(server.directory / "other") as other:
        gone = other.url
    (answer,) = ask(Probe(f"{gone}/app.git", "main", lambda: None))
    assert "Connect call failed" in str(answer)
    assert ask(there) == [repository.tip()]


def test_a_server_that_hangs_is_given_up_in_time(server: GitServer, repository: Repository) -> None:
    let_go = threading.Event()
    server.answer = lambda request: let_go.wait(20) and None if request.method == "POST" else None
    try:
        (answer,) = ask(probe(server), seconds=0.3)
    finally:
        let_go.set()
    assert isinstance(answer, NotAnswered)


URL = "https://git.example/app.git"


@pytest.mark.parametrize(
    ("given", "environment", "understood"),
    [
        ({}, {}, True),
        ({"repo": "http://git.example:8080/app"}, {}, True),
        ({"repo": "git@git.example:app.git"}, {}, False),
        ({"repo": "ssh://git.example/app.git"}, {}, False),
        ({"repo": "file:///srv/app.git"}, {}, False),
        ({"repo": "/srv/app.git"}, {}, False),
        ({"repo": f"{URL}?token=1"}, {}, False),
        ({"git": "/usr/local/bin/git"}, {}, False),
        ({"cookie_file": True}, {}, False),
        ({"git_config": "http.extraHeader:x"}, {}, False),
        ({"git_config": 'gc.auto:0,"url.https://x/.insteadOf":y'}, {}, False),
        ({"git_config_add": ("core.sshCommand:x",)}, {}, False),
        ({"git_config": "gc.auto:0"}, {}, True),
        ({}, {"GIT_CONFIG_COUNT": "1"}, False),
        ({}, {"GIT_CONFIG_PARAMETERS": "'http.proxy'='x'"}, False),
        ({}, {"GIT_SSL_NO_VERIFY": "1"}, False),
        ({}, {"HTTPS_PROXY": "http://proxy:3128"}, False),
        ({}, {"all_proxy": "http://proxy:3128"}, False),
        ({}, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "git.example"}, True),
        ({"repo": "https://bot@git.example/app"}, {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "git.example"}, True),
        ({}, {"HTTP_PROXY": "http://proxy:3128"}, True),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_left_to_git(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: dict[str, object],
    environment: dict[str, str],
    understood: bool,
) -> None:
    for name in ("GIT_CONFIG_COUNT", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert understands(Settings(**{"repo": URL, **given})) is understood  # type: ignore[arg-type]


def test_a_netrc_is_left_to_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert understands(Settings(repo=URL))
    (tmp_path / ".netrc").touch()
    assert not understands(Settings(repo=URL))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        ([f"{HASH} refs/heads/main\n"], HASH),
        ([f"{HASH} refs/heads/main"], HASH),
        ([f"{HASH} refs/tags/main peeled:{OTHER}\n"], OTHER),
        ([f"{HASH} refs/heads/main symref-target:x peeled:{OTHER}\n"], OTHER),
        ([f"{HASH} refs/heads/main\n", f"{OTHER} refs/tags/main\n"], OTHER),
        ([f"{HASH} refs/heads/other\n"], None),
        ([f"{HASH + 'a' * 24} refs/heads/main\n"], HASH + "a" * 24),
    ],
)
def test_a_ref_is_found_in_an_answer(lines: list[str], expected: str | None) -> None:
    assert found(b"".join(map(packet, lines)) + b"0000", "main") == expected


@pytest.mark.parametrize(
    "answer",
    [b"", b"zzzz", b"00ffshort", packet("no-hash refs/heads/main\n") + b"0000", packet("ERR denied\n") + b"0000",
     packet("word\n") + b"0000", packet(f"{HASH} refs/heads/main\n")],
)  # fmt: skip
def test_an_answer_that_is_none_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        found(answer, "main")


def test_packets_are_read_as_they_are_made() -> None:
    assert list(packets(packet("a\n") + b"0001" + packet("b") + b"0000")) == [b"a\n", b"", b"b", b""]
    assert names("v1")[:4] == ["v1", "refs/v1", "refs/tags/v1", "refs/heads/v1"]
