"""pod-init write: one value to one file, whole or not at all, and exactly, as a shell's echo is not."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import Annotated

from sidecars.core import disk
from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import Help
from sidecars.init.advice import said
from sidecars.init.settings import Common
from sidecars.init.tree import checked_mode

WHAT, HOW = "What to write", "How to write it"


class Settings(Common, frozen=True, kw_only=True):
    """Write a value to a file: whole or not at all, with no newline added, and only if it is another.

    A value that is a secret comes from a variable or a file: everybody in the pod can read a command line.

        pod-init write /etc/app/key.pem --from-env KEY_B64 --base64 --mode 0600
        pod-init write /etc/app/mode --text production
    """

    paths: Annotated[tuple[str, ...], Help("The file.", WHAT, metavar="FILE", positional=True)] = ()
    from_env: Annotated[str | None, Help("The variable that holds the value.", WHAT, "NAME", none="")] = None
    from_file: Annotated[str | None, Help("The file that holds the value.", WHAT, "PATH", none="")] = None
    text: Annotated[str | None, Help("The value itself; no secret.", WHAT, "TEXT", none="")] = None
    base64: Annotated[bool, Help("The value is in base64: write what it stands for.", HOW)] = False
    newline: Annotated[bool, Help("End the file with a newline, if the value does not.", HOW)] = False
    mode: Annotated[str, Help("Permissions of the file.", HOW, "OCTAL")] = "0640"

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if len(self.paths) != 1 or not self.paths[0]:
            raise WrongSettings(f"write needs one FILE, and got {len(self.paths)}: pod-init write FILE --from-env NAME")
        given = [each for each in (self.from_env, self.from_file, self.text) if each is not None]
        if len(given) != 1:
            raise WrongSettings("give one of --from-env, --from-file and --text: there is where the value comes from")
        checked_mode("--mode", self.mode)


def run(settings: Settings) -> None:
    """Write it. Raises SidecarError."""
    path = os.path.abspath(settings.paths[0])
    data = _value(settings)
    if settings.base64:
        data = _decoded(data)
    if settings.newline and not data.endswith(b"\n"):
        data += b"\n"
    write(path, data, checked_mode("--mode", settings.mode) or 0)


def write(path: str, data: bytes, mode: int) -> None:
    """Write a file, unless it is this already; makes the directories above it. Raises SidecarError."""
    try:
        if _is(path, data, mode):
            log.info("unchanged", path=path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        disk.replace_file(path, data, mode)
    except OSError as error:
        raise SidecarError(said("write", path, error)) from error
    log.info("written", path=path, bytes=len(data), mode=f"{mode:04o}")


def _is(path: str, data: bytes, mode: int) -> bool:
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or (stat.S_IMODE(status.st_mode), status.st_size) != (mode, len(data)):
            return False
        with open(path, "rb") as file:
            return file.read() == data
    except (FileNotFoundError, PermissionError):
        return False


def _value(settings: Settings) -> bytes:
    if settings.text is not None:
        return settings.text.encode("utf-8", "surrogateescape")
    if settings.from_env is not None:
        # The environment is data here, whichever variable an operator names.
        if settings.from_env not in os.environ:
            raise SidecarError(f"--from-env {settings.from_env} is not set; give the container this variable")
        return os.fsencode(os.environ[settings.from_env])
    path = settings.from_file or ""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise SidecarError(f"--from-file {path} cannot be read: {error.strerror}; is it mounted?") from error


def _decoded(data: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error as error:
        raise SidecarError("the value is not base64; leave --base64 out, or look where it comes from") from error
