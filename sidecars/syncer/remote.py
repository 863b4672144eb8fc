"""What the ref is at the remote now, asked in the cheapest way that there is."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

from sidecars.core.errors import SidecarError
from sidecars.core.git import Git
from sidecars.syncer import probe
from sidecars.syncer.credentials import Access
from sidecars.syncer.settings import Settings

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PROBE_SECONDS = 10.0


class Remote:
    """Looks at one ref: from within the process where that asks as git would, else by `git ls-remote` in `cwd`."""

    def __init__(self, settings: Settings, access: Access, git: Git, cwd: str) -> None:
        self._settings = settings
        self._access = access
        self._git = git
        self._cwd = cwd
        self._probe: probe.Probe | None = None

    async def look(self, deadline: float) -> str | None:
        """Give the hash. None where it cannot be had: the fetch says why."""
        ref = self._settings.ref
        if _HASH.fullmatch(ref):
            return ref
        if probe.understands(self._settings):
            if self._probe is None:
                self._probe = probe.Probe(self._access.url, ref, self._access.login, self._access.ca_file)
            with contextlib.suppress(probe.NotAnswered):
                return await self._probe.hash_of_ref(min(_PROBE_SECONDS, max(0.1, deadline - time.monotonic())))
        return await asyncio.to_thread(self._listed, deadline)

    def _listed(self, deadline: float) -> str | None:
        names = probe.names(self._settings.ref)
        peeled = [f"{name}^{{}}" for name in names]
        try:
            output = self._git.run(
                "ls-remote", "-q", self._access.url, *names, *peeled, cwd=self._cwd, deadline=deadline
            )
        except SidecarError:
            return None
        refs: dict[str, str] = {}
        for line in output.text.splitlines():
            commit, _, name = line.partition("\t")
            refs[name] = commit
        found = next((name for name in names if name in refs), None)
        return None if found is None else refs.get(f"{found}^{{}}", refs[found])

    async def close(self) -> None:
        """Close the connection that is kept."""
        if self._probe is not None:
            await self._probe.close()
