"""What log-tailer writes to stdout: the bytes of the files, and nothing else unless asked."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

HOSTILE = (
    b"first\0\x01\x1b[31m\n\xff\xfe not UTF-8 \xc3\n\r\r\n\n\ncarriage\rreturn\r\n\xe2\x80\xa8\x85\x0b\x0c separators\n"
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\0",
        b"no newline",
        HOSTILE,
        HOSTILE + b"\xe2\x82",
        b"\0" * 10_000 + b"\n" + b"\0" * 10_000,
        random.Random(1).randbytes(3 * 2**20),
        b"x" * (2**20 - 1) + b"\n" + b"y" * 2**20 + b"\n" + b"z" * (2**20 + 1) + b"\n",
    ],
    ids=["empty", "newline", "nul", "unterminated", "hostile", "cut_character", "nuls", "random", "batch_sized_lines"],
)
def test_every_byte_comes_out_as_it_is(once, logs, data):
    (logs / "a.log").write_bytes(data)
    assert once(logs / "a.log") == data


def test_a_line_of_100_mb_comes_out_as_it_is_in_little_memory(start, logs):
    blocks = [random.Random(seed).randbytes(2**20).replace(b"\n", b"") for seed in range(4)]
    with open(logs / "a.log", "wb") as file:
        file.write(b"before\n")
        for number in range(100):
            file.write(blocks[number % 4])
        file.write(b"\nafter\nand a last line without an end")
    tailer = start(logs / "a.log").watching()
    # Its end is in hand once it was drained, but what it takes at its most is to be asked before.
    size = (logs / "a.log").stat().st_size - len(b"and a last line without an end")
    tailer.until(lambda: tailer.out.stat().st_size >= size)
    with open(f"/proc/{tailer.pid}/status", encoding="ascii") as status:
        [peak] = [int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")]
    tailer.drained()
    assert digest(tailer.out) == digest(logs / "a.log")
    assert peak < 48
    (logs / "a.log").unlink()
    tailer.out.unlink()


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def test_several_files_share_stdout_without_gluing_lines_together(once, logs):
    (logs / "a.log").write_bytes(b"one\ntwo, not ended")
    (logs / "b.log").write_bytes(b"three\n")
    (logs / "c.log").write_bytes(b"four, not ended")
    lines = once(logs / "*.log").split(b"\n")
    assert sorted(filter(None, lines)) == [b"four, not ended", b"one", b"three", b"two, not ended"]
    assert lines.count(b"") <= 1, "a newline that no file has, where none was needed"


def test_long_lines_of_two_files_are_not_woven_into_each_other(once, logs):
    long = {name: name.encode() * 5_000_000 for name in "ab"}
    for name, line in long.items():
        (logs / name).write_bytes(b"short\n" + line + b"\nshort\n")
    assert sorted(once(logs).split(b"\n")) == sorted([b"", *[b"short"] * 4, *long.values()])


def test_files_have_fair_turns(tail, logs):
    """A file that is written to late comes out before one that has much more to read."""
    (logs / "big.log").write_bytes(b"big\n" * 5_000_000)
    for number in range(20):
        (logs / f"small{number}.log").write_bytes(b"small\n")
    tailer = tail(logs)
    tailer.until(lambda: tailer.out.stat().st_size >= 20_000_000 + 120)
    data = tailer.read()
    assert data.count(b"small\n") == 20
    assert data.rindex(b"small\n") < 4_000_000
    tailer.drained()


# Labels


def test_a_label_is_the_path_or_the_name_of_the_file(once, logs, tmp_path):
    (logs / "a.log").write_bytes(b"one\n\nthree\nfour")
    path = str(logs / "a.log").encode()
    assert once("--label=path", logs / "*.log") == b"%b: one\n%b: \n%b: three\n%b: four" % (path, path, path, path)
    named = once("--label=name", logs / "a.log", out=tmp_path / "named")
    assert named == b"a.log: one\na.log: \na.log: three\na.log: four"


def test_a_line_in_parts_has_one_label(once, logs):
    (logs / "a.log").write_bytes(b"before\n" + b"x" * 3_000_000 + b"\nafter\n")
    assert once("--label=name", logs / "a.log") == b"a.log: before\na.log: " + b"x" * 3_000_000 + b"\na.log: after\n"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        (b"a\nb.log", b"a\\nb.log"),
        (b"\x1b[2J\r.log", b"\\x1b[2J\\r.log"),
        (b"\xff.log", b"\\xff.log"),
        ("é €.log".encode(), "é €.log".encode()),
        ("\u202eabc.log".encode(), b"\\u202eabc.log"),
        (b"{pod} %s.log", b"{pod} %s.log"),
    ],
)
def test_a_hostile_file_name_forges_no_line(once, logs, name, label):
    with open(bytes(logs) + b"/" + name, "wb") as file:
        file.write(b"line\n")
    assert once("--label=name", logs) == label + b": line\n"


# Multi-line records


JAVA = b"""2026-01-31 ERROR failed
java.lang.IllegalStateException: no
\tat com.example.Main.run(Main.java:7)
\t... 3 more
Caused by: java.io.IOException: gone
\tat com.example.Io.read(Io.java:1)
2026-01-31 INFO next
"""
PYTHON = b"""ERROR failed
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
ValueError: no
INFO next
"""
GO = b"""2026/01/31 starting
panic: no

