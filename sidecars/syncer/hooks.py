"""What is run and called after each change: exechook, webhook and pre-publish-exechook, by git-sync's rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from sidecars.core.errors import SidecarError
from sidecars.syncer import programs
from sidecars.syncer.events import Events
from sidecars.syncer.metrics import Measures
from sidecars.syncer.settings import Settings
from sidecars.syncer.units import Duration

EXECHOOK, WEBHOOK, PRE_PUBLISH = "exechook", "webhook", "pre-publish-exechook"

Run = Callable[[str, str], Awaitable[None]]
Environment = Callable[[], Mapping[str, str]]


class Runner:
    """One hook in the background: told of many revisions, it runs for the newest, again and again until it succeeds.

    run    wait for a revision other than the last one that succeeded, and run the hook for it; for ever
    drain  there is none: a hook that has begun is not waited for
    stop   cancelled: a hook that runs is killed, with all it has started
    """

    def __init__(self, name: str, run: Run, backoff: Duration, measures: Measures, events: Events) -> None:
        self.name = name
        self.trouble: str | None = None
        self._run = run
        self._backoff = backoff
        self._measures = measures
        self._events = events
        self._newest: tuple[str, str] | None = None
        self._succeeded: str | None = None
        self._news = asyncio.Event()

    def send(self, hash: str, worktree: str) -> None:
        """Tell of a revision, in its worktree; one that was not begun yet is forgotten for it."""
        self._newest = (hash, worktree)
        self._news.set()

    async def run(self) -> None:
        """Run the hook for what is sent, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            while not await self.once():  # noqa: ASYNC110  (no event ends the backoff)
                await asyncio.sleep(self._backoff)

    async def once(self) -> bool:
        """Run the hook once for the newest revision, if it has not succeeded for it yet; give whether all is well."""
        if self._newest is None or self._newest[0] == self._succeeded:
            return True
        hash, worktree = self._newest
        try:
            await self._run(hash, worktree)
        except SidecarError as error:
            self.trouble = str(error)
            self._events.error(error, "hook failed", hash=hash, retry=str(self._backoff))
            self._measures.hook_run(self.name, "error")
            return False
        self._succeeded, self.trouble = hash, None
        self._measures.hook_run(self.name, "success")
        return True


class Hooks(NamedTuple):
    """A repository's hooks, None where one is not set."""

    pre_publish: Runner | None
    exechook: Runner | None
    webhook: Runner | None

    def present(self) -> list[Runner]:
        """Give those that are set, in the order in which --one-time runs them."""
        return [runner for runner in self if runner]


def hooks(settings: Settings, environment: Environment, measures: Measures, events: Events) -> Hooks:
    """Make the hooks that are set.

    environment  gives what programs inherit, as programs.environment makes it
    """

    def runner(name: str, wanted: str, backoff: Duration, make: Callable[[Events], Run]) -> Runner | None:
        own = events.named(name)
        return Runner(name, make(own), backoff, measures, own) if wanted else None

    before, after = settings.pre_publish_exechook_command, settings.exechook_command
    return Hooks(
        runner(
            PRE_PUBLISH, before, settings.pre_publish_exechook_backoff,
            lambda own: exechook((before,), settings.pre_publish_exechook_timeout, environment, own),
        ),
        runner(
            EXECHOOK, after, settings.exechook_backoff,
            lambda own: exechook((after, *settings.exechook_arg), settings.exechook_timeout, environment, own),
        ),
        runner(WEBHOOK, settings.webhook_url, settings.webhook_backoff, lambda own: webhook(settings, own)),
    )  # fmt: skip


def exechook(words: tuple[str, ...], timeout: Duration, environment: Environment, events: Events) -> Run:
    """Make what runs a program in the worktree, with GITSYNC_HASH."""

    async def run(hash: str, worktree: str) -> None:
        events.info(0, "running exechook", hash=hash, command=words[0], timeout=str(timeout))
        output = await programs.run(
            words, cwd=worktree, environment={**environment(), "GITSYNC_HASH": hash}, within=timeout
        )
        events.info(1, "exechook succeeded", hash=hash, stdout=output.stdout, stderr=output.stderr)

    return run


def webhook(settings: Settings, events: Events) -> Run:
    """Make what calls the URL, with the header Gitsync-Hash."""

    async def run(hash: str, _: str) -> None:
        from sidecars.syncer.webhook import Call, call, place  # an HTTP client costs memory where there is no webhook

        url, timeout = settings.webhook_url, settings.webhook_timeout
        events.info(0, "sending webhook", hash=hash, url=place(url), timeout=str(timeout))
        status = await call(
            Call(settings.webhook_method, url, {"Gitsync-Hash": hash}, timeout, settings.ca_file or None),
            settings.webhook_success_status,
        )
        events.info(1, "webhook succeeded", hash=hash, status=status)

    return run
