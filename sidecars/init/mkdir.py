"""pod-init mkdir: directories on a volume, with a mode, and without chown: fsGroup is what lets others in."""

from __future__ import annotations

import os
import stat
from typing import Annotated

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import Help
from sidecars.init.advice import said
from sidecars.init.settings import Common
from sidecars.init.tree import checked_mode

WHAT = "What to make"


class Settings(Common, frozen=True, kw_only=True):
    """Make directories, with those above them. One that is there stays, with what is in it.

    Nothing is chowned: a pod's fsGroup owns what is made on a volume.

        pod-init mkdir /data/cache /data/logs --mode 2775
    """

    paths: Annotated[tuple[str, ...], Help("The directories.", WHAT, metavar="DIR", positional=True)] = ()
    mode: Annotated[
        str | None,
        Help(
            "Permissions of each DIR, also of one that is there.", WHAT, "OCTAL", none="", default="as the umask has it"
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if not self.paths or not all(self.paths):
            raise WrongSettings("mkdir needs a DIR: pod-init mkdir /data/cache --mode 2775")
        checked_mode("--mode", self.mode)


def run(settings: Settings) -> None:
    """Make them. Raises SidecarError."""
    for path in settings.paths:
        if not os.path.isabs(path):
            log.warning("relative path", path=path, becomes=os.path.abspath(path))
        try:
            _make(os.path.abspath(path), checked_mode("--mode", settings.mode))
        except OSError as error:
            raise SidecarError(said("make the directory", path, error)) from error


def _make(path: str, mode: int | None) -> None:
    there = os.path.isdir(path)
    os.makedirs(path, exist_ok=True)
    found = os.stat(path).st_mode
    # What fsGroup has set hands the group down to what is made below.
    wanted = found if mode is None else mode | found & stat.S_ISGID
    if stat.S_IMODE(found) != stat.S_IMODE(wanted):
        os.chmod(path, stat.S_IMODE(wanted))
    log.info("directory there" if there else "directory made", path=path, mode=f"{stat.S_IMODE(wanted):04o}")
