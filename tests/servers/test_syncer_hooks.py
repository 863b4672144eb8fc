"""Hooks and the gate, with real programs and a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from sidecars.core.errors import SidecarError
from sidecars.syncer import programs
from sidecars.syncer.events import Events
from sidecars.syncer.gate import Gate, GateClosed
from sidecars.syncer.hooks import Hooks, Runner, hooks
from sidecars.syncer.metrics import Metrics
from sidecars.syncer.programs import ProgramFailed
from sidecars.syncer.settings import Settings
from sidecars.syncer.units import Duration

A, B = "a" * 40, "b" * 40
T = TypeVar("T")


def waited(work: Awaitable[T], seconds: float = 10) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(seconds):
            return await work

    return asyncio.run(bounded())


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def run(*words: str, cwd: Path, within: float = 60, environment: dict[str, str] | None = None) -> programs.Output:
    return waited(
        programs.run(words, cwd=str(cwd), environment=environment or {"PATH": os.environ["PATH"]}, within=within)
    )


def test_a_program_gets_its_words_as_they_are_and_an_empty_input(tmp_path: Path) -> None:
    hook = script(tmp_path / "a hook", 'cat; printf "[%s]" "$@"; pwd >&2')
    assert run(hook, "two words", "*", "$HOME", cwd=tmp_path) == ("[two words][*][$HOME]", f"{tmp_path}\n")


def test_a_path_with_a_slash_is_relative_to_the_worktree(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin/hook", "echo here")
    assert run("bin/hook", cwd=tmp_path).stdout == "here\n"
    assert run("./bin/hook", cwd=tmp_path).stdout == "here\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sh", "-c", "echo out; echo err >&2; exit 3"), r': exit status 3: { stdout: "out\\n", stderr: "err\\n" }'),
        (("/nonexistent",), r"Run\(/nonexistent\): fork/exec /nonexistent: no such file or directory"),
        (("/etc/passwd",), r"permission denied"),
        (("sh", "-c", "kill -9 $$"), r"signal: killed"),
        (("no such program",), r'Run\("no such program"\)'),
        (("exit 1",), r"no such file"),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_told_of_as_git_sync_does(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ProgramFailed, match=said):
        run(*words, cwd=tmp_path)


def test_a_worktree_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="no such file or directory"):
        run("true", cwd=tmp_path / "gone")


def test_of_much_output_the_end_is_kept(tmp_path: Path) -> None:
    output = run("sh", "-c", "yes | head -c 3000000; echo end", cwd=tmp_path)
    assert len(output.stdout) == 64 * 1024
    assert output.stdout.endswith("y\nend\n")


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(happened: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_at_the_timeout_the_whole_group_is_killed_and_what_was_said_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match=r'context deadline exceeded: { stdout: "begun'):
        run("sh", "-c", "sleep 600 & echo $! > child; echo begun; wait", cwd=tmp_path, within=1)
    wait_until(lambda: gone(int((tmp_path / "child").read_text())))


def test_a_hook_that_is_cancelled_is_killed_with_its_group(tmp_path: Path) -> None:
    async def cancelled() -> None:
        words = ("sh", "-c", "sleep 600 & echo $! > new; mv new child; wait")
        task = asyncio.create_task(programs.run(words, cwd=str(tmp_path), environment=os.environ, within=600))
        while not (tmp_path / "child").exists():
            await asyncio.sleep(0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    waited(cancelled())
    wait_until(lambda: gone(int((tmp_path / "child").read_text())))


def test_what_a_program_leaves_behind_does_not_hold_it_up_and_stays(tmp_path: Path) -> None:
    run("sh", "-c", "sleep 600 & echo $! > child", cwd=tmp_path)
    child = psutil.Process(int((tmp_path / "child").read_text()))
    assert child.is_running()
    child.kill()


def test_the_loop_turns_while_a_program_runs_and_no_descriptor_is_left(tmp_path: Path) -> None:
    async def turning() -> int:
        turns = 0
        task = asyncio.create_task(
            programs.run(("sh", "-c", "echo x; sleep .2"), cwd=str(tmp_path), environment=os.environ, within=5)
        )
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        await task
        return turns

    process = psutil.Process()
    waited(turning())
    before = process.num_fds()
    assert waited(turning()) > 20
    assert process.num_fds() == before


def test_where_the_kernel_cannot_tell_of_an_end_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(pid: int, flags: int = 0) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", absent)
    assert run("echo", "x", cwd=tmp_path).stdout == "x\n"


def test_no_secret_is_in_the_environment_of_a_hook() -> None:
    environ = {
        "PATH": "/bin",
        "GITSYNC_ROOT": "/git",
        "GITSYNC_REPO": "https://bot:hunter2@git.example/app",
        "GITSYNC_PASSWORD": "hunter2",
        "GIT_SYNC_PASSWORD": "hunter2",
        "GITSYNC_PASSWORD_FILE": "/hunter2",
        "GITSYNC_CREDENTIAL": '{"password": "hunter2"}',
        "GITSYNC_GITHUB_APP_PRIVATE_KEY": "hunter2",
        "GITSYNC_HOOK_SECRET": "hunter2",
        "GITSYNC_ASKPASS_URL": "http://x/?token=hunter2",
        "GIT_ASKPASS_URL": "http://x/?token=hunter2",
        "GITSYNC_WEBHOOK_URL": "https://hooks.example/hunter2",
        "GITSYNC_GIT_CONFIG": "http.extraHeader:hunter2",
        "GIT_PYTHON_GIT_EXECUTABLE": "/nonexistent",
    }
    git = {"GIT_CONFIG_GLOBAL": "/tmp/x", "GIT_SSH_COMMAND": "ssh -i /key", "GIT_CONFIG_VALUE_0": "hunter2"}
    given = programs.environment(environ, git, GITSYNC_HASH=A)
    assert given == {
        "PATH": "/bin",
        "GITSYNC_ROOT": "/git",
        "GITSYNC_REPO": "https://***@git.example/app",
        "GIT_CONFIG_GLOBAL": "/tmp/x",
        "GIT_SSH_COMMAND": "ssh -i /key",
        "GITSYNC_HASH": A,
    }


class Settled:
    """A repository's hooks, and what they count."""

    def __init__(self, **given: object) -> None:
        self.metrics = Metrics()
        self.settings = Settings(**given)  # type: ignore[arg-type]
        environment = {"PATH": os.environ["PATH"]}
        self.hooks: Hooks = hooks(self.settings, lambda: environment, self.metrics.of(), Events(0))
        self.gate = Gate(self.settings, lambda: environment, self.metrics.of(), Events(0))

    def counted(self, name: str = "git_sync_hook_run_count_total") -> dict[str, str]:
        lines = [line for line in self.metrics.text().decode().splitlines() if line.startswith(name)]
        return {line.split('"')[-2]: line.split()[-1] for line in lines}


