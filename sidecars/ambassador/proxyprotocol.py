"""The PROXY protocol, v1 and v2: who a connection's client is, said by a proxy in the connection's first bytes."""

from __future__ import annotations

import socket
import struct
from typing import Literal, NamedTuple

# An address as Connection has it: ("10.0.0.7", 5432), or the path of a unix socket.
Name = tuple[str, int] | str

_V1 = b"PROXY "
_V1_MOST = 107  # bytes, with the line's end
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD = struct.Struct("!12sBBH")
_UNIX = 108  # bytes of a path
# Of the 64 KiB that a v2 header may announce, what the largest real ones need: a client's certificate among the TLVs.
MOST = 16 * 1024

_FAMILIES = {1: (socket.AF_INET, 4), 2: (socket.AF_INET6, 16)}


class Malformed(ValueError):  # noqa: N818  (named for what happened)
    """The bytes are no PROXY header; the text says what is wrong."""


class Parsed(NamedTuple):
    """A whole header.

    source       the client, None where the header does not say it: a health check of the proxy's own, or UNKNOWN
    destination  where the client wanted to go
    length       the header's bytes; what follows is the client's
    """

    source: Name | None
    destination: Name | None
    length: int


def parse(data: bytes) -> Parsed | None:
    """Read the header at the beginning of what has come so far; None while more is needed.

        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\\r\\nGET / ..."

    Of a v2 header the TLVs are skipped. A header for datagrams is read as one that does not name the client.

    Raises Malformed as soon as it is certain; 16 KiB are always enough to be.

    Source: haproxy, doc/proxy-protocol.txt, sections 2.1 and 2.2.
    """
    if data.startswith(_V2):
        return _parse_v2(data)
    if data.startswith(_V1):
        return _parse_v1(data)
    if _V2.startswith(data) or _V1.startswith(data):
        return None
    raise Malformed(f"begins with {data[:12]!r}, which is no PROXY header")


def _parse_v1(data: bytes) -> Parsed | None:
    line, end, _ = data[:_V1_MOST].partition(b"\r\n")
    if not end:
        if len(data) >= _V1_MOST:
            raise Malformed(f"the PROXY line is longer than {_V1_MOST} bytes")
        return None
    length = len(line) + 2
    match line.split(b" "):
        case [_, b"UNKNOWN", *_]:
            return Parsed(None, None, length)
        case [_, b"TCP4", *rest] if len(rest) == 4:
            family = socket.AF_INET
        case [_, b"TCP6", *rest] if len(rest) == 4:
            family = socket.AF_INET6
        case _:
            raise Malformed(f"{line!r} is not PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT")
    source, destination, from_port, to_port = rest
    return Parsed((_address(family, source), _port(from_port)), (_address(family, destination), _port(to_port)), length)


def _address(family: socket.AddressFamily, written: bytes) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, written.decode("ascii")))
    except (OSError, ValueError):
        raise Malformed(f"{written!r} in the PROXY line is no address") from None


def _port(written: bytes) -> int:
    # int() would take "+1", "1_0" and Unicode digits.
    if not (written.isdigit() and len(written) <= 5 and int(written) <= 65535) or (written[:1] == b"0" != written):
        raise Malformed(f"{written!r} in the PROXY line is no port")
    return int(written)


def _parse_v2(data: bytes) -> Parsed | None:
    if len(data) < _HEAD.size:
        return None
    _, command, family, size = _HEAD.unpack_from(data)
    if command not in (0x20, 0x21):
        raise Malformed(f"version and command {command:#04x} of the PROXY header are not known")
    if family >> 4 > 3 or family & 15 > 2:
        raise Malformed(f"family and protocol {family:#04x} of the PROXY header are not known")
    length = _HEAD.size + size
    if length > MOST:
        raise Malformed(f"the PROXY header has {length} bytes, of which {MOST} are taken")
    if len(data) < length:
        return None
    if command == 0x20 or family & 15 != 1 or not family >> 4:
        return Parsed(None, None, length)
    return Parsed(*_addresses(family >> 4, data[_HEAD.size : length]), length)


def _addresses(kind: int, body: bytes) -> tuple[Name, Name]:
    """Read a v2 header's source and destination."""
    width = _UNIX if kind == 3 else _FAMILIES[kind][1]
    if len(body) < 2 * width + (0 if kind == 3 else 4):
        raise Malformed(f"the PROXY header's {len(body)} bytes are too few for its addresses")
    source, destination = body[:width], body[width : 2 * width]
    if kind == 3:
        return _path(source), _path(destination)
    family = _FAMILIES[kind][0]
    from_port, to_port = struct.unpack_from("!HH", body, 2 * width)
    return (socket.inet_ntop(family, source), from_port), (socket.inet_ntop(family, destination), to_port)


def _path(padded: bytes) -> str:
    # An abstract address begins with a NUL, and has no other mark of its end than the padding.
    path = padded.rstrip(b"\0") if padded[:1] == b"\0" else padded.partition(b"\0")[0]
    return path.decode("utf-8", "surrogateescape")


def build(version: Literal["v1", "v2"], source: Name | None, destination: Name | None) -> bytes:
    """Make the header that tells an upstream whom a connection is for.

        build("v1", ("192.0.2.1", 56324), ("198.51.100.1", 443))
        -> b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\\r\\n"

    Without a source, or where v1 has no words for it (a unix socket), the header says that nothing is known, and the
    upstream takes the connection for ours. An IPv4 address beside an IPv6 one is written as IPv6.
    """
    if isinstance(source, str):
        return _build_unix(source, destination) if version == "v2" else b"PROXY UNKNOWN\r\n"
    if source is None:
        return _HEAD.pack(_V2, 0x20, 0, 0) if version == "v2" else b"PROXY UNKNOWN\r\n"
    client, from_port = _packed(source[0]), source[1]
    server, to_port = (bytes(len(client)), 0) if isinstance(destination, str | None) else _packed_pair(destination)
    if len(client) != len(server):
        client, server = _widened(client), _widened(server)
    family = socket.AF_INET if len(client) == 4 else socket.AF_INET6
    if version == "v1":
        words = f"{socket.inet_ntop(family, client)} {socket.inet_ntop(family, server)} {from_port} {to_port}"
        return f"PROXY {'TCP4' if len(client) == 4 else 'TCP6'} {words}\r\n".encode("ascii")
    body = client + server + struct.pack("!HH", from_port, to_port)
    return _HEAD.pack(_V2, 0x21, 0x11 if len(client) == 4 else 0x21, len(body)) + body


def _build_unix(source: str, destination: Name | None) -> bytes:
    paths = (source, destination if isinstance(destination, str) else "")
    body = b"".join(path.encode("utf-8", "surrogateescape")[:_UNIX].ljust(_UNIX, b"\0") for path in paths)
    return _HEAD.pack(_V2, 0x21, 0x31, len(body)) + body


def _packed_pair(name: tuple[str, int]) -> tuple[bytes, int]:
    return _packed(name[0]), name[1]


def _packed(ip: str) -> bytes:
    """Give an address's bytes: 4 for IPv4, also where a socket for both families wrote it as ::ffff:192.0.2.1."""
    if ":" not in ip:
        return socket.inet_pton(socket.AF_INET, ip)
    packed = socket.inet_pton(socket.AF_INET6, ip.partition("%")[0])
    return packed[12:] if packed[:12] == _MAPPED else packed


_MAPPED = bytes(10) + b"\xff\xff"


def _widened(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else _MAPPED + packed
