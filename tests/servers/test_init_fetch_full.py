"""pod-init fetch from S3 and git: what pod-init-full adds, against a real S3 server and real git."""

from __future__ import annotations

import os
import pwd
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.git_server import Executable, GitServer, Repository, Symlink
from tests.servers.ssh_server import NO_SSHD, SSHD, SshServer
from tests.servers.test_init_fetch import DATA, QUICK, Fetch, digest, names, packed, secret, tree
from tests.servers.test_init_fetch import fetch as fetch
from tests.unit.core.running import free_port

if TYPE_CHECKING:
    from tests.servers.s3 import S3

Start = Callable[..., Fetch]
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


# S3


class Shelf:
    """A bucket to fetch from."""

    def __init__(self, server: S3, name: str) -> None:
        self.uri = f"s3://{name}"
        self.environ = {**QUICK, **KEYS, "AWS_ENDPOINT_URL": server.endpoint}
        self.name, self.client, self.server = name, server.client(), server

    def put(self, **objects: bytes) -> None:
        for key, data in objects.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=data)


@pytest.fixture
def shelf(s3: S3, bucket: str) -> Shelf:
    return Shelf(s3, bucket)


def test_an_object_comes_in_ranges_and_is_known_again(fetch: Start, shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(**{"m/model.bin": DATA})
    dest = tmp_path / "model.bin"
    for flags in ([], ["--endpoint", shelf.server.endpoint]):
        uri = f"{shelf.uri}/m/model.bin?sha256={digest()}"
        fetch(uri, f"{tmp_path}/", *flags, environ=shelf.environ).succeeded()
        assert dest.read_bytes() == DATA
        assert fetch(f"{shelf.uri}/m/model.bin", dest, *flags, environ=shelf.environ).succeeded().said("unchanged")
        dest.unlink()
    assert "--max-size" in fetch(f"{shelf.uri}/m/model.bin", dest, "--max-size", "1k", environ=shelf.environ).failed(1)
    assert not dest.exists()


def test_a_prefix_comes_whole_with_empty_objects_and_none_of_its_neighbours(
    fetch: Start, shelf: Shelf, tmp_path: Path
) -> None:
    files = {"a.bin": DATA[:250_000], "pkg/__init__.py": b"", "pkg/deep/x y+%2f.txt": b"x", "pkg/é": b"e"}
    shelf.put(**{f"model/{key}": data for key, data in files.items()})
    shelf.put(**{"model2/no": b"no", "model": b"no", "model/empty/": b"", "model/": b"", "model-x": b"no"})
    dest = tmp_path / "model"
    fetched = fetch(f"{shelf.uri}/model/", dest, environ=shelf.environ).succeeded().said("fetched")[0]
    assert tree(dest) == files
    assert (dest / "empty").is_dir()
    assert fetched["files"] == 4
    assert stat.S_IMODE((dest / "a.bin").stat().st_mode) == 0o644
    assert fetch(f"{shelf.uri}/model/", dest, environ=shelf.environ).succeeded().said("unchanged")


def test_only_what_has_changed_is_fetched_again(fetch: Start, shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(**{"m/a": b"1", "m/b": b"2", "m/c/d": b"3"})
    dest = tmp_path / "m"
    fetch(f"{shelf.uri}/m", dest, environ=shelf.environ).succeeded()
    inodes = {name: os.stat(dest / name).st_ino for name in ("a", "b")}
    shelf.put(**{"m/b": b"4"})  # perhaps in the same second, and of the same size
    shelf.client.delete_object(Bucket=shelf.name, Key="m/c/d")
    fetched = fetch(f"{shelf.uri}/m", dest, environ=shelf.environ).succeeded().said("fetched")[0]
    assert fetched["bytes"] == 1
    assert tree(dest) == {"a": b"1", "b": b"4"}
    assert os.stat(dest / "a").st_ino == inodes["a"]
    assert names(dest) == {"a", "b", ".pod-init.json"}


def test_many_objects_are_listed_page_by_page_and_filtered(fetch: Start, shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(**{f"m/{n:03}.{'log' if n % 10 else 'txt'}": b"%d" % n for n in range(220)})
    dest = tmp_path / "m"
    fetch(f"{shelf.uri}/m/", dest, "--include", "*.txt", "--jobs", "8", environ=shelf.environ).succeeded()
    assert tree(dest) == {f"{n:03}.txt": b"%d" % n for n in range(0, 220, 10)}
    reason = fetch(f"{shelf.uri}/m/", dest, "--max-files", "100", environ=shelf.environ).failed(1)
    assert "more than --max-files 100 objects" in reason
    assert "--max-size 100" in fetch(f"{shelf.uri}/m/", dest, "--max-size", "100", environ=shelf.environ).failed(1)


def test_a_prefix_is_all_there_or_not_at_all_when_it_is_killed(fetch: Start, shelf: Shelf, tmp_path: Path) -> None:
    files = {f"{n:02}.bin": DATA[n * 1000 : n * 1000 + 150_000] for n in range(30)}
    shelf.put(**{f"m/{key}": data for key, data in files.items()})
    dest, staging = tmp_path / "m", tmp_path / ".m.pod-init"
    killed = fetch(f"{shelf.uri}/m/", dest, environ=shelf.environ)
    killed.until(lambda: len(names(staging)) > 8)
    killed.send(signal.SIGKILL)
    killed.wait()
    assert not dest.exists()
    whole = [path for path in staging.iterdir() if path.read_bytes() == files[path.name] and path.stat().st_mode & 4]
    fetched = fetch(f"{shelf.uri}/m/", dest, environ=shelf.environ).succeeded().said("fetched")[0]
    assert tree(dest) == files
    missing = sum(map(len, files.values())) - sum(len(files[path.name]) for path in whole)
    assert fetched["bytes"] <= missing + 150_000  # One may have been killed before its last step.


def test_keys_that_cannot_be_names_are_refused(fetch: Start, shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(**{"m/../../evil": b"x", "m/good": b"1"})
    dest = tmp_path / "below" / "m"
    assert "leads out of the directory" in fetch(f"{shelf.uri}/m/", dest, environ=shelf.environ).failed(1)
    fetch(f"{shelf.uri}/m/", dest, "--unsafe", "skip", environ=shelf.environ).succeeded()
    assert tree(tmp_path / "below") == {"m/good": b"1"}
    shelf.put(**{"n/a": b"1", "n/a/b": b"2"})
    assert "more than one object for 'a'" in fetch(f"{shelf.uri}/n/", tmp_path / "n", environ=shelf.environ).failed(1)


def test_an_archive_in_s3_is_unpacked(fetch: Start, shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(**{"site.tgz": packed(a=b"1")})
    fetch(f"{shelf.uri}/site.tgz", tmp_path / "site", "--extract", environ=shelf.environ).succeeded()
    assert tree(tmp_path / "site") == {"v1/a": b"1"}
    assert "neither a SHA-256 nor" in (
        started := fetch(f"{shelf.uri}/", tmp_path / "x", "--extract", environ=shelf.environ)
    ).failed(2), started.lines


def test_what_is_not_there_is_said(fetch: Start, shelf: Shelf, tmp_path: Path) -> None:
    dest = tmp_path / "x"
    assert "there is no object s3://" in fetch(f"{shelf.uri}/nope", dest, environ=shelf.environ).failed(1)
    assert "no object below s3://" in fetch(f"{shelf.uri}/nope/", dest, environ=shelf.environ).failed(1)
    reason = fetch("s3://no-such-bucket-anywhere/x/", dest, environ=shelf.environ).failed(1)
    assert "404 NoSuchBucket" in reason
    gone = {**shelf.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "INIT_RETRIES": "1"}
    assert "tried 2 times" in fetch(f"{shelf.uri}/x/", dest, environ=gone).failed(1)
    none = {**shelf.environ, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    none |= {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}
    assert "no credentials" in fetch(f"{shelf.uri}/x/", dest, environ=none).failed(1)
    assert names(tmp_path) & {"x", ".x.pod-init"} == set()


# git


@pytest.fixture
def git(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "repos", tls=True) as server:
        yield server


@pytest.fixture
def app(git: GitServer) -> Repository:
    made = git.repository("app.git")
    made.commit({"old": "0"})
    made.commit({"old": None, "conf/a.yaml": "a: 1", "conf/run": Executable("#!"), "l": Symlink("conf/a.yaml")})
    return made


def user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def uri(git: GitServer, query: str = "") -> str:
    return f"git+{git.address('app.git')}{query}"


def test_a_branch_comes_without_its_history(fetch: Start, git: GitServer, app: Repository, tmp_path: Path) -> None:
    dest = tmp_path / "app"
    ca = ("--ca", git.ca_file)
    fetched = fetch(uri(git, "?ref=main"), dest, *ca).succeeded().said("fetched")[0]
    assert fetched["version"] == app.tip()
    assert tree(dest) == {"conf/a.yaml": b"a: 1", "conf/run": b"#!", "l": b"a: 1"}
    assert os.access(dest / "conf/run", os.X_OK)
    assert names(dest) == {"conf", "l", ".pod-init.json"}
    requests = len(git.requests)
    assert fetch(uri(git, "?ref=main"), dest, *ca).succeeded().said("unchanged")
    assert all("upload-pack" not in each.path for each in git.requests[requests:] if each.method == "GET")
    app.commit({"conf/run": None, "new": "2"})
    fetch(uri(git, "?ref=main"), dest, *ca).succeeded()
    assert tree(dest) == {"conf/a.yaml": b"a: 1", "l": b"a: 1", "new": b"2"}


def test_a_directory_of_a_tag_or_a_commit_can_be_had(
    fetch: Start, git: GitServer, app: Repository, tmp_path: Path
) -> None:
    first = app.tip()
    app.git("-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "v1", "-m", "one", first)
    app.commit({"conf/a.yaml": "a: 2"})
    ca = ("--ca", git.ca_file)
    for number, ref in enumerate(("v1", first)):
        dest = tmp_path / str(number)
        fetch(uri(git, f"?ref={ref}&path=conf"), dest, *ca, "--mode", "0440").succeeded()
        assert tree(dest) == {"a.yaml": b"a: 1", "run": b"#!"}
        assert stat.S_IMODE((dest / "run").stat().st_mode) == 0o440
    fetch(uri(git, "?path=conf"), tmp_path / "head", *ca, "--include", "*.yaml").succeeded()
    assert tree(tmp_path / "head") == {"a.yaml": b"a: 2"}


def test_the_repository_can_be_kept(fetch: Start, git: GitServer, app: Repository, tmp_path: Path) -> None:
    import subprocess

    dest = tmp_path / "app"
    fetch(uri(git), dest, "--ca", git.ca_file, "--keep-git").succeeded()
    environ = {**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    said = subprocess.run(
        ["git", "-C", dest, "log", "--format=%H"], env=environ, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [app.tip()]
    status = subprocess.run(
        ["git", "-C", dest, "status", "--porcelain"], env=environ, capture_output=True, text=True, check=True
    )
    assert status.stdout.split() == ["??", ".pod-init.json"]


def test_git_is_let_in_by_files_and_no_password_is_shown(
    fetch: Start, git: GitServer, app: Repository, tmp_path: Path
) -> None:
    git.logins = {"bot": "hunter2", "x-access-token": "s3cret"}
    dest = tmp_path / "app"
    ca = ("--ca", git.ca_file)
    reason = fetch(uri(git), dest, *ca).failed(1)
    assert "could not read Username" in reason
    fetched = fetch(uri(git), dest, *ca, "--user", "bot", "--password-file", secret(tmp_path, "hunter2")).succeeded()
    assert tree(dest)
    assert "hunter2" not in "".join(fetched.lines) + (dest / ".pod-init.json").read_text()
    fetch(uri(git), tmp_path / "b", *ca, "--token-file", secret(tmp_path, "s3cret")).succeeded()
    wrong = fetch(uri(git), tmp_path / "c", *ca, "--user", "bot", "--password-file", secret(tmp_path, "hunter3"))
    assert "give --token-file" in wrong.failed(1)
    assert "hunter3" not in "".join(wrong.lines)


def test_a_link_out_of_a_repository_is_refused(fetch: Start, git: GitServer, app: Repository, tmp_path: Path) -> None:
    app.commit({"evil": Symlink("../../etc/passwd")})
    dest, ca = tmp_path / "app", ("--ca", git.ca_file)
    assert "is a link to '../../etc/passwd', out of the directory" in fetch(uri(git), dest, *ca).failed(1)
    assert not dest.exists()
    fetch(uri(git), dest, *ca, "--unsafe", "skip").succeeded()
    assert "evil" not in names(dest)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?ref=nope", "has no ref 'nope'"), ("?path=nope", "git cannot fetch"), ("?path=conf/a.yaml", "is a file"),
        (f"?ref={'0' * 40}", "git cannot fetch"),
    ],
)  # fmt: skip
def test_what_a_repository_has_not_is_said(
    fetch: Start, git: GitServer, app: Repository, tmp_path: Path, query: str, words: str
) -> None:
    assert words in fetch(uri(git, query), tmp_path / "app", "--ca", git.ca_file).failed(1)
    assert not (tmp_path / "app").exists()


@pytest.mark.skipif(SSHD is None and os.environ.get("CI") != "true", reason=NO_SSHD)
def test_a_revision_comes_over_ssh_with_a_key_that_a_group_can_read(
    fetch: Start, git: GitServer, app: Repository, tmp_path: Path
) -> None:
    with SshServer(tmp_path / "ssh", free_port()) as server:
        os.chmod(server.key, 0o640)
        where = f"git+ssh://{user()}@127.0.0.1:{server.port}{app.path}?ref=main"
        flags = ("--ssh-key", server.key, "--ssh-known-hosts", server.known_hosts)
        fetch(where, tmp_path / "app", *flags).succeeded()
        assert tree(tmp_path / "app")["conf/a.yaml"] == b"a: 1"
        nobody = tmp_path / "nobody"
        nobody.write_text("")
        refused = fetch(where, tmp_path / "b", "--ssh-key", server.key, "--ssh-known-hosts", nobody)
        assert "Host key verification failed" in refused.failed(1)


WRONG = [
    ("git+https://h/r?branch=x", "known are ref= and path="),
    ("git+https://h/r?ref=--upload-pack=x", "is no branch"),
    ("git+https://h/r?path=../x", "path= leads nowhere"),
    ("git+https://h", "is no git+https://HOST/PATH"),
    ("s3:///x", "is no s3://BUCKET/KEY"),
    ("ftp://h/x", "begins with no known scheme"),
    ("model.bin", "begins with no known scheme"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_wrong_uris_say_what_is_wrong(fetch: Start, tmp_path: Path, text: str, words: str) -> None:
    started = fetch(text, tmp_path / "x")
    assert started.ended()[0] == 2
    assert words in started.left()


def test_without_the_library_the_image_is_named(fetch: Start, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\nf = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('boto3', 'git') else f(n, *a)\n"
    )
    for text in ("s3://b/k", "git+https://h/r"):
        started = fetch(text, tmp_path / "x", environ={**QUICK, "PYTHONPATH": f"{hidden}:{os.getcwd()}"})
        assert "take the image pod-init-full" in started.failed(2)
