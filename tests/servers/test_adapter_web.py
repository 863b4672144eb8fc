"""GET /logs and what else --listen answers: what is given, to whom, and what it costs."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.adapter_web import Following, Served, append, old, record
from tests.unit.core.running import PATIENCE


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    """One log-adapter for all tests that need no other: it follows a directory of JSON lines, and takes POST."""
    with Served(f"{directory}/*.log", "--from", "json", "--post") as served:
        yield served


@pytest.fixture
def written(directory: Path, served: Served) -> Iterator[Callable[[bytes], Path]]:
    """Write a new file, and wait until it is followed; it is removed after the test."""
    made: list[Path] = []

    def written(data: bytes) -> Path:
        path = directory / f"{os.urandom(6).hex()}.log"
        path.write_bytes(data)
        made.append(old(path))
        served.until_read(path)
        return path

    yield written
    for path in made:
        path.unlink(missing_ok=True)


@pytest.fixture
def ten(written: Callable[[bytes], Path]) -> Path:
    """Ten records; the fifth and the tenth are errors."""
    return written(b"".join(record(n, level="error" if n % 5 == 0 else "info", status=200 + n) for n in range(1, 11)))


@pytest.fixture
def only(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start a log-adapter for one test alone."""
    running: list[Served] = []

    def only(*arguments: str | Path, **environ: str) -> Served:
        running.append(Served(*arguments, environ=environ))
        return running[-1].__enter__()

    yield only
    for each in running:
        each.__exit__()


# ---- The drop-in


def test_the_array_is_that_of_the_node_server_without_its_defects(only, tmp_path):
    path = tmp_path / "file.log"
    served = only(path, "--from", "hash")
    assert (served.get("/logs").status, served.get("/logs").json) == (200, [])
    # As the pod that the tutorials show does.
    subprocess.run(["sh", "-c", f"echo $(date -u)'#This is log' >> {path}; echo 'a#b#c' >> {path}; echo no >> {path}"])
    first, second, third = served.get("/logs").json
    assert first["message"] == "This is log"
    assert first["time"].endswith(time.strftime(" %Y", time.gmtime()))
    assert list(first) == ["time", "message"]
    assert (second, third) == ({"time": "a", "message": "b#c"}, {"time": "no"})
    assert served.get("/logs").json == [first, second, third]
    assert served.get("/logs").headers["Content-Type"] == "application/json"
    assert [each["time"] for each in served.get("/logs?since=1h").json][:1] == [first["time"]]


# ---- Pages


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("tail=3", [8, 9, 10]),
        ("tail=0", []),
        ("limit=2", [1, 2]),
        ("level=error", [5, 10]),
        ("level=info,", [1, 2, 3, 4, 6, 7, 8, 9]),
        ("level=error&tail=1", [10]),
        ("q=LINE%201", [1, 10]),
        ("n=7", [7]),
        ("status>=209", [9, 10]),
        ("message!=line%207&n>6&n<9", [8]),
        ("since=2026-01-31T12:00:08Z", [8, 9, 10]),
        ("until=1769860802", [1, 2]),
        ("since=2026-01-31T12:00:03%2B00:00&until=2026-01-31T12:00:04Z", [3, 4]),
        ("q=nothing", []),
    ],
)
def test_a_query_is_answered(served, ten, query, expected):
    assert served.get(f"/logs?file={ten.name}&{query}").numbers == expected


def test_pages_lead_through_all_of_it_in_both_directions(served, ten):
    for begin, cursor, turned in (("tail=4", "before", True), ("limit=4", "after", False)):
        found: list[list[int]] = []
        reply = served.get(f"/logs?file={ten.name}&{begin}")
        while True:
            found.append(reply.numbers)
            if not reply.headers["X-Next"]:
                break
            assert f"{cursor}={reply.headers['X-Next']}" in reply.headers["Link"]
            reply = served.get(f"/logs?file={ten.name}&limit=4&{cursor}={reply.headers['X-Next']}")
        pages = found[::-1] if turned else found
        assert [n for page in pages for n in page] == list(range(1, 11))
        assert len(pages) == 3


