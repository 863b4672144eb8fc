"""pod-init wait and healthcheck, met as a pod meets them: arguments, events, exit codes, termination message."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil
import pytest

from tests.servers.process import Sidecar, as_root
from tests.unit.init.answering import Answering, bound, filtered, refused, silent

ROOT = Path(__file__).parents[2]


class Init(Sidecar):
    """pod-init with these arguments."""

    command = (sys.executable, "-m", "sidecars.init")
    prefix = "INIT_"
    defaults: ClassVar[dict[str, str]] = {"INIT_INTERVAL": "20ms", "INIT_MAX_INTERVAL": "50ms"}

    def __init__(
        self, *arguments: str | Path, folder: Path, environ: dict[str, str] | None = None, **popen: Any
    ) -> None:
        self.message = folder / "termination"
        super().__init__(*arguments, environ=environ, termination_log=str(self.message), **popen)

    def left(self) -> str:
        """The termination message."""
        return self.message.read_text() if self.message.exists() else ""

    def failed(self, code: int) -> str:
        """The reason of its end, which is in the log and in the termination message."""
        assert self.ended()[0] == code, "\n".join(self.lines)
        reason = str(self.said("failed")[0]["reason"])
        assert self.left() == reason[:1024]
        return reason

    def succeeded(self) -> Self:
        assert self.ended()[0] == 0, "\n".join(self.lines)
        assert self.left() == ""
        return self

    def states(self) -> list[str]:
        return [each["state"] for each in self.said("not yet")]


Start = Callable[..., Init]


@pytest.fixture
def init(tmp_path: Path) -> Iterator[Start]:
    """Start a pod-init; it is killed after the test if it runs still."""
    running: list[Init] = []

    def init(*arguments: Any, **options: Any) -> Init:
        running.append(Init(*arguments, folder=tmp_path, **options).__enter__())
        return running[-1]

    yield init
    for each in running:
        each.__exit__()


@pytest.fixture
def wait(init: Start) -> Start:
    return lambda *arguments, **options: init("wait", *arguments, **options)


# What it says


def test_a_refused_redis_times_out_and_says_refused_how_often_and_for_how_long(wait: Start) -> None:
    port = refused()
    reason = wait(f"redis://127.0.0.1:{port}", "--timeout", "1s").failed(124)
    start = f"timed out after 1s: redis://127.0.0.1:{port}: refused by 127.0.0.1:{port}, "
    assert reason.startswith(start)
    assert re.match(r"\d+ attempts in \d\.\d s; nothing listens there", reason.removeprefix(start))


def test_a_name_that_can_never_exist_ends_it_at_once_with_the_names_tried(wait: Start) -> None:
    reason = wait("dns://no-such-name.invalid").failed(125)
    assert reason.startswith("dns://no-such-name.invalid: the name no-such-name.invalid can never exist (tried ")
    assert "no-such-name.invalid." in reason.partition("(tried ")[2]


def test_the_timeout_is_always_said_at_the_start(wait: Start) -> None:
    started = wait(f"127.0.0.1:{refused()}").wait_for("waiting")
    assert (started["timeout"], started["needed"]) == ("5m", "all")


def test_changes_are_said_once_and_the_end_of_the_wait_too(wait: Start) -> None:
    with bound() as sock:
        waiting = wait(f"127.0.0.1:{sock.getsockname()[1]}")
        waiting.wait_for("not yet")
        sock.listen()
        waiting.succeeded()
    assert waiting.states() == ["refused"]
    assert waiting.said("met")[0]["attempts"] > 1


def test_a_heartbeat_says_what_is_still_waited_for(wait: Start) -> None:
    with Answering(silent) as server:
        missing = f"tcp://127.0.0.1:{refused()}"
        waiting = wait(missing, f"127.0.0.1:{server.port}", "--heartbeat", "100ms", "--timeout", "1m")
        waiting.until(lambda: any(each["met"] == "1 of 2" for each in waiting.said("still waiting")))
    said = waiting.said("still waiting")[-1]
    assert said["targets"][missing].startswith("refused: refused by")
    assert said["left"] < 60


def test_a_port_behind_a_firewall_is_said_to_be_filtered(wait: Start) -> None:
    with filtered() as port:
        reason = wait(f"127.0.0.1:{port}", "--timeout", "1s").failed(124)
    assert f"no answer from 127.0.0.1:{port}, 1 attempt in " in reason
    assert "a firewall or NetworkPolicy drops what is sent" in reason


def test_the_text_form_is_for_people(wait: Start) -> None:
    waiting = wait("dns://a..b", "--log-format", "text")
    assert waiting.wait() == 125
    waiting.ended()
    assert " error   failed reason='dns://a..b: the name a..b can never exist" in waiting.lines[-1]


# How much is enough


@pytest.mark.parametrize(("how", "code"), [((), 124), (("--quorum", "2"), 0), (("--quorum", "3"), 124)])
def test_enough_is_all_or_any_or_a_quorum(wait: Start, how: tuple[str, ...], code: int) -> None:
    with Answering(silent) as server:
        here = f"127.0.0.1:{server.port}"
        waiting = wait(here, f"tcp://{here}", f"127.0.0.1:{refused()}", "--timeout", "1s", *how)
        assert waiting.wait() == code
    if code:
        assert ", 2 of 3 met: " in waiting.failed(124)


def test_what_can_never_be_ends_it_only_where_the_others_are_too_few(wait: Start) -> None:
    with bound() as sock:
        waiting = wait("dns://a.invalid", f"127.0.0.1:{sock.getsockname()[1]}", "--any")
        waiting.wait_for("impossible")
        sock.listen()
        waiting.succeeded()
    port = refused()
    assert "dns://a.invalid" in wait("dns://a.invalid", f"127.0.0.1:{port}", "dns://b.invalid", "--quorum", "2").failed(
        125
    )


def test_not_waits_until_it_is_gone(wait: Start) -> None:
    with Answering(silent) as server:
        waiting = wait(f"not:tcp://127.0.0.1:{server.port}")
        waiting.wait_for("not yet")
    waiting.succeeded()


def test_consecutive_looks_must_be_good_in_a_row(wait: Start, tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"cmd:sh -c 'echo x >> {count}; [ $(wc -l < {count}) -ne 2 ]'"
    wait(script, "--consecutive", "3").succeeded()
    assert count.read_text().count("x") == 5


def test_a_file_is_waited_for_until_it_is_whole_and_of_this_start(wait: Start, tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text("an earlier start's")
    os.utime(path, (1, 1))
    waiting = wait(f"file://{path}?newer=start&nonempty&contains=done&stable=200ms", "--max-interval", "20ms")
    assert "from before" in waiting.wait_for("not yet")["reason"]
    path.write_text("half")
    waiting.until(lambda: "not contain" in waiting.said("not yet")[-1]["reason"])
    path.write_text("half done")
    assert "unchanged for 0.2 s" in waiting.succeeded().said("met")[0]["reason"]


# What follows it


def test_the_command_takes_the_process_over(wait: Start, tmp_path: Path) -> None:
    script = "echo $$ $1 $WORD; ls /proc/$$/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; exit 7"
    read, write = os.pipe()
    waiting = wait(
        "cmd:true", "--", "sh", "-c", script, "sh", "a b",
        stdin=subprocess.DEVNULL, stdout=write, environ={"WORD": "kept"},
    )  # fmt: skip
    os.close(write)
    with open(read) as output:
        first, *rest = output.read().split("\n")
    assert waiting.ended()[0] == 7
    assert first == f"{waiting.pid} a b kept"
    assert rest[:3] == ["0", "1", "2"]
    # The two signals that glibc has for itself, 32 and 33, are as the parent left them.
    assert [int(line.split()[1], 16) & 0x7FFFFFFF for line in rest[3:-1]] == [0, 0]
    assert waiting.said("done")[0]["next"] == "sh"


def test_the_command_is_not_run_when_the_wait_failed(wait: Start, tmp_path: Path) -> None:
    wait("dns://a.invalid", "--", "touch", tmp_path / "run").failed(125)
    assert not (tmp_path / "run").exists()


def test_a_command_that_there_is_not_is_found_before_the_wait(wait: Start) -> None:
    assert "'no-such-program'" in wait(f"127.0.0.1:{refused()}", "--", "no-such-program").failed(2)
    assert "cannot run '/etc/passwd': Permission denied" in wait("cmd:true", "--", "/etc/passwd").failed(1)


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_such(wait: Start, number: signal.Signals) -> None:
    target = f"tcp://127.0.0.1:{refused()}"
    waiting = wait(target, "--", "true")
    waiting.wait_for("not yet")
    waiting.send(number)
    reason = waiting.failed(128 + number)
    assert reason.startswith(f"ended by {number.name}; while waiting for {target}: refused by")


@as_root
def test_a_signal_ends_it_also_as_pid_1(wait: Start) -> None:
    waiting = wait(f"127.0.0.1:{refused()}", under=["unshare", "--pid", "--fork", "--kill-child"])
    waiting.wait_for("not yet")
    [child] = psutil.Process(waiting.pid).children()
    child.send_signal(signal.SIGTERM)
    assert waiting.ended()[0] == 143
    assert "ended by SIGTERM" in waiting.left()


def test_a_signal_before_it_has_begun_ends_it_as_such_too() -> None:
    program = "import os; from sidecars.init import signals; signals.end_at_once(); os.kill(os.getpid(), 15)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (143, "pod-init: ended by SIGTERM\n")


def test_a_started_program_ends_with_it(wait: Start, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    waiting = wait(f"cmd:sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600'", "--patience", "5m")
    waiting.until(pid.exists)
    waiting.send(signal.SIGTERM)
    assert "no answer yet after" in waiting.failed(143)
    assert not psutil.pid_exists(int(pid.read_text()))


def test_what_the_parent_ignores_is_ignored(wait: Start) -> None:
    with bound() as sock:
        waiting = wait(f"127.0.0.1:{sock.getsockname()[1]}", under=["nohup"])
        waiting.wait_for("not yet")
        waiting.send(signal.SIGHUP)
        sock.listen()
        waiting.succeeded()


# Names


class Names:
    """What the name server of one pod-init says, which may change."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "names.json"
        config = folder / "resolv.conf"
        config.write_text("nameserver 127.0.0.1\nsearch prod.svc.cluster.local svc.cluster.local\noptions ndots:5\n")
        self.say({})
        module = [sys.executable, "-m", "tests.servers.init_names", str(self.file), str(config)]
        self.options = {"under": ["unshare", "--net", "--mount", "--pid", "--kill-child", *module], "cwd": ROOT}

    def say(self, names: dict[str, dict[str, list[str]] | None]) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(names))
        new.replace(self.file)


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(tmp_path)


