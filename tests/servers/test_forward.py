"""The forward output against a real receiver on loopback, well-behaved and not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import trustme

from sidecars.core.errors import DeliveryFailed
from sidecars.core.forward.packing import Chunk, chunk, pack, texts
from sidecars.core.forward.sender import ForwardSender
from sidecars.core.forward.settings import Forward
from sidecars.core.forward.settings import Receiver as Address
from sidecars.core.units import Seconds, Secret
from tests.servers import forward_receiver
from tests.servers.forward_receiver import Faults, Receiver, Security, tls_context

FIELDS = {"file": "/logs/a.log", "pod": "web-0"}


def made(*lines: str | bytes, compressed: bool = False) -> Chunk:
    return chunk("app", pack(lines, FIELDS, 0), len(lines), compressed=compressed)


def numbered(count: int, *, of: int = 3) -> list[tuple[Chunk, list[bytes]]]:
    """Make chunks of numbered lines, each with the lines it holds."""
    groups = [[f"line {first + number}" for number in range(of)] for first in range(0, count * of, of)]
    return [(made(*lines), [line.encode() for line in lines]) for lines in groups]


def at(address: str, **options: Any) -> Forward:
    return Forward(address=Address.read(address), connect_timeout=options.pop("connect_timeout", Seconds(5)), **options)


def to(receiver: Receiver, host: str = "127.0.0.1", **options: Any) -> Forward:
    return at(f"{host}:{receiver.port}", **options)


@contextlib.contextmanager
def sending(output: Forward) -> Iterator[ForwardSender]:
    sender = ForwardSender(output, hostname="web-0")
    try:
        yield sender
    finally:
        sender.close()


def deliver(sender: ForwardSender, chunks: Sequence[Chunk]) -> tuple[list[str], list[str]]:
    """Send as the tailer does, trying again after each failure; give the acknowledged ids and the failures' codes."""
    rest, done, codes = list(chunks), [], []
    while rest or sender.unacknowledged:
        try:
            while rest and not sender.full:
                # The chunk is the sender's from here on, also when sending fails.
                sender.send(rest.pop(0))
            done += sender.acknowledged()
        except DeliveryFailed as failure:
            codes.append(failure.code)
            assert len(codes) < 100, failure
    return done, codes


def failure(output: Forward) -> DeliveryFailed:
    with sending(output) as sender, pytest.raises(DeliveryFailed) as raised:
        sender.send(made("a"))
        sender.acknowledged()
    assert str(output) in str(raised.value)
    assert ";" in str(raised.value), "says nothing of what to do"
    return raised.value


def once_each(lines: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(lines))


# Delivery


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_chunk_is_delivered_and_acknowledged(compressed):
    with Receiver() as receiver, sending(to(receiver)) as sender:
        sent = made("first", b"\xff second", compressed=compressed)
        sender.send(sent)
        assert sender.acknowledged() == [sent.id]
        assert sender.unacknowledged == ()
        [message] = receiver.messages
    assert message.mode == ("CompressedPackedForward" if compressed else "PackedForward")
    assert message.tag == "app"
    assert [event.record for event in message.events] == [
        {**FIELDS, "log": "first"},
        {**FIELDS, "log": b"\xff second"},
    ]
    assert receiver.violations == []


def test_a_batch_of_1_mib_arrives_byte_for_byte():
    noise = random.Random(1).randbytes(2**20 - 20) + b"\r\x00\xff\xc3\xa9 \xe2\x80\xa8 end\r\n"
    lines = texts(noise)
    with Receiver() as receiver, sending(to(receiver)) as sender:
        deliver(sender, [chunk("app", pack(lines, FIELDS, 0), len(lines))])
        assert b"".join(line + b"\n" for line in receiver.lines) == noise
    assert receiver.violations == []


