from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.core.follow.join import PRESETS, Joined, Lines, Records, check, continuation, records

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
DOTNET = [
    b"""\
fail: Microsoft.AspNetCore.Server.Kestrel[13]
      Connection id "0HN", Request id "0HN:1": An unhandled exception was thrown by the application.
      System.InvalidOperationException: cannot open
         at App.Pages.Open() in /src/Pages.cs:line 17
""",
    b"""\
2026-11-23 09:30:00.123 +00:00 [ERR] request failed
System.AggregateException: One or more errors occurred. (a) (b)
 ---> System.IO.IOException: disk
   at App.Disk.Read() in /src/Disk.cs:line 3
   --- End of inner exception stack trace ---
   at App.Program.Main(String[] args) in /src/Program.cs:line 9
--- End of stack trace from previous location ---
   at App.Program.Later()
---> (Inner Exception #1) App.Outer+BrokenException`1[System.String]: b<---

""",
    b"""\
Unhandled exception. System.Net.Http.HttpRequestException: Connection refused (localhost:80)
 ---> System.Net.Sockets.SocketException (111): Connection refused
   at System.Net.Http.HttpConnectionPool.ConnectAsync()
""",
    b"2026 [ERR] failed\nSystem.Net.Sockets.SocketException (0x80004005): no route\n   at A.B()\n",
]
NODE = [
    b"""\
2026-11-23 09:30:00 error: cannot connect
Error: connect ECONNREFUSED 127.0.0.1:6379
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16) {
  errno: -111,
  code: 'ECONNREFUSED',
  [cause]: TypeError: fetch failed
      at f (/app/a.js:1:2)
}
""",
    b"""\
/app/index.js:3
    throw new TypeError('x');
    ^

TypeError [ERR_INVALID_ARG_TYPE]: x
    at Object.<anonymous> (/app/index.js:3:9)
Emitted 'error' event on Server instance at:
    at emitErrorNT (node:net:1922:8)

Node.js v20.11.0
""",
]
RUBY = [
    b"""\
E, [2026-11-23T09:30:00.123456 #7] ERROR -- : divided by 0 (ZeroDivisionError)
app.rb:3:in `/'
app.rb:3:in `block in divide'
/usr/lib/ruby/3.1.0/logger.rb:17:in 'Integer#/'
""",
    b"app.rb:3:in 'Integer#/': divided by 0 (ZeroDivisionError)\n\tfrom app.rb:3:in 'divide'\n\tfrom app.rb:7\n",
    b"""\
Started GET "/missing" for 127.0.0.1

ActionController::RoutingError (No route matches [GET] "/missing"):

app/controllers/a.rb:5:in `index'

Causes:
NameError (undefined local variable):
""",
]
PHP = [
    b"""\
[23-Nov-2026 09:30:00 UTC] PHP Fatal error:  Uncaught RuntimeException: disk in /app/a.php:3
Stack trace:
#0 /app/a.php(7): read()
#1 {main}

Next LogicException: outer in /app/a.php:9
Stack trace:
#0 {main}
  thrown in /app/a.php on line 9
""",
    b"""\
[2026-11-23 09:30:00] production.ERROR: boom {"exception":"[object] (RuntimeException(code: 0): boom at /app/a.php:3)
[stacktrace]
#0 /app/a.php(7): f()
#1 {main}
"}\x20
""",
    b"PHP Warning:  Undefined variable $a in /app/a.php on line 1\nPHP Stack trace:\nPHP   1. {main}() /app/a.php:0\n",
]
RUST = [
    b"""\
thread 'main' panicked at src/main.rs:17:5:
index out of bounds: the len is 1 but the index is 2
stack backtrace:
   0: rust_begin_unwind
             at /rustc/9fc6b4312/library/std/src/panicking.rs:645:5
   1: app::main
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
""",
    b"""\
thread 'tokio-runtime-worker' (4711) panicked at /app/src/pool.rs:1204:13:
called `Result::unwrap()` on an `Err` value: Broken
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
""",
    b"Error: cannot start\n\nCaused by:\n    0: cannot read\n    1: No such file or directory (os error 2)\n",
]
BY_PRESET = {
    "java": JAVA,
    "python": PYTHON,
    "go": GO,
    "dotnet": DOTNET,
    "node": NODE,
    "ruby": RUBY,
    "php": PHP,
    "rust": RUST,
}
TRACES = [(preset, trace) for preset, traces in BY_PRESET.items() for trace in traces]
# An error's name begins a record of its own where no runtime says otherwise: with `all`, one does.
TRACES += [("all", trace) for _, trace in TRACES if not trace.startswith(b"Error:")]


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


@pytest.mark.parametrize("rule", [*PRESETS, r"\d", "(?i)a", "(?x) a  # comment", "a|b"])
def test_a_continuation_matches_the_other_lines(rule: str) -> None:
    later = re.compile(rb"^" + continuation(rule), re.MULTILINE)
    data = b"1\nA\n b\n\tat x\nTraceback (most recent call last):\nb\n"
    starts = [0, *(match.end() for match in re.finditer(b"\n", data))][:-1]
    begun = [start for start in starts if start == 0 or not later.match(data, start)]
    assert list(records(rule).split(data)) == [
        data[start:end] for start, end in zip(begun, [*begun[1:], len(data)], strict=True)
    ]


