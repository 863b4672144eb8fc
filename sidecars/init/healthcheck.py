"""pod-init healthcheck: one look at the targets that wait takes, for exec probes and compose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.settings import Help, Seconds
from sidecars.init.checks import Check, Result, attempt
from sidecars.init.settings import PREFIX, Logging
from sidecars.init.target import Target
from sidecars.init.waiting import ENOUGH, prepare
from sidecars.init.watching import turned

__all__ = ["PREFIX", "PROG", "Settings", "run"]

PROG = "pod-init healthcheck"


class Settings(Logging, frozen=True, kw_only=True):
    """Look once at each target, and exit 0 if all are as wanted, else 1, with the reason on stdout.

        pod-init healthcheck TARGET...

    The targets are those of pod-init wait. A probe's timeoutSeconds, 1 by default, is to be longer than --patience.
    """

    targets: Annotated[tuple[str, ...], Help("What to look at.", metavar="TARGET", positional=True)] = ()
    any_: Annotated[bool, Help("One target is enough.", ENOUGH)] = False
    quorum: Annotated[int | None, Help("So many targets are enough.", ENOUGH, none="", default="all")] = None
    patience: Annotated[Seconds, Help("How long one look may take.")] = Seconds(5)

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if not self.targets:
            raise WrongSettings("there is nothing to look at: give a TARGET, or set INIT_TARGETS")
        for target, _ in prepare(self.targets):
            if "stable" in target.options or target.options.get("newer") == "start":
                raise WrongSettings(f"{target.text} compares two looks, but this looks once; use pod-init wait")
        if self.any_ and self.quorum is not None:
            raise WrongSettings("--any and --quorum say different things; keep one")
        if self.quorum is not None and not 1 <= self.quorum <= len(self.targets):
            raise WrongSettings(f"--quorum is {self.quorum}, expected 1 to {len(self.targets)}, the number of targets")
        if self.patience < 0.01:
            raise WrongSettings(f"--patience is {self.patience}, expected 10ms or more")


def run(settings: Settings) -> None:
    """Look. Raises SidecarError when too little is as wanted."""
    found = prepare(settings.targets)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    results = loop.run_until_complete(_look(found, settings.patience))
    for (target, _), result in zip(found, results, strict=True):
        print(f"{result.state:<12} {target.text}: {result.text}")
    good = sum(result.state == "ok" for result in results)
    needed = 1 if settings.any_ else settings.quorum or len(found)
    if good < needed:
        raise SidecarError(f"{good} of {len(found)} as wanted, {needed} needed")


async def _look(found: Sequence[tuple[Target, Check]], patience: float) -> list[Result]:
    return await asyncio.gather(*(_one(target, check, patience) for target, check in found))


async def _one(target: Target, check: Check, patience: float) -> Result:
    result = await attempt(check, target, target.seconds("patience") or patience)
    return turned(result) if target.negated else result
