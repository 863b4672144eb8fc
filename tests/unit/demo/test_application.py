from __future__ import annotations

import signal
import sys
from pathlib import Path
from random import Random

from sidecars.demo.application import KINDS, drawn
from tests.unit.demo.process import Process

APP = (sys.executable, "-m", "sidecars.demo", "app", "--log-format", "json")


def test_it_writes_every_kind_of_log_and_rotates_each_in_its_way(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    with Process(*APP, "--dir", str(folder), "--rate", "2000") as app:
        for file, by in (("access.log", "logrotate"), ("orders.log", "log4j"), ("stock.log", "copytruncate")):
            app.wait_for(f'"file": "{file}", "by": "{by}"', "stderr")
        app.popen.terminate()
        assert app.end() == 0
    assert {"access.log.1", "orders.log", "orders.log.1", "stock.log", "stock.log.1"} <= {
        path.name for path in folder.iterdir()
    }


def test_sigterm_ends_it_at_once_and_well(tmp_path: Path) -> None:
    with Process(*APP, "--dir", str(tmp_path), "--rate", "0.01") as app:
        app.wait_for('"started"', "stderr")
        app.popen.send_signal(signal.SIGTERM)
        assert app.end(seconds=10) == 0
        assert "Traceback" not in app.said["stderr"]
        assert app.said["stdout"] == ""


def test_it_ends_by_itself_after_its_seconds(tmp_path: Path) -> None:
    with Process(*APP, "--dir", str(tmp_path), "--rate", "50", "--seconds", "1") as app:
        assert app.end() == 0
    written = sum(path.read_text().count("\n") for path in tmp_path.iterdir())
    assert written >= 25


def test_a_rate_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with Process(*APP, "--dir", str(tmp_path), "--rate", "0") as app:
        assert app.end() == 2
        assert "--rate is 0, expected more than 0" in app.said["stderr"]


def test_the_folder_is_required() -> None:
    with Process(*APP) as app:
        assert app.end() == 2
        assert "--dir is not set" in app.said["stderr"]


def test_a_late_log_appears_late() -> None:
    late = {kind.file for kind in KINDS if kind.after}
    assert late == {"backup.log"}
    assert not late & {kind.file for kind in drawn(Random(1), 9.9, 1000)}
    assert {kind.file for kind in drawn(Random(1), 10.0, 1000)} == {kind.file for kind in KINDS}