def test_a_poller_gets_what_came_since(served, written):
    path = written(record(1))
    after = served.get(f"/logs?file={path.name}&tail=10").headers["X-After"]
    append(path, record(2) + record(3) + b'{"n": 4, half a line')
    reply = served.get(f"/logs?file={path.name}&after={after}")
    assert reply.numbers == [2, 3]
    append(path, b'"}\n'.replace(b'"', b"") + record(5))
    assert [each.get("n") for each in served.get(f"/logs?file={path.name}&after={reply.headers['X-After']}").json][
        -1
    ] == 5


def test_after_a_truncation_a_cursor_begins_anew(served, written):
    path = written(record(1) + record(2))
    after = served.get(f"/logs?file={path.name}&tail=1").headers["X-After"]
    path.write_bytes(record(7) + record(8) + record(9))
    assert served.get(f"/logs?file={path.name}&after={after}").numbers == [7, 8, 9]
    assert served.get(f"/logs?file={path.name}&before={after}").status == 410


def test_a_poller_misses_nothing_of_a_rotation(served, ten):
    after = served.get(f"/logs?file={ten.name}&tail=1").headers["X-After"]
    append(ten, record(11) + record(12))
    os.rename(ten, f"{ten}.1")
    append(ten, record(13))
    found: list[int] = []
    for _ in range(3):
        reply = served.get(f"/logs?file={ten.name}&after={after}")
        found += reply.numbers
        after = reply.headers["X-After"]
    assert found == [11, 12, 13]
    # Who asks without a cursor is given the current file.
    assert served.get(f"/logs?file={ten.name}").numbers == [13]
    os.unlink(f"{ten}.1")


def test_calls_at_the_same_time_do_not_mix(served, written):
    path = written(b"".join(map(record, range(2000))))
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: served.get(f"/logs?file={path.name}").numbers, range(8)))
    assert replies == [list(range(2000))] * 8


def test_several_files_are_one_log_in_the_order_of_time(only, tmp_path):
    (tmp_path / "odd.log").write_bytes(b"".join(record(n) for n in range(1, 20, 2)))
    (tmp_path / "even.log").write_bytes(b"".join(record(n) for n in range(2, 20, 2)))
    served = only(tmp_path / "odd.log", tmp_path / "even.log", "--from", "json")
    assert served.get("/logs").numbers == list(range(1, 20))
    last = served.get("/logs?tail=3")
    assert last.numbers == [17, 18, 19]
    assert {each["file"] for each in last.json} == {str(tmp_path / "odd.log"), str(tmp_path / "even.log")}
    assert served.get(f"/logs?limit=3&before={last.headers['X-Next']}").numbers == [14, 15, 16]


def test_a_filter_that_finds_nothing_looks_through_a_bounded_part_and_goes_on_there(served, written):
    line = json.dumps({"message": "x" * 1000}).encode() + b"\n"
    path = written(record(1) + line * 80_000 + record(2))
    reply = served.get(f"/logs?file={path.name}&tail=5&q=line%201")
    assert (reply.json, reply.headers["X-Incomplete"]) == ([], "scanned")
    rest = served.get(f"/logs?file={path.name}&q=line%201&before={reply.headers['X-Next']}")
    assert (rest.numbers, rest.headers["X-Incomplete"]) == ([1], None)
    # By time it is found at once, wherever it is.
    assert served.get(f"/logs?file={path.name}&tail=1").numbers == [2]


def test_the_end_of_a_huge_file_is_read_from_its_end(served, directory):
    path = directory / "huge.log"
    with open(path, "wb") as file:
        file.truncate(10 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(map(record, range(1, 1001))))
    served.until_read(old(path))
    before = served.memory
    started = time.perf_counter()
    assert served.get("/logs?file=huge.log&tail=100").numbers == list(range(901, 1001))
    assert time.perf_counter() - started < 2  # 3 ms; a machine may be busy, but 10 GiB take longer.
    assert served.memory - before < 20
    path.unlink()