def test_only_the_hooks_that_are_set_are_there() -> None:
    assert Settled().hooks.present() == []
    settled = Settled(exechook_command="a", pre_publish_exechook_command="b", webhook_url="http://c")
    assert [runner.name for runner in settled.hooks.present()] == ["pre-publish-exechook", "exechook", "webhook"]


def test_the_exechook_runs_in_the_worktree_with_the_hash_and_its_arguments(tmp_path: Path) -> None:
    script(tmp_path / "hook", 'echo "$GITSYNC_HASH $* $(pwd)" > told')
    settled = Settled(exechook_command="./hook", exechook_arg=("a", "b c"))
    [exechook] = settled.hooks.present()
    exechook.send(A, str(tmp_path))
    assert waited(exechook.once())
    assert (tmp_path / "told").read_text() == f"{A} a b c {tmp_path}\n"
    assert settled.counted() == {"success": "1"}


def test_with_one_time_a_hook_gets_one_attempt(tmp_path: Path) -> None:
    settled = Settled(exechook_command=script(tmp_path / "hook", "echo x >> runs; exit 1"))
    [exechook] = settled.hooks.present()
    assert waited(exechook.once()), "nothing was sent"
    exechook.send(A, str(tmp_path))
    assert not waited(exechook.once())
    assert (tmp_path / "runs").read_text() == "x\n"
    assert settled.counted() == {"error": "1"}
    assert "exit status 1" in (exechook.trouble or "")


class Scripted:
    """A hook that fails for as many times as it is told, and waits to be let through."""

    def __init__(self, failures: int = 0) -> None:
        self.ran: list[str] = []
        self.failures = failures
        self.gate = asyncio.Event()
        self.gate.set()
        self.news = asyncio.Condition()

    async def __call__(self, hash: str, worktree: str) -> None:
        async with self.news:
            self.ran.append(hash)
            self.news.notify_all()
        await self.gate.wait()
        if len(self.ran) <= self.failures:
            raise SidecarError("not yet")

    async def wait_for(self, count: int) -> None:
        async with self.news:
            await self.news.wait_for(lambda: len(self.ran) >= count)


