"""amqp:// and amqps://: the server begins a connection of AMQP 0-9-1, and with a password opens the virtual host.

A server that says which logins it takes is there: without credentials that is ready.
Source: AMQP 0-9-1, its specification and its XML, and RabbitMQ's extension authentication_failure_close.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sidecars.init.checks import Result, Unmet, shown
from sidecars.init.connecting import Streams, connected
from sidecars.init.upgrading import context_of
from sidecars.init.upgrading import validate as validate_tls

if TYPE_CHECKING:
    from sidecars.init.target import Target

_HEADER = b"AMQP\0\0\x09\x01"
_MOST = 128 * 1024  # bytes of one frame
_MOST_FRAMES = 20
_METHOD, _HEARTBEAT, _END = 1, 8, 0xCE
_START, _START_OK, _SECURE, _TUNE, _TUNE_OK = (10, 10), (10, 11), (10, 20), (10, 30), (10, 31)
_OPEN, _OPEN_OK, _CLOSE = (10, 40), (10, 41), (10, 50)
_Method = tuple[int, int]


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    validate_tls(target, target.scheme == "amqps", "write amqps://")


async def check(target: Target, patience: float) -> Result:
    """Send the protocol's header, and with a password log in and open the virtual host that the path names."""
    context = context_of(target, target.scheme == "amqps")
    async with connected(target, patience, context, target.options.get("server_name")) as streams:
        streams.writer.write(_HEADER)
        method, body = await _frame(streams, first=True)
        if method == _CLOSE:
            return _closed(body)
        if method != _START:
            return Result("not-ready", f"begins with the method {method[0]}.{method[1]}; is it AMQP 0-9-1?")
        server, mechanisms = _started(body)
        if target.password is None:
            return Result("ok", f"{server} answers, and takes logins by {shown(mechanisms, 40)[1:-1]}")
        if b"PLAIN" not in mechanisms.split():
            return Result("auth", f"takes no passwords, but logins by {shown(mechanisms, 40)}; leave the password out")
        return await _log_in(target, streams, server)


async def _frame(streams: Streams, first: bool = False) -> tuple[_Method, bytes]:
    """Read the next method: a frame of type, channel, length, class, method, arguments, and 0xCE. Raises Unmet."""
    for _ in range(_MOST_FRAMES):
        head = await streams.reader.readexactly(7)
        if first and head[:4] == b"AMQP":
            version = head[4:] + await streams.reader.readexactly(1)
            raise Unmet("not-ready", f"speaks AMQP, but version {'.'.join(map(str, version))} instead of 0.0.9.1")
        kind, channel, length = struct.unpack(">BHI", head)
        if kind not in (_METHOD, _HEARTBEAT) or channel or length > _MOST or (kind == _METHOD and length < 4):
            raise Unmet("not-ready", f"does not speak AMQP: it says {shown(head)}")
        data = await streams.reader.readexactly(length + 1)
        if data[-1] != _END:
            raise Unmet("not-ready", f"does not speak AMQP: a frame ends with {shown(data[-1:])}")
        if kind == _METHOD:
            return struct.unpack(">HH", data[:4]), data[4:-1]
    raise Unmet("not-ready", "sends nothing but heartbeats")


def _started(body: bytes) -> tuple[str, bytes]:
    """Read Start: version, a table of the server's properties, its mechanisms. Raises Unmet."""
    try:
        size = struct.unpack_from(">I", body, 2)[0]
        table = body[6 : 6 + size]
        length = struct.unpack_from(">I", body, 6 + size)[0]
        mechanisms = body[10 + size : 10 + size + length]
    except struct.error:
        raise Unmet("not-ready", "begins as AMQP does, but with nonsense") from None
    names = [_property(table, name) for name in (b"product", b"version")]
    return " ".join(filter(None, names)) or "the server", mechanisms


def _property(table: bytes, name: bytes) -> str:
    """Find a text in a table: the length of its name, the name, S, the length of the text, the text."""
    _, found, rest = table.partition(bytes([len(name)]) + name + b"S")
    if not found or len(rest) < 4:
        return ""
    return shown(rest[4 : 4 + int.from_bytes(rest[:4], "big")], 40)[1:-1]


def _send(streams: Streams, method: _Method, body: bytes) -> None:
    data = struct.pack(">HH", *method) + body
    streams.writer.write(struct.pack(">BHI", _METHOD, 0, len(data)) + data + bytes([_END]))


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _short(data: bytes) -> bytes:
    return bytes([min(len(data), 255)]) + data[:255]


def _properties() -> bytes:
    """Say who we are; and that a login that is refused shall be said so, instead of by silence and a closed socket."""
    capabilities = _short(b"authentication_failure_close") + b"t\x01"
    return _short(b"product") + b"S" + _long(b"pod-init") + _short(b"capabilities") + b"F" + _long(capabilities)


async def _log_in(target: Target, streams: Streams, server: str) -> Result:
    password = target.password.reveal() if target.password else ""
    user = target.user or "guest"
    proof = b"\0" + user.encode() + b"\0" + password.encode()
    _send(streams, _START_OK, _long(_properties()) + _short(b"PLAIN") + _long(proof) + _short(b"en_US"))
    try:
        method, body = await _frame(streams)
    except (EOFError, ConnectionError):
        raise Unmet(
            "auth", f"ends the connection at the login of {shown(user)}; are user and password right?"
        ) from None
    if method == _TUNE:
        # What it offers is taken as it is; a heartbeat is not needed for so short a time.
        _send(streams, _TUNE_OK, body[:6].ljust(6, b"\0") + b"\0\0")
        host = _host(target)
        _send(streams, _OPEN, _short(host.encode()) + b"\0\0")
        method, body = await _frame(streams)
        if method == _OPEN_OK:
            _send(streams, _CLOSE, struct.pack(">H", 200) + _short(b"done") + b"\0\0\0\0")
            return Result("ok", f"{server} opens the virtual host {shown(host)} for {shown(user)}")
    if method == _CLOSE:
        return _closed(body)
    return Result("not-ready", f"answers the login with the method {method[0]}.{method[1]}; is it AMQP 0-9-1?")


def _host(target: Target) -> str:
    """Give the virtual host: /prod is prod, nothing is the one named /, which %2F is too."""
    return target.path.removeprefix("/") or "/"


def _closed(body: bytes) -> Result:
    """Read Close: a code and a text. 403 and 530 are of the login: the user, or what he may open."""
    code, said = int.from_bytes(body[:2], "big"), shown(body[3 : 3 + body[2]] if len(body) > 2 else b"", 200)
    if code == 403:
        return Result("auth", f"does not accept the login: {said}")
    if code == 530 and "not found" in said:
        return Result("not-ready", f"has no such virtual host: {said}; is it created by another?")
    return Result("auth" if code == 530 else "not-ready", f"closes the connection with {code}: {said}")
