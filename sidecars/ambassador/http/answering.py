"""Answers that are made here: refusals and errors, and those of an answerer in the upstream's place."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, Protocol

from sidecars.ambassador.http.request import Headers, Request


class Answer(NamedTuple):
    """A whole answer.

    headers  beside Content-Length and Connection, which are put there by themselves
    """

    status: int
    headers: Headers
    body: bytes = b""


class Answerer(Protocol):
    """What answers in the upstream's place, in this process: given to Serving, it gets what the rules let pass."""

    def answer(self, request: Request, body: bytes, done: Callable[[Answer], None]) -> Callable[[], None]:
        """Answer a request, whose body is whole (of `max_body` at most, or 1 MiB): call done() once, now or later.

        What is given back is called when nobody waits for the answer any more; done() may be called still then.
        """


_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
NO_BODY = frozenset({204, 304})


def reason(status: int) -> bytes:
    """Give the words of a status."""
    return _REASONS.get(status, b"Unknown")


def written(answer: Answer, *, head_only: bool, keep: bool, old: bool, name: bytes, id: str | None) -> bytes:
    """Write an answer.

    head_only  to HEAD, the body is not sent
    keep, old  the connection stays open; the client speaks HTTP/1.0, which must be told so
    name, id   the header of the request's id, and the id, if there is one
    """
    lines = [b"HTTP/1.1 %d %b" % (answer.status, reason(answer.status))]
    lines += [b"%b: %b" % pair for pair in answer.headers]
    if answer.status not in NO_BODY:
        lines.append(b"Content-Length: %d" % len(answer.body))
    if id is not None:
        lines.append(b"%b: %b" % (name, id.encode("latin-1")))
    if not keep or old:
        lines.append(b"Connection: keep-alive" if keep else b"Connection: close")
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head if head_only or answer.status in NO_BODY else head + answer.body


def said(status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    """Make the short answer of a refusal or an error: a line of text."""
    return Answer(status, [(b"Content-Type", b"text/plain; charset=utf-8"), *headers], f"{text}\n".encode())


_ERRORS = {
    "no_upstream": (503, "there is no upstream to ask now"),
    "queue": (503, "too many requests wait for an upstream"),
    "overflow": (503, "too many requests are at the upstreams"),
    "connect_failed": (502, "the upstream cannot be connected to"),
    "upstream_reset": (502, "the upstream broke off before it answered"),
    "upstream_closed": (502, "the upstream broke off before it answered"),
    "bad_response": (502, "the upstream's answer cannot be understood"),
    "try_timeout": (504, "the upstream did not answer in time"),
    "timeout": (504, "the upstream did not answer in time"),
    "body_timeout": (408, "the body did not come in time"),
    "credential": (502, "the credential for the upstream is not there now"),
}
# These are decided here; of the others, the upstream or the client is the reason.
OWN = frozenset({"no_upstream", "queue", "overflow", "credential"})


def error(why: str) -> Answer:
    """Make the answer to a request that came to nothing."""
    status, text = _ERRORS[why]
    return said(status, text, ((b"Retry-After", b"1"),) if status == 503 else ())