def test_memory_stays_small_while_all_of_a_large_file_is_read(served, written):
    path = written(b"".join(record(n, filler="x" * 200) for n in range(40_000)))
    served.get(f"/logs?file={path.name}&limit=1000")
    before = served.memory
    client = served.connect()
    client.request("GET", f"/logs?file={path.name}")
    reply = client.getresponse()
    time_to_fill = time.monotonic() + 0.3
    size = 0
    while piece := reply.read(1 << 16):
        size += len(piece)
        if time.monotonic() < time_to_fill:
            time.sleep(0.001)  # It waits for a slow reader, not the other way round.
    client.close()
    assert size > 10 << 20
    assert served.memory - before < 25


def test_every_line_is_there_however_long_or_strange(served, written):
    lines = [
        b"",
        b"\x00\xff\xfe",
        b'"' + b"x" * 3_000_000,
        b"[1, 2]",
        b'{"a": "\xc3\x28"}',
        b"\r",
        b"no newline at the end",
    ]
    path = written(b"\n".join(lines))
    reply = served.get(f"/logs?file={path.name}")
    assert reply.status == 200
    assert sum(len(each.get("message", "")) for each in reply.json) > 3_000_000
    assert reply.json[-1]["message"] == "no newline at the end"
    raw = served.get(f"/logs?file={path.name}&tail=3&format=raw").body
    assert raw.endswith(b"\r\nno newline at the end\n")


def test_half_a_line_is_not_shown_while_it_may_be_going_on(served, written):
    path = written(record(1))
    append(path, b'{"n": 2, "mess')
    assert served.get(f"/logs?file={path.name}").numbers == [1]


def test_a_trace_is_one_record_from_either_end(only, tmp_path):
    record = "2026-01-31 12:00:00,000 ERROR [main] a.B - failed {}\njava.lang.Error: x\n\tat a.B(B.java:1)\n"
    (tmp_path / "java.log").write_text("".join(record.format(n) for n in range(3000)))
    served = only(old(tmp_path / "java.log"), "--from", "log4j")
    for query in ("tail=2000", "limit=2000"):
        found = served.get(f"/logs?{query}&format=raw").body.decode()
        assert found.count("failed") == 2000
        assert found.count("\tat ") == 2000
    assert len(served.get("/logs").json) == 3000


# ---- Forms and HTTP


@pytest.mark.parametrize(
    ("query", "type", "begin"),
    [
        ("format=json", "application/json", b'[{"time":"2026-01-31T12:00:10Z"'),
        ("format=ndjson", "application/x-ndjson", b'{"time":"2026-01-31T12:00:10Z"'),
        ("format=raw", "text/plain; charset=utf-8", b'{"time": "2026-01-31T12:00:10Z"'),
        ("format=ecs", "application/x-ndjson", b'{"@timestamp":"2026-01-31T12:00:10Z"'),
        ("format=logfmt", "text/plain; charset=utf-8", b"time=2026-01-31T12:00:10Z"),
        ("format=csv", "text/csv; charset=utf-8", b"time,level,"),
    ],
)
def test_the_forms(served, ten, query, type, begin):
    reply = served.get(f"/logs?file={ten.name}&tail=1&{query}")
    assert (reply.status, reply.headers["Content-Type"]) == (200, type)
    assert reply.body.startswith(begin), reply.body
    assert b"line 10" in reply.body
    assert reply.body.endswith(b"\n")


def test_gzip_is_given_to_who_takes_it(served, written):
    path = written(b"".join(map(record, range(1, 3000))))
    for query in ("", "&tail=2000"):
        plain = served.get(f"/logs?file={path.name}{query}")
        packed = served.get(f"/logs?file={path.name}{query}", Accept_Encoding="br, gzip;q=0.8")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body) / 4
        refused = served.get(f"/logs?file={path.name}{query}", Accept_Encoding="gzip;q=0")
        assert refused.headers["Content-Encoding"] is None
        assert "Accept-Encoding" in refused.headers["Vary"]


