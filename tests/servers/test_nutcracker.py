"""What drives twemproxy drives us: its flags, files, signals and counters, beside its own program."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from sidecars.ambassador.nutcracker.pools import read_pools
from sidecars.core.errors import WrongSettings
from tests.servers.ambassador import running
from tests.servers.redis_server import RedisServer, needs_redis
from tests.unit.ambassador.test_nutcracker import ALL, ALPHA, REFUSED
from tests.unit.core.running import PATIENCE, free_port

NUTCRACKER = shutil.which("nutcracker")
if not NUTCRACKER and os.environ.get("CI") == "true":
    raise RuntimeError("nutcracker is not installed: apt-get install nutcracker")
beside = pytest.mark.skipif(not NUTCRACKER, reason="NOT PROVEN HERE: needs Debian's nutcracker")
OURS = (sys.executable, "-m", "sidecars.ambassador.nutcracker")
THEIRS = (str(NUTCRACKER),)
ENVIRON = {**os.environ, "AMBASSADOR_ADMIN": "127.0.0.1:0"}


class Shard(RedisServer):
    """A redis-server at a port, for twemproxy's addresses."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__("--port", str(self.port), "--bind", "127.0.0.1")

    def keys(self) -> int:
        """How many it has."""
        with self.client() as client:
            return int(client.dbsize())


def run(program: tuple[str, ...], *arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    """The exit code and what was said, on stderr as all that twemproxy says; stdout stays empty."""
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=30, env=ENVIRON, cwd=cwd)
    assert done.stdout == ""
    return done.returncode, done.stderr


@contextlib.contextmanager
def daemon(program: tuple[str, ...], directory: Path, config: str, *arguments: str) -> Iterator[psutil.Process]:
    """A daemon with this configuration: its log and pid file are in the directory, its stats at a port of its own."""
    (directory / "nutcracker.yml").write_text(config)
    flags = ("-d", "-c", "nutcracker.yml", "-o", "log", "-p", "pid", "-a", "127.0.0.1", *arguments)
    assert run(program, *flags, cwd=directory)[0] == 0
    pid, log = directory / "pid", directory / "log"
    until(lambda: pid.read_text(), log)
    process = psutil.Process(int(pid.read_text()))
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            until(lambda: gone(process))