@contextlib.asynccontextmanager
async def running(hook: Scripted, backoff: float = 0.01):  # type: ignore[no-untyped-def]
    runner = Runner("exechook", hook, Duration(backoff), Metrics().of(), Events(-1))
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_hook_is_tried_again_until_it_succeeds_and_not_run_twice_for_one_revision() -> None:
    async def story() -> None:
        hook = Scripted(failures=2)
        async with running(hook) as runner:
            runner.send(A, "/")
            await hook.wait_for(3)
            runner.send(A, "/")
            await asyncio.sleep(0)
            runner.send(B, "/")
            await hook.wait_for(4)
            runner.send(A, "/")  # back again is a change
            await hook.wait_for(5)
        assert hook.ran == [A, A, A, B, A]

    waited(story())


def test_while_a_hook_runs_only_the_newest_revision_waits() -> None:
    async def story() -> None:
        hook = Scripted()
        hook.gate.clear()
        async with running(hook) as runner:
            runner.send("1", "/")
            await hook.wait_for(1)
            runner.send("2", "/")
            runner.send("3", "/")
            hook.gate.set()
            await hook.wait_for(2)
        assert hook.ran == ["1", "3"]

    waited(story())


def test_after_a_failure_the_newest_revision_is_tried_once_the_backoff_is_over() -> None:
    async def story() -> None:
        hook = Scripted(failures=1)
        async with running(hook, backoff=0.2) as runner:
            runner.send("1", "/")
            await hook.wait_for(1)
            began = time.monotonic()
            runner.send("2", "/")
            await hook.wait_for(2)
            assert time.monotonic() - began >= 0.15
        assert hook.ran == ["1", "2"]

    waited(story())


def test_the_gate_opens_for_a_program_that_agrees_and_is_asked_once(tmp_path: Path) -> None:
    gate = script(tmp_path / "gate", 'echo "$GITSYNC_HASH $GITSYNC_PREVIOUS_HASH $(pwd)" >> told')
    settled = Settled(gate_command=gate)
    for _ in range(2):
        waited(settled.gate.check(B, str(tmp_path), A))
    assert (tmp_path / "told").read_text() == f"{B} {A} {tmp_path}\n"
    assert settled.gate.trouble is None
    assert settled.counted("git_syncer_gate_runs_total") == {"passed": "1"}


def test_without_a_previous_revision_the_gate_is_told_an_empty_one(tmp_path: Path) -> None:
    gate = script(tmp_path / "gate", '[ "${GITSYNC_PREVIOUS_HASH-unset}" = "" ]')
    waited(Settled(gate_command=gate).gate.check(A, str(tmp_path), None))


def test_a_revision_that_was_refused_is_not_asked_for_again_at_once(tmp_path: Path) -> None:
    gate = script(tmp_path / "gate", 'echo x >> runs; echo broken >&2; [ "$GITSYNC_HASH" != ' + B + " ]")
    settled = Settled(gate_command=gate)
    for fresh in (True, False, False):
        with pytest.raises(GateClosed, match="broken") as closed:
            waited(settled.gate.check(B, str(tmp_path), A))
        assert closed.value.fresh is fresh
    assert (tmp_path / "runs").read_text() == "x\n"
    assert 0 < settled.gate.due() <= 3
    assert "broken" in (settled.gate.trouble or "")
    waited(settled.gate.check("c" * 40, str(tmp_path), A))  # another revision is asked for at once
    assert settled.gate.trouble is None
    assert settled.gate.due() == 0
    assert settled.counted("git_syncer_gate_runs_total") == {"refused": "1", "passed": "1"}


def test_a_refused_revision_may_pass_later_after_longer_and_longer_waits(tmp_path: Path) -> None:
    now = 1000.0
    settings = Settings(gate_command=script(tmp_path / "gate", "[ -e ready ]"), max_backoff=Duration(10))
    gate = Gate(settings, lambda: {"PATH": os.environ["PATH"]}, Metrics().of(), Events(0), clock=lambda: now)
    waits = []
    for _ in range(4):
        with pytest.raises(GateClosed) as closed:
            waited(gate.check(B, str(tmp_path), A))
        assert closed.value.fresh
        waits.append(gate.due())
        now += gate.due()
    assert waits == [3, 6, 10, 10]
    (tmp_path / "ready").touch()
    waited(gate.check(B, str(tmp_path), A))


def test_a_gate_that_hangs_is_closed(tmp_path: Path) -> None:
    settled = Settled(gate_command=script(tmp_path / "gate", "sleep 600"), gate_timeout=Duration(0.2))
    with pytest.raises(GateClosed, match="context deadline exceeded"):
        waited(settled.gate.check(B, str(tmp_path), None))


def test_without_a_gate_all_may_pass() -> None:
    waited(Settled().gate.check(A, "/nonexistent", None))
