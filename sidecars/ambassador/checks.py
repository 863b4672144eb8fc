"""Asking an upstream whether it is well: connect, say something, and look at what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from sidecars.ambassador.names import place
from sidecars.ambassador.settings import Check, ClientTls, HttpCheck, Redis, TcpCheck, Upstream
from sidecars.core.errors import SidecarError

Address = tuple[str, int] | str

_MOST = 64 * 1024  # bytes looked at of an answer
_JITTER = 0.1  # of the interval: upstreams are not asked by all pods at one moment
# Our own trouble says nothing of the upstream.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
# What a Redis server that does not serve commands now answers to PING.
_NOT_WELL = ("LOADING", "BUSY", "MASTERDOWN", "ERR", "OOM", "MISCONF")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


class NotWell(Exception):  # noqa: N818  (named for what happened)
    """The upstream was asked, and is not well; the text says why, in a few words."""


class Unknown(Exception):  # noqa: N818
    """The upstream could not be asked, for a reason of our own."""


class Asked(NamedTuple):
    """Whom to ask, and how.

    redis  the login of a Redis listener
    """

    address: Address
    upstream: Upstream
    check: Check
    redis: Redis | None = None


class Standing:
    """Whether an upstream is well, by its last checks: `rise` of them make it so, `fall` of them make it not so.

    The first check decides by itself; well is None before it. The reason is why the last that failed did.
    """

    __slots__ = ("_against", "reason", "well")

    def __init__(self) -> None:
        self.well: bool | None = None
        self.reason = ""
        self._against = 0  # checks one after another that say the other thing

    def told(self, reason: str, check: Check) -> bool:
        """Take a check's result, the reason why it is not well or nothing; true when this changed."""
        well = not reason
        self._against = 0 if well == self.well else self._against + 1
        if not well:
            self.reason = reason
        if self.well is not None and self._against < (check.rise if well else check.fall):
            return False
        changed, self.well, self._against = self.well != well, well, 0
        if well:
            self.reason = ""
        return changed


async def keep_asking(asked: Asked, told: Callable[[str], object], uniform: Callable[[float, float], float]) -> None:
    """Ask now, and again after each interval, for ever; told() gets the reason why it is not well, or nothing."""
    interval = float(asked.check.interval)
    while True:
        with contextlib.suppress(Unknown):
            told(await ask(asked))
        await asyncio.sleep(interval * uniform(1.0 - _JITTER, 1.0 + _JITTER))


async def ask(asked: Asked) -> str:
    """Ask once: nothing when it is well, or why it is not. Raises Unknown."""
    try:
        async with asyncio.timeout(asked.check.timeout):
            await _ask(asked)
    except NotWell as error:
        return str(error)
    except TimeoutError:
        return f"no answer in {asked.check.timeout}"
    except OSError as error:
        if error.errno in _OURS:
            raise Unknown(str(error)) from error
        return _words(error)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return "closed without a whole answer"
    except SidecarError as error:
        return str(error)
    return ""


def _words(error: OSError) -> str:
    if type(error).__module__ == "ssl":
        from sidecars.ambassador.trust import words

        return words(error)
    # asyncio's own text names the address, which stands beside this one anyway.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error) or type(error).__name__


async def _ask(asked: Asked) -> None:
    check = asked.check
    async with _connected(asked) as (reader, writer):
        if check.http:
            await _http(reader, writer, check.http, asked.upstream)
        elif check.redis:
            await _redis(reader, writer, asked.redis)
        else:
            await _tcp(reader, writer, check.tcp or TcpCheck())


@contextlib.asynccontextmanager
async def _connected(asked: Asked) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect as a client's connection would be: with the PROXY header, which names nobody, and TLS."""
    upstream = asked.upstream
    reader, writer = await _opened(asked.address)
    try:
        if upstream.proxy_protocol:
            from sidecars.ambassador.proxyprotocol import build

            writer.write(build(upstream.proxy_protocol, None, None))
        if upstream.tls:
            await _secure(reader, writer, upstream, upstream.tls)
        yield reader, writer
    finally:
        # Not wait_closed(): a goodbye that nobody answers would outlast the check.
        writer.transport.abort()