def test_what_is_said_of_a_wrong_rule_lists_the_presets() -> None:
    with pytest.raises(WrongSettings, match="java, python, go, dotnet, node, ruby, php, rust, all or a regular expr"):
        check("(")


@pytest.mark.parametrize(("word", "preset"), [("jaba", "java"), ("pyton", "python"), ("Java", "java")])
def test_a_word_that_is_nearly_a_preset_is_no_expression(word: str, preset: str) -> None:
    with pytest.raises(WrongSettings, match=rf"did you mean {preset}\? Write \^{word} if not"):
        check(word)
    check(f"^{word}")
    check("BEGIN")


# Lines that come in parts


def cri(stream: str, tag: str, text: str) -> bytes:
    return f"2026-11-23T09:30:00.123456789Z {stream} {tag} {text}\n".encode()


def docker(stream: str, log: str) -> bytes:
    return b'{"log":"%s","stream":"%s","time":"2026-11-23T09:30:00.1Z"}\n' % (log.encode(), stream.encode())


OUT_P, OUT_F, ERR_P, ERR_F = (cri(stream, tag, "x") for stream in ("stdout", "stderr") for tag in ("P", "F"))
D_OUT_P, D_OUT_F, D_ERR_P, D_ERR_F = (docker(name, log) for name in ("stdout", "stderr") for log in ("x", "x\\n"))


@pytest.mark.parametrize(
    ("way", "lines", "expected", "ended"),
    [
        ("cri", [OUT_F, ERR_F], [[0], [1]], 2),
        ("cri", [OUT_P, OUT_P, OUT_F, OUT_F], [[0, 1, 2], [3]], 4),
        ("cri", [OUT_F, OUT_P, OUT_P], [[0], [1, 2]], 1),
        ("cri", [OUT_P, ERR_F, OUT_F, ERR_P], [[1], [0, 2], [3]], 3),
        ("cri", [OUT_P, ERR_P, OUT_F, ERR_F, OUT_P], [[0, 2], [1, 3], [4]], 4),
        ("cri", [OUT_P, ERR_P, OUT_F], [[0, 2], [1]], 0),
        ("cri", [b"no stdout P x\n", b"\n", b"x\n", cri("stdout", "F", "a stdout P b")], [[1], [2], [0, 3]], 4),
        ("cri", [b" stdout P x\n", OUT_F], [[0], [1]], 2),
        ("cri", [cri("stdout", "P:tag", "x"), cri("stdout", "F:tag", ""), OUT_F], [[0, 1], [2]], 3),
        ("cri", [b"t stdout P\n", b"t stdout F\r\n"], [[0, 1]], 2),
        ("docker", [D_OUT_F, D_ERR_F], [[0], [1]], 2),
        ("docker", [D_OUT_P, D_OUT_P, D_OUT_F, D_OUT_F], [[0, 1, 2], [3]], 4),
        ("docker", [D_OUT_P, D_ERR_F, D_OUT_F, D_ERR_P], [[1], [0, 2], [3]], 3),
        ("docker", [docker("stdout", r"a\\n"), docker("stdout", r"\"b\\\n")], [[0, 1]], 2),
        ("docker", [docker("stdout", r"a\nb"), docker("stdout", r"\n")], [[0, 1]], 2),
        ("docker", [b"no json\n", b'{"log":"x\n', D_OUT_P, b"{}\n"], [[0], [1], [3], [2]], 2),
    ],
)
def test_parts_of_a_line_are_one_record(way: str, lines: list[bytes], expected: list[list[int]], ended: int) -> None:
    data = b"".join(lines)
    assert list(records(way).split(data)) == [b"".join(lines[each] for each in record) for record in expected]
    assert max(0, records(way).cut(bytearray(b"1234\n" + data), 5, len(data) + 5) - 5) == len(b"".join(lines[:ended]))


PARTS = st.lists(st.sampled_from([OUT_P, OUT_F, ERR_P, ERR_F, D_OUT_P, D_OUT_F, D_ERR_P, D_ERR_F, b"x\n"]), max_size=9)


@given(st.sampled_from(["cri", "docker"]), PARTS, PARTS)
def test_no_line_of_parts_is_lost_and_none_is_cut_from_its_record(
    way: str, lines: list[bytes], later: list[bytes]
) -> None:
    rule, data = records(way), b"".join(lines)
    cut = max(0, rule.cut(bytearray(data), 0, len(data)))
    together = list(rule.split(data + b"".join(later)))
    assert [*rule.split(data[:cut]), *rule.split(data[cut:] + b"".join(later))] == together
    assert sorted(b"".join(together).splitlines()) == sorted(b"".join((*lines, *later)).splitlines())


@pytest.mark.parametrize("way", ["cri", "docker"])
@pytest.mark.parametrize(
    "line", [b"a stdout P b\n", b'{"log":"', b'{"log":"\\n","stream":"', b"\\", OUT_P, D_OUT_P, b" "]
)
def test_parts_are_looked_through_in_linear_time(way: str, line: bytes) -> None:
    for data in (bytearray(line * (1_000_000 // len(line))), bytearray(b'{"log":"' + line * 10**5 + b"\n stdout P\n")):
        records(way).cut(data, 0, len(data))
        assert len(b"".join(records(way).split(bytes(data)))) == len(data)


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
