"""git-sync's contract, row by row of the table in docs/git-syncer.md, held by the real process on real repositories."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.servers.git_server import Executable, Gitlink, GitServer, Reply, Repository, Symlink
from tests.servers.process import as_root
from tests.servers.syncing import Place, Syncer, local, script, tagged
from tests.unit.core.running import free_port

PASSWORD = "hunter2-swordfish"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for syncer in place.running:
        syncer.__exit__()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served") as server:
        yield server


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GitServer]:
    """A server that asks for a password."""
    with GitServer(tmp_path / "guarded", username="bot", password=PASSWORD) as server:
        yield server


class Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Web:
    """A web server that answers with a status and a text, and remembers what it was asked."""

    def __init__(self, status: int = 200, body: bytes = b"") -> None:
        self.status, self.body = status, body
        self.calls: list[Call] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                web.calls.append(Call(self.command, self.path, dict(self.headers.items()), body))
                self.send_response(web.status)
                self.send_header("Content-Length", str(len(web.body)))
                self.end_headers()
                self.wfile.write(web.body)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def web() -> Iterator[Callable[..., Web]]:
    with contextlib.ExitStack() as stack:

        def web(status: int = 200, body: bytes = b"") -> Web:
            web = Web(status, body)
            stack.callback(web.close)
            return web

        yield web


def ask(port: int, path: str = "/", method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(ask(port))
    return False


# The layout, and publishing


def test_the_layout_is_that_of_git_sync(place: Place) -> None:
    hash = place.origin.commit({"file": "one", "run": Executable("#!/bin/sh\n"), "there": Symlink("file")})
    place.once()
    assert os.readlink(place.link) == f".worktrees/{hash}"
    assert place.text() == "one"
    assert (place.link / ".git").read_text() == f"gitdir: ../../.git/worktrees/{hash}\n"
    assert (place.root / ".git" / "worktrees" / hash).is_dir()
    assert os.access(place.link / "run", os.X_OK)
    assert os.readlink(place.link / "there") == "file"
    assert os.listdir(place.root / ".worktrees") == [hash]
    assert place.inside("rev-parse", "HEAD") == hash
    assert place.inside("status", "--porcelain") == ""
    assert {each.name for each in place.root.iterdir()} == {".git", ".git-syncer", ".worktrees", "link", "touched"}


def test_the_root_is_made_and_symlinks_in_its_path_are_resolved(place: Place, tmp_path: Path) -> None:
    hash = place.origin.commit({"file": "one"})
    (tmp_path / "volume").mkdir()
    (tmp_path / "alias").symlink_to("volume")
    place.root = tmp_path / "alias" / "deep" / "root"
    place.once()
    assert place.hash == hash
    assert (tmp_path / "volume" / "deep" / "root").is_dir()
    assert place.root.stat().st_mode & 0o777 == 0o755


def test_a_relative_root_is_made_absolute(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    syncer = Syncer(
        "--one-time", f"--repo=file://{place.origin.path}", "--root=here", "--link=link", cwd=place.directory,
        environ={"HOME": str(place.home)},
    )  # fmt: skip
    place.running.append(syncer)
    assert syncer.ended()[0] == 0, syncer.log
    assert os.readlink(place.directory / "here" / "link") == f".worktrees/{hash}"


LINKS = [
    ("current", "root/current", ".worktrees/"),
    ("a/b/current", "root/a/b/current", "../../.worktrees/"),
    ("{tmp}/root/current", "root/current", ".worktrees/"),
    ("{tmp}/out/side/current", "out/side/current", "../../root/.worktrees/"),
    ("", "root/app", ".worktrees/"),
]


@pytest.mark.parametrize(("flag", "path", "target"), LINKS, ids=str)
def test_the_link_may_be_relative_absolute_or_left_out(
    flag: str, path: str, target: str, place: Place, tmp_path: Path
) -> None:
    hash = place.origin.commit({"file": "one"})
    place.once(f"--link={flag.format(tmp=tmp_path)}")
    assert os.readlink(tmp_path / path) == f"{target}{hash}"
    assert (tmp_path / path / "file").read_text() == "one"


def test_the_default_link_is_the_last_part_of_the_url(server: GitServer, place: Place) -> None:
    hash = server.repository("team/site.git").commit({"file": "one"})
    place.once(f"--repo={server.address('team/site.git')}/", "--link=")
    assert os.readlink(place.root / "site.git") == f".worktrees/{hash}"


def test_what_a_crash_left_in_the_links_place_is_no_obstacle(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    place.root.mkdir()
    (place.root / "tmp-link").symlink_to(".worktrees/gone")
    place.once()
    assert place.hash == hash


def test_a_directory_in_the_links_place_is_a_failure(place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.link.mkdir(parents=True)
    (place.link / "theirs").write_text("kept")
    place.once(code=1)
    assert (place.link / "theirs").read_text() == "kept"


def test_other_files_in_the_root_stay(place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.root.mkdir()
    (place.root / "theirs").write_text("kept")
    place.once()
    (place.root / ".git" / "HEAD").unlink()
    place.once()
    assert (place.root / "theirs").read_text() == "kept"
    assert place.text() == "one"


def test_the_layout_of_version_3_is_migrated(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    place.root.mkdir()
    root = Repository(place.root)
    root.git("init", "-q")
    root.git("fetch", "-q", "--depth=1", f"file://{place.origin.path}", "main")
    root.git("worktree", "add", "-q", "--detach", str(place.root / hash), hash)
    place.link.symlink_to(hash)
    place.once()
    assert os.readlink(place.link) == f".worktrees/{hash}"
    assert place.text() == "one"
    assert not (place.root / hash).exists()


# Following


def test_a_new_commit_is_published(place: Place) -> None:
    place.origin.commit({"file": "one", "old": "x"})
    syncer = place.follow()
    first = place.hash
    second = place.origin.commit({"file": "two", "old": None, "dir/new": "y"})
    place.until_published(syncer, second)
    assert place.files() == {"file", "dir/new"}
    assert place.text() == "two"
    syncer.until(lambda: not (place.root / ".worktrees" / first).exists())


REFS = [
    "HEAD",
    "main",
    "v1",
    "v2",
    "refs/heads/main",
    "refs/tags/v2",
    "heads/main",
    "tags/v1",
    "topic/x",
    "refs/other/y",
]


@pytest.mark.parametrize("ref", REFS)
def test_every_form_of_a_ref_is_synced(ref: str, place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    place.origin.git("tag", "v1", hash)
    tagged(place.origin, "v2", hash)
    place.origin.git("update-ref", "refs/heads/topic/x", hash)
    place.origin.git("update-ref", "refs/other/y", hash)
    place.once(f"--ref={ref}")
    assert place.hash == hash


def test_head_is_the_default_branch_wherever_it_points(place: Place) -> None:
    main = place.origin.commit({"file": "main"})
    trunk = place.origin.commit({"file": "trunk"}, ref="refs/heads/trunk", parent="")
    syncer = place.follow("--ref=HEAD")
    assert place.hash == main
    place.origin.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    place.until_published(syncer, trunk)


def test_a_branch_is_followed_forwards_backwards_and_to_another_history(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    syncer = place.follow("--ref=main")
    second = place.origin.commit({"file": "two"})
    place.until_published(syncer, second)
    place.origin.git("update-ref", "refs/heads/main", first)
    place.until_published(syncer, first)
    other = place.origin.commit({"other": "three"}, parent="")
    place.until_published(syncer, other)
    assert place.files() == {"other"}


@pytest.mark.parametrize("annotated", [False, True], ids=["light", "annotated"])
def test_a_tag_is_followed_when_it_moves(annotated: bool, place: Place) -> None:
    def tag(hash: str) -> None:
        if annotated:
            tagged(place.origin, "v1", hash)
        else:
            place.origin.git("tag", "-f", "v1", hash)

    first = place.origin.commit({"file": "one"})
    tag(first)
    syncer = place.follow("--ref=v1")
    second = place.origin.commit({"file": "two"})
    assert place.hash == first
    tag(second)
    place.until_published(syncer, second)


def test_a_tag_wins_over_a_branch_of_its_name(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    place.origin.git("tag", "same", first)
    place.origin.git("update-ref", "refs/heads/same", place.origin.commit({"file": "two"}))
    place.once("--ref=same")
    assert place.hash == first


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_a_hash_is_synced_once_and_needs_no_more(scheme: str, place: Place, server: GitServer) -> None:
    repository = place.origin if scheme == "file" else server.repository("app")
    url = f"file://{place.origin.path}" if scheme == "file" else server.address("app")
    first = repository.commit({"file": "one"})
    repository.commit({"file": "two"})
    syncer = place.follow(f"--repo={url}", f"--ref={first}")
    syncer.wait_for("ref appears to be a git hash, no further sync needed")
    assert (place.hash, place.text()) == (first, "one")
    assert not (place.root / "error").exists()
    place.once(f"--repo={url}", f"--ref={first}", f"--root={place.root}2")


def test_a_missing_ref_is_a_failure_and_the_error_file_says_so(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.start("--ref=nowhere")
    assert syncer.ended()[0] == 1
    error = place.error()
    assert set(error) == {"Msg", "Err", "Args"}
    assert error["Msg"] == "too many failures, aborting"
    assert error["Args"] == {"failCount": 1, "maxFailures": 0}
    assert "couldn't find remote ref" in (place.root / "error").read_text()
    assert re.match(r"Run\(git fetch .*\): exit status 128: \{ stdout: \".*\", stderr: \".*\" \}$", error["Err"])
    assert not place.link.exists()
    place.once()
    assert not (place.root / "error").exists()


def test_with_a_hash_hooks_are_still_tried_again_and_the_endpoint_answers(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    out, good = place.directory / "out", place.directory / "good"
    hook = script(place.directory / "hook", f"test -e {good} && echo $GITSYNC_HASH >{out}")
    port = free_port()
    syncer = place.follow(
        f"--ref={hash}", f"--exechook-command={hook}", "--exechook-backoff=1s", f"--http-bind=127.0.0.1:{port}"
    )
    syncer.wait_for("ref appears to be a git hash, no further sync needed")
    syncer.wait_for("hook failed")
    good.touch()
    syncer.until(lambda: out.exists() and out.read_text() == f"{hash}\n")
    assert ask(port) == (200, "")


def test_another_hash_after_a_restart_is_synced_whether_it_was_there_or_not(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    second = place.origin.commit({"file": "two"})
    place.once(f"--ref={second}", "--depth=0")
    place.once(f"--ref={first}")
    assert (place.hash, place.text()) == (first, "one")
    third = place.origin.commit({"file": "three"})
    place.once(f"--ref={third}")
    assert (place.hash, place.text()) == (third, "three")


@pytest.mark.parametrize("ref", ["0" * 40, "f" * 40])
def test_a_hash_that_is_nowhere_is_a_failure(ref: str, place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.once(f"--ref={ref}", code=1)


def test_a_short_hash_is_a_missing_ref(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    place.once(f"--ref={hash[:8]}", code=1)
    assert "couldn't find remote ref" in place.error()["Err"]


def test_a_missing_repository_is_a_failure(place: Place) -> None:
    place.once("--repo=file:///nowhere/at/all", code=1)
    assert "does not appear to be a git repository" in place.error()["Err"]


def test_what_is_published_stays_while_the_ref_is_gone(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    syncer = place.follow("--ref=main", "--max-failures=-1", "--max-backoff=100ms")
    place.origin.git("update-ref", "-d", "refs/heads/main")
    syncer.until((place.root / "error").exists)
    assert place.text() == "one"
    place.origin.git("update-ref", "refs/heads/main", hash)
    syncer.until(lambda: not (place.root / "error").exists())
    second = place.origin.commit({"file": "two"})
    place.until_published(syncer, second)


def test_the_repository_may_be_another_one_after_a_restart(place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.once()
    other = local(place.directory / "origin" / "other")
    hash = other.commit({"file": "other"})
    place.once(f"--repo=file://{other.path}")
    assert (place.hash, place.text()) == (hash, "other")
    assert place.inside("remote", "get-url", "origin", cwd=place.root) == f"file://{other.path}"


def test_the_ref_may_be_another_one_after_a_restart(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    place.origin.git("tag", "v1", first)
    second = place.origin.commit({"file": "two"})
    place.once("--ref=main")
    assert place.hash == second
    place.once("--ref=v1")
    assert place.hash == first


# Content


def history(place: Place) -> int:
    return int(place.inside("rev-list", "--count", "HEAD"))


@pytest.mark.parametrize(("flag", "commits"), [([], 1), (["--depth=2"], 2), (["--depth=0"], 3)])
def test_the_depth_is_1_or_as_asked_for_and_0_is_all(flag: list[str], commits: int, place: Place) -> None:
    for text in ("one", "two", "three"):
        place.origin.commit({"file": text})
    place.once(*flag)
    assert history(place) == commits


def test_the_depth_may_change_both_ways_after_a_restart(place: Place) -> None:
    for text in ("one", "two", "three"):
        place.origin.commit({"file": text})
    for depth, commits in ((1, 1), (0, 3), (2, 2)):
        place.once(f"--depth={depth}")
        assert history(place) == commits


def test_the_depth_holds_while_commits_come(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.follow("--depth=2")
    for text in ("two", "three", "four"):
        place.until_published(syncer, place.origin.commit({"file": text}))
    assert history(place) == 2


@pytest.mark.parametrize("filter", ["blob:none", "tree:0"])
def test_a_filter_leaves_out_what_is_not_needed(filter: str, place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.origin.commit({"file": "two", "big": "x" * 10000})
    syncer = place.follow(f"--filter={filter}", "--depth=0")
    assert place.text() == "two"
    assert list((place.root / ".git" / "objects" / "pack").glob("*.promisor"))
    place.until_published(syncer, place.origin.commit({"file": "three"}))
    assert place.text() == "three"


def test_a_sparse_checkout_has_the_files_that_its_patterns_name(place: Place) -> None:
    place.origin.commit({"file": "one", "file2": "two", "dir/file3": "three"})
    patterns = place.directory / "sparse"
    patterns.write_text("!/*\n!/*/\nfile2\n")
    syncer = place.follow(f"--sparse-checkout-file={patterns}")
    assert place.files() == {"file2"}
    place.until_published(syncer, place.origin.commit({"file2": "new", "file4": "four"}))
    assert place.files() == {"file2"}
    assert place.text("file2") == "new"


def test_a_sparse_checkout_may_change_or_end_with_a_restart(place: Place) -> None:
    place.origin.commit({"file": "one", "file2": "two"})
    patterns = place.directory / "sparse"
    patterns.write_text("!/*\nfile2\n")
    place.once(f"--sparse-checkout-file={patterns}")
    assert place.files() == {"file2"}
    patterns.write_text("!/*\nfile\n")
    place.once(f"--sparse-checkout-file={patterns}")
    assert place.files() == {"file"}
    place.once()
    assert place.files() == {"file", "file2"}
    place.once(f"--sparse-checkout-file={patterns}.gone", code=1)


class Nest(NamedTuple):
    """A repository with a submodule, which has one too, all on a server."""

    url: str
    top: Repository
    middle: Repository
    inner: Repository

    def commit(self, text: str) -> str:
        """A commit in each, from the inner one outwards."""
        inner = self.inner.commit({"inner": text})
        middle = self.middle.commit(
            {"middle": text, ".gitmodules": '[submodule "in"]\n\tpath = in\n\turl = ../inner\n', "in": Gitlink(inner)}
        )
        modules = f'[submodule "sub"]\n\tpath = sub\n\turl = {self.url}/middle\n'
        return self.top.commit({"file": text, ".gitmodules": modules, "sub": Gitlink(middle)})


def nest(server: GitServer) -> Nest:
    found = Nest(server.url, *(server.repository(name) for name in ("top", "middle", "inner")))
    found.commit("one")
    return found


NESTED = {"recursive": {"file", ".gitmodules", "sub/middle", "sub/.gitmodules", "sub/in/inner"},
          "shallow": {"file", ".gitmodules", "sub/middle", "sub/.gitmodules"},
          "off": {"file", ".gitmodules"}}  # fmt: skip


@pytest.mark.parametrize("mode", NESTED)
def test_submodules_are_checked_out_as_deep_as_asked_for(mode: str, server: GitServer, place: Place) -> None:
    nested = nest(server)
    syncer = place.follow(f"--repo={server.address('top')}", f"--submodules={mode}")
    assert place.files() == NESTED[mode]
    place.until_published(syncer, nested.commit("two"))
    assert place.files() == NESTED[mode]
    for name in NESTED[mode] - {".gitmodules", "sub/.gitmodules"}:
        assert place.text(name) == "two"


def test_submodules_are_the_default_and_may_be_added_moved_and_removed(server: GitServer, place: Place) -> None:
    top, one, two = (server.repository(name) for name in ("top", "one", "two"))
    in_one, in_two = one.commit({"a": "1"}), two.commit({"b": "2"})
    top.commit({"file": "x"})
    syncer = place.follow(f"--repo={server.address('top')}")
    modules = '[submodule "sub"]\n\tpath = sub\n\turl = ../{}\n'
    place.until_published(syncer, top.commit({".gitmodules": modules.format("one"), "sub": Gitlink(in_one)}))
    assert place.files() == {"file", ".gitmodules", "sub/a"}
    place.until_published(syncer, top.commit({".gitmodules": modules.format("two"), "sub": Gitlink(in_two)}))
    assert place.files() == {"file", ".gitmodules", "sub/b"}
    place.until_published(syncer, top.commit({".gitmodules": None, "sub": None}))
    assert place.files() == {"file"}


def test_submodules_at_file_urls_need_what_git_wants_for_them(place: Place) -> None:
    inner = local(place.directory / "origin" / "inner")
    modules = '[submodule "sub"]\n\tpath = sub\n\turl = ../inner\n'
    place.origin.commit({".gitmodules": modules, "sub": Gitlink(inner.commit({"inner": "one"}))})
    place.once(code=1)
    assert "transport 'file' not allowed" in place.error()["Err"]
    syncer = place.follow("--git-config=protocol.file.allow:always")
    assert place.text("sub/inner") == "one"
    place.until_published(syncer, place.origin.commit({"sub": Gitlink(inner.commit({"inner": "two"}))}))
    assert place.text("sub/inner") == "two"


def test_the_depth_is_that_of_submodules_too(server: GitServer, place: Place) -> None:
    nested = nest(server)
    for text in ("two", "three"):
        nested.commit(text)
    place.once(f"--repo={server.address('top')}", "--depth=1")
    assert place.inside("rev-list", "--count", "HEAD", cwd=place.link / "sub") == "1"


# Access


def test_a_password_from_the_environment(guarded: GitServer, place: Place) -> None:
    hash = guarded.repository("app").commit({"file": "one"})
    syncer = place.once(f"--repo={guarded.address('app')}", "--username=bot", "-v=9", GITSYNC_PASSWORD=PASSWORD)
    assert place.hash == hash
    assert PASSWORD not in syncer.log


def test_a_wrong_password_is_a_failure(guarded: GitServer, place: Place) -> None:
    guarded.repository("app").commit({"file": "one"})
    syncer = place.once(
        f"--repo={guarded.address('app')}", "--username=bot", "-v=9", code=1, GITSYNC_PASSWORD="wrong-" + PASSWORD
    )
    assert "uthentication failed" in place.error()["Err"]
    assert PASSWORD not in syncer.log
    assert PASSWORD not in (place.root / "error").read_text()


def test_a_password_file_is_read_anew_before_each_pass(guarded: GitServer, place: Place) -> None:
    repository = guarded.repository("app")
    repository.commit({"file": "one"})
    file = place.directory / "password"
    file.write_text(PASSWORD + "\n")
    syncer = place.follow(
        f"--repo={guarded.address('app')}", "--username=bot", f"--password-file={file}",
        "--max-failures=-1", "--max-backoff=100ms",
    )  # fmt: skip
    guarded.logins["bot"] = "another"
    syncer.until((place.root / "error").exists)
    file.write_text("another")
    place.until_published(syncer, repository.commit({"file": "two"}))


def test_a_password_in_the_url_is_taken_out_of_it(guarded: GitServer, place: Place) -> None:
    hash = guarded.repository("app").commit({"file": "one"})
    syncer = place.once(f"--repo={guarded.address('app', f'bot:{PASSWORD}')}", "-v=9")
    assert place.hash == hash
    assert PASSWORD not in syncer.log
    assert PASSWORD not in (place.root / ".git" / "config").read_text()


def test_credentials_for_submodules_on_other_hosts(guarded: GitServer, server: GitServer, place: Place) -> None:
    inner = guarded.repository("inner").commit({"inner": "one"})
    modules = f'[submodule "sub"]\n\tpath = sub\n\turl = {guarded.address("inner")}\n'
    server.repository("top").commit({".gitmodules": modules, "sub": Gitlink(inner)})
    file = place.directory / "password"
    file.write_text(PASSWORD)
    login = {"url": guarded.url, "username": "bot", "password-file": str(file)}
    place.once(f"--repo={server.address('top')}", f"--credential={json.dumps(login)}")
    assert place.text("sub/inner") == "one"
    place.once(f"--repo={server.address('top')}", f"--root={place.root}2", GITSYNC_CREDENTIAL=json.dumps([login]))


def test_a_password_from_an_askpass_url(guarded: GitServer, web: Callable[..., Web], place: Place) -> None:
    hash = guarded.repository("app").commit({"file": "one"})
    asked = web(200, f"username=bot\nother=x\npassword={PASSWORD}\n".encode())
    port = free_port()
    syncer = place.follow(
        f"--repo={guarded.address('app')}", f"--askpass-url={asked.url}/login",
        f"--http-bind=127.0.0.1:{port}", "--http-metrics", "--max-failures=-1", "--max-backoff=100ms",
    )  # fmt: skip
    assert place.hash == hash
    assert asked.calls[0][:2] == ("GET", "/login")
    asked.status = 403
    syncer.until((place.root / "error").exists)
    text = ask(port, "/metrics")[1]
    assert re.search(r'^git_sync_askpass_calls{status="success"} [1-9]', text, re.M)
    assert re.search(r'^git_sync_askpass_calls{status="error"} [1-9]', text, re.M)
    asked.status = 200
    place.until_published(syncer, guarded.repository("app").commit({"file": "two"}))


def test_git_config_is_set_for_git_and_hooks(place: Place) -> None:
    place.origin.commit({"file": "one"})
    out = place.directory / "out"
    hook = script(place.directory / "hook", f"git config a.b >{out}; git config c.d >>{out}; git config e.f >>{out}")
    place.once(r'--git-config="a.b":"x, \"y\"",c.d:one\,two', "--git-config-add=e.f:g", f"--exechook-command={hook}")
    assert out.read_text() == 'x, "y"\none,two\ng\n'


def test_a_git_config_that_cannot_be_read_ends_it(place: Place) -> None:
    place.origin.commit({"file": "one"})
    assert place.start("--git-config=a", "--max-failures=-1").ended()[0] == 1


def test_what_begins_with_a_dash_never_reaches_git(place: Place) -> None:
    for flag in ("--repo=--upload-pack=touch pwned", "--ref=--upload-pack=touch pwned"):
        assert place.start(flag, "--max-failures=-1").ended()[0] == 1
    place.once("--repo=ext::sh -c touch% pwned", code=1)
    assert not list(place.directory.rglob("pwned"))


# Hooks


def test_the_exechook_runs_in_the_worktree_with_the_hash(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    out = place.directory / "out"
    hook = script(
        place.directory / "hook",
        f'test -t 0 && exit 9; echo "$GITSYNC_HASH $(pwd -P) $(cat file) $# $FROM_OUTSIDE" >>{out}',
    )
    syncer = place.follow(f"--exechook-command={hook}", FROM_OUTSIDE="yes")
    second = place.origin.commit({"file": "two"})
    syncer.until(lambda: out.exists() and len(out.read_text().splitlines()) == 2)
    worktrees = place.root.resolve() / ".worktrees"
    assert out.read_text() == "".join(
        f"{hash} {worktrees / hash} {text} 0 yes\n" for hash, text in ((first, "one"), (second, "two"))
    )


def test_a_hook_never_sees_a_password(guarded: GitServer, place: Place) -> None:
    guarded.repository("app").commit({"file": "one"})
    out = place.directory / "out"
    hook = script(place.directory / "hook", f"env >{out}; cat /proc/$PPID/cmdline >>{out}")
    place.once(
        f"--repo={guarded.address('app')}", "--username=bot", f"--exechook-command={hook}", GITSYNC_PASSWORD=PASSWORD
    )
    assert "GIT_CONFIG_GLOBAL=" in out.read_text()
    assert "GIT_SSH_COMMAND=" in out.read_text()
    assert PASSWORD not in out.read_text()


def test_a_relative_exechook_is_one_of_the_worktree(place: Place) -> None:
    out = place.directory / "out"
    place.origin.commit({"bin/hook": Executable(f"#!/bin/sh\necho ran >{out}\n")})
    place.once("--exechook-command=bin/hook")
    assert out.read_text() == "ran\n"


def test_the_exechook_is_no_shell(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.once("--exechook-command=/bin/echo words", code=1)
    assert "no such file or directory" in syncer.wait_for("hook failed")["error"]


def test_a_failed_exechook_is_tried_again_and_syncing_goes_on(place: Place) -> None:
    place.origin.commit({"file": "one"})
    out, good = place.directory / "out", place.directory / "good"
    hook = script(place.directory / "hook", f"echo $GITSYNC_HASH >>{out}; test -e {good}")
    port = free_port()
    syncer = place.follow(
        f"--exechook-command={hook}", "--exechook-backoff=1s", f"--http-bind=127.0.0.1:{port}", "--http-metrics"
    )
    syncer.wait_for("hook failed")
    second = place.origin.commit({"file": "two"})
    place.until_published(syncer, second)
    good.touch()
    syncer.until(
        lambda: 'git_sync_hook_run_count_total{name="exechook",status="success"} 1\n' in ask(port, "/metrics")[1]
    )
    assert out.read_text().splitlines()[-1] == second
    assert 'git_sync_hook_run_count_total{name="exechook",status="error"} 1\n' in ask(port, "/metrics")[1]


def test_a_hook_that_takes_too_long_is_killed(place: Place) -> None:
    place.origin.commit({"file": "one"})
    hook = script(place.directory / "hook", "exec sleep 600")
    syncer = place.once(f"--exechook-command={hook}", "--exechook-timeout=1s", code=1)
    assert "context deadline exceeded" in syncer.wait_for("hook failed")["error"]


@pytest.mark.parametrize("flag", ["exechook-command", "pre-publish-exechook-command"])
def test_a_failed_hook_of_a_one_time_run_ends_it_with_1_and_what_was_published_stays(flag: str, place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    syncer = place.once(f"--{flag}=/bin/false", code=1)
    assert place.hash == hash
    assert len(syncer.said("hook failed")) == 1
    assert syncer.wait_for("exiting after one sync")["status"] == 1


def test_every_start_counts_as_a_sync(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    out = place.directory / "out"
    hook = script(place.directory / "hook", f"echo $GITSYNC_HASH >>{out}")
    for times in (1, 2):
        place.touched.unlink(missing_ok=True)
        place.once(f"--exechook-command={hook}")
        assert place.touched.exists()
        assert out.read_text() == f"{hash}\n" * times


def test_the_pre_publish_hook_runs_for_a_change_only_and_is_no_gate(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    out = place.directory / "out"
    hook = script(place.directory / "hook", f'echo "$GITSYNC_HASH $(pwd -P)" >>{out}; exit 1')
    place.once(f"--pre-publish-exechook-command={hook}", code=1)
    assert place.hash == hash
    place.once(f"--pre-publish-exechook-command={hook}")
    assert out.read_text() == f"{hash} {place.root.resolve()}/.worktrees/{hash}\n"


def test_the_webhook_is_called_with_the_hash(web: Callable[..., Web], place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    called = web(200)
    syncer = place.follow(f"--webhook-url={called.url}/hook?x=1")
    syncer.until(lambda: len(called.calls) == 1)
    second = place.origin.commit({"file": "two"})
    syncer.until(lambda: len(called.calls) == 2)
    assert [(call.method, call.path, call.headers["Gitsync-Hash"], call.body) for call in called.calls] == [
        ("POST", "/hook?x=1", hash, b"") for hash in (first, second)
    ]


@pytest.mark.parametrize(
    ("flags", "status", "code"),
    [
        ([], 200, 0), ([], 204, 1), ([], 500, 1), (["--webhook-success-status=204"], 204, 0),
        (["--webhook-success-status=0"], 500, 0), (["--webhook-success-status=-1"], 404, 0),
        (["--webhook-method=PUT"], 200, 0),
    ],
)  # fmt: skip
def test_the_webhook_is_good_by_its_status(
    flags: list[str], status: int, code: int, web: Callable[..., Web], place: Place
) -> None:
    place.origin.commit({"file": "one"})
    called = web(status)
    place.once(f"--webhook-url={called.url}", *flags, code=code)
    assert [call.method for call in called.calls] == ["PUT" if "PUT" in str(flags) else "POST"]
    assert place.text() == "one"


def test_a_webhook_that_nobody_answers_is_a_failure(place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.once(f"--webhook-url=http://127.0.0.1:{free_port()}/", "--webhook-success-status=0", code=1)
    assert place.text() == "one"
    assert place.error()["Msg"] == "hook failed"


# Files


def test_the_touch_file_is_touched_by_a_change_and_by_the_first_pass_only(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.start("--touch-file=a/b/touched", "-v=3")
    touched = place.root / "a" / "b" / "touched"
    syncer.until(touched.exists)
    os.utime(touched, (1, 1))
    passes = len(syncer.said("next sync"))
    syncer.until(lambda: len(syncer.said("next sync")) > passes + 1)
    assert touched.stat().st_mtime == 1
    hash = place.origin.commit({"file": "two"})
    syncer.until(lambda: touched.stat().st_mtime != 1)
    assert place.hash == hash


def test_the_touch_file_and_the_error_file_may_lie_elsewhere(place: Place) -> None:
    place.origin.commit({"file": "one"})
    elsewhere = place.directory / "elsewhere"
    place.once("--ref=nowhere", f"--error-file={elsewhere}/error", code=1)
    assert "couldn't find remote ref" in (elsewhere / "error").read_text()
    assert (elsewhere / "error").stat().st_mode & 0o777 == 0o644
    place.once(f"--touch-file={elsewhere}/deep/touched", f"--error-file={elsewhere}/error")
    assert os.listdir(elsewhere) == ["deep"]
    assert (elsewhere / "deep" / "touched").exists()


# Failures


@pytest.mark.parametrize(("flags", "passes"), [([], 1), (["--max-failures=1"], 1), (["--max-failures=3"], 3)])
@pytest.mark.parametrize("once", [[], ["--one-time"]], ids=["loop", "once"])
def test_it_ends_after_so_many_failures_in_a_row(flags: list[str], once: list[str], passes: int, place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.start("--ref=nowhere", "--period=10ms", *once, *flags)
    assert syncer.ended()[0] == 1
    retried = [event["failCount"] for event in syncer.said("error syncing repo, will retry")]
    assert retried == list(range(1, passes))
    assert syncer.wait_for("too many failures, aborting")["failCount"] == passes


def test_a_good_pass_begins_the_count_anew(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    syncer = place.follow("--ref=main", "--max-failures=50", "--max-backoff=100ms")
    for _ in range(2):
        place.origin.git("update-ref", "-d", "refs/heads/main")
        syncer.until((place.root / "error").exists)
        place.origin.git("update-ref", "refs/heads/main", hash)
        syncer.until(lambda: not (place.root / "error").exists())
    assert [each["failCount"] for each in syncer.said("error syncing repo, will retry")].count(1) == 2


def test_failures_before_the_first_success_have_a_limit_and_a_period_of_their_own(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    syncer = place.start(
        "--ref=later", "--period=1h", "--init-period=20ms", "--init-max-failures=-1", "--max-backoff=20ms"
    )
    syncer.until(lambda: len(syncer.said("error syncing repo, will retry")) > 2)
    place.origin.git("update-ref", "refs/heads/later", first)
    place.until_published(syncer, first)
    assert syncer.wait_for("error syncing repo, will retry")["failCount"] == 1
    other = place.start(
        "--ref=nowhere", "--init-max-failures=2", "--max-failures=-1", "--period=10ms", f"--root={place.root}2"
    )
    assert other.ended()[0] == 1
    assert other.wait_for("too many failures, aborting")["failCount"] == 2


def test_a_pass_that_takes_too_long_is_a_failure(server: GitServer, place: Place) -> None:
    server.repository("app").commit({"file": "one"})
    released = threading.Event()

    def wait(_: object) -> None:
        released.wait(20)

    server.answer = wait
    syncer = place.start(f"--repo={server.address('app')}", "--sync-timeout=500ms")
    try:
        assert syncer.ended(10)[0] == 1
    finally:
        released.set()
    assert not place.link.exists()
    assert "context deadline exceeded" in place.error()["Err"]


def test_a_server_that_answers_with_errors_is_one(server: GitServer, place: Place) -> None:
    server.repository("app").commit({"file": "one"})
    broken = threading.Event()
    broken.set()
    server.answer = lambda _: Reply(503, b"busy\n") if broken.is_set() else None
    syncer = place.start(f"--repo={server.address('app')}", "--max-failures=-1", "--max-backoff=100ms")
    syncer.until((place.root / "error").exists)
    assert "503" in place.error()["Err"]
    broken.clear()
    syncer.until(place.link.exists)
    syncer.until(lambda: not (place.root / "error").exists())


def test_a_cookie_file_that_is_not_there_ends_it(place: Place) -> None:
    if not os.path.exists("/etc/git-secret/cookie_file"):
        place.origin.commit({"file": "one"})
        assert place.start("--cookie-file", "--max-failures=-1").ended()[0] == 1


def test_an_error_of_a_hook_is_in_the_error_file_until_the_next_good_pass(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.follow("--exechook-command=/bin/false", "--exechook-backoff=1h", "--period=500ms")
    syncer.wait_for("hook failed")
    syncer.until(lambda: not (place.root / "error").exists())
    assert len(syncer.said("hook failed")) == 1


def test_a_git_that_is_not_there_ends_it(place: Place) -> None:
    assert place.start("--git=no-such-git", "--max-failures=-1").ended()[0] == 1


def test_a_root_that_cannot_be_made_ends_it(place: Place) -> None:
    (place.directory / "file").write_text("in the way")
    assert place.start(f"--root={place.directory}/file/root", "--max-failures=-1").ended()[0] == 1


# Repair


def lose_the_link(place: Place) -> None:
    place.link.unlink()


def lose_the_worktree(place: Place) -> None:
    subprocess.run(["rm", "-r", str(place.link.resolve())], check=True)


def empty_the_worktree(place: Place) -> None:
    worktree = place.link.resolve()
    subprocess.run(["rm", "-r", str(worktree)], check=True)
    worktree.mkdir()


def move_the_head(place: Place) -> None:
    (place.root / ".git" / "worktrees" / place.hash / "HEAD").write_text("0" * 40 + "\n")


def lose_the_repository(place: Place) -> None:
    subprocess.run(["rm", "-r", str(place.root / ".git")], check=True)


def lose_the_objects(place: Place) -> None:
    subprocess.run(["rm", "-r", str(place.root / ".git" / "objects")], check=True)
    (place.root / ".git" / "objects").mkdir()


def break_the_config(place: Place) -> None:
    (place.root / ".git" / "config").write_text("[nonsense")


def break_the_head(place: Place) -> None:
    (place.root / ".git" / "HEAD").write_text("nonsense\n")


def leave_locks(place: Place) -> None:
    git = place.root / ".git"
    for lock in ("shallow.lock", "index.lock", "HEAD.lock", "config.lock", "packed-refs.lock"):
        (git / lock).touch()
    (git / "worktrees" / place.hash / "index.lock").touch()
    (git / "worktrees" / place.hash / "HEAD.lock").touch()


def point_the_link_elsewhere(place: Place) -> None:
    place.link.unlink()
    place.link.symlink_to(".worktrees/" + "1" * 40)


DAMAGES = [lose_the_link, lose_the_worktree, empty_the_worktree, move_the_head, lose_the_repository, lose_the_objects,
           break_the_config, break_the_head, leave_locks, point_the_link_elsewhere]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_root_is_mended_at_the_next_start(damage: Callable[[Place], None], place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.once()
    damage(place)
    second = place.origin.commit({"file": "two"})
    place.once()
    assert (place.hash, place.text()) == (second, "two")
    assert place.inside("status", "--porcelain") == ""


@pytest.mark.parametrize("damage", DAMAGES[:5], ids=lambda damage: damage.__name__)
def test_a_damaged_root_is_mended_while_it_runs(damage: Callable[[Place], None], place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    syncer = place.follow("--max-failures=-1", "--max-backoff=100ms")
    damage(place)
    syncer.until(lambda: (place.link / "file").exists() and place.hash == hash and place.head() == hash)
    assert place.text() == "one"


def test_a_root_inside_another_repository_is_one_of_its_own(place: Place) -> None:
    around = local(place.directory / "around" / ".git")
    around.git("config", "core.bare", "false")
    place.root = place.directory / "around" / "root"
    hash = place.origin.commit({"file": "one"})
    place.root.mkdir()
    place.once()
    assert place.hash == hash
    assert (place.root / ".git").is_dir()


def test_stray_worktrees_are_removed(place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.once()
    (place.root / ".worktrees" / ("2" * 40)).mkdir()
    (place.root / ".worktrees" / "stray").write_text("x")
    place.once()
    assert os.listdir(place.root / ".worktrees") == [place.hash]


def test_stray_worktrees_are_removed_while_it_runs(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.follow()
    (place.root / ".worktrees" / "stray").mkdir()
    (place.root / ".worktrees" / "stray" / "file").write_text("x")
    (place.root / ".worktrees" / "file").write_text("x")
    syncer.until(lambda: os.listdir(place.root / ".worktrees") == [place.hash])


def test_a_start_after_kill_9_goes_on_and_runs_the_hooks(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    out = place.directory / "out"
    hook = script(place.directory / "hook", f"echo $GITSYNC_HASH >>{out}")
    for times in (1, 2):
        syncer = place.follow(f"--exechook-command={hook}")
        syncer.until(lambda times=times: out.exists() and out.read_text() == f"{hash}\n" * times)
        syncer.process.kill()
        syncer.wait()


# Cleaning up


def test_a_replaced_worktree_is_kept_for_its_timeout(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    syncer = place.follow("--stale-worktree-timeout=1h")
    second = place.origin.commit({"file": "two"})
    place.until_published(syncer, second)
    third = place.origin.commit({"file": "three"})
    place.until_published(syncer, third)
    assert set(os.listdir(place.root / ".worktrees")) == {first, second, third}
    assert (place.root / ".worktrees" / first / "file").read_text() == "one"
    syncer.process.terminate()
    assert syncer.wait() == 0
    os.utime(place.root / ".worktrees" / first, (1, 1))
    place.once("--stale-worktree-timeout=1h")
    assert set(os.listdir(place.root / ".worktrees")) == {second, third}


def test_a_replaced_worktree_goes_when_its_time_is_over_though_nothing_changes(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    syncer = place.follow("--stale-worktree-timeout=1s")
    place.until_published(syncer, place.origin.commit({"file": "two"}))
    assert (place.root / ".worktrees" / first / "file").read_text() == "one"
    syncer.until(lambda: os.listdir(place.root / ".worktrees") == [place.hash])


def wrapper(place: Place) -> tuple[str, Path]:
    """A git that writes down how it is called."""
    log = place.directory / "calls"
    return script(place.directory / "my-git", f'echo "$@" >>{log}\nexec git "$@"\n'), log


@pytest.mark.parametrize(
    ("mode", "words"), [("always", "gc"), ("auto", "gc --auto"), ("aggressive", "gc --aggressive"), ("off", None)]
)
def test_garbage_is_collected_after_a_change_as_asked_for(mode: str, words: str | None, place: Place) -> None:
    git, log = wrapper(place)
    place.origin.commit({"file": "one"})
    place.once(f"--git={git}", f"--git-gc={mode}")
    log.unlink()
    place.origin.commit({"file": "two"})
    place.once(f"--git={git}", f"--git-gc={mode}")
    calls = [line for line in log.read_text().splitlines() if line.startswith("gc")]
    assert [line.removesuffix(" --quiet") for line in calls] == ([words] if words else [])


def test_what_is_no_longer_needed_is_gone_from_the_disk(place: Place) -> None:
    small = place.origin.commit({"file": "one"})
    place.origin.git("tag", "small", small)
    large = place.origin.commit({"file": "two", "large": os.urandom(2_000_000)})
    place.once()
    assert size(place.root) > 4_000_000
    place.once("--ref=small")
    assert size(place.root) < 1_000_000
    assert subprocess.run(["git", "cat-file", "-e", large], cwd=place.root, capture_output=True).returncode != 0


def size(folder: Path) -> int:
    return sum(os.lstat(os.path.join(base, name)).st_size for base, _, names in os.walk(folder) for name in names)


# The loop, signals, and what is served


def test_a_signal_cuts_the_wait_short(place: Place) -> None:
    place.origin.commit({"file": "one"})
    for name, number in (
        ("SIGHUP", signal.SIGHUP),
        ("usr1", signal.SIGUSR1),
        (str(int(signal.SIGUSR2)), signal.SIGUSR2),
    ):
        syncer = place.follow("--period=1h", f"--sync-on-signal={name}")
        hash = place.origin.commit({"file": name})
        syncer.send(number)
        place.until_published(syncer, hash)
        syncer.process.terminate()
        assert syncer.wait() == 0


def test_commits_that_come_while_it_is_paused_are_skipped(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.follow()
    syncer.send(signal.SIGSTOP)
    for text in ("two", "three", "four"):
        last = place.origin.commit({"file": text})
    syncer.send(signal.SIGCONT)
    place.until_published(syncer, last)
    assert history(place) == 1


def test_sigterm_ends_it_with_0_and_what_is_published_stays(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    syncer = place.follow("--period=1h")
    syncer.send(signal.SIGTERM)
    assert syncer.wait(3) == 0
    assert place.hash == hash


def test_sigterm_ends_it_while_a_server_is_silent(server: GitServer, place: Place) -> None:
    server.repository("app").commit({"file": "one"})
    asked, released = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        asked.set()
        released.wait(20)

    server.answer = wait
    syncer = place.start(f"--repo={server.address('app')}")
    assert asked.wait(10)
    syncer.send(signal.SIGTERM)
    try:
        assert syncer.wait(5) == 0
    finally:
        released.set()


def test_a_second_signal_ends_it_at_once(place: Place) -> None:
    place.origin.commit({"file": "one"})
    running = place.directory / "running"
    hook = script(place.directory / "hook", f"echo $$ >{running}.new; mv {running}.new {running}; exec sleep 600")
    syncer = place.follow(f"--exechook-command={hook}", "--exechook-timeout=10m")
    syncer.until(running.exists)
    syncer.send(signal.SIGTERM)
    syncer.send(signal.SIGINT)
    syncer.wait(5)
    assert gone(int(running.read_text()))


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_it_answers_503_before_the_first_good_pass_and_200_ever_after(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    port = free_port()
    syncer = place.start("--ref=later", f"--http-bind=127.0.0.1:{port}", "--max-failures=-1", "--max-backoff=100ms")
    syncer.until(lambda: answers(port))
    assert ask(port) == (503, "repo is not ready\n")
    place.origin.git("update-ref", "refs/heads/later", first)
    syncer.until(lambda: ask(port)[0] == 200)
    assert ask(port, "/any/path") == (200, "")
    assert place.hash == first
    place.origin.git("update-ref", "-d", "refs/heads/later")
    syncer.until((place.root / "error").exists)
    assert ask(port)[0] == 200


def test_counters_are_whole_numbers_and_counted_before_the_touch_file_is_touched(place: Place) -> None:
    place.origin.commit({"file": "one"})
    port = free_port()
    syncer = place.follow(f"--http-bind=:{port}", "--http-metrics")
    metrics = ask(port, "/metrics")[1]
    assert grep(metrics, r'^git_sync_count_total{status="success"} ') == "1"
    assert grep(metrics, r"^git_fetch_count_total ") == "1"
    place.touched.unlink()
    place.origin.commit({"file": "two"})
    syncer.until(place.touched.exists)
    metrics = ask(port, "/metrics")[1]
    assert grep(metrics, r'^git_sync_count_total{status="success"} ') == "2"
    assert grep(metrics, r"^git_fetch_count_total ") == "2"
    assert float(grep(metrics, r'^git_sync_duration_seconds_count{status="success"} ')) == 2
    assert float(grep(metrics, r'^git_sync_duration_seconds_sum{status="success"} ')) > 0
    syncer.until(lambda: 'git_sync_count_total{status="noop"}' in ask(port, "/metrics")[1])


def grep(text: str, pattern: str) -> str:
    """What awk '{print $NF}' prints of the one line that grep finds."""
    (line,) = [line for line in text.splitlines() if re.search(pattern.replace("{", r"\{"), line)]
    return line.split()[-1]


def test_profiles_are_served_when_asked_for(place: Place) -> None:
    place.origin.commit({"file": "one"})
    port = free_port()
    place.follow(f"--http-bind=127.0.0.1:{port}", "--http-pprof")
    assert ask(port, "/debug/pprof/")[0] == 200
    assert "--http-pprof" in ask(port, "/debug/pprof/cmdline")[1]


def test_an_address_that_is_taken_ends_it(place: Place) -> None:
    place.origin.commit({"file": "one"})
    port = free_port()
    place.follow(f"--http-bind=127.0.0.1:{port}")
    other = place.start(f"--http-bind=127.0.0.1:{port}", f"--root={place.root}2", "--max-failures=-1")
    assert other.ended()[0] == 1
    assert f"cannot listen on --http-bind 127.0.0.1:{port}" in other.log


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_every_call_to_the_remote_is_made_by_the_git_that_is_named(
    scheme: str, place: Place, server: GitServer
) -> None:
    repository = place.origin if scheme == "file" else server.repository("app")
    url = f"file://{place.origin.path}" if scheme == "file" else server.address("app")
    repository.commit({"file": "one"})
    git, log = wrapper(place)
    syncer = place.follow(f"--git={git}", f"--repo={url}")
    place.until_published(syncer, repository.commit({"file": "two"}))
    calls = [line.split() for line in log.read_text().splitlines()]
    assert len([words for words in calls if words[0] == "fetch" and url in words]) >= 2
    assert not [words for words in calls if words[0].startswith("-") and words != ["--version"]]
    if scheme == "http":
        log.unlink()
        before = len(server.requests)
        syncer.until(lambda: len(server.requests) > before)
        syncer.until(log.exists)


def test_a_git_that_is_slow_or_fails_once_is_no_end(place: Place) -> None:
    place.origin.commit({"file": "one"})
    failed = place.directory / "failed"
    git = script(
        place.directory / "my-git",
        f'if [ "$1" = fetch ] && [ ! -e {failed} ]; then touch {failed}; exit 1; fi\nexec git "$@"\n',
    )
    place.follow(f"--git={git}", "--max-failures=2")
    assert failed.exists()
    assert place.text() == "one"


# Modes


def modes(place: Place) -> dict[str, int]:
    """The modes of all that is in the root, by path; links left out."""
    return {
        os.path.relpath(os.path.join(base, name), place.root): os.lstat(os.path.join(base, name)).st_mode & 0o7777
        for base, folders, names in os.walk(place.root)
        for name in [*folders, *names]
        if not os.path.islink(os.path.join(base, name))
    }


def test_the_group_may_write_when_asked_for(place: Place) -> None:
    place.origin.commit({"file": "one", "dir/run": Executable("#!/bin/sh\n")})
    syncer = place.follow("--group-write")
    place.until_published(syncer, place.origin.commit({"file": "two"}))
    syncer.process.terminate()
    assert syncer.wait() == 0
    found = modes(place)
    worktree = f".worktrees/{place.hash}"
    assert (found[f"{worktree}/file"], found[f"{worktree}/dir/run"], found[worktree]) == (0o664, 0o775, 0o775)
    # Git's own objects are read-only for everybody; their directories are not.
    closed = [path for path, mode in found.items() if not mode & 0o020]
    assert [path for path in closed if not path.startswith(".git/objects/") or (place.root / path).is_dir()] == []
    assert place.root.stat().st_mode & 0o020


@as_root
def test_another_user_of_the_group_goes_on_in_a_root_that_the_group_may_write() -> None:
    with tempfile.TemporaryDirectory(prefix="git-syncer") as folder:
        os.chmod(folder, 0o777)
        place = Place(Path(folder))
        os.chmod(place.home, 0o777)
        place.origin.commit({"file": "one", "dir/run": Executable("#!/bin/sh\n")})
        try:
            for user, text in ((41001, "two"), (41002, "three"), (41001, "four")):
                place.origin.commit({"file": text})
                syncer = Syncer(
                    "--one-time", "--group-write", f"--repo=file://{place.origin.path}", f"--root={place.root}",
                    "--link=link", environ={"HOME": str(place.home), "GITSYNC_GIT_CONFIG": "safe.directory:*"},
                    under=("setpriv", f"--reuid={user}", "--regid=41000", "--clear-groups", "--"),
                )  # fmt: skip
                place.running.append(syncer)
                assert syncer.ended()[0] == 0, syncer.log
                assert place.text() == text
                assert os.listdir(place.root / ".worktrees") == [place.hash]
        finally:
            for syncer in place.running:
                syncer.__exit__()


def test_others_may_read_and_the_group_may_not_write_by_default(place: Place) -> None:
    place.origin.commit({"file": "one", "dir/run": Executable("#!/bin/sh\n")})
    before = os.umask(0o077)
    try:
        place.once()
    finally:
        os.umask(before)
    found = modes(place)
    worktree = f".worktrees/{place.hash}"
    assert (found[f"{worktree}/file"], found[f"{worktree}/dir/run"], found[worktree]) == (0o644, 0o755, 0o755)


def test_the_group_may_write_after_a_restart_too(place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.once("--group-write")
    place.origin.commit({"file": "two"})
    place.once("--group-write")
    assert modes(place)[f".worktrees/{place.hash}/file"] == 0o664


# The command line, and the log


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecars.syncer", *words], env={**os.environ, **environ},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("question", ["--help", "-h", "-?", "--man", "--version"])
def test_questions_are_answered_on_stdout_before_anything_is_checked(question: str) -> None:
    done = run("--depth=-1", question, GITSYNC_DEPTH="7")
    assert (done.returncode, done.stderr) == (0, "")
    assert "git-syncer" in done.stdout.lower()
    assert ("--stale-worktree-timeout" in done.stdout) is (question != "--version")


def test_a_wrong_command_line_ends_with_2_and_says_so_first_and_last() -> None:
    done = run("--perod=1s")
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.strip().splitlines()
    assert lines[0] == lines[-1] == "unknown flag: --perod; did you mean --period?"
    assert "--stale-worktree-timeout" in done.stderr


def test_a_wrong_configuration_ends_with_1_and_its_text_is_in_the_error_file(place: Place) -> None:
    place.root.mkdir()
    done = run(f"--root={place.root}", "--error-file=error", "--repo=x", "--depth=-1")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.strip().splitlines()
    assert lines[0] == lines[-1]
    assert "--stale-worktree-timeout" in done.stderr
    text = (place.root / "error").read_text()
    assert text.startswith("--depth is -1")
    assert text in lines[0]


def test_a_wrong_variable_ends_with_1() -> None:
    done = run("--repo=x", "--root=/nowhere", GITSYNC_PERIOD="10")
    assert done.returncode == 1
    assert done.stderr.startswith('FATAL: invalid duration env GITSYNC_PERIOD="10"')


def test_variables_alone_are_enough_and_old_ones_are_deprecated_in_plain_text(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    done = run(
        GIT_SYNC_REPO=f"file://{place.origin.path}", GITSYNC_ROOT=str(place.root), GIT_SYNC_ONE_TIME="t",
        GIT_SYNC_BRANCH="main", GIT_SYNC_DEST="link", GIT_SYNC_WAIT="0.1", GITSYNC_ADMIN="off", HOME=str(place.home),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert place.hash == hash
    for name in ("GIT_SYNC_REPO", "GIT_SYNC_ONE_TIME", "GIT_SYNC_BRANCH", "GIT_SYNC_DEST", "GIT_SYNC_WAIT"):
        assert re.search(rf"(?m)^\${name} is deprecated: use ", done.stderr)


def test_flags_of_version_3_still_work(place: Place) -> None:
    hash = place.origin.commit({"file": "one"})
    out = place.directory / "out"
    hook = script(place.directory / "hook", f"echo $GITSYNC_HASH >{out}")
    place.start(
        "--one-time", "--branch=main", "--rev=HEAD", "--dest=old", "--wait=0.1", "--timeout=30", "--v=5",
        "--max-sync-failures=2", f"--sync-hook-command={hook}", "--ssh",
    ).wait()  # fmt: skip
    assert os.readlink(place.root / "old") == f".worktrees/{hash}"
    assert out.read_text() == f"{hash}\n"


def test_the_log_is_that_of_git_sync(place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.once("-v=6")
    start = syncer.wait_for("starting up")
    assert {"version", "pid", "uid", "gid", "home", "flags"} <= set(start)
    for line in syncer.lines:
        event = json.loads(line)
        assert {"logger", "ts", "caller", "msg"} <= set(event)
        assert ("level" in event) != ("error" in event)
    commands = [each["cmd"] for each in syncer.said("running command")]
    assert any(command.startswith("git fetch ") for command in commands)
    assert {"stdout", "stderr", "time"} <= set(syncer.wait_for("command result"))
    assert syncer.wait_for("update required").keys() >= {"ref", "local", "remote"}
    assert syncer.wait_for("updated successfully")
    quiet = place.once()
    assert not quiet.said("running command")


def test_all_flags_are_told_with_more_verbosity(place: Place) -> None:
    place.origin.commit({"file": "one"})
    plain = place.once(GITSYNC_FILTER="blob:none").wait_for("starting up")["flags"]
    assert "--one-time=true" in plain
    assert "--filter=blob:none" not in plain
    assert "--filter=blob:none" in place.once("-v=4", GITSYNC_FILTER="blob:none").wait_for("starting up")["flags"]
