"""An S3 that refuses, breaks off, loses and corrupts: said truly meanwhile, and afterwards each line is there once."""

from __future__ import annotations

import gzip
import signal

import pytest

from tests.servers.s3_proxy import S3Proxy
from tests.servers.shipping import Bucket, Shipper, append, numbered
from tests.unit.core.running import free_port

INDEX = "%{path}%{index}.%{file_extension}"
HTML = {
    "status": 503,
    "body": b"<html><h1>503 Service Unavailable</h1></html>",
    "headers": {"Content-Type": "text/html"},
}
NOT_NOW, NOT_ALLOWED = (
    "upload failed; it is tried again until it works",
    "upload refused; it is tried again until it is allowed",
)

# What the proxy does with each upload until it is told to recover; the code that is counted, the words that are said.
CASES = {
    "forbidden": ("refuse", {"code": "AccessDenied"}, "Access Denied (AccessDenied); allow s3:PutObject"),
    "slow down": ("refuse", {"code": "SlowDown"}, "Please reduce your request rate. (SlowDown)"),
    "conflict": ("refuse", {"code": "ConditionalRequestConflict"}, "conflicting operation"),
    "expired": ("refuse", {"code": "ExpiredToken"}, "The provided token has expired. (ExpiredToken); renew"),
    "skewed": ("refuse", {"code": "RequestTimeTooSkewed"}, "set this machine's clock"),
    "no bucket": ("refuse", {"code": "NoSuchBucket"}, "The specified bucket does not exist"),
    "a page of a proxy's": ("refuse", {"code": "503", **HTML}, "Service Unavailable (503)"),
    "cut": ("cut", {"code": "connection"}, "the connection to 127.0.0.1:"),
    "lost": ("lose", {"code": "connection"}, "the connection to 127.0.0.1:"),
    "corrupted": ("corrupt", {"code": "BadDigest"}, "did not match what we received. (BadDigest)"),
    "corrupted unnoticed": ("corrupt", {"code": "checksum", "unnoticed": True}, "it has to be stored again"),
}
PERMANENT = ("AccessDenied", "ExpiredToken", "NoSuchBucket", "RequestTimeTooSkewed")


# With an index it makes a difference whether there is an object already.
KEYS = [*((case, "") for case in CASES), *((case, INDEX) for case in ("lost", "corrupted unnoticed"))]


@pytest.mark.parametrize(("case", "key"), KEYS, ids=lambda value: "index" if value == INDEX else value or "id")
def test_it_says_what_is_wrong_and_afterwards_each_line_is_there_once(ship, logs, stored, proxy, case, key):
    kind, options, words = CASES[case]
    code = options["code"]
    lines = numbered(300)
    for name in range(3):
        (logs / f"{name}.log").write_bytes(b"".join(lines[name::3]))
    fault = proxy.fault(kind, path="log.gz", method="PUT", **options)
    keys = [f"--key-format={key}"] if key else []
    # A tag of its own for each file, and so an object.
    shipper = ship("--once", "--tag=*", f"--endpoint={proxy.endpoint}", *keys, logs / "*.log")
    said = shipper.wait_for(NOT_ALLOWED if code in PERMANENT else NOT_NOW)
    assert (said["code"], said["level"]) == (code, "error" if code in PERMANENT else "warning")
    assert words in said["error"]
    assert shipper.metric("delivery_errors_total", output="s3", code=code) >= 1
    status, reason = shipper.ask("/healthz")
    assert status == 503
    assert words in reason
    assert fault.committed
    proxy.recover()
    shipper.done()
    assert stored.lines == lines
    assert len(stored.keys) == 3
    if key:
        assert stored.keys == ["0.log.gz", "1.log.gz", "2.log.gz"]


def states(shipper: Shipper) -> list[str]:
    return [row["state"] for row in shipper.status()["tables"]["chunks"]]


def test_what_is_written_while_s3_refuses_everything_comes_once_it_does_not(ship, logs, stored, proxy):
    path, lines = logs / "a.log", numbered(1000)
    fault = proxy.fault("refuse", code="AccessDenied")
    shipper = ship("--chunk-age=100ms", f"--endpoint={proxy.endpoint}", path)
    for chunks in (1, 2):
        append(path, b"".join(lines[500 * (chunks - 1) : 500 * chunks]))
        path.rename(logs / f"a.log.{chunks}")
        shipper.until(lambda chunks=chunks: states(shipper) == ["sealed"] * chunks)
    refused = fault.committed
    shipper.until(lambda: fault.committed > refused)
    shipper.until(lambda: shipper.ask("/healthz")[0] == 503)
    # Each kind of failure is said once, however often it happens.
    assert len(shipper.said(NOT_ALLOWED)) == 1
    proxy.recover()
    shipper.until(lambda: shipper.metric("shipper_lines_total") == 1000)
    shipper.until(lambda: shipper.ask("/healthz")[0] == 200)
    assert stored.lines == lines
    assert len(stored.keys) == 2


def test_a_server_that_stalls_holds_up_nothing_else_and_is_not_waited_for_beyond_the_grace(ship, logs, stored, proxy):
    (logs / "a.log").write_bytes(b"one\n")
    fault = proxy.fault("stall", delay=60, path="log.gz", times=1)
    options = (f"--endpoint={proxy.endpoint}", logs / "*.log")
    shipper = ship("--grace=1s", "--chunk-age=100ms", *options)
    shipper.until(lambda: fault.committed)
    (logs / "b.log").write_bytes(b"two\n")
    shipper.until(lambda: stored.lines == [b"two\n"])
    assert shipper.ask("/livez")[0] == 200
    shipper.send(signal.SIGTERM)
    code, events = shipper.ended()
    assert code == 1
    assert events[-1]["reason"].startswith("1 lines in 1 chunks of ")
    ship(*options).drained()
    assert stored.lines == [b"one\n", b"two\n"]


