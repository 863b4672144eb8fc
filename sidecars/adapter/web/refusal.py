"""Why a request is not answered as it was asked, as an exception that any room of the web server may raise."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818  (named for what happened)
    """A request is refused: the status, a text that says what, which value and what to do, and headers."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


def shown(text: str) -> str:
    """Give a value that somebody sent, as an answer may repeat it: short, and without what a terminal obeys."""
    return repr(text if len(text) <= 80 else text[:80] + "...")