def test_several_chunks_are_under_way_before_the_first_is_acknowledged():
    with Receiver(faults=Faults(("no_ack",))) as receiver, sending(to(receiver, window=4)) as sender:
        chunks = [each for each, _ in numbered(5)]
        for each in chunks[:4]:
            assert not sender.full
            sender.send(each)
        receiver.wait_for(lambda: receiver.chunks == 4)
        assert sender.acknowledged(0) == []
        assert sender.unacknowledged == tuple(chunks[:4])
        assert sender.full
        with pytest.raises(ValueError, match="acknowledged"):
            sender.send(chunks[4])


def test_acknowledgements_out_of_order_are_reported_in_order():
    with Receiver(faults=Faults(("late_ack",), every=1, times=1)) as receiver, sending(to(receiver)) as sender:
        first, second = made("a"), made("b")
        sender.send(first)
        receiver.wait_for(lambda: receiver.chunks == 1)
        assert sender.acknowledged(0) == []
        sender.send(second)
        done: list[str] = []
        while len(done) < 2:
            done += sender.acknowledged()
        assert done == [first.id, second.id]
        assert receiver.lines == [b"a", b"b"]


def test_a_nil_from_the_receiver_means_nothing():
    with Receiver(faults=Faults(("nil",))) as receiver, sending(to(receiver)) as sender:
        assert deliver(sender, [made("a")])[1] == []


# Receivers that misbehave


@pytest.mark.parametrize(
    "faults",
    [
        ("close_before_record",),
        ("close_before_ack",),
        ("ack_then_close",),
        ("wrong_ack",),
        ("late_ack", "close_before_ack"),
        ("no_ack",),
        ("stall",),
        ("slow",),
        ("garbage",),
        ("endless",),
        ("close_before_record", "no_ack", "wrong_ack", "ack_then_close", "stall", "garbage", "late_ack", "slow"),
    ],
    ids="+".join,
)
@pytest.mark.parametrize("window", [1, 4])
def test_nothing_is_lost_or_out_of_order_whatever_the_receiver_does(faults, window):
    chunks = numbered(24)
    with (
        Receiver(faults=Faults(faults, every=5, times=8)) as receiver,
        sending(to(receiver, window=window, ack_timeout=Seconds(0.2))) as sender,
    ):
        done, codes = deliver(sender, [each for each, _ in chunks])
        assert done == [each.id for each, _ in chunks]
        assert once_each(receiver.lines) == [line for _, lines in chunks for line in lines]
        # Only what was under way at a failure may come again.
        assert len(receiver.lines) <= 24 * 3 + len(codes) * window * 3
    assert receiver.violations == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("close_before_record", "closed"),
        ("close_before_ack", "closed"),
        ("wrong_ack", "wrong_ack"),
        ("no_ack", "timeout"),
        ("stall", "timeout"),
        ("garbage", "protocol"),
        ("endless", "protocol"),
    ],
)
def test_each_failure_has_its_code_and_the_chunk_is_sent_again(fault, code):
    with (
        Receiver(faults=Faults((fault,), times=1)) as receiver,
        sending(to(receiver, ack_timeout=Seconds(0.3))) as sender,
    ):
        sent = made("a")
        assert deliver(sender, [sent]) == ([sent.id], [code])
        assert receiver.connections == 2
        assert once_each(receiver.lines) == [b"a"]


def test_after_a_failure_all_that_is_unacknowledged_is_sent_again_in_order():
    with Receiver(faults=Faults(("close_before_ack",), every=3, times=1)) as receiver, sending(to(receiver)) as sender:
        chunks = [made(name) for name in "abcd"]
        done, codes = deliver(sender, chunks)
        assert done == [each.id for each in chunks]
        assert codes == ["closed"]
        # The third was taken and not acknowledged; the fourth was under way behind it.
        assert receiver.lines[-2:] == [b"c", b"d"]
        assert once_each(receiver.lines) == [b"a", b"b", b"c", b"d"]


def test_a_receiver_that_takes_nothing_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        output = at(f"127.0.0.1:{listener.getsockname()[1]}", ack_timeout=Seconds(0.3))
        with sending(output) as sender, pytest.raises(DeliveryFailed) as raised:
            # More than the kernel's buffers hold.
            sender.send(made("x" * 30_000_000))
    assert raised.value.code == "timeout"
    assert "cannot send to" in str(raised.value)


