"""The receiver that the forward output is tested against: it takes what the protocol allows, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import signal
import subprocess
import sys

import msgpack
import pytest
from fluent.sender import EventTime, FluentSender

from tests.servers import forward_receiver
from tests.servers.forward_receiver import Event, Faults, ProtocolError, Receiver, read_message

TIME = EventTime(7, 9)
PACKED = msgpack.packb([TIME, {"log": "a"}]) + msgpack.packb([7, {"log": b"\xff"}])
CHUNK = base64.b64encode(bytes(16)).decode()


def decoded(message: object) -> object:
    return msgpack.unpackb(msgpack.packb(message), strict_map_key=False)


@pytest.mark.parametrize(
    ("message", "mode", "events"),
    [
        (["t", 7, {"log": "a"}], "Message", [Event(7 * 10**9, {"log": "a"})]),
        (["t", TIME, {"log": "a"}, {"chunk": CHUNK}], "Message", [Event(7_000_000_009, {"log": "a"})]),
        (["t", [[7, {}], [TIME, {}]], None], "Forward", [Event(7 * 10**9, {}), Event(7_000_000_009, {})]),
        (
            ["t", PACKED, {"size": 2, "chunk": CHUNK}],
            "PackedForward",
            [Event(7_000_000_009, {"log": "a"}), Event(7 * 10**9, {"log": b"\xff"})],
        ),
        (
            ["t", gzip.compress(PACKED, mtime=0) + gzip.compress(PACKED, mtime=0), {"compressed": "gzip", "size": 4}],
            "CompressedPackedForward",
            [Event(7_000_000_009, {"log": "a"}), Event(7 * 10**9, {"log": b"\xff"})] * 2,
        ),
    ],
)
def test_every_mode_is_understood(message, mode, events):
    received = read_message(decoded(message))
    assert received
    assert (received.mode, received.tag, received.events) == (mode, "t", events)


@pytest.mark.parametrize(
    "message",
    [
        7,
        [],
        ["t"],
        [7, PACKED],
        ["", PACKED],
        ["t", PACKED, {"size": 3}],
        ["t", PACKED[:-1]],
        ["t", PACKED + b"\x07"],
        ["t", PACKED, {"chunk": "no base64"}],
        ["t", PACKED, {"chunk": base64.b64encode(bytes(15)).decode()}],
        ["t", PACKED, {"chunk": 7}],
        ["t", PACKED, {"compressed": "lz4"}],
        ["t", gzip.compress(PACKED, mtime=0)[:-1], {"compressed": "gzip"}],
        ["t", PACKED, {}, {}],
        ["t", [[7]]],
        ["t", [["7", {}]]],
        ["t", [[True, {}]]],
        ["t", [[msgpack.ExtType(1, bytes(8)), {}]]],
        ["t", [[EventTime(7, 10**9), {}]]],
        ["t", 7, "a"],
    ],
    ids=lambda message: repr(message)[:40],
)
def test_what_the_protocol_does_not_know_is_a_violation(message):
    with pytest.raises((ProtocolError, ValueError)):
        read_message(decoded(message))


def test_a_string_that_is_not_utf_8_is_a_violation():
    with pytest.raises(UnicodeDecodeError):
        read_message(["t", b"\x92\x07\x81\xa3log\xa1\xff"])


def test_the_sender_of_fluent_logger_is_understood():
    with Receiver() as receiver, FluentSender("app", port=receiver.port, nanosecond_precision=True) as sender:
        assert sender.emit("web", {"log": "a"})
        receiver.wait_for(lambda: receiver.records == 1)
        assert (receiver.messages[0].tag, receiver.lines) == ("app.web", [b"a"])
    assert receiver.violations == []


def test_faults_take_turns():
    faults = Faults(("one", "two"), every=3, times=3)
    assert [faults.at(number) for number in range(1, 14)] == [*["", "", "one", "", "", "two", "", "", "one"], *[""] * 4]


def test_as_a_process_it_writes_the_lines_and_reports_a_violation(tmp_path):
    out = tmp_path / "lines"
    command = [sys.executable, forward_receiver.__file__, "--out", str(out), "--with-file"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = json.loads(process.stdout.readline())["port"]
        with FluentSender("app", port=port) as sender:
            sender.emit(None, {"log": "a", "file": "/logs/a.log"})
            sender._send(b"\x07")
            # The end of the connection says that all of it was read.
            assert sender.socket.recv(1) == b""
        process.send_signal(signal.SIGTERM)
        ended = json.loads(process.stdout.readline())
        assert process.wait(timeout=10) == 1
    assert (ended["records"], len(ended["violations"])) == (1, 1)
    assert out.read_bytes() == b"/logs/a.log\ta\n"
