"""Who has signed a commit, and whether that key may sign: asked of git before a revision is published."""

from __future__ import annotations

from sidecars.core.git import Git
from sidecars.syncer.settings import Settings


class Signatures:
    """Verifies commits by --verify-signatures; does nothing where that is off."""

    def __init__(self, settings: Settings, git: Git) -> None:
        self._settings = settings
        self._git = git

    def verify(self, hash: str, cwd: str, deadline: float | None = None) -> None:
        """Return if a known key has signed the commit. Raises SidecarError that says who has, or that nobody has."""