def test_what_has_not_changed_is_not_sent_again(served, ten):
    path = f"/logs?file={ten.name}&tail=2"
    tag = served.get(path).headers["ETag"]
    assert (served.get(path, If_None_Match=tag).status, served.get(path, If_None_Match=tag).body) == (304, b"")
    assert served.get(f"{path}&q=line", If_None_Match=tag).status == 200
    append(ten, record(11))
    assert served.get(path, If_None_Match=tag).numbers == [10, 11]
    assert served.get(f"/logs?file={ten.name}&since=10m").headers["ETag"] is None


def test_head_is_get_without_a_body(served, ten):
    for path in (
        f"/logs?file={ten.name}",
        f"/logs?file={ten.name}&tail=2",
        "/",
        "/files",
        "/nothing",
        "/logs?follow=1",
    ):
        head, get = served.get(path, "HEAD"), served.get(path) if "follow" not in path else None
        assert head.body == b""
        if get is not None:
            assert (head.status, head.headers["Content-Type"]) == (get.status, get.headers["Content-Type"])


@pytest.mark.parametrize(
    "path", ["/", "/logs?tail=1", "/files", "/health", "/api", "/app.js", "/nothing", "/logs?tail=x"]
)
def test_every_answer_keeps_browsers_from_harm(served, ten, path):
    headers = served.get(path, Origin="http://evil").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Access-Control-Allow-Origin"] is None
    assert "aiohttp" not in str(headers).lower()


def test_the_root_is_a_page_for_browsers_and_text_for_curl(served):
    assert served.get("/", Accept="text/html,*/*").body.startswith(b"<!doctype html>")
    text = served.get("/", Accept="*/*")
    assert text.headers["Content-Type"].startswith("text/plain")
    assert b"/logs" in text.body
    assert "tail=N" in served.get("/api").json["parameters"]


def test_unknown_paths_name_the_known_ones(served):
    reply = served.get("/metrics")
    assert reply.status == 404
    assert "/logs" in reply.json["error"]
    assert served.get("/files", "DELETE").headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../etc/passwd", "..%2F..%2Fetc%2Fpasswd", "%00", "nothing.log", "", "/", ".", "*.log", "%FF"],
)
def test_nothing_but_the_configured_files_is_read(served, ten, name):
    reply = served.get(f"/logs?file={name}")
    assert reply.status == 404
    assert b"root:" not in reply.body
    assert "there are" in reply.json["error"]


def test_paths_of_the_page_are_no_files(served):
    for path in ("/../pyproject.toml", "/%2e%2e/server.py", "/index.html", "/app.js/..", "//etc/passwd"):
        assert served.get(path).status == 404


def test_the_files_are_told(served, ten):
    (row,) = [each for each in served.get("/files").json if each["name"] == str(ten)]
    assert (row["format"], row["size"], row["there"]) == ("json", ten.stat().st_size, True)


# ---- Following


def test_what_is_written_is_seen_at_once(served, ten):
    with Following(served, f"/logs?file={ten.name}&follow=1&tail=2") as following:
        assert following.take(2) == [9, 10]
        for number in (11, 12, 13):
            append(ten, record(number))
            assert following.take(1) == [number]


def test_a_filter_holds_for_what_comes(served, ten):
    with Following(served, f"/logs?file={ten.name}&follow=1&level=error") as following:
        assert following.take(2) == [5, 10]
        append(ten, record(11) + record(12, level="error"))
        assert following.take(1) == [12]


def test_events_go_on_where_they_were(served, ten):
    with Following(served, f"/logs?file={ten.name}&tail=1", {"Accept": "text/event-stream"}) as following:
        assert following.answer.headers["Content-Type"] == "text/event-stream"
        lines = following.lines()
        assert next(lines) == ": begin"
        append(ten, record(11) + record(12))
        told = [next(lines) for _ in range(6)]
        assert [json.loads(each[6:])["n"] for each in told if each.startswith("data: ")] == [10, 11, 12]
    missed = [each for each in told if each.startswith("id: ")][1][4:]
    append(ten, record(13))
    again = {"Accept": "text/event-stream", "Last-Event-ID": missed}
    with Following(served, f"/logs?file={ten.name}&tail=1", again) as following:
        data = (each for each in following.lines() if each.startswith("data: "))
        assert [json.loads(next(data)[6:])["n"] for _ in range(2)] == [12, 13]


