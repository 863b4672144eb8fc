"""What a ref is now, asked over git's smart HTTP protocol from within the process: an idle poll starts no program."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
from collections.abc import Callable, Iterator
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11

from sidecars import __version__
from sidecars.syncer.settings import Settings

Login = Callable[[], tuple[str, str] | None]

# Settings of git that this does not know of: then git itself is asked.
_FOREIGN = (
    "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "GIT_SSL_NO_VERIFY", "GIT_SSL_CAPATH", "GIT_SSL_CERT",
    "GIT_SSL_VERSION", "GIT_SSL_CIPHER_LIST", "GIT_HTTP_PROXY_AUTHMETHOD",
)  # fmt: skip
_FOREIGN_KEYS = re.compile(r"(?i)\b(?:http|https|url|credential|core|protocol|include|includeif|remote)\.")
_LONGEST = 4 << 20
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# Some hosts and proxies tell git's requests from a browser's by these four letters; dulwich and go-git have them too.
_AGENT = f"git/git-syncer-{__version__}"


class NotAnswered(Exception):  # noqa: N818
    """The server did not answer as expected: git is to be asked, which also says what is wrong."""


def understands(settings: Settings) -> bool:
    """Tell whether this asks as git would: over http(s), with nothing set that changes how git speaks."""
    url = urlsplit(settings.repo)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        return False
    if settings.git != "git" or settings.cookie_file:
        return False
    configured = ",".join((settings.git_config, *settings.git_config_add))
    if _FOREIGN_KEYS.search(configured) or any(os.environ.get(name) for name in _FOREIGN):
        return False
    if os.path.exists(os.path.join(os.environ.get("HOME", "/"), ".netrc")):
        return False
    return _direct(url)


def _direct(url: SplitResult) -> bool:
    proxies = getproxies()
    return not (url.scheme in proxies or "all" in proxies) or bool(proxy_bypass(url.netloc.rpartition("@")[2]))


class Probe:
    """Asks one server for one ref, over one connection that is kept.

    url    of the repository, without credentials
    login  gives the user and the password for it, None where it takes none
    """

    def __init__(self, url: str, ref: str, login: Login, ca_file: str = "") -> None:
        self._url = urlsplit(url)
        self._ref = ref
        self._login = login
        self._ca_file = ca_file or os.environ.get("GIT_SSL_CAINFO", "")
        self._connection: _Connection | None = None
        self._speaks_v2 = False

    async def hash_of_ref(self, seconds: float) -> str | None:
        """Give the commit that the ref is at, None where there is no such ref. Raises NotAnswered."""
        try:
            async with asyncio.timeout(seconds):
                if not self._speaks_v2:
                    await self._ask_capabilities()
                return found(await self._ask_refs(), self._ref)
        except (OSError, EOFError, h11.ProtocolError, ValueError, NotAnswered) as error:
            self._speaks_v2 = False
            await self.close()
            raise NotAnswered(str(error) or type(error).__name__) from error

    async def _ask_capabilities(self) -> None:
        answer = await self._request("GET", "/info/refs?service=git-upload-pack", b"")
        lines = [line.strip() for line in packets(answer) if line]
        if b"version 2" not in lines or not any(line.startswith(b"ls-refs") for line in lines):
            raise NotAnswered("the server does not speak version 2 of git's protocol")
        self._speaks_v2 = True

    async def _ask_refs(self) -> bytes:
        prefixes = [f"ref-prefix {name}\n" for name in names(self._ref)]
        return await self._request("POST", "/git-upload-pack", request(["peel\n", *prefixes]))

    async def _request(self, method: str, path: str, body: bytes) -> bytes:
        for fresh in (False, True):
            reused = self._connection is not None
            if self._connection is None:
                self._connection = await _Connection.open(self._url, self._ca_file)
            try:
                status, answer = await self._connection.ask(method, self._headers(path, body), self._target(path), body)
            except (OSError, EOFError, h11.ProtocolError) as error:
                await self.close()
                if fresh or not reused:
                    raise NotAnswered(str(error) or type(error).__name__) from error
                continue  # it was closed while nobody looked
            if status != 200:
                raise NotAnswered(f"the server answered {status}")
            return answer
        raise NotAnswered("the server closes each connection")

    def _target(self, path: str) -> str:
        return self._url.path.rstrip("/") + path

    def _headers(self, path: str, body: bytes) -> list[tuple[str, str]]:
        headers = [("Host", self._url.netloc.rpartition("@")[2]), ("User-Agent", _AGENT), ("Git-Protocol", "version=2")]
        login = self._login()
        if login is not None:
            headers.append(("Authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode()))
        if body:
            kind = "application/x-git-upload-pack"
            headers += [("Content-Type", f"{kind}-request"), ("Accept", f"{kind}-result")]
            headers.append(("Content-Length", str(len(body))))
        return headers

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await asyncio.sleep(0)  # The loop closes the socket in its next turn.


class _Connection:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, url: SplitResult, ca_file: str) -> _Connection:
        """Connect. Raises OSError."""
        context = None
        if url.scheme == "https":  # In a thread: to read the system's certificates takes 20 ms.
            context = await asyncio.to_thread(ssl.create_default_context, cafile=ca_file or None)
        port = url.port or (443 if context else 80)
        return cls(*await asyncio.open_connection(url.hostname, port, ssl=context))

    async def ask(self, method: str, headers: list[tuple[str, str]], target: str, body: bytes) -> tuple[int, bytes]:
        """Send a request, and give the status and the body of the answer. Raises OSError, EOFError, ProtocolError."""
        if self._http.our_state is not h11.IDLE:
            self._http.start_next_cycle()
        events: list[h11.Event] = [h11.Request(method=method, target=target, headers=headers)]
        if body:
            events.append(h11.Data(data=body))
        for event in [*events, h11.EndOfMessage()]:
            self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()
        return await self._answer()

    async def _answer(self) -> tuple[int, bytes]:
        status, answer = 0, bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += event.data
            if len(answer) > _LONGEST:
                raise NotAnswered(f"the answer is longer than {_LONGEST >> 20} MiB")
        return status, bytes(answer)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(65536)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise EOFError("the server closed the connection")
            self._http.receive_data(data)
        if isinstance(event, h11.ConnectionClosed):
            raise EOFError("the server closed the connection")
        return event

    def close(self) -> None:
        """Close it at once: a server that is gone would not say goodbye."""
        self._writer.transport.abort()


def names(ref: str) -> list[str]:
    """Give the full names that a ref may be short for, in git's order.

    "main" -> ["main", "refs/main", "refs/tags/main", "refs/heads/main", ...]

    Source: gitrevisions(7).
    """
    return [ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}", f"refs/remotes/{ref}"]


def request(arguments: list[str]) -> bytes:
    """Make a request for refs.

    Source: gitprotocol-v2(5), ls-refs.
    """
    head = ["command=ls-refs\n", f"agent={_AGENT}\n", "object-format=sha1\n"]
    return b"".join([*map(packet, head), b"0001", *map(packet, arguments), b"0000"])


def packet(line: str) -> bytes:
    """Make a pkt-line: four hexadecimal digits of its own length, then the line."""
    data = line.encode()
    return b"%04x%b" % (len(data) + 4, data)


def packets(data: bytes) -> Iterator[bytes]:
    """Give the lines of an answer; empty ones for the packets that have none. Raises ValueError for what is none."""
    place = 0
    while place < len(data):
        size = int(data[place : place + 4], 16)
        if size > len(data) - place:
            raise ValueError("the answer ends inside a packet")
        yield data[place + 4 : place + size] if size > 4 else b""
        place += max(size, 4)


def found(answer: bytes, ref: str) -> str | None:
    """Give the commit of a ref in an answer: what a tag points at, peeled; None where there is none.

        b"003d" b"95d0...a3 refs/heads/main\\n" b"0000"

    Raises ValueError for an answer that is not a whole list of refs, such as the server's word that it may not be read.

    Source: gitprotocol-v2(5), ls-refs.
    """
    refs: dict[str, str] = {}
    lines = list(packets(answer))
    if not lines or lines[-1]:
        raise ValueError("the answer does not end")
    for line in filter(None, lines):
        hash_, name, *attributes = line.decode(errors="surrogateescape").rstrip("\n").split(" ")
        peeled = [each[7:] for each in attributes if each.startswith("peeled:")]
        refs[name] = (peeled or [hash_])[0]
        if not _HASH.fullmatch(refs[name]):
            raise ValueError(f"the server says {line[:200]!r}")
    return next((refs[name] for name in names(ref) if name in refs), None)
