"""grpc:// and grpcs://: the standard health service says SERVING (grpc.health.v1, as kubelet's own probe asks it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import msgspec

from sidecars import __version__
from sidecars.core.errors import WrongSettings
from sidecars.init.checks import Result, State, Unmet, shown
from sidecars.init.connecting import Streams, connected

if TYPE_CHECKING:
    from sidecars.init.target import Target

_PATH = "/grpc.health.v1.Health/Check"
_MOST = 64 * 1024  # bytes of all that the other end sends
_MOST_SERVICE = 1000
_SERVING = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
# Source: grpc/status.h; what is not here is only a number.
_FAILURES: dict[str, tuple[State, str]] = {
    "5": ("not-ready", "does not know the service"),
    "7": ("auth", "denies permission"),
    "12": ("not-ready", "has no health service; look at it by tcp:// instead"),
    "14": ("not-ready", "is unavailable"),
    "16": ("auth", "wants credentials"),
}


class _Answer(msgspec.Struct):
    """What has come of the one stream so far."""

    status: str = ""
    http: str = ""
    words: str = ""
    data: bytes = b""
    ended: bool = False


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    if len(_service(target)) > _MOST_SERVICE:
        raise WrongSettings(f"the service of {target.text} is longer than {_MOST_SERVICE} bytes")
    if target.scheme == "grpcs":
        from sidecars.init.tls import validate as validate_tls

        validate_tls(target)
    elif len(target.options.keys() - {"patience"}):
        raise WrongSettings(f"{target.text} has options for TLS; write grpcs://")


async def check(target: Target, patience: float) -> Result:
    """Ask the health service for the service that the path names, or for the whole server."""
    context = None
    if target.scheme == "grpcs":
        from sidecars.init.tls import context_of

        context = context_of(target, "h2")
    async with connected(target, patience, context, target.options.get("server_name")) as streams:
        try:
            answer = await _exchange(target, streams)
        except h2.exceptions.ProtocolError as error:
            raise Unmet("not-ready", f"does not speak HTTP/2: {shown(str(error))}") from None
    return _judged(answer)


def _service(target: Target) -> bytes:
    return target.path.removeprefix("/").encode()


def _asked(service: bytes) -> bytes:
    """Write HealthCheckRequest{service} as one gRPC message: not compressed, its length, and field 1 unless empty."""
    count, size = len(service), b""
    while count > 0x7F:
        size += bytes([count & 0x7F | 0x80])
        count >>= 7
    message = b"\x0a" + size + bytes([count]) + service if service else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


async def _exchange(target: Target, streams: Streams) -> _Answer:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    scheme = "https" if target.scheme == "grpcs" else "http"
    host = f"[{target.host}]" if ":" in target.host else target.host
    headers = [
        (":method", "POST"), (":scheme", scheme), (":path", _PATH), (":authority", f"{host}:{target.port}"),
        ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", f"pod-init/{__version__}"),
    ]  # fmt: skip
    connection.send_headers(1, headers)
    connection.send_data(1, _asked(_service(target)), end_stream=True)
    streams.writer.write(connection.data_to_send())
    return await _answer(connection, streams)


async def _answer(connection: h2.connection.H2Connection, streams: Streams) -> _Answer:
    answer, heard, head = _Answer(), 0, b""
    while not answer.ended:
        data = await streams.reader.read(8192)
        heard, head = heard + len(data), (head + data)[:100]
        if not data:
            raise Unmet("reset", "ends the connection without an answer; does it speak gRPC, and without TLS?")
        # The first frame is of the type SETTINGS (RFC 9113 3.4); what is none may be taken for the head of a long one.
        if head[3:4] not in (b"", b"\x04"):
            raise Unmet("not-ready", f"does not speak HTTP/2: {shown(head)}")
        if heard > _MOST:
            raise Unmet("not-ready", f"answers with more than {_MOST // 1024} KiB, which is no health service")
        for event in connection.receive_data(data):
            _take(answer, event)
        # Its settings are to be acknowledged, and its pings answered.
        streams.writer.write(connection.data_to_send())
    return answer


def _take(answer: _Answer, event: h2.events.Event) -> None:
    if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
        headers = {str(name): str(value) for name, value in event.headers or ()}
        answer.http = headers.get(":status", answer.http)
        answer.status = headers.get("grpc-status", answer.status)
        answer.words = headers.get("grpc-message", answer.words)
    elif isinstance(event, h2.events.DataReceived):
        answer.data += event.data or b""
    elif isinstance(event, h2.events.StreamReset):
        raise Unmet("reset", f"breaks off the request with HTTP/2's error {event.error_code}")
    elif isinstance(event, h2.events.ConnectionTerminated):
        raise Unmet("reset", f"ends the connection with HTTP/2's error {event.error_code}")
    answer.ended = answer.ended or isinstance(event, h2.events.StreamEnded)


def _judged(answer: _Answer) -> Result:
    if answer.http != "200":
        return Result("not-ready", f"answers HTTP {shown(answer.http)} instead of 200; does it speak gRPC?")
    if answer.status != "0":
        state, words = _FAILURES.get(answer.status, ("not-ready", f"answers with gRPC's status {shown(answer.status)}"))
        what, _, advice = words.partition("; ")
        said = f" ({shown(answer.words)})" if answer.words else ""
        return Result(state, f"{what}{said}" + (f"; {advice}" if advice else ""))
    number = serving(answer.data)
    if number == 1:
        return Result("ok", "says SERVING")
    return Result("not-ready", f"says {_SERVING.get(number, number)}")


def serving(data: bytes) -> int:
    """Read the status out of a HealthCheckResponse: field 1, a number; absent, it is 0. What is no such message is -1.

    Source: grpc/health/v1/health.proto; only what that message can hold is read.
    """
    message = data[5:]
    if len(data) < 5 or data[0] or int.from_bytes(data[1:5], "big") != len(message):
        return -1
    if not message:
        return 0
    return message[1] if len(message) == 2 and message[0] == 0x08 and message[1] < 0x80 else -1
