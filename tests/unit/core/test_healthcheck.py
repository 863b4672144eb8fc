"""`<command> healthcheck`: finds the door, and says what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecars.core.healthcheck import door, given
from tests.unit.core.running import PROGRAM, Running


def check(*arguments: str, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, PROGRAM, "healthcheck", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("probe", [[], ["readyz"], ["livez"], ["startupz"], ["healthz"]])
def test_a_ready_program_is_0(probe: list[str]) -> None:
    with Running() as life:
        life.wait_for("running")
        assert check(*probe, LIFE_ADMIN=f":{life.port}") == (0, "")


def test_one_that_is_not_is_1_with_the_reason() -> None:
    with Running("--work", "fail") as life:
        life.wait_for("upload failed")
        admin = f"127.0.0.1:{life.port}"
        assert check("healthz", LIFE_ADMIN=admin) == (1, "s3: no route to https://***@minio:9000/logs\n")
        assert check("readyz", LIFE_ADMIN=admin) == (0, "")


def test_the_flag_of_the_check_itself_comes_first() -> None:
    with Running("--admin", "[::1]:0") as life:
        life.wait_for("running")
        assert check("livez", "--admin", f"[::1]:{life.port}", LIFE_ADMIN=":1") == (0, "")


def test_no_program_is_1_and_says_where_it_was_looked_for() -> None:
    code, said = check(LIFE_ADMIN=":1")
    assert code == 1
    assert said.startswith("cannot ask localhost:1: ")
    assert said.endswith("is the program running, and is this its --admin?\n")


def test_a_door_that_is_off_is_1_and_says_so() -> None:
    code, said = check(LIFE_ADMIN="off")
    assert code == 1
    assert said.startswith("the admin door is off")


def test_a_wrong_probe_is_1_and_says_which_there_are() -> None:
    code, said = check("ready")
    assert (code, said) == (1, "'ready' is no probe; ask for one of readyz, livez, startupz, healthz\n")


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("paths: [a]\nadmin: ':9300'  # ours\n", 9300),
        ("admin: 127.0.0.1:9300\n", 9300),
        ('{"grace": 3, "admin": ":9300"}', 9300),
        ('{\n  "grace": 3,\n  "admin": ":9300"\n}', 9300),
        ('admin = ":9300"\n', 9300),
        ("admin_post: true\nother:\n  admin: :1\n", 9199),
        ("# admin: :1\n", 9199),
        ("{not json", 9199),
    ],
)
def test_a_config_file_is_looked_into(tmp_path: Path, config: str, found: int) -> None:
    (tmp_path / "config").write_text(config)
    assert door([], {"LIFE_CONFIG": str(tmp_path / "config")}, "LIFE_", ":9199")[1] == found


def test_a_config_file_that_cannot_be_read_leaves_the_default() -> None:
    assert door([], {"LIFE_CONFIG": "/absent"}, "LIFE_", ":9199") == ("", 9199)


@pytest.mark.parametrize(
    ("argv", "environ", "found"),
    [
        (["x", "--admin", ":1"], {}, ":1"),
        (["x", "--admin=:1"], {}, ":1"),
        (["--admin=:1", "--admin=:2"], {}, ":2"),
        (["--admin=:1"], {"LIFE_ADMIN": ":3"}, ":1"),
        (["--admin-pages", "all"], {"LIFE_ADMIN": ":3"}, ":3"),
        (["--admin"], {}, None),
        ([], {"LIFE_ADMIN": ""}, None),
    ],
)
def test_one_setting_is_looked_up(argv: list[str], environ: dict[str, str], found: str | None) -> None:
    assert given("admin", argv, environ, "LIFE_") == found


@pytest.mark.skipif(os.getuid() != 0, reason="NOT PROVEN HERE: needs root to be PID 1")
@pytest.mark.parametrize("style", [["--admin", "127.0.0.1:9298"], ["--admin=127.0.0.1:9298"]])
def test_in_a_container_the_command_line_of_pid_1_says_where_the_door_is(style: list[str]) -> None:
    with Running(*style, under=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]) as life:
        life.wait_for("running")
        [pid] = Path(f"/proc/{life.pid}/task/{life.pid}/children").read_text().split()
        inside = ["nsenter", "--target", pid, "--pid", "--mount", sys.executable, PROGRAM, "healthcheck"]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_check_imports_next_to_nothing() -> None:
    listed = (
        "import sys; before = set(sys.modules)\n"
        "from sidecars.core.healthcheck import healthcheck\n"
        "print(*set(sys.modules) - before)"
    )
    modules = set(subprocess.check_output([sys.executable, "-S", "-c", listed], text=True, cwd=ROOT).split())
    assert len(modules) < 36
    assert not modules & {"asyncio", "ssl", "http", "json", "msgspec", "structlog", "prometheus_client", "logging"}


ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")
