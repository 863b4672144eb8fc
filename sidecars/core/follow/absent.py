"""Files that were named and are not there, or cannot be read: a failure for who reads once, and waits for nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from sidecars.core.errors import SidecarError
from sidecars.core.follow.identity import printable
from sidecars.core.follow.lane import Source


def complain(sources: Iterable[Source], unreadable: Sequence[str]) -> None:
    """Raise SidecarError for the first path that is named without a glob and is missing, or that cannot be read."""
    literal = [path for source in sources for path in source.patterns.literal()]
    missing = [path for path in literal if not os.path.exists(path)]
    if missing or unreadable:
        problem = f"no such file: {missing[0]}" if missing else f"cannot read {unreadable[0]}"
        raise SidecarError(f"{printable(problem)}; what was there is delivered, check the path and the mounts")
