"""A follower for each output of a program, so that each has its own offsets: what such programs do with them all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from sidecars.core.errors import WrongSettings
from sidecars.core.follow import absent
from sidecars.core.follow.checkpoint import JsonStore
from sidecars.core.follow.follower import Follower, follow
from sidecars.core.follow.identity import printable
from sidecars.core.follow.lane import Options, Source
from sidecars.core.health import Health
from sidecars.core.metrics import oldest_undelivered

_LOOK_SECONDS = 1.0
# The status page shows so many of the files that are furthest behind.
_SHOWN = 50


class Followers:
    """The followers of some sources, by output; each ends with the block in which it was begun.

    A checkpoint is called after the program and the output.
    """

    def __init__(self, program: str, sources: Sequence[Source], options: Options) -> None:
        self._program = program
        self._sources = sources
        self._options = options
        self._by_output: dict[str, Follower] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin with none."""
        oldest_undelivered.set_function(lambda: max((each.oldest_seconds for each in self), default=0.0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all."""
        await self._stack.__aexit__(kind, error, trace)

    async def begin(self, output: str, directory: str | None) -> None:
        """Follow for an output, from the checkpoint in the state directory, if there are both."""
        name = f"{self._program}-{re.sub(r'[^A-Za-z0-9.-]+', '_', output)}.json"
        store = JsonStore(os.path.join(directory, name)) if directory is not None else None
        following = follow(self._sources, self._options, store=store, output=output)
        self._by_output[output] = await self._stack.enter_async_context(following)

    def __iter__(self) -> Iterator[Follower]:
        """Give all."""
        return iter(self._by_output.values())

    def of(self, output: str) -> Follower | None:
        """Give an output's; None where nothing is followed for it."""
        return self._by_output.get(output)

    @property
    def paths(self) -> Sequence[str]:
        """The paths that are followed, which are the same for all."""
        return next(iter(self)).paths if self._by_output else ()

    @property
    def unreadable(self) -> list[str]:
        """The paths that cannot be read now."""
        return [path for each in self for path in each.unreadable]

    def drain(self, quiet: float) -> None:
        """End when the files were quiet for so many seconds."""
        for each in self:
            each.drain(quiet)

    def check_state(self, directory: str | None) -> None:
        """Raise WrongSettings for a state directory whose files would be followed."""
        if directory and any(source.patterns.matches(os.path.join(directory, "x.json")) for source in self._sources):
            raise WrongSettings(
                f"--state-dir {directory} lies where the paths to read find it; choose a directory outside of them"
            )

    def complain_of_missing(self) -> None:
        """Raise SidecarError where a file that was named was not there, or could not be read."""
        absent.complain(self._sources, self.unreadable)

    def undelivered(self, *, aside: str = "") -> list[str]:
        """Say how many bytes of which file did not reach which output, but for the one `aside`."""
        texts = []
        for output, each in self._by_output.items():
            lag, behind = each.lag_bytes, each.furthest_behind(2)
            if lag and output != aside:
                more = " and more" if len(behind) > 1 and behind[1]["lag_bytes"] else ""
                texts.append(f"{lag} bytes of {printable(behind[0]['path'])}{more} not delivered to {output}")
        return texts

    def status(self) -> dict[str, object]:
        """Give numbers and rows for the status page."""
        outputs = [
            {
                "output": output,
                "delivered_bytes_total": each.delivered_bytes,
                "lag_bytes": each.lag_bytes,
                "oldest_undelivered_seconds": round(each.oldest_seconds, 1),
            }
            for output, each in self._by_output.items()
        ]
        files = [
            {"output": output, **row}
            for output, each in self._by_output.items()
            for row in each.furthest_behind(_SHOWN)
        ]
        numbers = {
            "delivered_bytes_total": sum(each.delivered_bytes for each in self),
            "lag_bytes": sum(each.lag_bytes for each in self),
            "paths": len(self.paths),
        }
        return {"numbers": numbers, "tables": {"outputs": outputs, "files": files}}


async def watch_health(unreadable: Callable[[], Sequence[str]], health: Health) -> None:
    """Let /healthz say which files cannot be read, for ever."""
    while True:
        paths = unreadable()
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            health.failing("files", f"cannot read {printable(paths[0])}{more}")
        else:
            health.working("files")
        await asyncio.sleep(_LOOK_SECONDS)