TRIED = "(tried db.prod.svc.cluster.local., db.svc.cluster.local., db.)"


@as_root
def test_a_name_that_does_not_exist_yet_is_waited_for_through_each_state(wait: Start, names: Names) -> None:
    waiting = wait("dns://db?answers=2", **names.options)
    assert f"the name db does not exist {TRIED}" in waiting.wait_for("not yet")["reason"]
    names.say({"db.prod.svc.cluster.local": {"SRV": []}})
    waiting.until(lambda: "has no address; is any pod behind it ready?" in waiting.said("not yet")[-1]["reason"])
    names.say({"db.prod.svc.cluster.local": {"A": ["10.0.0.1"]}})
    waiting.until(lambda: "has 1 of 2 answers: 10.0.0.1" in waiting.said("not yet")[-1]["reason"])
    names.say({"db.prod.svc.cluster.local": {"A": ["10.0.0.1", "10.0.0.2"]}})
    assert waiting.succeeded().states()[:2] == ["no-name", "no-endpoints"]


@as_root
def test_a_missing_name_times_out_with_the_names_tried_or_fails_on_request(wait: Start, names: Names) -> None:
    assert TRIED in wait("db:5432", "--timeout", "1s", **names.options).failed(124)
    reason = wait("db:5432", "--fail-on-nxdomain", "300ms", **names.options).failed(125)
    assert TRIED in reason
    assert "and has not for 0.3 s" in reason


