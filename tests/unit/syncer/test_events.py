"""What is logged looks as git-sync's log does, and each error is in the error file too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

SAY = """
import sys
from sidecars.core import log
from sidecars.syncer.events import Events, as_git_sync
from sidecars.syncer.files import ErrorFile
log.configure(render=as_git_sync)
conceal = lambda text: text.replace("hunter2", "REDACTED")
events = Events(int(sys.argv[1]), ErrorFile("error", sys.argv[2]), conceal=conceal)
exec(sys.argv[3])
log.stderr.flush(5)
"""


def said(root: Path, statements: str, verbose: int = 0) -> list[dict[str, Any]]:
    """The lines of a process that says this."""
    done = subprocess.run(
        [sys.executable, "-c", SAY, str(verbose), str(root), statements], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_update_is_told_as_git_sync_tells_it(tmp_path: Path) -> None:
    (line,) = said(tmp_path, 'events.info(0, "update required", ref="main", syncCount=3)')
    assert list(line) == ["logger", "ts", "caller", "level", "msg", "ref", "syncCount"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", line["ts"])
    assert line["caller"] == {"file": "<string>", "line": 1}
    assert (line["logger"], line["level"], line["msg"], line["ref"], line["syncCount"]) == (
        "", 0, "update required", "main", 3,
    )  # fmt: skip
    assert not (tmp_path / "error").exists()


def test_an_error_has_no_level_and_is_in_the_error_file(tmp_path: Path) -> None:
    (line,) = said(
        tmp_path, 'events.named("webhook").error(ValueError("it broke"), "hook failed", hash="abc", retry="3s")'
    )
    assert list(line) == ["logger", "ts", "caller", "msg", "error", "hash", "retry"]
    assert (line["logger"], line["msg"], line["error"]) == ("webhook", "hook failed", "it broke")
    assert json.loads((tmp_path / "error").read_text()) == {
        "Msg": "hook failed", "Err": "it broke", "Args": {"hash": "abc", "retry": "3s"},
    }  # fmt: skip


def test_an_error_without_a_cause_says_null(tmp_path: Path) -> None:
    (line,) = said(tmp_path, 'events.error(None, "too late")')
    assert line["error"] is None
    assert json.loads((tmp_path / "error").read_text()) == {"Msg": "too late", "Err": "", "Args": {}}


def test_what_is_above_the_verbosity_is_not_said(tmp_path: Path) -> None:
    statements = "for level in range(10): events.info(level, str(level)); assert events.wanted(level) == (level <= 5)"
    assert [line["msg"] for line in said(tmp_path, statements, verbose=5)] == list("012345")


def test_fields_of_any_name_are_told(tmp_path: Path) -> None:
    fields = {name: f"its {name}" for name in ("time", "event", "logger", "v", "file", "line", "error", "exc_info")}
    statements = f'events.info(0, "a", **{fields}); events.error("b", "c", **{fields})'
    info, error = said(tmp_path, statements)
    assert info["time"] == "its time"
    assert info["error"] == "its error"
    assert (info["logger"], error["error"]) == ("", "b")
    assert json.loads((tmp_path / "error").read_text())["Args"] == fields


def test_secrets_are_blacked_out_in_the_log_and_in_the_error_file(tmp_path: Path) -> None:
    statements = 'events.error("hunter2 at https://bot:swordfish@git.example/", "failed", cmd="push hunter2")'
    (line,) = said(tmp_path, statements)
    assert line["cmd"] == "push REDACTED"
    assert line["error"] == "REDACTED at https://***@git.example/"
    written = (tmp_path / "error").read_text()
    assert "hunter2" not in written
    assert "swordfish" not in written


def test_a_good_pass_removes_the_error_file(tmp_path: Path) -> None:
    said(tmp_path, 'events.error("b", "c"); events.well()')
    assert list(tmp_path.iterdir()) == []


def test_an_error_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "error").mkdir()
    lines = said(tmp_path, 'events.error("b", "c")')
    assert [line["msg"] for line in lines] == ["c", "can't write error file"]


def test_every_line_of_one_of_several_repositories_names_it(tmp_path: Path) -> None:
    (line,) = said(tmp_path, 'events.about(repository="dags").named("exechook").info(0, "running exechook")')
    assert (line["repository"], line["logger"]) == ("dags", "exechook")
