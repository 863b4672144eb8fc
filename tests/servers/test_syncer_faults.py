"""git-syncer where things go wrong: at the remote, on the disk, in the repository, with the clock, and with itself."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers.git_server import Break, GitServer, Reply, Repository
from tests.servers.process import as_root
from tests.servers.syncing import Place, Syncer, script

NOISE = os.urandom(1 << 20)
FOR_EVER = ("--max-failures=-1", "--max-backoff=100ms", "--admin=127.0.0.1:0")
FAILED = "error syncing repo, will retry"


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
def disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Mount, or mount anew with these options, a disk at root/, which is 8 MiB small at first."""
    path = tmp_path / "root"

    def mount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)

    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", path], check=True)


def errors(syncer: Syncer) -> list[str]:
    """What the failed passes have said."""
    return [each["error"] for each in syncer.said(FAILED)]


def history(repository: Repository, count: int) -> list[str]:
    """So many commits on top of main, which does not move; each changes `file`."""
    tip = repository.tip()
    text = f"{tip[:7]} {{}}"
    changes = [text.format(number).encode() for number in range(count)]
    repository.git("update-ref", "refs/tags/later", tip)
    stream = [
        b"commit refs/tags/later\ncommitter A <a@example.org> %d +0000\ndata 1\nx%sM 100644 inline file\ndata %d\n%s\n"
        % (1_700_000_000 + number, b"\nfrom %s\n" % tip.encode() if not number else b"\n", len(change), change)
        for number, change in enumerate(changes)
    ]
    repository.git("fast-import", "--quiet", "--force", data=b"".join(stream))
    return repository.git("rev-list", "--reverse", f"{tip}..refs/tags/later").split()


def move(repository: Repository, hash: str) -> None:
    """Move main, at once and without a process: a burst is faster than git."""
    ref = repository.path / "refs" / "heads" / "main"
    ref.with_name("new").write_text(f"{hash}\n")
    ref.with_name("new").rename(ref)


# The remote


def test_a_remote_that_hangs_in_the_midst_of_a_pack_is_left_at_the_timeout_and_the_next_pass_works(
    server: GitServer, place: Place
) -> None:
    repository, released = server.repository("app"), threading.Event()
    first = repository.commit({"file": "one"})
    syncer = place.follow(f"--repo={server.address('app')}", "--sync-timeout=3s", *FOR_EVER)
    server.answer = lambda request: Break(50_000, released.wait) if request.method == "POST" else None
    second = repository.commit({"file": "two", "noise": NOISE})
    try:
        syncer.until(lambda: any("context deadline exceeded" in said for said in errors(syncer)))
        assert (place.hash, place.text()) == (first, "one")
        server.answer = lambda _: None
        place.until_published(syncer, second)
    finally:
        released.set()
    assert (place.link / "noise").read_bytes() == NOISE
    syncer.until(lambda: not syncer.children())


@pytest.mark.parametrize("after", [60, 500_000], ids=["in the list of refs", "in the pack"])
def test_a_connection_that_is_cut_anywhere_is_a_failure_that_the_next_pass_mends(
    after: int, server: GitServer, place: Place
) -> None:
    repository = server.repository("app")
    repository.commit({"file": "one"})
    syncer = place.follow(f"--repo={server.address('app')}", *FOR_EVER)
    server.answer = lambda _: Break(after)
    second = repository.commit({"file": "two", "noise": NOISE})
    syncer.until(lambda: errors(syncer))
    assert place.text() == "one"
    server.answer = lambda _: None
    place.until_published(syncer, second)


def test_a_deleted_branch_is_an_error_what_is_published_stays_and_the_branch_may_come_back(
    server: GitServer, place: Place
) -> None:
    repository = server.repository("app")
    first = repository.commit({"file": "one"})
    syncer = place.follow(f"--repo={server.address('app')}", "--ref=main", *FOR_EVER)
    repository.git("update-ref", "-d", "refs/heads/main")
    syncer.until(lambda: any("couldn't find remote ref" in said for said in errors(syncer)))
    assert (place.hash, place.text()) == (first, "one")
    assert syncer.ask("/healthz")[0] == 503
    repository.git("update-ref", "refs/heads/main", first)
    syncer.until(lambda: syncer.ask("/healthz")[0] == 200)
    second = repository.commit({"file": "two"})
    place.until_published(syncer, second)