@as_root
def test_a_name_server_that_is_silent_is_said_and_does_not_hold_up_the_end(wait: Start, names: Names) -> None:
    names.say(dict.fromkeys(["db.prod.svc.cluster.local", "db.svc.cluster.local", "db"]))
    waiting = wait("db:5432", "dns://db", "--timeout", "1s", **names.options)
    assert waiting.failed(124).count("the name server does not answer") == 2


@as_root
def test_service_records_are_asked_for_with_the_search_path(wait: Start, names: Names) -> None:
    names.say({"_http._tcp.web.prod.svc.cluster.local": {"SRV": ["0 1 80 web.prod.svc.cluster.local"]}})
    waiting = wait("dns://_http._tcp.web?type=SRV", **names.options).succeeded()
    assert waiting.said("met")[0]["reason"] == "is web.prod.svc.cluster.local:80"
    missing = wait("dns://_x._tcp.web?type=SRV", **names.options).wait_for("not yet")
    assert missing["state"] == "no-name"
    assert "_x._tcp.web.prod.svc.cluster.local." in missing["reason"]


# The same targets for probes


def test_healthcheck_looks_once_and_says_how_each_is(init: Start, tmp_path: Path) -> None:
    with Answering(silent) as server:
        for how, code in ((["--any"], 0), ([], 1)):
            with open(tmp_path / "out", "w") as out:
                port = refused()
                targets = [f"127.0.0.1:{server.port}", f"tcp://127.0.0.1:{port}"]
                check = init("healthcheck", *targets, *how, stdout=out)
                assert check.ended()[0] == code
            good, bad = (tmp_path / "out").read_text().splitlines()
            assert good.split() == ["ok", f"{targets[0]}:", "takes", "connections"]
            assert bad.startswith(f"refused      {targets[1]}: refused by 127.0.0.1:{port}; ")
            assert check.left() == ""
    assert check.lines == ["1 of 2 as wanted, 2 needed"]