def test_a_receiver_that_reads_slowly_has_not_failed(tmp_path):
    # 64 KiB each 20 ms: the message takes more than twice as long as the receiver may take nothing. A Unix socket, for
    # the kernel holds little of it: what TCP's buffers hold would have to be read within the acknowledgement's time.
    path = str(tmp_path / "fluent.sock")
    with (
        Receiver(unix=path, pace=0.02) as receiver,
        sending(at(f"unix://{path}", ack_timeout=Seconds(0.5))) as sender,
    ):
        sent = made("x" * 2**22)
        assert deliver(sender, [sent]) == ([sent.id], [])
        assert receiver.records == 1


def test_an_idle_connection_that_the_receiver_closed_is_no_failure():
    with Receiver() as receiver, sending(to(receiver)) as sender:
        deliver(sender, [made("a")])
        receiver.disconnect()
        select.select([sender.socket], [], [], 5)
        assert deliver(sender, [made("b")])[1] == []
        assert receiver.lines == [b"a", b"b"]
        assert receiver.connections == 2


def test_without_keepalive_each_chunk_has_its_connection():
    with Receiver() as receiver, sending(to(receiver, keepalive=False)) as sender:
        assert deliver(sender, [made(name) for name in "abc"])[1] == []
        assert receiver.lines == [b"a", b"b", b"c"]
        assert receiver.connections == 3


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the receiver as a process, which is killed if it still runs at the end."""
    command = [sys.executable, forward_receiver.__file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        try:
            yield running, json.loads(running.stdout.readline())["port"]
        finally:
            running.kill()


def test_a_receiver_that_is_killed_and_restarted_gets_everything(tmp_path):
    out = tmp_path / "lines"
    chunks = numbered(30)
    with process("--out", str(out), "--fault", "exit", "--every", "11") as (first, port):
        output = at(f"127.0.0.1:{port}")
        with sending(output) as sender:
            with pytest.raises(DeliveryFailed):
                for each, _ in chunks:
                    while sender.full:
                        sender.acknowledged()
                    sender.send(each)
                while sender.unacknowledged:
                    sender.acknowledged()
            assert first.wait(timeout=10) == 1
            with pytest.raises(DeliveryFailed) as refused:
                sender.acknowledged()
            assert refused.value.code == "connect"
            with process("--out", str(out), "--port", str(port)) as (second, _):
                held = {each.id for each in sender.unacknowledged}
                last = max(number for number, (each, _) in enumerate(chunks) if each.id in held)
                deliver(sender, [each for each, _ in chunks[last + 1 :]])
                second.send_signal(signal.SIGTERM)
                assert second.wait(timeout=10) == 0
    assert once_each(out.read_bytes().splitlines()) == [line for _, lines in chunks for line in lines]


# Addresses


def test_ipv6_by_address():
    with Receiver(host="::1") as receiver, sending(to(receiver, host="[::1]")) as sender:
        assert deliver(sender, [made("a")])[1] == []


def test_each_address_of_a_name_is_tried(monkeypatch):
    def two_addresses(host: str, port: int, *_: object, **__: object) -> list[Any]:
        assert host == "fluentd.logging"
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    # The system's resolver, which we have no name in that has two addresses.
    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    with Receiver() as receiver, sending(to(receiver, host="fluentd.logging")) as sender:
        assert deliver(sender, [made("a")])[1] == []


def test_a_unix_socket(tmp_path):
    path = str(tmp_path / "fluent.sock")
    output = at(f"unix://{path}")
    assert failure(output).code == "connect"
    with Receiver(unix=path) as receiver, sending(output) as sender:
        assert deliver(sender, [made("a")])[1] == []
        assert receiver.lines == [b"a"]


def test_a_refused_connection_names_the_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refused = failure(at(f"127.0.0.1:{port}"))
    assert refused.code == "connect"
    assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in str(refused)


def test_an_unknown_name_is_told_from_a_refused_connection(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert failure(at("nowhere.invalid")).code == "dns"


# TLS


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def pems(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write the certificates: ca, other (another CA), server and client with their keys."""
    folder = tmp_path_factory.mktemp("tls")
    ca.cert_pem.write_to_path(str(folder / "ca"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other"))
    for name, identity in (("server", "fluentd.test"), ("client", "web-0")):
        issued = ca.issue_cert(identity)
        issued.cert_chain_pems[0].write_to_path(str(folder / name))
        issued.private_key_pem.write_to_path(str(folder / f"{name}-key"))
    return folder


def test_tls_with_a_certificate_for_the_name(pems):
    with (
        Receiver(tls=tls_context(f"{pems}/server", f"{pems}/server-key")) as receiver,
        sending(to(receiver, tls=True, ca=f"{pems}/ca", server_name="fluentd.test")) as sender,
    ):
        chunks = numbered(12, of=5000)
        assert deliver(sender, [each for each, _ in chunks])[1] == []
        assert receiver.lines == [line for _, lines in chunks for line in lines]
    assert receiver.violations == []


def test_tls_survives_a_receiver_that_misbehaves(pems):
    faults = Faults(("close_before_ack", "no_ack", "wrong_ack", "ack_then_close"), every=4, times=6)
    tls = tls_context(f"{pems}/server", f"{pems}/server-key")
    with (
        Receiver(tls=tls, faults=faults) as receiver,
        sending(to(receiver, tls=True, verify=False, ack_timeout=Seconds(0.5))) as sender,
    ):
        chunks = numbered(24)
        assert deliver(sender, [each for each, _ in chunks])[0] == [each.id for each, _ in chunks]
        assert once_each(receiver.lines) == [line for _, lines in chunks for line in lines]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ca": "other", "server_name": "fluentd.test"}, "certificate verify failed"),
        ({"ca": "ca"}, "IP address mismatch"),
        ({"ca": "ca", "server_name": "else.test"}, "Hostname mismatch"),
        ({"server_name": "fluentd.test"}, "certificate verify failed"),
        ({"ca": "missing", "server_name": "fluentd.test"}, "missing"),
    ],
    ids=["another CA", "no name", "another name", "the system's CAs", "no such file"],
)
def test_tls_is_verified(pems, options, complaint):
    if "ca" in options:
        options = {**options, "ca": f"{pems}/{options['ca']}"}
    with Receiver(tls=tls_context(f"{pems}/server", f"{pems}/server-key")) as receiver:
        failed = failure(to(receiver, tls=True, **options))
        assert failed.code == "tls"
        assert complaint in str(failed)
        assert receiver.records == 0