def test_a_repository_that_is_replaced_by_another_is_followed(server: GitServer, place: Place) -> None:
    server.repository("app").commit({"file": "one", "old": "x"})
    syncer = place.follow(f"--repo={server.address('app')}", *FOR_EVER)
    other = server.repository("other").commit({"file": "other"})
    (server.directory / "app").rename(server.directory / "gone")
    (server.directory / "other").rename(server.directory / "app")
    place.until_published(syncer, other)
    assert place.files() == {"file"}


def test_of_a_burst_of_commits_the_last_one_is_published_and_the_hook_gets_the_newest(
    server: GitServer, place: Place
) -> None:
    repository, told = server.repository("app"), place.directory / "told"
    first = repository.commit({"file": "0"})
    hook = script(place.directory / "hook", f"sleep 0.05; echo $GITSYNC_HASH >> {told}\n")
    syncer = place.follow(f"--repo={server.address('app')}", f"--exechook-command={hook}", "--period=10ms", *FOR_EVER)
    commits = history(repository, 200)
    for last in commits:
        move(repository, last)
    place.until_published(syncer, last)
    syncer.until(lambda: told.read_text().split()[-1:] == [last])
    order = [first, *commits]
    positions = [order.index(hash) for hash in told.read_text().split()]
    assert positions == sorted(set(positions))
    move(repository, history(repository, 800)[-1])
    place.until_published(syncer, repository.tip())
    assert not errors(syncer)


# The disk


@as_root
def test_a_full_disk_is_said_what_is_published_stays_and_with_space_again_it_goes_on(
    disk: Callable[[str], None], place: Place
) -> None:
    first = place.origin.commit({"file": "one"})
    syncer = place.follow("--sync-timeout=20s", *FOR_EVER)
    second = place.origin.commit({"file": "two", "noise": NOISE * 12})
    syncer.until(lambda: len(errors(syncer)) > 2)
    assert all("No space left on device" in said for said in errors(syncer))
    assert (place.hash, place.text()) == (first, "one")
    assert "No space left on device" in syncer.ask("/healthz")[1]
    disk("size=64m")
    place.until_published(syncer, second)
    assert place.inside("status", "--porcelain") == ""
    syncer.until(lambda: syncer.ask("/healthz")[0] == 200)
    third = place.origin.commit({"file": "three"})
    place.until_published(syncer, third)


@as_root
def test_a_commit_that_does_not_fit_is_no_obstacle_for_a_smaller_one(disk: Callable[[str], None], place: Place) -> None:
    place.origin.commit({"file": "one"})
    syncer = place.follow("--sync-timeout=20s", *FOR_EVER)
    place.origin.commit({"file": "two", "noise": NOISE * 5})  # The pack fits; with the checkout it does not.
    syncer.until(lambda: errors(syncer))
    third = place.origin.commit({"file": "three", "noise": None})
    place.until_published(syncer, third)
    syncer.until(lambda: os.listdir(place.root / ".worktrees") == [third])
    assert place.text() == "three"