def test_a_server_that_is_not_there_yet_is_waited_for(ship, logs, stored, s3):
    (logs / "a.log").write_bytes(b"line\n")
    port = free_port()
    shipper = ship("--once", f"--endpoint=http://127.0.0.1:{port}", logs / "a.log")
    said = shipper.wait_for(NOT_NOW)
    assert f"no connection to 127.0.0.1:{port}: Connection refused" in said["error"]
    with S3Proxy(s3.endpoint, port=port):
        shipper.done()
    assert stored.lines == [b"line\n"]


@pytest.mark.parametrize("method", ["HEAD", "PUT"])
def test_a_bucket_that_could_not_be_made_at_first_is_made_later(shipper, logs, stored, proxy, method):
    (logs / "a.log").write_bytes(b"line\n")
    new = f"{stored.name}-new"
    proxy.fault("refuse", times=1, method=method)
    shipper("--once", "--create-bucket", f"--bucket={new}", f"--endpoint={proxy.endpoint}", logs / "a.log").done()
    assert list(Bucket(stored.server, new).objects.values()) == [b"line\n"]


# Keys with an index


def test_an_answer_that_was_lost_is_cleared_up_by_looking_at_the_object_and_held_while_that_is_refused(
    ship, logs, stored, proxy
):
    (logs / "a.log").write_bytes(b"line\n")
    proxy.fault("lose", times=1, method="PUT", path="/0.log")
    proxy.fault("refuse", code="AccessDenied", method="HEAD")
    shipper = ship("--once", f"--key-format={INDEX}", f"--endpoint={proxy.endpoint}", logs / "a.log")
    said = shipper.wait_for(NOT_ALLOWED)
    # An answer to HEAD has no body, and so no words of S3's.
    assert f"cannot look up s3://{stored.name}/0.log.gz: " in said["error"]
    assert "allow s3:GetObject, and s3:ListBucket" in said["error"]
    assert shipper.ask("/healthz")[0] == 503
    assert stored.keys == ["0.log.gz"]
    proxy.recover()
    shipper.done()
    assert list(stored.objects.items()) == [("0.log.gz", b"line\n")]


def test_the_first_index_waits_until_the_bucket_may_be_listed(ship, logs, stored, proxy):
    (logs / "a.log").write_bytes(b"line\n")
    stored.server.client().put_object(Bucket=stored.name, Key="41.log.gz", Body=gzip.compress(b"another's\n"))
    proxy.fault("refuse", code="AccessDenied", method="GET")
    shipper = ship("--once", f"--key-format={INDEX}", f"--endpoint={proxy.endpoint}", logs / "a.log")
    said = shipper.wait_for(NOT_ALLOWED)
    assert "allow s3:ListBucket to these credentials" in said["error"]
    proxy.recover()
    shipper.done()
    assert stored.objects == {"41.log.gz": b"another's\n", "42.log.gz": b"line\n"}


def test_an_index_that_another_writer_took_since_is_left_to_it_and_the_bucket_is_listed_once(
    shipper, logs, stored, proxy
):
    options = ("--once", f"--key-format={INDEX}", f"--endpoint={proxy.endpoint}", logs / "a.log")
    for index in (0, 2):
        append(logs / "a.log", b"line for %d\n" % index)
        shipper(*options).done()
        stored.server.client().put_object(Bucket=stored.name, Key=f"{index + 1}.log.gz", Body=gzip.compress(b"other\n"))
    assert list(stored.objects.values()) == [b"line for 0\n", b"other\n", b"line for 2\n", b"other\n"]
    assert len([request for request in proxy.requests if "list-type" in request.path]) == 1


# An endpoint that ignores If-None-Match


@pytest.mark.parametrize("key", ["%{path}{chunk}.%{file_extension}", INDEX], ids=["id", "index"])
def test_an_endpoint_that_ignores_conditions_is_noticed_once_and_each_line_is_there_once_all_the_same(
    shipper, logs, stored, proxy, key
):
    if key == INDEX:
        stored.server.client().put_object(Bucket=stored.name, Key="0.log.gz", Body=gzip.compress(b"another's\n"))
    proxy.fault("unconditional")
    proxy.fault("lose", method="PUT", path="log.gz", times=2)
    lines = numbered(3)
    for line in lines:
        append(logs / "a.log", line)
        running = shipper("--once", f"--key-format={key}", f"--endpoint={proxy.endpoint}", logs / "a.log")
        events = running.done()
        said = [event for event in events if event["event"].startswith("endpoint ignores If-None-Match")]
        assert len(said) == (line == lines[0])
        # What another writer has stored meanwhile is not overwritten.
        if key == INDEX:
            taken = f"{len(stored.keys)}.log.gz"
            stored.server.client().put_object(Bucket=stored.name, Key=taken, Body=gzip.compress(b"another's\n"))
    assert [line for line in stored.lines if line != b"another's\n"] == lines
    assert len(stored.keys) == (7 if key == INDEX else 3)
    probes = [request for request in proxy.requests if request.method == "PUT" and "probe" in request.path]
    assert len(probes) == 2