async def _opened(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address, limit=_MOST)
    return await asyncio.open_connection(*address, limit=_MOST)


async def _secure(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream, tls: ClientTls
) -> None:
    """Shake hands as tls.originate() does, on asyncio's side."""
    from sidecars.ambassador.tls import OFF, POSTGRES, TlsFailed, check_names, client_context, upstream_host

    if tls.starttls:
        writer.write(POSTGRES.request)
        if await reader.read(1) != POSTGRES.yes:
            raise NotWell("it has no TLS to offer")
    name = None if tls.server_name == OFF else tls.server_name or upstream_host(upstream.address)
    await writer.start_tls(client_context(tls), server_hostname=name)
    names = tls.names or ((name,) if name else ())
    if tls.verify and names:
        try:
            check_names(writer.get_extra_info("peercert") or {}, names)
        except TlsFailed as failed:
            raise NotWell(str(failed)) from failed


async def _tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, check: TcpCheck) -> None:
    if check.send is not None:
        writer.write(unescaped(check.send))
        await writer.drain()
    if check.expect is None:
        return
    expected, answer = unescaped(check.expect), b""
    while expected not in answer:
        piece = await reader.read(4096)
        if not piece or len(answer) > _MOST:
            raise NotWell(f"did not say what is expected in {len(answer)} bytes")
        answer += piece


async def _redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, login: Redis | None) -> None:
    """PING. A server that wants a login which nobody has set serves its clients, who may have one."""
    if login and login.password is not None:
        words = [b"AUTH", *([login.user.encode()] if login.user else []), login.password.reveal().encode()]
        code = await _command(reader, writer, words)
        if code:
            raise NotWell(f"AUTH is answered -{code}")
    code = await _command(reader, writer, [b"PING"])
    if code in _NOT_WELL:
        raise NotWell(f"PING is answered -{code}")


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: list[bytes]) -> str:
    """Send a command; the first word of the error it is answered with, or nothing.

    Only the first word: a server that does not know AUTH quotes the password in the rest.
    """
    writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    answer = await reader.readuntil(b"\r\n")
    if answer[:1] == b"+":
        return ""
    code = answer[1:-2].partition(b" ")[0]
    if answer[:1] != b"-" or not code.isalpha() or len(code) > 32:
        raise NotWell("does not speak the Redis protocol")
    return code.decode()


async def _http(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, check: HttpCheck, upstream: Upstream
) -> None:
    import h11

    host = check.host or place(upstream.address).host or "localhost"
    headers = [("Host", f"[{host}]" if ":" in host and not host.startswith("[") and not check.host else host)]
    headers += [("User-Agent", "ambassador"), ("Accept", "*/*"), ("Connection", "close")]
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST)
    try:
        writer.write(connection.send(h11.Request(method="GET", target=check.path, headers=headers)) or b"")
        connection.send(h11.EndOfMessage())
        while not isinstance(event := connection.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(4096))
            elif isinstance(event, h11.ConnectionClosed):
                raise NotWell("closed without a whole answer")
    except h11.ProtocolError as error:
        raise NotWell("does not speak HTTP/1.1") from error
    status = int(event.status_code)
    if status not in (check.status or range(200, 300)):
        raise NotWell(f"GET {check.path} is answered {status}")


def unescaped(text: str) -> bytes:
    r"""Read a text in which \r, \n, \t, \0, \\ and \xFF stand for bytes; ValueError for another escape."""

    def byte(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] not in _PLAIN:
            raise ValueError(match[0])
        return _PLAIN[match[2]]

    # Bytes that are no escape are UTF-8; seen as Latin-1 each byte is one character, which \xFF can stand beside.
    return _ESCAPE.sub(byte, text.encode().decode("latin-1")).encode("latin-1")
