"""Every failure an operator can do something about, with the exit code it ends the program with."""

# ruff: noqa: N818  (each class is named for what happened)

from __future__ import annotations

import re

# The userinfo ends at the last @ of the authority, so that an @ left unescaped in a password does not end it early. An
# unescaped slash in a password would end the authority: what follows a colon and is no port number is taken for one.
_USERINFO = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s/?#@:]*:(?!\d+(?:[/?#\s]|$))[^\s@]*@)")


def redacted(text: str) -> str:
    """Replace the userinfo of every URL in the text.

    "cannot reach https://bot:hunter2@git.example/app" -> "cannot reach https://***@git.example/app"
    """
    return _USERINFO.sub("***@", text) if "://" in text else text


class SidecarError(Exception):
    """A failure whose text tells the operator what happened, to which value, and what to do."""

    exit_code = 1


class WrongSettings(SidecarError):
    """The program cannot run as it was asked to."""

    exit_code = 2


class Transient(SidecarError):
    """What failed may succeed when it is tried again."""


class DeliveryFailed(Transient):
    """A delivery failed; the code is the short word for it in the metric delivery_errors_total.

    pause  how many seconds to wait at least before the next attempt, where the destination or its answer says so
    """

    def __init__(self, code: str, text: str, pause: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.pause = pause


class TimedOut(SidecarError):
    """What was waited for has not happened in time."""

    exit_code = 124


class Impossible(SidecarError):
    """What was asked for can never succeed."""

    exit_code = 125