goroutine 1 [running]:
main.f(...)
\t/src/main.go:7
main.main()
\t/src/main.go:3 +0x1d
exit status 2
2026/01/31 next
"""
RUST = b"""INFO starting
thread 'main' panicked at src/main.rs:17:5:
index out of bounds: the len is 1 but the index is 2
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
INFO next
"""
BRACKETED = b"[1] one\nmore\nmore\n[2] two\n[3] three\nmore\n"


@pytest.mark.parametrize(
    ("rule", "text", "records"),
    [
        ("java", JAVA, [6, 1]),
        ("python", PYTHON, [5, 1]),
        ("go", GO, [1, 8, 1]),
        ("rust", RUST, [1, 3, 1]),
        ("all", JAVA + GO + RUST, [6, 1, 1, 8, 1, 1, 3, 1]),
        (r"\[", BRACKETED, [3, 1, 2]),
    ],
    ids=["java", "python", "go", "rust", "all", "pattern"],
)
def test_the_lines_of_a_record_are_joined_by_backslash_n(once, logs, rule, text, records):
    (logs / "a.log").write_bytes(text)
    written = once("--multiline", rule, logs / "a.log")
    assert [record.count(b"\\n") + 1 for record in written.splitlines()] == records
    assert written.replace(b"\\n", b"\n") == text


def test_the_last_record_goes_out_when_its_time_is_up(tail, logs):
    with open(logs / "a.log", "wb", buffering=0) as file:
        tailer = tail("--multiline=java", "--multiline-timeout=300ms", logs / "a.log")
        file.write(JAVA)
        expected = JAVA.replace(b"\n", b"\\n")[:-2].replace(b"\\n2026", b"\n2026") + b"\n"
        tailer.until_written(expected)
        file.write(b"2026-01-31 INFO a record that is not ended")
        assert tailer.drained() == expected + b"2026-01-31 INFO a record that is not ended"


def test_a_record_longer_than_a_batch_loses_nothing(once, logs):
    text = b"[1] begin\n" + b"".join(b"  frame %d\n" % number for number in range(200_000)) + b"[2] next\n"
    (logs / "a.log").write_bytes(text)
    assert once("--multiline", r"\[", logs / "a.log").replace(b"\\n", b"\n") == text


# What is meant by the paths


def test_from_end_gives_what_is_written_from_now_on_and_later_files_whole(tail, logs):
    (logs / "old.log").write_bytes(b"old\nold, and not")
    tailer = tail("--from=end", logs / "*.log")
    with open(logs / "old.log", "ab") as file:
        file.write(b" ended\nnew\n")
    tailer.until_written(b" ended\nnew\n")
    (logs / "new.log").write_bytes(b"whole\nfile\n")
    tailer.until_written(b" ended\nnew\nwhole\nfile\n")
    (logs / "old.log").rename(logs / "old.log.1")
    (logs / "old.log").write_bytes(b"rotated\n")
    tailer.until_written(b" ended\nnew\nwhole\nfile\nrotated\n")


def test_excluded_files_are_left_out(once, logs):
    for name in ("a.log", "b.log", "debug-a.log", "a.log.gz"):
        (logs / name).write_bytes(name.encode() + b"\n")
    (logs / "below").mkdir()
    (logs / "below" / "c.log").write_bytes(b"c.log\n")
    assert once("--exclude=debug-*", f"--exclude={logs}/b*", logs) == b"a.log\n"


def test_what_excluded_files_get_later_is_left_out_too(tail, logs):
    tailer = tail("--exclude=debug-*", logs / "*.log")
    (logs / "debug-a.log").write_bytes(b"debug\n")
    (logs / "a.log").write_bytes(b"line\n")
    tailer.until_written(b"line\n")
    assert tailer.drained() == b"line\n"


def test_a_literal_path_with_magic_characters_is_taken_as_it_is(once, logs):
    (logs / "a[1]*.log").write_bytes(b"line\n")
    (logs / "a1.log").write_bytes(b"other\n")
    assert once(logs / "a[1]*.log") == b"line\n"


def test_nothing_but_data_is_written_to_stdout(tail, logs, out):
    tailer = tail(logs / "*.log", "--log-level=debug")
    assert tailer.drained() == b""


def test_stdout_may_be_a_pipe_shared_with_a_program_that_made_it_non_blocking(logs, out, start):
    """As docker and some shells do: a full pipe is then EAGAIN, and must not be an error."""
    data = b"line\n" * 200_000
    (logs / "a.log").write_bytes(data)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    tailer = start("--once", logs / "a.log", stdout=writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == data
    assert tailer.wait() == 0
