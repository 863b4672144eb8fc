from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.core.follow.join import PRESETS, Joined, Lines, Records, records

BEFORE = b"2026-11-23 09:30:00 INFO starting up\n"
AFTER = b"2026-11-23 09:30:01 INFO going on\n"

JAVA = [
    b"""\
2026-11-23 09:30:00,123 ERROR [main] c.e.App - request failed
java.lang.IllegalStateException: cannot open\t
\tat com.example.App.open(App.java:17)
\tat com.example.App.main(App.java:9) ~[app.jar:1.0]
Caused by: java.io.IOException: disk
\tat com.example.Disk.read(Disk.java:3)
\t... 2 more
Caused by: com.example.Broken$Inner: deep
\tat java.base/java.lang.Thread.run(Thread.java:833)
\t... 4 common frames omitted
""",
    b"""\
09:30:00 WARN  retrying
java.sql.SQLException: first
\tat a.B.c(B.java)
\tSuppressed: java.lang.RuntimeException: while closing
\t\tat a.B.close(B.java:5)
\t\t... 1 more
\tCaused by: java.lang.Error
\t\t... 3 more
""",
    b"""\
[2026-11-23T09:30:00Z] unhandled
com.acme.OrderFailedError: order 4711
    at com.acme.Order.place(Order.java:1)
""",
    b"""\
Exception in thread "main" java.lang.NullPointerException
\tat com.example.App.main(App.java:9)
""",
]
PYTHON = [
    b"""\
ERROR:root:request failed
Traceback (most recent call last):
  File "/app/main.py", line 3, in <module>
    run()
    ^^^^^
  File "/app/main.py", line 9, in run
    raise KeyError(name)
KeyError: 'name'
""",
    b"""\
2026-11-23 09:30:00 ERROR failed
Traceback (most recent call last):
  File "a.py", line 1, in f
    1 / 0
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 2, in g
    f()
requests.exceptions.ConnectionError: no route

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "a.py", line 3, in h
    g()
app.errors.UserException
""",
    b"""\
ERROR task failed
  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in <module>
  | ExceptionGroup: several (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------
""",
    b'ERROR stopped\nTraceback (most recent call last):\n  File "a.py", line 1\nKeyboardInterrupt\n',
]
GO = [
    b"""\
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x1091a2b]

goroutine 1 [running]:
main.(*Server).handle(0x0, {0x10c7b60, 0x5})
\t/app/main.go:17 +0x1b
main.main()
\t/app/main.go:9 +0x2d

goroutine 18 [chan receive, 2 minutes]:
github.com/acme/queue.(*Queue).Pop(...)
\t/go/pkg/mod/github.com/acme/queue@v1.2.3/queue.go:40
gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun(0xc000)
\t/go/pkg/mod/lumberjack.go:379 +0x45
created by github.com/acme/queue.New in goroutine 1
\t/go/pkg/mod/github.com/acme/queue@v1.2.3/queue.go:20 +0x9c
exit status 2
""",
    b"""\
2026/11/23 09:30:00 http: panic serving 127.0.0.1:5000: boom
goroutine 7 [running]:
net/http.(*conn).serve.func1()
\t/usr/local/go/src/net/http/server.go:1850 +0xbf
panic({0x6a4c40, 0x74f0d0})
\t/usr/local/go/src/runtime/panic.go:890 +0x262
main.Map[...].Get(0x1)
\t/app/map.go:3
""",
    b"""\
fatal error: all goroutines are asleep - deadlock!

goroutine 1 [select (no cases)]:
main.main()
\t/app/main.go:5 +0x17
""",
]
TRACES = [("java", trace) for trace in JAVA] + [("python", trace) for trace in PYTHON] + [("go", trace) for trace in GO]


@pytest.mark.parametrize(("preset", "trace"), TRACES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_trace_is_one_record_between_two_lines(preset: str, trace: bytes, end: bytes) -> None:
    expected = [record.replace(b"\n", end) for record in (BEFORE, trace, AFTER, AFTER)]
    assert list(records(preset).split(b"".join(expected))) == expected


ORDINARY = [
    b'{"level":"error","msg":"java.io.IOException: no"}',
    b"INFO com.example.App - IOException: counted",
    b'127.0.0.1 - - [23/Nov/2026:09:30:00 +0000] "GET / HTTP/1.1" 200 1',
    b"[main] started",
    b"I1123 09:30:00.123456       1 main.go:17] serving",
    b"level=info msg=done",
    b"-----",
    b"...",
    b"caused by nothing",
    b"goroutines: 17",
    b"signal received",
    b"Error while reading the file",
    b"\xff\xfe",
]


@pytest.mark.parametrize("preset", PRESETS)
def test_ordinary_lines_are_records_of_their_own(preset: str) -> None:
    lines = [line + b"\n" for line in ORDINARY]
    assert list(records(preset).split(b"".join(lines))) == lines


# Rules of the operator's


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        (r"\d{4}-", [b"2026-11-23 a\nb\nc\n", b"2026-11-24 d\n"]),
        (r"^\[", [b"[1] a\n x [\n", b"[2]\n"]),
        (r"INFO|WARN", [b"INFO a\n", b"WARN b\nDEBUG INFO\n", b"INFO\n"]),
        (r"(?i)info|warn", [b"INFO a\nx\n", b"Warn b\n", b"info\n"]),
        (r"(?x) \d+  # a number", [b"1\nx\n", b"2\n"]),
        (r"(?i)(?x) info # \)", [b"INFO\nx\n", b"info\n"]),
        (r"(?ix)info", [b"INFO\nx\n", b"info\n"]),
        (r"(?s)a.b", [b"axb\nx\n", b"a-b\n"]),
        (r"(?i:info)", [b"INFO\nx\n", b"info\n"]),
        (r"(?P<quote>[\"']).*(?P=quote)", [b"'a'\n'b\"\n", b'"c"\n']),
        (r"(a)(b)\2", [b"abb\nab\n", b"abb\n"]),
        ("é", [b"\xc3\xa9\nx\n", b"\xc3\xa9\n"]),
        (r"\S+:$", [b"a:\nb: c\n", b"d:\n"]),
    ],
)
def test_a_rule_matches_the_first_lines_of_records(rule: str, lines: list[bytes]) -> None:
    joined = records(rule)
    data = b"".join(lines)
    assert list(joined.split(data)) == lines
    assert joined.cut(bytearray(data), 0, len(data)) == len(data) - len(lines[-1])


