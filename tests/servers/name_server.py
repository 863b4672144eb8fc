"""A name server on loopback whose answers change, vanish, are late, fail, or do not fit into a datagram."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Self

TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "AAAA": 28, "SRV": 33}
CODES = {"noerror": 0, "formerr": 1, "servfail": 2, "nxdomain": 3, "refused": 5}
_NAMES = {number: name for name, number in TYPES.items()}
_LONGEST = 512  # bytes of a datagram


class NameServer:
    """Answers what it was told for a name and type, over UDP and TCP on one port.

    A name that is not known at all does not exist (NXDOMAIN); one that has other types has no such record (NODATA).
    `trouble` is what happens to questions about a name, or about "" for all names: "servfail", "refused", "silent";
    `fails` is the same for one type of a name.
    `delay` is how many seconds the answers about a name take. `asked` is what was asked, in order.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, Sequence[str]]] = {}
        self.trouble: dict[str, str] = {}
        self.fails: dict[tuple[str, str], str] = {}
        self.delay: dict[str, float] = {}
        self.asked: list[tuple[str, str, str]] = []
        self._datagrams, self._listener = _sockets()
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self._ended = False
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._udp, self._tcp)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._listener.shutdown(socket.SHUT_RDWR)
        # A blocked recvfrom() is woken by a datagram, which nothing else would send any more.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        for thread in self._threads:
            thread.join(10)
        self._datagrams.close()
        self._listener.close()

    def set(self, name: str, type: str, *values: str, ttl: int = 1) -> None:
        """Answer with these: addresses, a name (CNAME), "PRIORITY WEIGHT PORT TARGET" (SRV); with nothing: NODATA."""
        self.records[name.rstrip(".").lower(), type] = (ttl, values)

    def remove(self, name: str) -> None:
        """Let the name not exist any more."""
        for key in [key for key in self.records if key[0] == name]:
            del self.records[key]

    def count(self, name: str, type: str = "A") -> int:
        """How often this was asked so far."""
        return sum(each[:2] == (name, type) for each in list(self.asked))

    def _udp(self) -> None:
        while True:
            question, client = self._datagrams.recvfrom(4096)
            if self._ended:
                return
            threading.Thread(target=self._reply, args=(question, client), daemon=True).start()

    def _reply(self, question: bytes, client: tuple[str, int]) -> None:
        answer = self.answer(question, "udp")
        if len(answer) > _LONGEST:
            # The truncated bit, and nothing but the question: the client comes again over TCP.
            _, end = _name(question, 12)
            answer = answer[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + question[12 : end + 4]
        if answer and not self._ended:
            self._datagrams.sendto(answer, client)

    def _tcp(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as questions:
            connection.settimeout(10)
            try:
                while length := questions.read(2):
                    answer = self.answer(questions.read(int.from_bytes(length, "big")), "tcp")
                    if answer:
                        connection.sendall(struct.pack("!H", len(answer)) + answer)
            except OSError:
                return

    def answer(self, question: bytes, transport: str) -> bytes:
        """The whole answer to a question; empty when there is none."""
        name, end = _name(question, 12)
        name = name.lower()
        type = _NAMES.get(int.from_bytes(question[end : end + 2], "big"), "?")
        self.asked.append((name, type, transport))
        time.sleep(self.delay.get(name, 0))
        trouble = self.fails.get((name, type)) or self.trouble.get(name) or self.trouble.get("")
        if trouble == "silent":
            return b""
        answers = [] if trouble else self._records(name, type)
        known = any(key[0] == name for key in self.records)
        code = trouble or ("noerror" if known else "nxdomain")
        head = question[:2] + struct.pack("!HHHHH", 0x8180 | CODES[code], 1, len(answers), 0, 0)
        return head + question[12 : end + 4] + b"".join(answers)

    def _records(self, name: str, type: str) -> list[bytes]:
        if (name, "CNAME") in self.records:
            ttl, (target,) = self.records[name, "CNAME"]
            return [_record(name, "CNAME", ttl, target), *self._records(target, type)]
        ttl, values = self.records.get((name, type), (0, ()))
        return [_record(name, type, ttl, value) for value in values]


def _sockets() -> tuple[socket.socket, socket.socket]:
    """One port for both; the kernel's choice for one may be taken for the other."""
    for _ in range(100):
        listener = socket.create_server(("127.0.0.1", 0))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagrams.bind(listener.getsockname())
        except OSError:
            listener.close()
            datagrams.close()
            continue
        return datagrams, listener
    raise OSError("no port is free for both UDP and TCP")


def _name(data: bytes, offset: int) -> tuple[str, int]:
    labels = []
    while length := data[offset]:
        labels.append(data[offset + 1 : offset + 1 + length].decode())
        offset += 1 + length
    return ".".join(labels), offset + 1


def _record(name: str, type: str, ttl: int, value: str) -> bytes:
    data = _data(type, value)
    return _encoded(name) + struct.pack("!HHIH", TYPES[type], 1, ttl, len(data)) + data


def _data(type: str, value: str) -> bytes:
    match type:
        case "A":
            return socket.inet_pton(socket.AF_INET, value)
        case "AAAA":
            return socket.inet_pton(socket.AF_INET6, value)
        case "SRV":
            priority, weight, port, target = value.split()
            return struct.pack("!HHH", int(priority), int(weight), int(port)) + _encoded(target)
    return _encoded(value)


def _encoded(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