def test_tls_without_verification_takes_any_certificate(pems):
    with (
        Receiver(tls=tls_context(f"{pems}/server", f"{pems}/server-key")) as receiver,
        sending(to(receiver, tls=True, verify=False)) as sender,
    ):
        assert deliver(sender, [made("a")])[1] == []


def test_a_client_certificate_is_shown_where_it_is_asked_for(pems):
    tls = tls_context(f"{pems}/server", f"{pems}/server-key", f"{pems}/ca")
    options = {"tls": True, "ca": f"{pems}/ca", "server_name": "fluentd.test"}
    with Receiver(tls=tls) as receiver:
        assert failure(to(receiver, **options)).code in ("tls", "closed")
        certified = to(receiver, **options, cert=f"{pems}/client", cert_key=f"{pems}/client-key")
        with sending(certified) as sender:
            assert deliver(sender, [made("a")])[1] == []
        assert receiver.lines == [b"a"]


def test_tls_to_a_receiver_without_tls_fails_in_time():
    with Receiver() as receiver:
        assert failure(to(receiver, tls=True, connect_timeout=Seconds(0.5))).code in ("tls", "timeout")


def test_a_receiver_with_tls_is_not_taken_for_a_plain_one(pems):
    with Receiver(tls=tls_context(f"{pems}/server", f"{pems}/server-key")) as receiver:
        assert failure(to(receiver)).code in ("protocol", "closed")
        assert receiver.records == 0


# The shared key