@pytest.mark.parametrize("rule", ["(", "[", "*", "(?z)", "a)", "(?i"])
def test_a_rule_that_does_not_compile_is_an_error(rule: str) -> None:
    with pytest.raises(re.error):
        records(rule)


def test_what_comes_before_the_first_beginning_is_a_record() -> None:
    assert list(records("java").split(b"\tat b\n\tat c\nINFO\n")) == [b"\tat b\n\tat c\n", b"INFO\n"]


# Any data, however it comes

LINE = st.sampled_from(
    [
        b"a",
        b" a",
        b"",
        b"\r",
        b"1",
        b"2026",
        b"\tat x",
        b"Caused by: y",
        b"a\rb",
        b"\0",
        b"\xff",
        b"Traceback",
        b"x()",
        b"a:",
    ]
)
DATA = st.lists(LINE, max_size=12).map(b"\n".join) | st.lists(LINE, max_size=12).map(
    lambda lines: b"\n".join([*lines, b""])
)
WAYS = st.sampled_from([None, *PRESETS, r"\d", r"(?i)A", r"a$", r"\s", r"\S"]).map(records)


@given(DATA, WAYS)
def test_the_records_together_are_the_data(data: bytes, way: Records) -> None:
    parts = list(way.split(data))
    assert b"".join(parts) == data
    assert b"" not in parts


@given(DATA, WAYS)
def test_only_the_last_record_may_lack_its_newline(data: bytes, way: Records) -> None:
    assert all(record.endswith(b"\n") for record in list(way.split(data))[:-1])


@settings(max_examples=300)
@given(DATA, DATA, WAYS, st.integers(0, 5))
def test_a_cut_is_never_inside_a_record_whatever_follows(data: bytes, later: bytes, way: Records, kept: int) -> None:
    """`kept` bytes before the data are in the buffer: another line, which was delivered."""
    before = b"1234\n"[5 - kept :]
    cut = way.cut(bytearray(before + data), kept, kept + len(data)) - kept
    if cut > 0:
        starts = [0]
        for record in way.split(data + later):
            starts.append(starts[-1] + len(record))
        assert cut in starts


@given(DATA, WAYS)
def test_all_but_the_last_record_is_cut_off_at_once(data: bytes, way: Records) -> None:
    whole = data[: data.rfind(b"\n") + 1]
    *complete, _ = list(way.split(whole)) or [b""]
    expected = len(whole) if isinstance(way, Lines) else len(b"".join(complete))
    assert max(0, way.cut(bytearray(data), 0, len(data))) == expected


@given(DATA, st.lists(st.integers(1, 40), max_size=8), WAYS)
def test_cutting_piece_by_piece_gives_the_same_records(data: bytes, sizes: list[int], way: Records) -> None:
    buffer, given_out, end = bytearray(data), 0, 0
    parts: list[bytes] = []
    for size in [*sizes, len(data)]:
        end = min(end + size, len(data))
        cut = way.cut(buffer, given_out, end)
        if cut > given_out:
            parts += way.split(bytes(buffer[given_out:cut]))
            given_out = cut
    if given_out < len(data):
        parts += way.split(bytes(buffer[given_out:]))
    assert parts == list(way.split(data))


def test_lines_end_at_newlines_only() -> None:
    assert list(Lines().split(b"a\rb\x0bc\x85\n\n\xe2\x80\xa8d")) == [b"a\rb\x0bc\x85\n", b"\n", b"\xe2\x80\xa8d"]


@pytest.mark.parametrize(
    "line", [b"a.", b".", b"a", b"a/", b"a.b/", b"(", b"a(", b"a.b()", b"[", b"Error", b"a.Error", b"0 "]
)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_long_line_is_looked_at_in_linear_time(preset: str, line: bytes) -> None:
    """What an application writes is up to it: one line as long as a batch must not take minutes."""
    data = bytearray(b"INFO\n" + line * (1_000_000 // len(line)) + b"\n")
    way = records(preset)
    way.cut(data, 0, len(data))
    assert b"".join(way.split(bytes(data))) == data


def test_a_long_record_is_looked_through_in_linear_time() -> None:
    data = bytearray(b"INFO\n" + b"\tat a.b.C\n" * 100_000)
    way = records("java")
    assert isinstance(way, Joined)
    assert way.cut(data, 0, len(data)) == 0
    assert list(way.split(bytes(data))) == [bytes(data)]
