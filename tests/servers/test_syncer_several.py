"""git-syncer as a process: several repositories in one container, its door, and what it holds while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.git_server import GitServer, Repository
from tests.servers.process import Sidecar
from tests.servers.syncing import Place, Syncer, local, script
from tests.unit.core.running import free_port


class Several:
    """Two repositories, a config file that names them, and every git-syncer started with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.origins = {name: local(directory / "origin" / name) for name in ("site", "dags")}
        self.running: list[Syncer] = []

    def entry(self, name: str, **more: object) -> dict[str, object]:
        root = self.directory / "roots" / name
        return {"repo": f"file://{self.origins[name].path}", "root": str(root), "link": name, **more}

    def start(self, *arguments: str, repositories: list[dict[str, object]], **common: object) -> Syncer:
        file = self.directory / "syncer.json"
        file.write_text(json.dumps({"period": "100ms", "repositories": repositories, **common}))
        environ = {"HOME": str(self.directory), "GITSYNC_ADMIN": "127.0.0.1:0"}
        self.running.append(Syncer(f"--config={file}", *arguments, environ=environ))
        return self.running[-1]

    def text(self, name: str) -> str:
        try:
            return (self.directory / "roots" / name / name / "file").read_text()
        except FileNotFoundError:
            return ""


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    several = Several(tmp_path)
    for name, origin in several.origins.items():
        origin.commit({"file": f"{name} one"})
    yield several
    for syncer in several.running:
        syncer.__exit__()


def test_each_repository_is_followed_in_a_root_of_its_own(several: Several) -> None:
    syncer = several.start(repositories=[several.entry("site"), several.entry("dags")])
    for text in ("one", "two"):
        for name in several.origins:
            syncer.until(lambda name=name, text=text: several.text(name) == f"{name} {text}")
            several.origins[name].commit({"file": f"{name} two"})
    status, page = syncer.ask("/status")
    assert status == 200
    assert [row["repository"] for row in json.loads(page)["tables"]["repositories"]] == ["site", "dags"]
    assert syncer.ask("/startupz")[0] == 200
    for name in several.origins:
        assert syncer.metric("git_sync_count_total", repository=name, status="success") >= 1
        hash = several.origins[name].tip()
        syncer.until(
            lambda name=name, hash=hash: syncer.metric("git_syncer_commit_info", repository=name, hash=hash) == 1
        )
    assert {line["repository"] for line in syncer.said("updated successfully")} == {"site", "dags"}


def test_a_repository_that_fails_holds_back_no_other_and_the_process_is_not_started_yet(several: Several) -> None:
    failing = several.entry("dags", ref="later")
    syncer = several.start(repositories=[several.entry("site"), failing], max_failures=-1, max_backoff="100ms")
    syncer.until(lambda: several.text("site") == "site one")
    assert syncer.ask("/startupz")[0] == 503
    status, reasons = syncer.ask("/healthz")
    assert status == 503
    assert "dags" in reasons
    assert "couldn't find remote ref" in reasons
    several.origins["dags"].git("update-ref", "refs/heads/later", several.origins["dags"].tip())
    syncer.until(lambda: syncer.ask("/startupz")[0] == 200)
    syncer.until(lambda: syncer.ask("/healthz")[0] == 200)
    assert several.text("dags") == "dags one"


def test_one_time_is_done_when_all_are_and_each_hook_has_run(several: Several) -> None:
    out = several.directory / "out"
    hook = script(several.directory / "hook", f"pwd -P >>{out}")
    entries = [several.entry("site", exechook_command=hook), several.entry("dags", exechook_command=hook)]
    syncer = several.start("--one-time", repositories=entries)
    assert syncer.ended()[0] == 0, syncer.log
    roots = several.directory.resolve() / "roots"
    expected = {f"{roots}/{name}/.worktrees/{origin.tip()}" for name, origin in several.origins.items()}
    assert set(out.read_text().splitlines()) == expected


