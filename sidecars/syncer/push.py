"""Where a git host announces its pushes, --hook-bind: POST /hook, or /hook/NAME with several repositories."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from sidecars.core.door import Door, Limits, Request, Response, text
from sidecars.core.errors import WrongSettings
from sidecars.syncer import payloads
from sidecars.syncer.events import Events
from sidecars.syncer.metrics import Metrics
from sidecars.syncer.serving import listen
from sidecars.syncer.settings import Settings

Trigger = Callable[[str, str | None], None]

_MIB = 1024 * 1024
_QUICK = 256 * 1024  # bytes of a body that are hashed and read at once; more take a thread
_LIMITS = Limits(patience=30, longest_body=25 * _MIB, bodies=40 * _MIB, small=_QUICK)
_QUIET = 10.0  # seconds between two complaints about a wrong secret


class Verdict(NamedTuple):
    """What comes of an announcement.

    result  the word for the metric
    line    the answer; the log may say more, in detail
    hash    what was pushed, if it is known
    """

    result: str
    status: int
    line: str
    hash: str | None = None
    detail: str = ""


class Pushes:
    """Listens for pushes, and has the repository synced at the first; those within --hook-debounce make one sync more.

    trigger  is told the repository's name, and the hash that its ref is said to be at
    """

    def __init__(
        self, repositories: Mapping[str, Settings], trigger: Trigger, metrics: Metrics, events: Events
    ) -> None:
        self._targets = {name: _Target(name, settings, trigger) for name, settings in repositories.items()}
        self._paths = {f"/hook/{name}": name for name in repositories}
        if len(repositories) == 1:
            self._paths["/hook"] = next(iter(repositories))
        self._bind = next(iter(repositories.values())).hook_bind
        self._metrics = metrics
        self._events = events.named("hook")
        self._complained = -_QUIET
        self._door = Door(self.answer, _LIMITS)
        self._door.look = self._look
        self._door.refused = self._refused

    async def open(self) -> list[str]:
        """Listen, and give the addresses; nothing where --hook-bind is not given. Raises CannotListen."""
        return await listen(self._door, self._bind, "--hook-bind") if self._bind else []

    def close(self) -> None:
        """Listen no more, and forget what waits for its window to end."""
        self._door.close()
        for target in self._targets.values():
            target.close()

    def _look(self, request: Request) -> Response | None:
        """Refuse what a look at the head is enough for, before a body costs anything."""
        name = self._name(request)
        if name is None:
            known = "/hook" if "/hook" in self._paths else "/hook/NAME, NAME being a repository's name,"
            return text(404, f"there is no {request.path[:100]} here; {known} is")
        if request.method != "POST":
            return text(405, "only POST works here")._replace(headers=(("Allow", "POST"),))
        if not payloads.promises(request.headers):
            return self._tell(name, _unproven())
        if int(request.headers.get("content-length", 0)) > _LIMITS.longest_body:
            return self._tell(name, _too_large())
        return None

    def _refused(self, request: Request | None, status: int) -> None:
        name = self._name(request) if request else None
        if name is not None:
            self._tell(name, _too_large() if status == 413 else Verdict("invalid", status, "it did not come whole"))

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer an announcement."""
        name = self._name(request) or ""
        target = self._targets[name]
        if len(request.body) > _QUICK:
            return self._slowly(target, request)
        return self._done(target, judge(target.settings, request))

    async def _slowly(self, target: _Target, request: Request) -> Response:
        return self._done(target, await asyncio.to_thread(judge, target.settings, request))

    def _done(self, target: _Target, verdict: Verdict) -> Response:
        if verdict.result == "triggered":
            target.push(verdict.hash)
        return self._tell(target.name, verdict)

    def _tell(self, name: str, verdict: Verdict) -> Response:
        self._metrics.of(name).pushed(verdict.result)
        about = {"repository": name} if name else {}
        if verdict.status < 400:
            self._events.info(1, "push announced", **about, result=verdict.result, hash=verdict.hash)
        elif time.monotonic() - self._complained >= _QUIET:
            self._complained = time.monotonic()
            self._events.info(
                0, "announcement of a push refused", repository=name, reason=verdict.detail or verdict.line
            )
        return text(verdict.status, verdict.line)

    def _name(self, request: Request) -> str | None:
        return self._paths.get(unquote(request.path).rstrip("/"))


class _Target:
    """A repository that is announced for."""

    def __init__(self, name: str, settings: Settings, trigger: Trigger) -> None:
        self.name = name
        self.settings = settings
        self._trigger = trigger
        self._window: asyncio.TimerHandle | None = None
        self._more = False
        self._hash: str | None = None

    def push(self, hash: str | None) -> None:
        """Have it synced: now, or when the window that the last push has opened ends."""
        if self._window:
            self._more, self._hash = True, hash
            return
        self._trigger(self.name, hash)
        if self.settings.hook_debounce > 0:
            self._window = asyncio.get_running_loop().call_later(self.settings.hook_debounce, self._end)

    def _end(self) -> None:
        self._window = None
        if self._more:
            self._more = False
            self.push(self._hash)

    def close(self) -> None:
        if self._window:
            self._window.cancel()


def judge(settings: Settings, request: Request) -> Verdict:
    """Tell what comes of an announcement, which is believed only with proof that its sender knows the secret."""
    try:
        secret = settings.hook_secret.reveal() if settings.hook_secret else ""
    except WrongSettings as error:
        return Verdict("refused", 503, "the secret cannot be read", detail=str(error))
    if not payloads.proven(request.headers, request.body, secret):
        return _unproven()
    event = payloads.event(request.headers)
    if event.ping:
        return Verdict("ping", 200, "pong")
    if not event.push:
        return _ignored(f"the event {event.name[:100]} is no push")
    try:
        payload = payloads.parse(request.body, request.headers.get("content-type", ""))
    except payloads.MalformedPayload as error:
        return Verdict("invalid", 400, str(error))
    if event.name.lower() == "system hook" and payload.event not in payloads.SYSTEM_PUSHES:
        return _ignored(f"the event {payload.event[:100]} is no push")
    concerned, hash = payloads.wanted(payload, settings.ref)
    return Verdict("triggered", 200, "syncing", hash) if concerned else _ignored(f"it is not about {settings.ref}")


def _ignored(reason: str) -> Verdict:
    return Verdict("ignored", 202, f"ignored: {reason}")


def _unproven() -> Verdict:
    return Verdict("refused", 401, "the request does not prove that its sender knows the secret")


def _too_large() -> Verdict:
    return Verdict("too_large", 413, f"the body is longer than {_LIMITS.longest_body} bytes")
