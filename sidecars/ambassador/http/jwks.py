"""The keys that issuers publish for their tokens, fetched by the side that decides, and kept while none can be had."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

import aiohttp

from sidecars.ambassador.http.bearing import fresh
from sidecars.ambassador.http.jwt import published
from sidecars.ambassador.plan import Jwks
from sidecars.ambassador.settings import Listener
from sidecars.core.errors import redacted
from sidecars.core.health import Health
from sidecars.core.log import log

_TIMEOUT = 5.0  # seconds for an answer, all of it
_MOST = 256 * 1024  # bytes of an answer
_RETRY = 5.0  # seconds before the next try after a failure


class Unfit(Exception):  # noqa: N818  (named for what it is)
    """No keys were got; the text says why."""


class Source(NamedTuple):
    """Where keys are published, and what is trusted there."""

    url: str
    ca: str | None
    interval: float


class _Issuer:
    """The keys of one address."""

    def __init__(self, source: Source, changed: Callable[[], None], health: Health) -> None:
        self.known: Jwks | None = None
        self._source = source
        self._changed = changed
        self._health = health
        self._wanted = asyncio.Event()
        # A query may be a secret.
        self._shown = redacted(source.url).partition("?")[0]
        self.name = f"keys of {self._shown}"

    def want(self) -> None:
        """Fetch them anew, unless that was done just now."""
        if self.known and time.monotonic() - self.known.at >= fresh(self._source.interval):
            self._wanted.set()

    async def run(self) -> None:
        """Fetch them again and again, until cancelled."""
        while True:
            # A wish that comes while they are fetched is answered by that.
            failed = await self._renew()
            self._wanted.clear()
            pause = min(_RETRY, self._source.interval) if failed else self._source.interval
            try:
                await asyncio.wait_for(self._wanted.wait(), pause)
            except TimeoutError:
                continue

    async def _renew(self) -> bool:
        """Fetch them; say whether that was in vain."""
        text = self.known.text if self.known else ""
        trouble = ""
        try:
            text = await fetch(self._source)
        except Unfit as error:
            trouble = str(error)
            kept = "the last good ones stay in force" if text else "tokens cannot be verified"
            log.warning("keys not fetched", url=self._shown, error=trouble, consequence=kept)
            self._health.failing(self.name, trouble)
        else:
            self._health.working(self.name)
            if self.known is None or text != self.known.text:
                log.info("keys fetched", url=self._shown, keys=len(published(text)))
        self.known = Jwks(text, time.monotonic())
        self._changed()
        return bool(trouble)


async def fetch(source: Source) -> str:
    """Give a JWKS that is published, looked at and found good. Raises Unfit.

    Redirects are not followed: an issuer's address is its identity.
    """
    try:
        async with asyncio.timeout(_TIMEOUT):
            connector = aiohttp.TCPConnector(ssl=await _trusted(source), force_close=True)
            # Compression is no use here, and an answer's size could not be known from what has come.
            async with (
                aiohttp.ClientSession(
                    connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
                ) as session,
                session.get(source.url, allow_redirects=False, headers=_HEADERS) as answer,
            ):
                return await _text(answer)
    except TimeoutError:
        raise Unfit(f"no answer within {_TIMEOUT:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unfit(_words(error)) from None


async def _trusted(source: Source) -> ssl.SSLContext | bool:
    # Read anew each time, for files of authorities are renewed; beside the loop, for there are many in the system's.
    if source.url.startswith("http://"):
        return True
    return await asyncio.to_thread(ssl.create_default_context, cafile=source.ca)


_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


async def _text(answer: aiohttp.ClientResponse) -> str:
    if answer.status != 200:
        hint = "; give the address it redirects to" if 300 <= answer.status <= 399 else ""
        raise Unfit(f"it answers {answer.status}{hint}")
    body = bytearray()
    async for piece in answer.content.iter_chunked(16384):
        body += piece
        if len(body) > _MOST:
            raise Unfit(f"the answer is longer than {_MOST} bytes")
    try:
        text = body.decode()
        await asyncio.to_thread(published, text)
    except UnicodeDecodeError:
        raise Unfit("the answer is not UTF-8") from None
    except ValueError as error:
        raise Unfit(f"the answer {error}") from None
    return text


def _words(error: Exception) -> str:
    """Say what failed, without the URL, whose query may be a secret."""
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {reason.verify_message}"
        # Of several addresses none may have answered, each for its own reason.
        number = reason.errno or 0
        return os.strerror(number) if number > 0 else reason.strerror or "it cannot be reached"
    return getattr(error, "strerror", None) or type(error).__name__


class Issuers:
    """Every address at which some listener's keys are published."""

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        changed: Callable[[], None],
        health: Health,
    ) -> None:
        self._spawn = spawn
        self._changed = changed
        self._health = health
        self._issuers: dict[Source, tuple[_Issuer, asyncio.Task[None]]] = {}

    def update(self, listeners: Iterable[Listener]) -> None:
        """Fetch for these listeners, and for no other."""
        wanted = {source for each in listeners if (source := source_of(each))}
        for source in self._issuers.keys() - wanted:
            issuer, task = self._issuers.pop(source)
            task.cancel()
            self._health.working(issuer.name)
        for source in wanted - self._issuers.keys():
            issuer = _Issuer(source, self._changed, self._health)
            self._issuers[source] = issuer, self._spawn(issuer.run())

    def known(self, listener: Listener) -> Jwks | None:
        """Give what is known for a listener."""
        source = source_of(listener)
        return self._issuers[source][0].known if source in self._issuers else None

    def want(self, listener: Listener) -> None:
        """A token of this listener's names a key that is unknown."""
        source = source_of(listener)
        if source in self._issuers:
            self._issuers[source][0].want()


def source_of(listener: Listener) -> Source | None:
    """Give where the keys of a listener's tokens are published; None where they are not."""
    jwt = listener.http.auth.jwt if listener.http and listener.http.auth else None
    return Source(jwt.jwks, jwt.jwks_ca, float(jwt.jwks_interval)) if jwt and jwt.jwks else None
