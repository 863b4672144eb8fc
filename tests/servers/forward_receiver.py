"""A receiver of the forward protocol: strict, able to misbehave, written from the protocol's text.

In a test:          with Receiver() as receiver: ... receiver.wait_for(lambda: receiver.records == 5)
As its own process: python tests/servers/forward_receiver.py --port 24224 --out FILE --fault close_before_ack --every 7

Source: Forward Protocol Specification v1. What its text does not allow is kept as a violation, and ends the connection.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import ssl
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import msgpack

FAULTS = {
    "close_before_record": "close the connection, and take nothing of the chunk",
    "close_before_ack": "take the chunk, and close the connection",
    "ack_then_close": "acknowledge the chunk, and close the connection",
    "wrong_ack": "take the chunk, and acknowledge another",
    "late_ack": "acknowledge the chunk after the next one",
    "no_ack": "take the chunk, and never acknowledge it",
    "stall": "take the chunk, and read nothing from this connection any more",
    "slow": "wait for --delay seconds before the acknowledgement",
    "garbage": "take the chunk, and answer what is not MessagePack",
    "endless": "take the chunk, and begin an answer that never ends",
    "nil": "send a nil before the acknowledgement",
    "exit": "end the whole process at once, and take nothing of the chunk",
}
LARGEST = 256 * 1024 * 1024


class ProtocolError(Exception):
    """The sender broke the protocol."""


@dataclass(frozen=True)
class Faults:
    """Which faults are committed: every so many chunks the next name, at most so many times."""

    names: tuple[str, ...] = ()
    every: int = 1
    times: float = float("inf")

    def at(self, number: int) -> str:
        """Name the fault for the chunk of this number, counted from 1."""
        turn, rest = divmod(number, self.every)
        return self.names[(turn - 1) % len(self.names)] if self.names and not rest and turn <= self.times else ""


@dataclass(frozen=True)
class Event:
    """One event as received: nanoseconds since the epoch, and the record."""

    time: int
    record: dict[str, Any]

    @property
    def line(self) -> bytes:
        """The text of the record, or the record as JSON where it has none."""
        log = self.record.get("log")
        if isinstance(log, str):
            return log.encode()
        return log if isinstance(log, bytes) else json.dumps(self.record, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Message:
    """One message as received."""

    mode: str
    tag: str
    events: list[Event]
    option: dict[str, Any]


def read_message(message: object, *, null: bool = False) -> Message | None:
    """Check one message against the protocol; None for a heartbeat. With null, packed entries are not looked at."""
    match message:
        case None:
            return None
        case [str(tag), bytes() | str() as packed, *rest]:
            option = read_option(rest)
            mode = "CompressedPackedForward" if "compressed" in option else "PackedForward"
            events = [] if null else list(read_packed(inflated(packed, option)))
        case [str(tag), list(entries), *rest]:
            mode, option, events = "Forward", read_option(rest), [read_event(entry) for entry in entries]
        case [str(tag), int() | msgpack.ExtType() as when, dict(record), *rest]:
            mode, option, events = "Message", read_option(rest), [read_event([when, record])]
        case _:
            raise ProtocolError(f"no message of the protocol: {message!r:.200}")
    if not tag:
        raise ProtocolError("an empty tag")
    if not null and option.get("size", len(events)) != len(events):
        raise ProtocolError(f"size says {option['size']}, and there are {len(events)} entries")
    return Message(mode, tag, events, option)


def read_option(rest: list[Any]) -> dict[str, Any]:
    match rest:
        case [] | [None]:
            return {}
        case [dict(option)]:
            with contextlib.suppress(KeyError, TypeError, binascii.Error):
                if len(base64.b64decode(option["chunk"], validate=True)) != 16:
                    raise ProtocolError(f"chunk {option['chunk']!r} is not of 128 bits")
                return option
            if "chunk" in option:
                raise ProtocolError(f"chunk {option['chunk']!r} is not base64")
            return option
    raise ProtocolError(f"no option: {rest!r:.200}")


def inflated(packed: bytes | str, option: dict[str, Any]) -> bytes:
    data = packed.encode() if isinstance(packed, str) else packed
    match option.get("compressed", "text"):
        case "text":
            return data
        case "gzip":
            return b"".join(gunzipped(data))
    raise ProtocolError(f"unknown compression {option['compressed']!r}")


def gunzipped(data: bytes) -> Iterator[bytes]:
    """Inflate one gzip member after another."""
    while data:
        member = zlib.decompressobj(wbits=31)
        yield member.decompress(data, LARGEST)
        if not member.eof:
            raise ProtocolError("a gzip member without an end, or too large")
        data = member.unused_data


def read_packed(data: bytes) -> Iterator[Event]:
    # A str that is not UTF-8 raises here: such a line has to come as bin.
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=len(data) + 1)
    unpacker.feed(data)
    whole = 0
    for entry in unpacker:
        yield read_event(entry)
        whole = unpacker.tell()
    if whole != len(data):
        raise ProtocolError(f"{len(data) - whole} bytes after the last whole entry")


def read_event(entry: object) -> Event:
    match entry:
        case [int(seconds), dict(record)] if not isinstance(seconds, bool):
            return Event(seconds * 10**9, record)
        case [msgpack.ExtType(code=0, data=data), dict(record)] if len(data) == 8:
            seconds, nanoseconds = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")
            if nanoseconds < 10**9:
                return Event(seconds * 10**9 + nanoseconds, record)
    raise ProtocolError(f"no entry: {entry!r:.200}")


def digest(*parts: bytes | str) -> str:
    return hashlib.sha512(b"".join(part.encode() if isinstance(part, str) else part for part in parts)).hexdigest()


@dataclass
class Security:
    """The server's side of the handshake."""

    shared_key: str
    users: dict[str, str] = field(default_factory=dict)
    keepalive: bool = True
    hostname: str = "receiver"
    liar: bool = False  # accepts whoever comes, and proves nothing: what a stranger at our address would do

    def __post_init__(self) -> None:
        # Any bytes, also such as are no UTF-8: Fluent Bit sends them as a string.
        self.nonce = secrets.token_bytes(15) + b"\xff"
        self.auth = secrets.token_bytes(16) if self.users else b""

    def helo(self) -> bytes:
        return msgpack.packb(["HELO", {"nonce": self.nonce, "auth": self.auth, "keepalive": self.keepalive}])

    def pong(self, ping: object) -> tuple[bool, bytes]:
        """Check the PING; say whether to go on, and the PONG."""
        match ping:
            case ["PING", str(hostname), str() | bytes() as salt, str(proof), str(username), str(password)]:
                reason = self._refusal(hostname, salt, proof, username, password)
                mine = "" if reason else digest(salt, self.hostname, self.nonce, "?" if self.liar else self.shared_key)
                return not reason, msgpack.packb(["PONG", not reason, reason, self.hostname, mine])
        raise ProtocolError(f"no PING: {ping!r:.200}")

    def _refusal(self, hostname: str, salt: str | bytes, proof: str, username: str, password: str) -> str:
        if self.liar:
            return ""
        if not hmac.compare_digest(proof, digest(salt, hostname, self.nonce, self.shared_key)):
            return "shared_key mismatch"
        if self.users and not hmac.compare_digest(
            password, digest(self.auth, username, self.users.get(username, "\0"))
        ):
            return "username/password mismatch"
        return ""