def test_one_that_fails_in_a_one_time_run_ends_it_with_1(several: Several) -> None:
    syncer = several.start("--one-time", repositories=[several.entry("site"), several.entry("dags", ref="nowhere")])
    assert syncer.ended()[0] == 1


def test_each_repository_may_have_credentials_of_its_own(tmp_path: Path, several: Several) -> None:
    with GitServer(tmp_path / "served", username="bot", password="hunter2") as server:
        repository: Repository = server.repository("rules")
        repository.commit({"file": "rules one"})
        (tmp_path / "password").write_text("hunter2\n")
        rules = {
            "repo": server.address("rules"), "root": str(tmp_path / "roots" / "rules"),
            "username": "bot", "password_file": str(tmp_path / "password"),
        }  # fmt: skip
        syncer = several.start(repositories=[several.entry("site"), rules])
        syncer.until(lambda: several.text("rules") == "rules one")
        syncer.until(lambda: several.text("site") == "site one")
        repository.commit({"file": "rules two"})
        syncer.until(lambda: several.text("rules") == "rules two")
        assert "hunter2" not in syncer.log
        assert "hunter2" not in syncer.ask("/status")[1]


def test_two_processes_with_the_default_door_run_side_by_side(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.origin.commit({"file": "one"})
    try:
        for root in ("a", "b"):
            place.root = tmp_path / root
            assert isinstance(place.follow(GITSYNC_ADMIN=""), Sidecar)
    finally:
        for syncer in place.running:
            syncer.__exit__()


def test_the_metrics_tell_when_the_last_sync_and_the_last_change_were(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.origin.commit({"file": "one"})
    began = time.time()
    with place.follow(f"--admin=127.0.0.1:{free_port()}") as syncer:
        changed = syncer.metric("git_syncer_last_change_timestamp_seconds")
        assert began < changed <= syncer.metric("git_syncer_last_sync_timestamp_seconds") <= time.time()
        syncer.until(lambda: syncer.metric("git_syncer_last_sync_timestamp_seconds") > changed + 0.3)
        assert syncer.metric("git_syncer_last_change_timestamp_seconds") == changed
        assert syncer.metric("git_syncer_commit_info", hash=place.hash, ref="HEAD") == 1


def test_health_tells_of_a_success_that_is_too_old(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.origin.commit({"file": "one"})
    flags = ("--max-staleness=500ms", "--period=1h", f"--admin=127.0.0.1:{free_port()}", "--sync-on-signal=HUP")
    with place.follow(*flags) as syncer:
        syncer.until(lambda: syncer.ask("/healthz")[0] == 503)
        assert "the last success was" in syncer.ask("/healthz")[1]
        assert syncer.ask("/readyz")[0] == 200


def test_a_second_process_waits_for_the_root(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.origin.commit({"file": "one"})
    with place.follow() as first:
        place.touched.unlink()
        with place.start() as second:
            second.wait_for("root is held by another process; waiting for it")
            first.process.terminate()
            assert first.wait() == 0
            second.until(place.touched.exists)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_polls_leave_nothing_behind(scheme: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    with GitServer(tmp_path / "served") as server:
        repository = server.repository("app") if scheme == "http" else place.origin
        url = server.address("app") if scheme == "http" else f"file://{repository.path}"
        repository.commit({"file": "one"})
        door = f"--admin=127.0.0.1:{free_port()}"
        with place.follow(f"--repo={url}", "--period=10ms", "--group-write", door) as syncer:

            def polls() -> float:
                return syncer.metric("git_sync_count_total", status="noop")

            syncer.until(lambda: polls() >= 20)
            descriptors, memory, before = syncer.descriptors, syncer.memory, polls()
            syncer.until(lambda: polls() >= before + (150 if scheme == "http" else 40), 60)
            syncer.until(lambda: syncer.descriptors <= descriptors + 3)  # once no git is under way
            assert syncer.memory < memory + 1.5
            assert syncer.memory < 42
            if scheme == "http":  # asked from within the process: no git has spoken to the server
                agents = {each.headers.get("User-Agent", "").partition("-0")[0] for each in server.requests[-100:]}
                assert agents == {"git/git-syncer"}
