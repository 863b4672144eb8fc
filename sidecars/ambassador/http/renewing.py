"""What is made of a secret, made anew when its file changes: looked at when it is used, once a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from sidecars.core.errors import WrongSettings
from sidecars.core.log import log
from sidecars.core.units import Secret

T = TypeVar("T")

_LOOK = 1.0  # seconds between two looks at a file


class Renewed(Generic[T]):
    """What make() gives for a secret's text now.

    make  raises ValueError, whose text must not have the secret in it; then, as when the file cannot be read, what was
          made before stays in force, and it is said once
    none  what there is as long as there was no good text
    look  seconds between two looks at the file
    """

    def __init__(self, secret: Secret, make: Callable[[str], T], none: T, look: float = _LOOK) -> None:
        self._secret = secret
        self._make = make
        self._made = none
        self._text: str | None = None
        self._trouble = ""
        self._look_every = look
        self._due = 0.0

    def get(self) -> T:
        """Give it."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._look_every
            self._look()
        return self._made

    def _look(self) -> None:
        try:
            text = self._secret.reveal()
        except WrongSettings as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("secret cannot be read", file=self._secret.file, error=self._trouble)
            return
        if text == self._text:
            return
        self._text = text
        try:
            self._made = self._make(text)
        except ValueError as error:
            advice = "the one before stays in force"
            log.warning("secret not taken", file=self._secret.file, error=str(error), advice=advice)