def test_the_shared_key_opens_the_connection():
    with (
        Receiver(security=Security("swordfish")) as receiver,
        sending(to(receiver, key=Secret("swordfish"))) as sender,
    ):
        assert deliver(sender, [made(name) for name in "ab"])[1] == []
        assert receiver.lines == [b"a", b"b"]
        assert receiver.connections == 1
    assert receiver.violations == []


@pytest.mark.parametrize(
    ("security", "options", "complaint"),
    [
        (Security("swordfish"), {"key": Secret("hunter2")}, "it refused us: 'shared_key mismatch'"),
        (Security("swordfish", liar=True), {"key": Secret("hunter2")}, "it does not know the shared key"),
        (Security("hunter2", users={"u": "right"}), {"key": Secret("hunter2")}, "asks for a user"),
        (
            Security("hunter2", users={"u": "right"}),
            {"key": Secret("hunter2"), "username": "u", "password": Secret("wrong")},
            "username/password mismatch",
        ),
    ],
    ids=["wrong key", "a stranger", "no user", "wrong password"],
)
def test_a_refused_handshake_says_which_side_refused_and_no_secret(security, options, complaint):
    with Receiver(security=security) as receiver:
        failed = failure(to(receiver, **options))
        assert failed.code == "auth"
        assert complaint.replace("'", "") in str(failed)
        assert not any(secret in str(failed) for secret in ("swordfish", "hunter2", "right;", "wrong;"))
        assert receiver.records == 0


def test_a_user_is_let_in():
    security = Security("swordfish", users={"u": "pässword"})
    options = {"key": Secret("swordfish"), "username": "u", "password": Secret("pässword")}
    with Receiver(security=security) as receiver, sending(to(receiver, **options)) as sender:
        assert deliver(sender, [made("a")])[1] == []
    assert receiver.violations == []


def test_a_key_that_is_renewed_is_used_at_the_next_connection(tmp_path):
    key = tmp_path / "key"
    key.write_text("old\n")
    with Receiver(security=Security("new")) as receiver:
        with sending(to(receiver, key=Secret(file=str(key)))) as sender:
            with pytest.raises(DeliveryFailed) as refused:
                sender.send(made("a"))
            assert refused.value.code == "auth"
            (tmp_path / "renewed").write_text("new\n")
            os.replace(tmp_path / "renewed", key)
            assert sender.acknowledged()
        assert receiver.lines == [b"a"]


def test_a_receiver_that_asks_for_a_key_we_have_not_is_told_apart():
    with Receiver(security=Security("swordfish")) as receiver:
        failed = failure(to(receiver))
        assert failed.code in ("auth", "closed")
        assert "shared key" in str(failed)


def test_a_receiver_without_a_key_fails_the_handshake_in_time():
    with Receiver() as receiver:
        failed = failure(to(receiver, key=Secret("swordfish"), connect_timeout=Seconds(0.3)))
    assert failed.code == "timeout"
    assert "no handshake with" in str(failed)


def test_a_receiver_that_keeps_no_connection_alive_gets_one_chunk_on_each():
    with (
        Receiver(security=Security("swordfish", keepalive=False)) as receiver,
        sending(to(receiver, key=Secret("swordfish"))) as sender,
    ):
        chunks = [made(name) for name in "abc"]
        assert deliver(sender, chunks) == ([each.id for each in chunks], [])
        assert receiver.connections == 3


# What the parent class does otherwise


def test_an_error_is_raised_and_nothing_is_kept_in_a_hidden_buffer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with sending(at(f"127.0.0.1:{port}")) as sender:
        with pytest.raises(DeliveryFailed):
            sender.emit("label", {"log": "a"})
        assert sender.pendings is None


def test_a_thousand_failures_leave_no_descriptor_open():
    with Receiver(faults=Faults(("close_before_ack",)), keep=False) as receiver, sending(to(receiver)) as sender:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(DeliveryFailed):
            sender.send(made("a"))
            sender.acknowledged()
        for _ in range(1000):
            with pytest.raises(DeliveryFailed):
                sender.acknowledged()
        receiver.wait_for(lambda: not receiver.open)
        assert len(os.listdir("/proc/self/fd")) == before
