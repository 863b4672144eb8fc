"""OTLP over HTTP, in JSON: each request until the receiver has answered that it has it.

Source: OpenTelemetry Protocol 1.x, sections "OTLP/HTTP Response", "Retryable Response Codes" and "Partial Success".
"""

from __future__ import annotations

import asyncio
import gzip
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
import msgspec

from sidecars.adapter.deliver.metrics import REJECTED_RECORDS, Delivered
from sidecars.adapter.deliver.pipeline import Pipeline
from sidecars.adapter.deliver.push import Push
from sidecars.adapter.deliver.specs import Otlp
from sidecars.adapter.portion import Portion
from sidecars.core import tls
from sidecars.core.errors import DeliveryFailed, redacted
from sidecars.core.failures import HINTS, Code, code_of
from sidecars.core.health import Health
from sidecars.core.log import log
from sidecars.core.metrics import delivery_errors
from sidecars.core.units import Secret

_TRANSIENT = (408, 429, 500, 502, 503, 504)
# The token may be renewed any moment, so these are tried again as soon as what is transient.
_UNAUTHORIZED = (401, 403)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 300.0
_MOST_ANSWER_BYTES = 64 << 10
_MOST_WORDS = 300


class PartialSuccess(msgspec.Struct, rename="camel"):
    """How many records a receiver has thrown away, and why."""

    rejected_log_records: int = 0
    error_message: str = ""


class Answer(msgspec.Struct, rename="camel"):
    """What a receiver says: an ExportLogsServiceResponse, or a Status."""

    partial_success: PartialSuccess | None = None
    message: str = ""


def push(
    name: str, to: Otlp, token: Secret | None, pipeline: Pipeline, delivered: Delivered, health: Health
) -> Push[bytes]:
    """Make the output."""

    def encode(portion: Portion) -> list[bytes]:
        bodies = pipeline.encode(portion)
        delivered.made(portion)
        # Level 1: a little larger than level 6 on log lines, in a third of the time.
        return [gzip.compress(body, 1, mtime=0) for body in bodies] if to.compress == "gzip" else bodies

    return Push(name, encode, OtlpSender(name, to, token), delivered, health)


class OtlpSender:
    """A client's session with a receiver, begun anew after each failure of the connection."""

    def __init__(self, name: str, to: Otlp, token: Secret | None) -> None:
        self._name = name
        self._to = to
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._said = ""

    async def send(self, unit: bytes) -> None:
        """Send the body of a request; DeliveryFailed unless it is answered with success."""
        try:
            await self._post(unit)
        except (aiohttp.ClientError, OSError) as error:
            await self.close()
            raise self._lost(error) from error
        except DeliveryFailed:
            raise
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _post(self, body: bytes) -> None:
        session = self._session or await self._open()
        async with session.post(
            self._to.url,
            data=body,
            headers=self._headers(),
            allow_redirects=False,
            server_hostname=self._to.server_name if self._to.tls else None,
        ) as response:
            data = await _beginning(response.content)
            if 200 <= response.status < 300:
                self._accepted(data)
            else:
                raise self._refused(response.status, response.headers.get("Retry-After"), data)

    async def _open(self) -> aiohttp.ClientSession:
        to, context = self._to, None
        if to.tls:
            context = await asyncio.to_thread(
                lambda: tls.context(ca=to.ca, cert=to.cert, cert_key=to.cert_key, verify=to.verify)
            )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, ssl=context or True),
            timeout=aiohttp.ClientTimeout(
                total=to.connect_timeout + to.ack_timeout, sock_connect=to.connect_timeout, sock_read=to.ack_timeout
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self._session

    def _headers(self) -> dict[str, str]:
        # An answer is asked for as it is: what little of it is read shall not unfold to more.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._to.compress == "gzip":
            headers["Content-Encoding"] = "gzip"
        if self._token is not None:
            token = self._token.reveal()
            if not token.isprintable():
                raise DeliveryFailed("token", f"the token for {self._to} is more than one line; write it on one line")
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _accepted(self, data: bytes) -> None:
        """Count and say what the receiver took and threw away: no other try would help."""
        partial = _answer(data).partial_success
        if partial is None or not (partial.rejected_log_records > 0 or partial.error_message):
            return
        rejected, text = max(0, partial.rejected_log_records), self._shown(partial.error_message)
        if rejected:
            REJECTED_RECORDS.labels(self._name).inc(rejected)
            delivery_errors.labels(self._name, "rejected").inc()
        if text != self._said or not self._said:
            self._said = text
            log.warning("receiver has thrown records away", output=self._name, rejected=rejected, reason=text)

    def _refused(self, status: int, retry_after: str | None, data: bytes) -> DeliveryFailed:
        words = self._shown(_answer(data).message or data.decode(errors="replace"))
        phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
        said = ": ".join(filter(None, (f"{status} {phrase}".strip(), words)))
        if status in _TRANSIENT:
            hint, pause = "it is asked again", pause_of(retry_after)
        elif status in _UNAUTHORIZED:
            hint, pause = "is --otlp-token-file right?", None
        else:
            hint, pause = "its log says why; are its address, its path and its limits right?", self._to.refused_pause
        return DeliveryFailed(f"http_{status}", f"{self._to} answered {said}; {hint}", pause)

    def _lost(self, error: Exception) -> DeliveryFailed:
        code = _code(error)
        said = self._shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        reason = "no answer in time" if code == "timeout" else said
        return DeliveryFailed(code, f"cannot send to {self._to}: {reason}; {_hint(code)}")

    def _shown(self, words: str) -> str:
        """Give a stranger's words as text for ours: short, without control characters and secrets."""
        if self._token is not None and (token := self._token.reveal()):
            words = words.replace(token, "***")
        text = redacted(words)[:_MOST_WORDS]
        return " ".join("".join(character if character.isprintable() else " " for character in text).split())


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """Read an answer, up to what one may reasonably have; the rest is not waited for."""
    data = b""
    while len(data) < _MOST_ANSWER_BYTES and (more := await content.read(_MOST_ANSWER_BYTES - len(data))):
        data += more
    return data


def _answer(data: bytes) -> Answer:
    try:
        # Not strict: an int64 is a string in Protocol Buffers' JSON.
        return msgspec.json.decode(data, type=Answer, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer()


def pause_of(retry_after: str | None) -> float | None:
    """Read Retry-After, seconds or a date, as a pause of reasonable length; None when it says neither."""
    if not retry_after:
        return None
    try:
        seconds = (
            float(retry_after)
            if retry_after.isdigit()
            else parsedate_to_datetime(retry_after).timestamp() - time.time()
        )
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, _SHORTEST_PAUSE), _LONGEST_PAUSE)


def _code(error: Exception) -> Code | str:
    match error:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientSSLError():
            return "tls"
        case aiohttp.ClientConnectorError():
            return "connect"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "protocol"
        case OSError():
            return code_of(error, "closed")
    return "closed"


def _hint(code: str) -> str:
    return next((hint for known, hint in HINTS.items() if known == code), "is it a receiver of OTLP over HTTP?")
