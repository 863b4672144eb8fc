"""log-tailer's forward output, end to end: the real process, and a receiver that is strict or misbehaves."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.servers.forward_receiver import Faults, Receiver, Security, tls_context
from tests.servers.process import Tailer

LINES = b"one\n\nthree \xff\xfe\nfour\r\n"


def to(receiver: Receiver, **options: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in {"tag": "app", **options}.items())
    return f"--output=forward://127.0.0.1:{receiver.port}?{query}"


def name(receiver: Receiver) -> str:
    return f"forward-127.0.0.1:{receiver.port}"


def received(receiver: Receiver, count: int) -> list[bytes]:
    receiver.wait_for(lambda: receiver.records >= count, 20)
    assert receiver.violations == []
    return receiver.lines


def records(receiver: Receiver) -> list[dict[str, Any]]:
    return [event.record for message in receiver.messages for event in message.events]


def until_delivered(tailer: Tailer, receiver: Receiver, size: int) -> None:
    tailer.until(lambda: tailer.metric("tailer_delivered_bytes_total", output=name(receiver)) >= size)


@pytest.mark.parametrize("compress", ["off", "gzip"])
def test_lines_arrive_as_packed_forward_and_nothing_goes_to_stdout(tail, logs, compress):
    with Receiver() as receiver:
        (logs / "a.log").write_bytes(LINES)
        tailer = tail(
            to(receiver, compress=compress), logs / "*.log", environ={"POD_NAME": "web-0", "POD_NAMESPACE": "shop"}
        )
        assert received(receiver, 4) == [b"one", b"", b"three \xff\xfe", b"four\r"]
        [message] = receiver.messages
        assert message.mode == ("PackedForward" if compress == "off" else "CompressedPackedForward")
        assert message.tag == "app"
        assert message.option["size"] == 4
        fields = {"file": str(logs / "a.log"), "pod": "web-0", "namespace": "shop"}
        assert records(receiver)[0] == {**fields, "log": "one"}
        until_delivered(tailer, receiver, len(LINES))
        assert tailer.metric("follow_lag_bytes", output=name(receiver)) == 0
        assert tailer.drained() == b""


def test_a_tag_says_where_lines_come_from(tail, logs):
    with Receiver() as receiver:
        for file in ("a.log", "b.log"):
            (logs / file).write_bytes(b"line\n")
        tail(to(receiver, tag="{namespace}.{pod}.{file}"), logs, environ={"POD_NAME": "web-0", "POD_NAMESPACE": "shop"})
        received(receiver, 2)
        assert sorted(message.tag for message in receiver.messages) == ["shop.web-0.a.log", "shop.web-0.b.log"]


def test_a_tag_that_needs_a_variable_that_is_not_set_fails_and_says_which(start, logs):
    with Receiver() as receiver:
        (logs / "a.log").write_bytes(b"line\n")
        tailer = start(to(receiver, tag="app.{pod}"), logs, environ={"POD_NAME": ""})
        code, _ = tailer.ended()
        assert code != 0
        assert "POD_NAME" in tailer.lines[-1]
        assert "Traceback" not in "".join(tailer.lines)


def test_json_extends_objects(tail, logs):
    with Receiver() as receiver:
        (logs / "a.log").write_bytes(b'{"level":"info","file":"own"}\nplain\n{"broken":\n')
        tail("--format=json", to(receiver), logs / "a.log", environ={"POD_NAME": "web-0"})
        received(receiver, 3)
        file = str(logs / "a.log")
        assert records(receiver) == [
            {"file": "own", "pod": "web-0", "level": "info"},
            {"file": file, "pod": "web-0", "log": "plain"},
            {"file": file, "pod": "web-0", "log": '{"broken":'},
        ]


def test_a_line_longer_than_a_batch_comes_in_parts(tail, logs):
    text = "é€😀" * 400_000
    with Receiver() as receiver:
        (logs / "a.log").write_text(f"before\n{text}\nafter\nnot ended")
        tail(to(receiver), logs / "a.log").drained()
        rows = records(receiver)
        assert receiver.violations == []
    parts = [row for row in rows if "part" in row and row["log"] != "not ended"]
    assert "".join(row["log"] for row in parts) == text
    assert [row["part"] for row in parts] == list(range(1, len(parts) + 1))
    assert [row["last"] for row in parts] == [False] * (len(parts) - 1) + [True]
    assert [row["log"] for row in rows if "part" not in row] == ["before", "after"]
    assert (rows[-1]["part"], rows[-1]["last"]) == (1, False)


def test_records_of_several_lines_are_one_entry(tail, logs):
    with Receiver() as receiver:
        (logs / "a.log").write_bytes(b"[1] one\nmore\n[2] two\n")
        tail(to(receiver), r"--multiline=\[", "--multiline-timeout=100ms", logs / "a.log")
        assert received(receiver, 2) == [b"[1] one\nmore", b"[2] two"]


# Receivers that are not there


def test_a_receiver_that_is_down_at_the_start_is_waited_for(tail, logs):
    with Receiver() as placeholder:
        port = placeholder.port
    (logs / "a.log").write_bytes(LINES)
    tailer = tail(f"--output=forward://127.0.0.1:{port}?tag=app", logs / "a.log")
    said = tailer.wait_for("delivery failed; it is tried again until it works")
    assert "Connection refused" in said["error"]
    output = f"forward-127.0.0.1:{port}"
    assert tailer.metric("delivery_errors_total", output=output, code="connect") >= 1
    code, reason = tailer.ask("/healthz")
    assert code == 503
    assert reason.startswith(f"{output}: cannot connect to 127.0.0.1:{port}")
    assert tailer.ask("/readyz")[0] == 200
    assert tailer.metric("oldest_undelivered_seconds") > 0
    with Receiver(port=port) as receiver:
        assert len(received(receiver, 4)) == 4
        tailer.wait_for("delivery works again")
        tailer.until(lambda: tailer.ask("/healthz")[0] == 200)
        assert len(tailer.said("delivery failed; it is tried again until it works")) == 1
        tailer.drained()


def test_a_receiver_that_goes_and_comes_back_gets_everything(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    with Receiver() as first:
        port = first.port
        tailer = tail(to(first), logs / "a.log")
        assert received(first, 1) == [b"one"]
        until_delivered(tailer, first, 4)
    with open(logs / "a.log", "ab") as file:
        file.write(b"two\n")
    tailer.wait_for("delivery failed; it is tried again until it works")
    with Receiver(port=port) as second:
        assert received(second, 1) == [b"two"]
        tailer.drained()


@pytest.mark.parametrize("fault", ["close_before_ack", "no_ack", "wrong_ack"])
def test_what_is_not_acknowledged_is_sent_again_and_not_remembered_before(tail, logs, tmp_path, fault):
    (logs / "a.log").write_bytes(b"one\n")
    state = tmp_path / "state"
    with Receiver(faults=Faults((fault,))) as bad:
        port = bad.port
        tailer = tail(to(bad, ack_timeout="300ms"), "--state-dir", state, logs / "a.log")
        bad.wait_for(lambda: bad.chunks >= 2, 20)
        assert tailer.metric("tailer_delivered_bytes_total", output=name(bad)) == 0
        tailer.send(signal.SIGKILL)
        tailer.wait()
        assert set(bad.lines) == {b"one"}
    with Receiver(port=port) as good:
        tailer = tail(to(good), "--state-dir", state, logs / "a.log")
        assert received(good, 1) == [b"one"]
        tailer.drained()
    with Receiver(port=port) as later:
        (logs / "b.log").write_bytes(b"two\n")
        tail(to(later), "--state-dir", state, logs / "*.log").drained()
        assert later.lines == [b"two"], "what was acknowledged is not sent again"


def test_a_drain_with_a_dead_receiver_names_what_was_not_delivered(start, logs, tmp_path):
    with Receiver(faults=Faults(("no_ack",))) as receiver:
        (logs / "a.log").write_bytes(b"x" * 999 + b"\n")
        tailer = start("--grace=1s", to(receiver), logs / "a.log").watching()
        receiver.wait_for(lambda: receiver.chunks == 1)
        tailer.send(signal.SIGTERM)
        code, events = tailer.ended()
        assert code == 1
        assert events[-1]["reason"] == f"1000 bytes of {logs}/a.log not delivered to {name(receiver)}"


def test_once_ends_when_everything_is_acknowledged(start, logs):
    line = b"a line of which there are some batches"
    (logs / "a.log").write_bytes((line + b"\n") * 80_000 + b"last")
    with Receiver() as receiver:
        tailer = start("--once", to(receiver), logs / "a.log")
        assert tailer.ended()[0] == 0
        assert receiver.lines == [line] * 80_000 + [b"last"]


# TLS and keys


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pems")
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    server.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    server.private_key_pem.write_to_path(folder / "key.pem")
    return folder


def test_tls_delivers_and_an_unknown_authority_does_not(tail, logs, pems):
    (logs / "a.log").write_bytes(b"one\n")
    with Receiver(tls=tls_context(str(pems / "cert.pem"), str(pems / "key.pem"))) as receiver:
        tailer = tail(to(receiver, tls="true", ca=pems / "other.pem"), logs / "a.log")
        assert "certificate" in tailer.wait_for("delivery failed; it is tried again until it works")["error"]
        assert tailer.metric("delivery_errors_total", output=name(receiver), code="tls") >= 1
        assert receiver.lines == []
        tailer.send(signal.SIGKILL)
        tail(to(receiver, tls="true", ca=pems / "ca.pem"), logs / "a.log")
        assert received(receiver, 1) == [b"one"]


def test_the_shared_key_comes_from_a_file_and_is_shown_nowhere(tail, logs, tmp_path):
    (logs / "a.log").write_bytes(b"one\n")
    (tmp_path / "key").write_text("hunter2-wrong\n")
    with Receiver(security=Security("hunter2")) as receiver:
        tailer = tail(to(receiver), "--forward-key-file", tmp_path / "key", logs / "a.log")
        assert "key" in tailer.wait_for("delivery failed; it is tried again until it works")["error"]
        assert tailer.metric("delivery_errors_total", output=name(receiver), code="auth") >= 1
        shown = "".join(tailer.ask(path)[1] for path in ("/status", "/", "/metrics", "/healthz"))
        assert "hunter2" not in shown + "".join(tailer.lines)
        # A key that is replaced is read anew: no restart.
        (tmp_path / "key").write_text("hunter2\n")
        assert received(receiver, 1) == [b"one"]
        tailer.wait_for("delivery works again")


# Several outputs


def test_each_output_gets_everything(tail, logs):
    (logs / "a.log").write_bytes(LINES)
    with Receiver() as first, Receiver() as second:
        tailer = tail("--output=stdout", to(first), to(second), logs / "a.log")
        tailer.until_written(LINES)
        assert len(received(first, 4)) == len(received(second, 4)) == 4
        tailer.drained()


def test_a_dead_output_does_not_hold_back_the_others_and_each_resumes_where_it_was(tail, logs, tmp_path):
    with Receiver() as placeholder:
        port = placeholder.port
    (logs / "a.log").write_bytes(b"one\n")
    state = tmp_path / "state"
    dead = f"--output=forward://127.0.0.1:{port}?tag=app"
    options = ("--state-dir", state, "--output=stdout", dead, logs / "a.log")
    tailer = tail(*options, "--grace=300ms")
    tailer.until_written(b"one\n")
    tailer.send(signal.SIGTERM)
    code, events = tailer.ended()
    assert code == 1
    assert events[-1]["reason"] == f"4 bytes of {logs}/a.log not delivered to forward-127.0.0.1:{port}"
    with open(logs / "a.log", "ab") as file:
        file.write(b"two\n")
    with Receiver(port=port) as receiver:
        tailer = tail(*options)
        assert received(receiver, 2) == [b"one", b"two"]
        tailer.until_written(b"one\ntwo\n")
        assert tailer.drained() == b"one\ntwo\n"


def test_status_shows_each_output(tail, logs):
    (logs / "a.log").write_bytes(b"one\n")
    with Receiver(faults=Faults(("no_ack",))) as receiver:
        tailer = tail("--output=stdout", to(receiver), "--grace=100ms", logs / "a.log")
        tailer.until_written(b"one\n")
        receiver.wait_for(lambda: receiver.chunks == 1)
        tailer.until(lambda: tailer.metric("tailer_delivered_bytes_total", output="stdout") == 4)
        rows = {row["output"]: row for row in json.loads(tailer.ask("/status")[1])["tables"]["outputs"]}
        assert rows["stdout"]["lag_bytes"] == 0
        assert rows[name(receiver)]["lag_bytes"] == 4
        assert rows[name(receiver)]["delivered_bytes_total"] == 0
