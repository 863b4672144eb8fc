"""The gate: a program that has to agree before a revision is published."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from sidecars.core.errors import SidecarError
from sidecars.syncer import programs
from sidecars.syncer.events import Events
from sidecars.syncer.hooks import Environment
from sidecars.syncer.metrics import Measures
from sidecars.syncer.settings import Settings

_FIRST_WAIT = 3.0  # seconds before a revision that was refused is tried again; each refusal doubles them


class GateClosed(SidecarError):  # noqa: N818
    """The gate has refused a revision: what was published stays. `fresh` when it was asked just now."""

    def __init__(self, text: str, *, fresh: bool) -> None:
        super().__init__(text)
        self.fresh = fresh


class _Refusal(NamedTuple):
    hash: str
    reason: str
    wait: float
    until: float


class Gate:
    """Asks --gate-command, and remembers its answer for the newest revision that it was asked of.

    The program runs in the new worktree with GITSYNC_HASH and GITSYNC_PREVIOUS_HASH (empty at the first time).
    """

    def __init__(
        self,
        settings: Settings,
        environment: Environment,
        measures: Measures,
        events: Events,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._command = settings.gate_command
        self._timeout = settings.gate_timeout
        self._longest = max(settings.max_backoff, _FIRST_WAIT)
        self._environment = environment
        self._measures = measures
        self._events = events.named("gate")
        self._passed: str | None = None
        self._refused: _Refusal | None = None

    @property
    def trouble(self) -> str | None:
        """Why the gate is closed, for people; None while it is open."""
        return f"the gate refuses {self._refused.hash}: {self._refused.reason}" if self._refused else None

    def due(self) -> float:
        """Seconds until a revision that was refused is worth another pass; 0 when nothing is refused."""
        return max(0.0, self._refused.until - self._clock()) if self._refused else 0.0

    def forget(self) -> None:
        """Forget the answers: when a sync is asked for by hand, or the remote is back at what is published."""
        self._passed = self._refused = None

    def recall(self, hash: str) -> None:
        """Raise GateClosed if the revision was refused and its wait is not over: there is no need to fetch it again."""
        refused = self._refused
        if refused and refused.hash == hash and self._clock() < refused.until:
            raise GateClosed(refused.reason, fresh=False)

    async def check(self, hash: str, worktree: str, previous: str | None) -> None:
        """Return when the revision may be published; without --gate-command, at once.

        Raises GateClosed; a fresh refusal is logged here.
        """
        if not self._command or hash == self._passed:
            return
        self.recall(hash)
        try:
            await self._ask(hash, worktree, previous)
        except programs.ProgramFailed as error:
            raise self._refuse(hash, str(error)) from error
        self._passed, self._refused = hash, None
        self._measures.gate_run("passed")

    async def _ask(self, hash: str, worktree: str, previous: str | None) -> None:
        self._events.info(0, "running gate", hash=hash, command=self._command, timeout=str(self._timeout))
        own = {"GITSYNC_HASH": hash, "GITSYNC_PREVIOUS_HASH": previous or ""}
        output = await programs.run(
            (self._command,), cwd=worktree, environment={**self._environment(), **own}, within=self._timeout
        )
        self._events.info(1, "gate passed", hash=hash, stdout=output.stdout, stderr=output.stderr)

    def _refuse(self, hash: str, reason: str) -> GateClosed:
        before = self._refused if self._refused and self._refused.hash == hash else None
        wait = min(before.wait * 2, self._longest) if before else _FIRST_WAIT
        self._refused = _Refusal(hash, reason, wait, self._clock() + wait)
        self._events.error(reason, "gate refused", hash=hash, retry=f"{wait:g}s")
        self._measures.gate_run("refused")
        return GateClosed(reason, fresh=True)
