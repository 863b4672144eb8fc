"""`sidecars lint`, as it is called: what it prints, and its exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecars.pods.lint.command import lint
from sidecars.pods.lint.rules import RULES

PAGE = Path(__file__).parents[4] / "docs" / "lint.md"
GOOD = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  securityContext: {runAsNonRoot: true}
  containers:
  - {name: app, image: "app:1"}
"""
BAD = GOOD.replace("app:1", "app")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "broken.yaml").write_text("kind: [Pod\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("good.yaml", 0),
        ("bad.yaml", 1),
        ("good.yaml bad.yaml", 1),
        ("--ignore untagged-image bad.yaml", 0),
        ("broken.yaml", 2),
        ("bad.yaml broken.yaml", 2),
        ("missing.yaml", 2),
        (".", 2),
        ("--explain untagged-image", 0),
    ],
)
def test_the_exit_code_says_what_was_found(directory: Path, arguments: str, code: int) -> None:
    assert lint(arguments.split()) == code


def test_what_is_found_is_one_line_that_editors_read(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "web.yaml").write_text(BAD)
    assert lint(["web.yaml"]) == 1
    line = capsys.readouterr().out
    assert re.fullmatch(r"web\.yaml:7:24: warning: Pod/web: .* name one \[untagged-image\]\n", line)
    assert f"```text\n{line}```" in PAGE.read_text()


def test_a_broken_file_is_told_and_the_others_are_linted(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert lint(["broken.yaml", "latin.yaml", "missing.yaml", "bad.yaml"]) == 2
    said = capsys.readouterr()
    assert "untagged-image" in said.out
    assert [line.split(":")[0] for line in said.err.splitlines()] == [
        "broken.yaml", "latin.yaml", "missing.yaml", "sidecars lint",
    ]  # fmt: skip
    assert said.err.endswith("sidecars lint: 1 found; 1 files with 1 pods\n")


def test_a_directory_is_read_with_all_below_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "broken.yaml").unlink()
    (directory / "more").mkdir()
    (directory / "more" / "bad.json").write_text(json.dumps({"kind": "Pod", "spec": {"containers": [{"image": "x"}]}}))
    (directory / ".hidden").mkdir()
    (directory / ".hidden" / "bad.yaml").write_text(BAD)
    assert lint(["--format", "json", "."]) == 1
    assert {each["file"] for each in json.loads(capsys.readouterr().out)} == {"./bad.yaml", "./more/bad.json"}


def test_json_has_all_of_a_finding(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lint(["--format=json", "bad.yaml"])
    [finding] = json.loads(capsys.readouterr().out)
    message = finding.pop("message")
    assert message.startswith("the image of app is app")
    assert finding == {
        "file": "bad.yaml", "line": 7, "column": 24, "rule": "untagged-image", "level": "warning", "object": "Pod/web",
    }  # fmt: skip


def test_sarif_is_a_run_with_rules_and_results(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "a b.yaml").write_text(BAD)
    lint(["--format=sarif", "good.yaml", "a b.yaml"])
    log = json.loads(capsys.readouterr().out)
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    rules: list[dict[str, Any]] = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    for rule in rules:
        assert rule.keys() == {"id", "shortDescription", "fullDescription", "help", "defaultConfiguration"}
        assert rule["defaultConfiguration"]["level"] in {"error", "warning"}
    [result] = run["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "untagged-image"
    assert result["message"]["text"].startswith("Pod/web: the image")
    [location] = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b.yaml"}, "region": {"startLine": 7, "startColumn": 24},
    }  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_explain_says_why_and_what_to_do(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(["--explain", rule]) == 0
    first, blank, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{rule} ({RULES[rule].level}): ")
    assert blank == ""
    assert all(len(line) <= 100 for line in rest)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no FILE is given"),
        (["--explain", "untaged-image"], "did you mean untagged-image?"),
        (["--ignore", "nothing", "x"], "there is no rule 'nothing'"),
        (["--ignore", "all", "x"], "there is no rule 'all'"),
        (["--target-version", "latest", "x"], "is 'latest', expected a version of Kubernetes"),
        (["--format", "xml", "x"], "xml"),
        (["--explian", "x"], "did you mean --explain?"),
    ],
)
def test_a_wrong_flag_is_told(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(arguments) == 2
    assert says in capsys.readouterr().err


def test_all_rules_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(["--explain", "all"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(RULES)


def test_it_is_a_command_that_reads_stdin() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecars.pods", "lint", "--target-version=v1.29.3", "-"],
        input=BAD,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout.partition(":")[0]) == (1, "-")