def test_a_rotated_file_is_read_to_its_end_and_then_the_new_one(served, ten):
    with Following(served, f"/logs?file={ten.name}&follow=1&tail=1") as following:
        assert following.take(1) == [10]
        os.rename(ten, f"{ten}.1")
        append(Path(f"{ten}.1"), record(11))
        # At once: a writer that is late by more than what is waited for is not read.
        with open(f"{ten}.1", "ab", buffering=0) as before, open(ten, "ab", buffering=0) as now:
            now.write(record(12))
            before.write(record(13))
        assert following.take(3) == [11, 13, 12]
        append(ten, record(14))
        assert following.take(1) == [14]
    os.unlink(f"{ten}.1")


def test_a_cursor_into_a_rotated_file_goes_on_there(served, ten):
    after = served.get(f"/logs?file={ten.name}&tail=1").headers["X-After"]
    append(ten, record(11))
    os.rename(ten, f"{ten}.1")
    append(ten, record(12))
    with Following(served, f"/logs?file={ten.name}&follow=1&after={after}") as following:
        assert following.take(2) == [11, 12]
    os.unlink(f"{ten}.1")


def test_a_truncated_file_is_read_from_its_beginning(served, ten):
    with Following(served, f"/logs?file={ten.name}&follow=1&tail=1") as following:
        assert following.take(1) == [10]
        os.truncate(ten, 0)
        append(ten, record(1))
        assert following.take(1) == [1]
        # As copytruncate does it, and filled again beyond the old size before anybody looks.
        ten.write_bytes(b"".join(record(n, more="x" * 200) for n in (20, 21, 22)))
        assert following.take(3) == [20, 21, 22]


def test_a_file_that_comes_later_is_followed_too(served, directory):
    path = directory / "later.log"
    with Following(served, "/logs?follow=1&tail=0&later=yes") as following:
        append(path, record(1, later="yes"))
        assert following.take(1) == [1]
    path.unlink()


def test_a_client_that_does_not_read_lags_without_taking_memory(served, written):
    path = written(record(0))
    with Following(served, f"/logs?file={path.name}&follow=1&tail=1") as slow:
        before = served.memory
        for start in range(1, 40_001, 10_000):
            append(path, b"".join(record(n, filler="x" * 300) for n in range(start, start + 10_000)))
            assert served.get(f"/logs?file={path.name}&tail=1").numbers == [start + 9_999]
        assert served.memory - before < 25
        assert slow.take(40_001) == list(range(40_001))


def test_clients_that_leave_leave_nothing_behind(served, ten):
    served.get(f"/logs?file={ten.name}")
    before = served.descriptors
    for _ in range(40):  # More than may follow at a time.
        with Following(served, f"/logs?file={ten.name}&follow=1&tail=1") as following:
            assert following.take(1) == [10]
        served.until(lambda: served.descriptors <= before + 3)
    served.until(lambda: served.descriptors <= before)
    assert not [line for line in served.lines if "Traceback" in line or '"error"' in line]


def test_too_many_clients_are_told_so(served, ten):
    clients = [Following(served, f"/logs?file={ten.name}&follow=1&tail=0") for _ in range(32)]
    try:
        reply = served.get(f"/logs?file={ten.name}&follow=1")
        assert reply.status == 503
        assert "32 clients follow already" in reply.json["error"]
        assert reply.headers["Retry-After"] == "5"
        assert served.get(f"/logs?file={ten.name}&tail=1").numbers == [10]
    finally:
        for each in clients:
            each.client.close()
    served.until(lambda: served.get(f"/logs?file={ten.name}&follow=1", "HEAD").status == 200)


