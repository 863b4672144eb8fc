"""The health adapter: what an application without a health endpoint does have, made into one."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import h11

from sidecars.adapter import metrics
from sidecars.adapter.table import Json, Segment
from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.log import log
from sidecars.core.settings import Address, Seconds

if TYPE_CHECKING:
    from sidecars.adapter.settings import Settings

EXPECTED = "http://HOST:PORT/PATH, tcp://HOST:PORT, file-age:PATH or log-pattern:REGEX, then #OPTION=VALUE&OPTION=VALUE"
_OPTIONS = re.compile(r"(?:[a-z]+=[^#&=]*(?:&[a-z]+=[^#&=]*)*)?")
_STATUS = re.compile(r"[1-5](?:[0-9][0-9]|xx)")
_HEAD_BYTES = 16 << 10


class Check:
    """One --health. `reason` says why it is not well, at the last look; None while it is.

    every    how often to look
    timeout  how long a look may take
    """

    defaults: ClassVar[dict[str, str]] = {}

    def __init__(self, text: str, target: str, options: dict[str, str]) -> None:
        self.text = redacted(text)
        self.target = target
        known = {"every": "5s", "timeout": "2s", **self.defaults}
        for name in options.keys() - known.keys():
            raise self.wrong(f"has no option {name}; there are {', '.join(sorted(known))}")
        self._options = {**known, **options}
        self.every = max(0.1, self.seconds("every"))
        self.timeout = self.seconds("timeout")
        self._found: str | None = "it was not looked at yet"

    def wrong(self, reason: str) -> WrongSettings:
        """Make the error for a check that can be none."""
        return WrongSettings(f"--health {self.text} {reason}")

    def option(self, name: str) -> str:
        """Give an option as it was written."""
        return self._options[name]

    def seconds(self, name: str) -> Seconds:
        """Give an option that is a duration. Raises WrongSettings."""
        try:
            return Seconds.read(self.option(name))
        except ValueError:
            raise self.wrong(f"has {name}={self.option(name)}, expected {Seconds.expected}") from None

    async def look(self) -> None:
        """Look, and keep what was found; as long as `timeout` at most."""
        try:
            async with asyncio.timeout(self.timeout):
                self._found = await self.ask()
        except TimeoutError:
            self._found = f"no answer within {self.timeout}"
        except OSError as error:
            self._found = error.strerror or str(error) or type(error).__name__
        except UnicodeError:
            self._found = "there can be no host of that name"

    async def ask(self) -> str | None:
        """Give the reason it is not well now. Raises OSError."""
        return None

    def reason(self) -> str | None:
        """Give the reason it is not well; None when it is."""
        return self._found

    def well(self) -> bool:
        """Tell whether it is well."""
        return self.reason() is None


class Http(Check):
    """An HTTP server answers with the status expected, by default any below 400 as for the kubelet."""

    defaults: ClassVar[dict[str, str]] = {"status": ""}

    def __init__(self, text: str, target: str, options: dict[str, str]) -> None:
        super().__init__(text, target, options)
        try:
            url = urlsplit(f"http:{target}")
            self._host, self._port = url.hostname or "", url.port or 80
            where = url._replace(scheme="", netloc="", fragment="").geturl()
            headers = [("Host", url.netloc.rpartition("@")[2]), ("User-Agent", "log-adapter"), ("Connection", "close")]
            self._request = h11.Request(method="GET", target=f"/{where.removeprefix('/')}", headers=headers)
        except (ValueError, h11.LocalProtocolError) as error:
            raise self.wrong("is no URL that can be asked") from error
        self._status = self.option("status")
        if not self._host or (self._status and not _STATUS.fullmatch(self._status)):
            raise self.wrong("needs a host, and a status such as 200 or 2xx")

    async def ask(self) -> str | None:
        """Send a GET, and read the head of the answer."""
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=_HEAD_BYTES)
        try:
            status = await self._exchange(reader, writer)
        except h11.RemoteProtocolError:
            return "what answers does not speak HTTP"
        finally:
            writer.close()
        if status is None:
            return "the connection was closed without an answer"
        expected = self._status or "a status below 400"
        well = str(status) == expected or f"{status // 100}xx" == expected or (not self._status and status < 400)
        return None if well else f"answers {status}, expected {expected}"

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        writer.write((http.send(self._request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        while True:
            event = http.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if isinstance(event, h11.ConnectionClosed):
                return None
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_HEAD_BYTES))


class Tcp(Check):
    """Something accepts connections."""

    def __init__(self, text: str, target: str, options: dict[str, str]) -> None:
        super().__init__(text, target, options)
        try:
            self._address = Address(target.removeprefix("//"))
        except ValueError:
            raise self.wrong("is no tcp://HOST:PORT") from None

    async def ask(self) -> str | None:
        """Connect, and hang up."""
        _, writer = await asyncio.open_connection(self._address.host or "localhost", self._address.port)
        writer.close()
        return None


class FileAge(Check):
    """A file was written lately: its time of modification is no more than `max` ago."""

    defaults: ClassVar[dict[str, str]] = {"max": "60s"}

    def __init__(self, text: str, target: str, options: dict[str, str]) -> None:
        super().__init__(text, target, options)
        self._most = self.seconds("max")
        self._asked: asyncio.Future[os.stat_result] | None = None
        if not target:
            raise self.wrong("names no file")

    async def ask(self) -> str | None:
        """Look at the file, in a thread: a network file system that hangs holds one thread, and nothing else."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().run_in_executor(None, os.stat, self.target)
        await asyncio.wait([self._asked])
        asked, self._asked = self._asked, None
        try:
            age = time.time() - asked.result().st_mtime
        except FileNotFoundError:
            return "there is no such file"
        return None if age <= self._most else f"was written {age:.0f} s ago, expected at most {self._most}"