class Receiver:
    """Listens from the moment it is made; each connection has its thread."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        unix: str | None = None,
        tls: ssl.SSLContext | None = None,
        security: Security | None = None,
        faults: Faults = Faults(),
        delay: float = 0.05,
        pace: float = 0,
        out: str | None = None,
        with_file: bool = False,
        keep: bool = True,
        null: bool = False,
    ) -> None:
        self.tls, self.security, self.faults, self.delay, self.pace = tls, security, faults, delay, pace
        self.keep, self.null, self.with_file = keep, null, with_file
        self.messages: list[Message] = []
        self.violations: list[str] = []
        self.chunks = self.records = self.bytes = self.connections = self.acknowledged = 0
        self._out = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if out else None
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self.open: set[socket.socket] = set()
        self._listener = listening(host, port, unix)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def lines(self) -> list[bytes]:
        """The lines of the messages kept, in the order of their arrival, repeats included."""
        return [event.line for message in self.messages for event in message.events]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_for(self, happened: Callable[[], bool], timeout: float = 10) -> None:
        """Wait until something here has happened."""
        with self._changed:
            assert self._changed.wait_for(happened, timeout), f"did not happen; violations: {self.violations}"

    def close(self) -> None:
        """Close everything at once, as the end of the process would."""
        self._ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.disconnect()
        for thread in self._threads:
            thread.join(timeout=10)
            assert not thread.is_alive()
        if self._out is not None:
            os.close(self._out)
            self._out = None

    def disconnect(self) -> None:
        """End every connection; new ones are accepted."""
        with self._changed:
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self.open.add(connection)
                self._changed.notify_all()
            if self._ending.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        connection = raw
        try:
            if self.tls:
                connection = self.tls.wrap_socket(raw, server_side=True)
                with self._changed:
                    self.open.add(connection)
            Connection(self, connection).serve()
        except OSError:
            pass  # the sender went away, or we are closing; first, for some TLS errors are ValueErrors too
        except (ProtocolError, ValueError, msgpack.UnpackException) as violation:
            self._note(violation)
        finally:
            connection.close()
            raw.close()
            with self._changed:
                self.open -= {raw, connection}
                self._changed.notify_all()

    def _note(self, violation: Exception) -> None:
        with self._changed:
            self.violations.append(repr(violation))
            self._changed.notify_all()

    def number(self) -> int:
        """Count one more chunk."""
        with self._changed:
            self.chunks += 1
            return self.chunks

    def record(self, message: Message, size: int) -> None:
        """Take the records of a message: they are in the file before this returns."""
        with self._changed:
            if self._out is not None and message.events:
                write_all(self._out, b"".join(map(self._written, message.events)))
            if self.keep:
                self.messages.append(message)
            self.records += message.option.get("size", 0) if self.null else len(message.events)
            self.bytes += size
            self._changed.notify_all()

    def note_acknowledged(self) -> None:
        with self._changed:
            self.acknowledged += 1
            self._changed.notify_all()

    def _written(self, event: Event) -> bytes:
        if not self.with_file:
            return event.line + b"\n"
        file = event.record.get("file", "")
        return (file.encode() if isinstance(file, str) else file) + b"\t" + event.line + b"\n"

    def wait_for_end(self) -> None:
        self._ending.wait()


class Connection:
    """One connection: the handshake, then messages."""

    def __init__(self, receiver: Receiver, connection: socket.socket) -> None:
        self.receiver = receiver
        self.socket = connection
        # Not strict about map keys: a record may have any. A str that is not UTF-8 raises.
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=LARGEST)
        self.late: list[bytes] = []

    def serve(self) -> None:
        if self.receiver.security and not self._shake_hands(self.receiver.security):
            return
        for message, size in self._messages():
            received = read_message(message, null=self.receiver.null)
            if received and not self._take(received, size):
                return

    def _shake_hands(self, security: Security) -> bool:
        self.socket.sendall(security.helo())
        for message, _ in self._messages():
            accepted, pong = security.pong(message)
            self.socket.sendall(pong)
            return accepted
        return False

    def _messages(self) -> Iterator[tuple[object, int]]:
        """Give each message with the bytes it took on the wire."""
        before = self.unpacker.tell()
        buffer = memoryview(bytearray(1024 * 1024))
        while True:
            for message in self.unpacker:
                yield message, self.unpacker.tell() - before
                before = self.unpacker.tell()
            if self.receiver.pace:
                time.sleep(self.receiver.pace)
            count = self.socket.recv_into(buffer, 65536 if self.receiver.pace else 0)
            if not count:
                return
            self.unpacker.feed(buffer[:count])

    def _take(self, message: Message, size: int) -> bool:
        """Record and acknowledge, or commit the fault whose turn it is; False ends the connection."""
        receiver = self.receiver
        fault = receiver.faults.at(receiver.number())
        if fault == "exit":
            os._exit(1)
        if fault == "close_before_record":
            return False
        receiver.record(message, size)
        if fault == "close_before_ack":
            return False
        if fault == "stall":
            receiver.wait_for_end()
            return False
        self._answer(message, fault)
        security = receiver.security
        return fault != "ack_then_close" and (security is None or security.keepalive)

    def _answer(self, message: Message, fault: str) -> None:
        if "chunk" not in message.option or fault == "no_ack":
            return
        ack = msgpack.packb({"ack": message.option["chunk"]})
        match fault:
            case "late_ack":
                self.late.append(ack)
                return
            case "wrong_ack":
                ack = msgpack.packb({"ack": base64.b64encode(bytes(16))})
            case "garbage":
                ack = b"\xc1"
            case "endless":
                ack = b"\xdb\xff\xff\xff\xff" + bytes(2 * 1024 * 1024)
            case "nil":
                ack = b"\xc0" + ack
            case "slow":
                time.sleep(self.receiver.delay)
        self.socket.sendall(ack + b"".join(self.late))
        self.late.clear()
        self.receiver.note_acknowledged()


def listening(host: str, port: int, unix: str | None) -> socket.socket:
    if not unix:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unix)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(unix)
    listener.listen()
    return listener


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def tls_context(certificate: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def arguments() -> argparse.Namespace:
    faults = "".join(f"\n  {name:20} {text}" for name, text in FAULTS.items())
    parser = argparse.ArgumentParser(
        description=f"Receive the forward protocol.\n\nfaults:{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: the kernel chooses; see the first line of stdout")
    parser.add_argument("--unix", metavar="PATH")
    parser.add_argument("--tls-cert", metavar="PEM")
    parser.add_argument("--tls-key", metavar="PEM")
    parser.add_argument("--tls-client-ca", metavar="PEM")
    parser.add_argument("--shared-key")
    parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD")
    parser.add_argument("--fault", action="append", default=[], choices=FAULTS, help="several take turns")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="commit a fault at every Nth chunk")
    parser.add_argument("--times", type=float, default=float("inf"), metavar="N", help="at most so many faults")
    parser.add_argument("--delay", type=float, default=0.05, metavar="SECONDS")
    parser.add_argument("--pace", type=float, default=0, metavar="SECONDS", help="wait so long before each 64 KiB")
    parser.add_argument("--out", metavar="FILE", help="append each line, before its chunk is acknowledged")
    parser.add_argument("--with-file", action="store_true", help="write FILE, a tab and the line")
    parser.add_argument("--null", action="store_true", help="count packed entries by their size option, unseen: fast")
    return parser.parse_args()


def main() -> None:
    """Say `{"event": "listening", "port": N}`, receive until SIGTERM, then say the counts; exit 1 after a violation."""
    given = arguments()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    security = Security(given.shared_key, dict(user.split(":", 1) for user in given.user)) if given.shared_key else None
    with Receiver(
        host=given.host,
        port=given.port,
        unix=given.unix,
        tls=tls_context(given.tls_cert, given.tls_key, given.tls_client_ca) if given.tls_cert else None,
        security=security,
        faults=Faults(tuple(given.fault), given.every, given.times),
        delay=given.delay,
        pace=given.pace,
        out=given.out,
        with_file=given.with_file,
        keep=False,
        null=given.null,
    ) as receiver:
        print(json.dumps({"event": "listening", "port": None if given.unix else receiver.port}), flush=True)
        signal.sigwait(signals)
    counts = {name: getattr(receiver, name) for name in ("chunks", "records", "bytes", "connections", "violations")}
    print(json.dumps({"event": "ended", **counts}), flush=True)
    sys.exit(1 if receiver.violations else 0)


if __name__ == "__main__":
    main()