def test_half_open_clients_keep_nobody_out(served, ten):
    idle = [socket.create_connection(served.address) for _ in range(100)]
    try:
        for each in idle[:50]:
            each.sendall(b"GET /logs HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert served.get(f"/logs?file={ten.name}&tail=1").numbers == [10]
    finally:
        for each in idle:
            each.close()


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\0" * 100_000])
def test_what_is_no_http_ends_quietly(served, sent):
    with socket.create_connection(served.address, PATIENCE) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        try:
            while client.recv(65536):
                pass
        except ConnectionError:
            pass
    assert served.get("/health").status == 200
    assert not [line for line in served.lines if "Traceback" in line]


# ---- POST, credentials, health


def test_posted_lines_are_read_like_others(served):
    reply = served.get("/logs", "POST", record(1, posted="a") + record(2, posted="a").removesuffix(b"\n"))
    assert (reply.status, reply.json) == (202, {"taken_bytes": len(record(1, posted="a")) * 2})
    assert served.get("/logs?file=post&posted=a").numbers == [1, 2]
    with Following(served, "/logs?file=post&follow=1&posted=b") as following:
        served.get("/logs", "POST", record(3, posted="b"))
        assert following.take(1) == [3]


def test_what_is_too_large_or_of_a_foreign_page_is_not_taken(served):
    assert served.get("/logs", "POST", b"x" * (1 << 20 | 1)).status == 413
    assert served.get("/logs", "POST", b"x\n", Origin="http://evil").status == 403


def test_a_full_queue_is_said(only, tmp_path):
    served = only(tmp_path / "a.log", "--post", "--queue-limit", "2MiB", "--output", "gelf+tcp://127.0.0.1:1")
    replies = [served.get("/logs", "POST", b"x" * 1_000_000) for _ in range(8)]
    assert replies[0].status == 202
    full = [reply for reply in replies if reply.status == 429]
    assert full
    assert full[0].headers["Retry-After"] == "1"


def test_post_is_off_by_itself_and_credentials_are_asked_for(only, tmp_path):
    (tmp_path / "a.log").write_bytes(record(1))
    served = only(tmp_path / "a.log", ADAPTER_AUTH_USER="ada", ADAPTER_AUTH_PASSWORD="secret")
    for path in ("/", "/logs", "/files", "/api", "/app.js", "/nothing"):
        reply = served.get(path)
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    right = {"Authorization": "Basic YWRhOnNlY3JldA=="}
    assert served.get("/logs", **right).numbers == [1]
    assert served.get("/health").status == 200
    refused = served.get("/logs", "POST", b"x\n", **right)
    assert (refused.status, refused.json["error"]) == (405, "POST is off; start with --post to take lines")


def test_what_is_blacked_out_is_in_no_form_and_found_by_no_filter(only, tmp_path):
    (tmp_path / "a.log").write_bytes(record(1, user="ada@example.com"))
    served = only(old(tmp_path / "a.log"), "--from", "json", "--redact", "email")
    for form in ("json", "ndjson", "raw", "ecs", "logfmt", "csv", "page"):
        body = served.get(f"/logs?tail=1&format={form}").body
        assert b"***" in body
        assert b"example.com" not in body
    for query in ("q=example.com", "user=ada@example.com", "user=ada*", "q=ADA@"):
        assert served.get(f"/logs?{query}").json == []


def test_health_says_why_not(only, tmp_path):
    served = only(tmp_path / "a.log", "--health", f"file-age:{tmp_path}/a.log?max=60s")
    served.until(lambda: served.get("/health").status == 503)
    assert served.get("/health").json["reasons"]


def test_a_taken_port_is_a_wrong_setting(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Served(tmp_path / "a.log", "--listen", f"127.0.0.1:{port}") as served:
            code, events = served.ended()
    assert code == 2
    assert any("--listen" in str(event) for event in events)


def test_the_end_is_an_end_for_those_who_follow(only, tmp_path):
    (tmp_path / "a.log").write_bytes(record(1))
    served = only(tmp_path / "a.log", "--from", "json")
    with Following(served, "/logs?follow=1") as following:
        assert following.take(1) == [1]
        served.process.terminate()
        assert list(following.lines()) == []
    assert served.wait() == 0