@as_root
def test_a_disk_that_is_full_to_the_last_byte_is_no_end(disk: Callable[[str], None], place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    syncer = place.follow("--error-file=error", *FOR_EVER)
    with open(place.root / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    second = place.origin.commit({"file": "two"})
    syncer.until(lambda: len(errors(syncer)) > 2)
    assert (place.hash, place.text()) == (first, "one")
    (place.root / "fill").unlink()
    place.until_published(syncer, second)


@as_root
def test_a_root_that_cannot_be_written_is_a_clear_error_and_no_harm(disk: Callable[[str], None], place: Place) -> None:
    place.origin.commit({"file": "one"})
    place.once()
    disk("ro")
    syncer = place.start("--one-time")
    assert syncer.ended()[0] == 1
    assert "Read-only file system" in syncer.log
    assert str(place.root) in syncer.log
    assert "Traceback" not in syncer.log
    assert place.text() == "one"
    disk("rw")
    second = place.origin.commit({"file": "two"})
    place.once()
    assert (place.hash, place.text()) == (second, "two")


# The repository and the worktrees


def leave_locks(place: Place) -> None:
    git = place.root / ".git"
    names = ("shallow", "index", "HEAD", "config", "packed-refs", "FETCH_HEAD", "ORIG_HEAD", "refs/heads/git-sync")
    own = git / "worktrees" / place.hash
    for path in [git / name for name in names] + [own / name for name in ("index", "HEAD", "ORIG_HEAD")]:
        path.with_name(f"{path.name}.lock").touch()
    (git / "gc.pid").write_text("1 nowhere")
    (place.root / "tmp-link").symlink_to(".worktrees/half")
    (own / "locked").write_text("initializing")


def empty_the_objects(place: Place) -> None:
    for base, _, files in os.walk(place.root / ".git" / "objects"):
        for name in files:
            path = Path(base, name)
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_the_head(place: Place) -> None:
    (place.root / ".git" / "HEAD").write_text("")


def empty_the_index(place: Place) -> None:
    (place.root / ".git" / "worktrees" / place.hash / "index").write_bytes(b"")


def lose_the_repository(place: Place) -> None:
    (place.root / ".git").rename(place.directory / "lost")


def lose_the_metadata(place: Place) -> None:
    (place.root / ".git" / "worktrees").rename(place.directory / "lost")


def break_the_branch(place: Place) -> None:
    (place.root / ".git" / "refs" / "heads" / "git-sync").write_text("nonsense\n")


DAMAGES = [leave_locks, empty_the_objects, empty_the_head, empty_the_index, lose_the_repository, lose_the_metadata,
           break_the_branch]  # fmt: skip


CASES = [(damage, False) for damage in DAMAGES] + [(damage, True) for damage in (empty_the_objects, lose_the_metadata)]


@pytest.mark.parametrize(
    ("damage", "restarted"), CASES, ids=lambda value: getattr(value, "__name__", "restarted" if value else "running")
)
def test_what_is_damaged_is_mended_and_what_is_published_stays_meanwhile(
    damage: Callable[[Place], None], restarted: bool, place: Place
) -> None:
    place.origin.commit({"file": "one", **{f"same/{each}": "same" for each in range(20)}})
    syncer = place.follow(*FOR_EVER)
    if restarted:
        syncer.process.kill()
        syncer.wait()
    damage(place)
    second = place.origin.commit({"file": "two"})
    syncer = place.start(*FOR_EVER) if restarted else syncer

    def published() -> bool:
        hash, text = (
            place.hash,
            place.text(),
        )  # Each once, in this order: what is published may change between two looks.
        assert text == "two" or (hash != second and text == "one")
        return hash == second

    syncer.until(published)
    # One failure may be what tells of the damage; another would be one too many.
    assert len(errors(syncer)) <= 1, errors(syncer)
    syncer.until(lambda: os.listdir(place.root / ".worktrees") == [second])
    assert place.inside("status", "--porcelain") == ""
    assert len(place.files()) == 21
    third = place.origin.commit({"file": "three"})
    place.until_published(syncer, third)


# The clock


def test_a_worktree_from_the_future_is_kept_no_longer_than_one_of_now(place: Place) -> None:
    first = place.origin.commit({"file": "one"})
    place.once("--stale-worktree-timeout=1h")
    second = place.origin.commit({"file": "two"})
    place.once("--stale-worktree-timeout=1h")
    old = place.root / ".worktrees" / first
    os.utime(old, (2**31, 2**31))
    place.once("--stale-worktree-timeout=1h")
    assert abs(old.stat().st_mtime - time.time()) < 60
    os.utime(old, (1, 1))
    place.once("--stale-worktree-timeout=1h")
    assert os.listdir(place.root / ".worktrees") == [second]


@pytest.mark.parametrize("moment", [1, 2**31 - 10], ids=["past", "future"])
def test_files_that_are_older_or_newer_than_they_can_be_are_no_obstacle(moment: int, place: Place) -> None:
    place.origin.commit({"file": "one", **{f"same/{each}": "same" for each in range(20)}})
    place.once()
    for base, _, names in os.walk(place.root):
        for path in (base, *(os.path.join(base, name) for name in names)):
            os.utime(path, (moment, moment), follow_symlinks=False)
    place.origin.commit({"file": "two"})
    place.once()
    assert (place.text(), len(place.files())) == ("two", 21)
    assert place.inside("status", "--porcelain") == ""


# Itself


def test_a_second_process_on_one_root_waits_unready_with_a_reason_and_takes_over(place: Place) -> None:
    place.origin.commit({"file": "one"})
    first = place.follow("--admin=127.0.0.1:0")
    second = place.start("--admin=127.0.0.1:0", "--touch-file=second")
    second.wait_for("root is held by another process; waiting for it")
    code, reason = second.ask("/readyz")
    assert code == 503
    assert f"--root {place.root} is held by another process" in reason
    hash = place.origin.commit({"file": "two"})
    place.until_published(first, hash)
    assert not (place.root / "second").exists()
    first.process.kill()
    first.wait()
    second.until((place.root / "second").exists)
    second.until(lambda: second.ask("/readyz")[0] == 200)


def test_no_password_is_in_logs_errors_command_lines_or_the_hooks_environment(tmp_path: Path, place: Place) -> None:
    secret, seen = "hunter2@hunter2", place.directory / "environment"
    hook = script(place.directory / "hook", f"env > {seen}.new; mv {seen}.new {seen}\n")
    with GitServer(tmp_path / "guarded", username="bot", password=secret) as server:
        repository = server.repository("app")
        repository.commit({"file": "one", "noise": NOISE})
        url = server.address("app", "bot:hunter2%40hunter2")
        with watched() as lines:
            syncer = place.follow(f"--repo={url}", f"--exechook-command={hook}", "-v=9", *FOR_EVER)
            for number in range(3):
                place.until_published(syncer, repository.commit({"file": f"{number}"}))
            syncer.until(seen.exists)
            server.answer = lambda request: Reply(500, request.login.encode()) if request.login else None
            repository.commit({"file": "broken"})
            syncer.until(lambda: errors(syncer))
            pages = "".join(syncer.ask(path)[1] for path in ("/healthz", "/status", "/metrics"))
    syncer.process.terminate()
    syncer.ended()
    # Only git-syncer itself was given it, on a command line that is its operator's, and a fork's until it is another.
    given = {line for pid, line in lines if pid == syncer.pid}
    others = {line for _, line in lines} - given
    assert any("fetch" in line for line in others)
    everything = [*others, syncer.log, pages, seen.read_text(), place.root.joinpath("error").read_text()]
    everything += [path.read_text(errors="replace") for path in place.root.joinpath(".git").glob("*") if path.is_file()]
    assert [text for text in everything if re.search("hunter2", text)] == []


@contextlib.contextmanager
def watched() -> Iterator[set[tuple[int, str]]]:
    """Every command line of every process, by its id, as often as they can be read."""
    lines: set[tuple[int, str]] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for name in filter(str.isdecimal, os.listdir("/proc")):
                with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                    lines.add((int(name), file.read().decode(errors="replace")))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lines
    finally:
        over.set()
        thread.join()


def test_after_300_rounds_descriptors_threads_and_memory_are_what_they_were(server: GitServer, place: Place) -> None:
    repository = server.repository("app")
    repository.commit({"file": "0", **{f"same/{each}": "same" for each in range(50)}})
    hook = script(place.directory / "hook", "exit 0\n")
    options = (f"--repo={server.address('app')}", f"--exechook-command={hook}", "--period=10ms", "--git-gc=auto")
    syncer = place.follow(*options, *FOR_EVER)

    def rounds(changes: int, polls: int) -> tuple[int, int, float]:
        for hash in history(repository, changes):
            move(repository, hash)
            place.until_published(syncer, hash)
        goal = passes(syncer) + polls
        syncer.until(lambda: passes(syncer) >= goal, 120)
        syncer.until(lambda: not syncer.children())
        return syncer.descriptors, psutil.Process(syncer.pid).num_threads(), syncer.memory

    before = rounds(5, 20)
    after = rounds(20, 255)
    assert abs(after[0] - before[0]) <= 1, (before, after)
    assert after[1] <= before[1] + 2, (before, after)
    assert after[2] < before[2] + 3, (before, after)


def passes(syncer: Syncer) -> float:
    return syncer.metric("git_sync_count_total")
