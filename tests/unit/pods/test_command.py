"""`sidecars convert` as a process: streams, exit codes, and files that are whole whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecars.core.disk import _TEMPORARY
from sidecars.core.errors import WrongSettings
from sidecars.pods import command, files
from sidecars.pods.nodes import WrongManifest
from sidecars.pods.settings import Settings, version

LOOP = """\
kind: Pod
spec:
  initContainers:
  - {name: wait, image: busybox, command: [sh, -c, "until nc -z db 5432; do sleep 1; done"]}   # first
  containers: [{name: app, image: app}]
"""
PLAIN = "kind: Pod\nspec: {containers: [{name: app, image: app}]}\n"


def sidecars(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecars.pods", "convert", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def converted(*words: str) -> int:
    """The exit code of the command, in this process."""
    return command.convert(words)


def test_stdin_goes_to_stdout_and_why_to_stderr() -> None:
    done = sidecars("-", stdin=LOOP)
    assert done.returncode == 0
    assert "sidecars/pod-init:" in done.stdout
    assert done.stdout.count("# first") == 1
    assert done.stderr.startswith("-:4 wait exact #2: ")


def test_a_pipe_whose_first_part_failed_is_no_success() -> None:
    done = sidecars("--check", "-")
    assert done.returncode == 2
    assert "did what writes it fail?" in done.stderr


@pytest.mark.parametrize(
    ("words", "absent", "code", "said"),
    [
        (["convert", "-"], ["aiohttp", "boto3", "git", "ruamel", "moto", "sidecars.demo"], 0, "-:4 wait exact #2"),
        (["demo", "--help"], ["tree_sitter", "tree_sitter_bash", "sidecars.pods.command"], 0, ""),
        (["convert", "-"], ["tree_sitter"], 2, "convert needs tree_sitter: pip install 'sidecars[pods]'"),
    ],
)
def test_each_command_imports_what_it_needs(words: list[str], absent: list[str], code: int, said: str) -> None:
    script = (
        f"import sys; sys.argv[1:] = {words}; sys.modules.update(dict.fromkeys({absent}))\n"
        "from sidecars.pods.__main__ import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], input=LOOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_check_writes_nothing_and_says_by_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop, plain = tmp_path / "loop.yaml", tmp_path / "plain.yaml"
    loop.write_text(LOOP)
    plain.write_text(PLAIN)
    assert converted("--check", str(plain)) == 0
    assert converted("--check", str(tmp_path)) == 1
    assert capsys.readouterr().out == ""
    assert loop.read_text() == LOOP


def test_the_diff_is_one_that_patch_takes(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(LOOP.rstrip("\n"))
    assert converted("--diff", str(path)) == 0
    patch = capfdbinary.readouterr().out
    assert patch.startswith(b"--- ") and b"\n-  - {name: wait, image: busybox" in patch
    patch = patch.replace(f"{tmp_path}/".encode(), b"")
    subprocess.run(["git", "apply", "-p0", "-"], input=patch, cwd=tmp_path, check=True)
    assert converted("--check", str(path)) == 0


def test_a_file_is_replaced_in_place_with_its_mode(tmp_path: Path) -> None:
    path, link = tmp_path / "loop.yaml", tmp_path / "link.yaml"
    path.write_text(LOOP)
    path.chmod(0o604)
    link.symlink_to(path)
    assert converted("--in-place", str(link)) == 0
    assert "pod-init" in path.read_text()
    assert path.stat().st_mode & 0o7777 == 0o604
    assert link.is_symlink()
    before = path.stat()
    assert converted("--in-place", str(path)) == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(os.listdir(tmp_path)) == ["link.yaml", "loop.yaml"]


def test_what_is_wrong_with_a_file_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, latin, good = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yml"
    broken.write_text("kind: [\n")
    latin.write_bytes(b"kind: Pod\nname: caf\xe9\n")
    good.write_text(LOOP)
    hidden = tmp_path / ".git" / "d.yaml"
    hidden.parent.mkdir()
    hidden.write_text(LOOP)
    assert converted("--in-place", str(tmp_path), str(tmp_path / "none.yaml")) == 2
    said = capsys.readouterr().err
    assert f"{broken}:2: is no YAML" in said
    assert f"{latin}:2: is not UTF-8" in said
    assert "none.yaml: cannot be read: No such file or directory" in said
    assert broken.read_text() == "kind: [\n"
    assert "pod-init" in good.read_text()
    assert hidden.read_text() == LOOP


def test_a_directory_without_manifests_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("none")
    assert converted("--check", str(tmp_path)) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}: is a directory with none of *.yaml, *.yml, *.json in it; is the path right?\n"
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"registry": "http://x"}, "--registry is 'http://x', expected a name, as registry.example/sidecars"),
        ({"registry": ""}, "--registry is '', expected a name"),
        ({"tag": "a b"}, "--tag is 'a b', expected a tag"),
        ({"tag": ""}, "--tag is '', expected a tag"),
    ],
)
def test_an_image_that_no_kubelet_could_read_is_refused(given: dict[str, str], why: str) -> None:
    with pytest.raises(WrongSettings, match=why):
        Settings(files=("-",), **given)  # type: ignore[arg-type]
    Settings(files=("-",), registry="registry.example:5000/team/a_b/", tag="1.0-rc.1")


def test_a_directory_without_room_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(LOOP)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WrongManifest, match="cannot be written: No space left on device"):
        files.replace(str(path), "x")
    assert path.read_text() == LOOP
    assert not any(name.endswith(_TEMPORARY) for name in os.listdir(tmp_path))


def full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_no_regular_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "fifo.yaml"
    os.mkfifo(path)
    with pytest.raises(WrongManifest, match="is no regular file"):
        files.replace(str(path), "x")


def test_json_has_findings_and_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(LOOP)
    assert converted("--format", "json", str(path), str(tmp_path / "none")) == 2
    told = json.loads(capsys.readouterr().out)
    (file,) = told["files"]
    assert file["changed"] and "pod-init" in file["manifest"]
    (finding,) = file["findings"]
    assert (finding["line"], finding["container"], finding["kind"], finding["row"]) == (4, "wait", "exact", 2)
    assert len(told["errors"]) == 1


def test_several_files_are_several_documents(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("a: 1")
    two.write_bytes(b"a: 2\r\n")
    assert converted(str(one), str(two)) == 0
    assert capfdbinary.readouterr().out == b"a: 1\n---\na: 2\r\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "no FILE is given"),
        ({"files": ("a",), "check": True, "diff": True}, "--check and --diff contradict each other; keep one"),
        ({"files": ("-",), "in_place": True}, "--in-place cannot write to stdin; name files"),
        (
            {"files": ("a",), "target_version": "2"},
            "--target-version is '2', expected a version of Kubernetes, as 1.29",
        ),
    ],
)
def test_wrong_usage_is_said(words: dict[str, object], said: str) -> None:
    with pytest.raises(WrongSettings, match=said.replace(".", r"\.")):
        Settings(**words)  # type: ignore[arg-type]


def test_a_version_is_read_as_clusters_say_it() -> None:
    assert version("v1.31.4-eks-1") == (1, 31)


def test_ten_megabytes_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    data = "kind: ConfigMap\ndata:\n  text: |\n" + "    a line of a large file, # and no comment\n" * 240_000
    path.write_text(f"{data}---\n{LOOP}")
    assert path.stat().st_size > 10 * 2**20
    assert converted("--in-place", str(path)) == 0
    text = path.read_text()
    assert text.startswith(f"{data}---\nkind: Pod\n")
    assert "pod-init" in text
