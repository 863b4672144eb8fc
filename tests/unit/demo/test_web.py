"""The demo's web server: the files of a folder, through the link that is published, and nothing else."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import pytest

from sidecars.demo.web import found
from tests.unit.demo.process import Process


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "index.html").write_text("one")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site").symlink_to("one")
    (tmp_path / "one" / "out").symlink_to("../secret")
    return tmp_path / "site"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/index.html", 200), ("/none", 404), ("/../secret", 404), ("/%2e%2e/secret", 404), ("/out", 404)],
)
def test_a_path_is_a_file_of_the_folder_or_nothing(site: Path, path: str, status: int) -> None:
    answer = found(str(site), path)
    assert answer.status == status
    assert answer.body == b"one" or status == 404


def test_each_request_follows_the_link_anew(site: Path) -> None:
    with Process(sys.executable, "-m", "sidecars.demo", "web", "--dir", str(site), "--listen", "127.0.0.1:0") as web:
        address = f"http://{web.wait_for('127[.]0[.]0[.]1:[0-9]+', 'stderr')[0]}/"
        for name in ("one", "two"):
            (site.parent / name).mkdir(exist_ok=True)
            (site.parent / name / "index.html").write_text(name)
            site.unlink()
            site.symlink_to(name)
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert (answer.read().decode(), answer.headers["Content-Type"]) == (name, "text/html")
        web.popen.terminate()
        assert web.end() == 0