def gone(process: psutil.Process) -> bool:
    """It has ended; whoever adopted it may not have noticed yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def until(happened: Callable[[], Any], log: Path | None = None) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if found := happened():
                return found
        late = time.monotonic() > deadline
        assert not late, f"did not happen; {log.read_text() if log and log.exists() else ''}"
        time.sleep(0.01)


def stats(port: int) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        return dict(json.loads(b"".join(iter(lambda: client.recv(65536), b""))))


def asked(port: int, *words: str) -> bytes:
    """The answer to a command, as it stands on the wire. A client of today asks first what twemproxy cannot answer."""
    sent = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each.encode()) for each in words)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(sent)
        return client.recv(65536)


def pool(port: int, *servers: object, **keys: object) -> str:
    lines = ["alpha:", f"  listen: 127.0.0.1:{port}", "  redis: true"]
    lines += [f"  {key}: {value}" for key, value in keys.items()]
    return "\n".join([*lines, "  servers:", *(f"   - {server}" for server in servers), ""])


# What twemproxy refuses. The last five of the table it takes: modes that are none, long passwords, memcached, a list.
CONFIGS = [*((text, False) for text, _ in REFUSED[:-5]), (ALPHA, True), (ALL, True)]


@beside
@pytest.mark.parametrize(("text", "good"), CONFIGS)
def test_twemproxy_refuses_what_we_refuse(tmp_path: Path, text: str, good: bool) -> None:
    config = tmp_path / "c.yml"
    config.write_text(text)
    assert (run(THEIRS, "-t", "-c", str(config))[0] == 0) is good
    with contextlib.nullcontext() if good else pytest.raises(WrongSettings):
        read_pools(str(config))


@beside
@pytest.mark.parametrize("text", [ALPHA, ALPHA + "  foo: 1\n", None])
def test_a_configuration_is_tested_with_the_same_words_and_exit_code(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "c.yml"
    if text is not None:
        config.write_text(text)
    code, said = run(THEIRS, "-t", "-c", str(config))
    ours, told = run(OURS, "-t", "-c", str(config))
    assert (ours, told.splitlines()[-1]) == (code, said.splitlines()[-1])
    assert len(told.splitlines()) == (1 if code == 0 else 2)  # ours says why, too


@beside
@pytest.mark.parametrize("line", ["-x", "-s 99999", "-c"])
def test_a_wrong_flag_is_refused_with_the_same_words_and_exit_code(line: str) -> None:
    code, said = run(THEIRS, *line.split())
    ours, told = run(OURS, *line.split())
    assert (ours, told.splitlines()[0]) == (code, said.splitlines()[0])


@beside
def test_help_has_the_same_flags_and_version_and_counters_the_same_words() -> None:
    code, said = run(THEIRS, "--help")
    ours, told = run(OURS, "--help")
    flags = re.compile(r"(?m)^  -\w, --[\w-]+")
    assert (ours, flags.findall(told)) == (code, flags.findall(said))
    version, described = run(OURS, "-V")[1], run(OURS, "-D")[1]
    assert version.splitlines()[0] == run(THEIRS, "-V")[1].splitlines()[0]
    assert described[described.index("pool stats") :] == (s := run(THEIRS, "-D")[1])[s.index("pool stats") :]


@needs_redis
@beside
def test_a_daemon_lives_and_ends_as_twemproxy_s_and_tells_the_same_counters(tmp_path: Path) -> None:
    told = {}
    with Shard() as first, Shard() as second:
        for program in (THEIRS, OURS):
            directory = tmp_path / str(len(program))
            directory.mkdir()
            port, stats_port = free_port(), free_port()
            config = pool(port, f"{first.address}:1", f"{second.address}:1 named", preconnect="true", hash="md5")
            with daemon(program, directory, config, "-s", str(stats_port), "-i", "50") as process:
                assert process.ppid() in (1, psutil.Process().ppid()) or process.terminal() is None
                keys = [f"key:{number}" for number in range(100)]
                until(lambda port=port, keys=keys: asked(port, "MSET", *(word for key in keys for word in (key, "x"))))
                assert asked(port, "MGET", *keys[:2]) == b"*2\r\n$1\r\nx\r\n$1\r\nx\r\n"
                # twemproxy adds its counters up each -i milliseconds.
                until(lambda port=stats_port: stats(port)["alpha"]["named"]["responses"] >= 2)
                told[program] = stats(stats_port)
                process.send_signal(signal.SIGINT)
                until(lambda process=process: gone(process))
    ours, theirs = told[OURS], told[THEIRS]
    assert ours.keys() == theirs.keys()
    assert {name for name in ours["alpha"] if ":" in name} == {first.address}
    assert ours["alpha"].keys() == theirs["alpha"].keys()
    assert ours["alpha"]["named"].keys() == theirs["alpha"]["named"].keys()
    assert (ours["service"], ours["version"]) == (theirs["service"], theirs["version"])
    for server in (first.address, "named"):
        for counter in ("requests", "responses"):
            assert ours["alpha"][server][counter] == theirs["alpha"][server][counter]
    assert not (tmp_path / str(len(OURS)) / "pid").exists()


@needs_redis
def test_its_signals_reopen_and_turn_the_log_and_end_it(tmp_path: Path) -> None:
    with Shard() as server:
        port = free_port()
        with daemon(OURS, tmp_path, pool(port, f"{server.address}:1"), "-s", str(free_port())) as process:
            log = tmp_path / "log"
            with socket.create_connection(until(lambda: open_port(port)), PATIENCE) as client:
                client.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
                assert client.recv(5) == b"$-1\r\n"
                log.rename(tmp_path / "log.1")
                process.send_signal(signal.SIGHUP)
                until(lambda: "log reopened" in log.read_text())
                process.send_signal(signal.SIGTTIN)
                until(lambda: '"verbose": 6' in log.read_text())
                process.send_signal(signal.SIGTTOU)
                until(lambda: '"verbose": 5' in log.read_text())
                process.send_signal(signal.SIGUSR1)
                # twemproxy does not drain, so a client's open connection does not keep this one.
                process.send_signal(signal.SIGTERM)
                assert client.recv(1) == b""
                until(lambda: not (tmp_path / "pid").exists())


def open_port(port: int) -> tuple[str, int]:
    socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    return "127.0.0.1", port


@needs_redis
def test_a_server_added_to_its_file_is_taken_without_a_signal(tmp_path: Path) -> None:
    config = tmp_path / "nutcracker.yml"
    with Shard() as first, Shard() as second:
        port = free_port()
        config.write_text(pool(port, f"{first.address}:1", hash="md5"))
        with running("--nutcracker-config", config, "--stats", "127.0.0.1:0") as ambassador:
            told = int(ambassador.wait_for("listening for stats")["address"].rpartition(":")[2])
            client = redis.Redis(port=port)
            client.mset({f"key:{n}": "x" for n in range(100)})
            assert (first.keys(), second.keys()) == (100, 0)
            config.write_text(pool(port, f"{first.address}:1", f"{second.address}:1", hash="md5"))
            assert ambassador.wait_for("settings reloaded")["changed"] == [f"127.0.0.1:{port}"]
            assert {first.address, second.address} <= stats(told)["alpha"].keys()
            client.mset({f"key:{n}": "x" for n in range(100)})
            assert second.keys() > 0
            client.close()


@needs_redis
def test_redis_servers_separated_by_a_space_are_two_shards_for_today_s_redis_py(tmp_path: Path) -> None:
    with Shard() as first, Shard() as second:
        port = free_port()
        environ = {
            "REDIS_SERVERS": f"{first.address}:1 {second.address}:1", "LISTEN_PORT": str(port),
            "AMBASSADOR_STATS": "127.0.0.1:0",
        }  # fmt: skip
        with running(environ=environ) as ambassador:
            assert "separates servers by spaces" in ambassador.wait_for("setting ignored")["reason"]
            assert {each["address"] for each in ambassador.said("listening")} >= {f"0.0.0.0:{port}"}
            with redis.Redis(port=port) as client:
                for number in range(200):
                    client.set(f"key:{number * 7919}", number)
                assert [int(client.get(f"key:{number * 7919}") or -1) for number in range(200)] == list(range(200))
            assert min(first.keys(), second.keys()) > 20
            assert first.keys() + second.keys() == 200