class LogPattern(Check):
    """A record that matches was read within the time; with `!` before the expression, none was.

    The time since the start counts as if one had come at the start. ^ and $ are the ends of a line.
    """

    defaults: ClassVar[dict[str, str]] = {"within": "60s"}

    def __init__(self, text: str, target: str, options: dict[str, str]) -> None:
        super().__init__(text, target, options)
        self._within = self.seconds("within")
        self._absent = target.startswith("!")
        self._last = -float("inf") if self._absent else time.monotonic()
        expression = target.removeprefix("!")
        try:
            self._expression = re.compile(expression.encode(), re.MULTILINE)
        except re.error as error:
            raise self.wrong(f"has no regular expression: {error}") from error
        if not expression:
            raise self.wrong("has no regular expression")

    def observe(self, data: bytes) -> None:
        """Look for the expression in lines that were read."""
        if self._expression.search(data):
            self._last = time.monotonic()

    def reason(self) -> str | None:
        """Give the reason, as things are at this moment."""
        ago = time.monotonic() - self._last
        if self._absent:
            return f"a record that matches came {ago:.0f} s ago" if ago <= self._within else None
        return None if ago <= self._within else f"no record that matches has come for {ago:.0f} s"


_KINDS = {"http": Http, "tcp": Tcp, "file-age": FileAge, "log-pattern": LogPattern}


def check(text: str) -> Check:
    """Read one --health.

        http://localhost:8080/status?full=1#status=200&timeout=2s
        tcp://localhost:5432#every=10s
        file-age:/run/app/heartbeat#max=60s
        log-pattern:processed \\d+ orders#within=5m
        log-pattern:!OutOfMemoryError#within=10m

    What follows the last # are options, if it looks like some; else it belongs to what is asked. Raises WrongSettings.
    """
    kind, _, target = text.partition(":")
    if kind not in _KINDS or (kind in ("http", "tcp") and not target.startswith("//")):
        raise WrongSettings(f"--health is {redacted(text)!r}, expected {EXPECTED}")
    before, mark, after = target.rpartition("#")
    options: dict[str, str] = {}
    if mark and _OPTIONS.fullmatch(after):
        target = before
        options = dict(pair.split("=", 1) for pair in after.split("&") if pair)
    return _KINDS[kind](text, target, options)


class Checks:
    """All checks. Raises WrongSettings."""

    def __init__(self, settings: Settings) -> None:
        self._checks = [check(text) for text in settings.health]
        self._patterns = [each for each in self._checks if isinstance(each, LogPattern)]

    def observe(self, segments: Sequence[Segment]) -> None:
        """Look at records that were read. Called in an output's thread; costs nothing without a log-pattern."""
        if self._patterns:
            for data in _texts(segments):
                for each in self._patterns:
                    each.observe(data)

    async def run(self) -> None:
        """Look at each as often as it says, until cancelled, and let Prometheus see what was found."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._checks:
                metrics.HEALTH_CHECK.labels(each.text).set_function(each.well)
                tasks.create_task(_watch(each))

    def result(self) -> tuple[bool, list[str]]:
        """Say whether all are well, and if not why."""
        reasons = [(each.text, each.reason()) for each in self._checks]
        told = [f"{text}: {reason}" for text, reason in reasons if reason is not None]
        return not told, told


async def _watch(each: Check) -> None:
    well = True
    while True:
        await each.look()
        reason = each.reason()
        if reason is not None and well:
            log.warning("health check fails", check=each.text, reason=reason)
        elif reason is None and not well:
            log.info("health check is well again", check=each.text)
        well = reason is None
        await asyncio.sleep(each.every)


def _texts(segments: Sequence[Segment]) -> Iterator[bytes]:
    for segment in segments:
        yield segment.data if isinstance(segment, Json) else b"\n".join(segment.lines)
