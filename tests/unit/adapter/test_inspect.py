# ruff: noqa: E501  (tables of cases are read best with a case per line)

from __future__ import annotations

import gzip
import io
import sys
from types import SimpleNamespace

import pytest

from sidecars.adapter.inspect import inspect

LINE = b'192.0.2.1 - - [31/Jan/2026:09:30:00 +0100] "GET /a HTTP/1.1" 200 12 "-" "curl/8"\n'


def test_detect_says_what_a_file_is_and_how_to_read_it(tmp_path, capsys) -> None:
    path = tmp_path / "my access.log"
    path.write_bytes(LINE * 3 + b"odd\n")
    assert inspect("detect", [str(path)]) == 0
    out = capsys.readouterr().out
    assert ": nginx\n" in out
    assert "75% of 4 lines" in out
    assert f"log-adapter --from nginx '{path}'" in out
    assert '"path":"/a"' in out


def test_detect_goes_on_after_a_file_that_cannot_be_read(tmp_path, capsys) -> None:
    (tmp_path / "a.log").write_bytes(LINE)
    assert inspect("detect", [str(tmp_path / "none.log"), str(tmp_path / "a.log")]) == 1
    said = capsys.readouterr()
    assert "cannot read" in said.err
    assert "a.log: nginx" in said.out


def test_detect_reads_a_compressed_file(tmp_path, capsys) -> None:
    path = tmp_path / "a.log.gz"
    path.write_bytes(gzip.compress(LINE))
    assert inspect("detect", [str(path)]) == 0
    assert "a.log.gz: nginx" in capsys.readouterr().out
    path.write_bytes(gzip.compress(LINE * 100)[:60])
    assert inspect("detect", [str(path)]) == 1


def test_a_test_prints_the_fields_and_what_did_not_parse(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(LINE + b"\x1b[31modd\n" + LINE)))
    assert inspect("test", ["--from", "nginx"]) == 0
    out = capsys.readouterr().out
    assert "status      integer  2        200" in out
    assert "2 records, 1 lines that did not parse" in out
    # What is in a log does nothing to a terminal.
    assert "\\x1b[31modd" in out


def test_a_test_takes_the_zone_and_the_rule_of_joining(tmp_path, capsys) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"2026-07-31 09:30:00 INFO a\n  b\n")
    assert inspect("test", ["--from=text", "--time-zone", "Europe/Berlin", "--multiline=java", str(path)]) == 0
    out = capsys.readouterr().out
    assert "2026-07-31T09:30:00+02:00" in out
    assert "1 records, 0 lines" in out
    assert inspect("test", ["--multiline=off", str(path)]) == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("detect", []), ("detect", ["--nope"]), ("test", ["--nope"]), ("test", ["--from"]), ("test", ["a", "b"]),
        ("test", ["--from", "ngnix", "/dev/null"]), ("test", ["--multiline", "(", "/dev/null"]), ("test", ["--time-zone", "Mars", "/dev/null"]),
    ],
)  # fmt: skip
def test_wrong_words_are_exit_code_2(command: str, words: list[str], capsys) -> None:
    assert inspect(command, words) == 2
    assert capsys.readouterr().err.startswith(f"log-adapter {command}: ")


@pytest.mark.parametrize("command", ["detect", "test"])
def test_help_is_given(command: str, capsys) -> None:
    assert inspect(command, ["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: log-adapter {command}")