# The command line


def test_wrong_settings_are_said_in_plain_text_with_code_2(wait: Start) -> None:
    waiting = wait("tcpp://a:1")
    assert waiting.ended()[0] == 2
    assert waiting.lines == ["pod-init wait: tcpp://a:1 begins with the unknown scheme 'tcpp'; did you mean tcp?"]
    assert waiting.left() == waiting.lines[0].removeprefix("pod-init wait: ")


def test_targets_with_passwords_come_by_the_variable_and_are_not_shown(wait: Start) -> None:
    port = refused()
    targets = f"http://me:s3cret@127.0.0.1:{port}/\nredis://:hunter2@127.0.0.1:{port}"
    waiting = wait("--timeout", "1s", environ={"INIT_TARGETS": targets})
    reason = waiting.failed(124)
    assert f"http://***@127.0.0.1:{port}/: refused by" in reason
    assert not re.search("s3cret|hunter2", "\n".join(waiting.lines))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*Init.command, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_the_command_itself_answers_questions() -> None:
    shown, nothing = run("--help"), run()
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\n  wait " in shown.stdout
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (2, "", shown.stdout)
    assert run("--version").stdout.startswith("pod-init ")
    assert "did you mean wait?" in run("wiat").stderr
    assert "pod-init wait TARGET..." in run("db:5432").stderr
    assert "\n    tls://HOST:PORT " in run("wait", "--help").stdout


# What it costs


# -X importtime does not see what importlib imports.
LISTING = """
import os, sys
leave = os._exit
os._exit = lambda code: (print(*sys.modules, flush=True), leave(code))
from sidecars.init.__main__ import main
main()
"""


def test_a_plain_wait_imports_nothing_that_it_does_not_need() -> None:
    with Answering(silent) as server:
        command = [sys.executable, "-c", LISTING, "wait", f"127.0.0.1:{server.port}"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    imported = set(told.split())
    heavy = {"h11", "h2", "aiodns", "aiohttp", "yaml", "prometheus_client", "stamina", "http", "email", "rich"}
    assert "sidecars.init.checks.tcp" in imported
    assert not heavy & imported
    assert not {each for each in imported if each.startswith("sidecars.init.checks.")} - {"sidecars.init.checks.tcp"}


def beaten(waiting: Init, times: int) -> bool:
    return len(waiting.said("still waiting")) >= times


def test_descriptors_and_threads_do_not_grow_with_the_attempts(wait: Start) -> None:
    with Answering(lambda client: client.close()) as server:
        targets = [f"http://127.0.0.1:{server.port}/", f"127.0.0.1:{refused()}", "cmd:false", "file:///no/such"]
        waiting = wait(*targets, "--interval", "10ms", "--max-interval", "10ms", "--heartbeat", "50ms")
        process = psutil.Process(waiting.pid)
        most = []
        for beats in (2, 15):
            waiting.until(functools.partial(beaten, waiting, beats))
            most.append((process.num_fds(), process.num_threads()))
    (before, threads), (after, threads_after) = most
    assert after <= before + 10
    assert threads_after <= threads + 4
