"""One HTTP request, asked in the thread that calls and answered within a time: for credentials that servers give."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sidecars.core.errors import SidecarError, redacted
from sidecars.syncer.logins import basic, taken_out

_LONGEST = 1024 * 1024
_PIECE = 16 * 1024


class NoAnswer(SidecarError):  # noqa: N818
    """A server that was asked has not answered, or not to the end, or not in time."""


class Answer(NamedTuple):
    """A status and a body of up to 1 MiB."""

    status: int
    body: bytes


class _AsTheyAre(urllib.request.HTTPErrorProcessor):
    """Every answer is one, whatever its status. A redirect is not followed: it would take our token to another host."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


def ask(method: str, url: str, headers: Mapping[str, str], seconds: float, ca_file: str) -> Answer:
    """Ask, and give the answer whatever its status; the proxies of the environment are used, but not for loopback.

    Raises NoAnswer. Every read has the time that is left, and so a server that trickles is given up in time too.
    """
    deadline = time.monotonic() + seconds
    try:
        clean, login = taken_out(url)
        parts = urlsplit(clean)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NoAnswer(f"{redacted(url)} is no http or https URL")
        headers = {**headers, **({"Authorization": f"Basic {basic(login)}"} if login else {})}
        request = urllib.request.Request(clean, method=method, headers=headers)  # noqa: S310 (it is http)
        with _opener(parts.hostname, ca_file).open(request, timeout=seconds) as response:
            return Answer(response.status, _body(response, deadline))
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise NoAnswer(f"{method} {redacted(url)} is not answered: {redacted(str(reason))}") from None


def _opener(host: str, ca_file: str) -> urllib.request.OpenerDirector:
    # Without a file, $SSL_CERT_FILE or the system's own certificates.
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise NoAnswer(f"the certificates in {ca_file} are of no use: {error}; is it mounted, and PEM?") from None
    handlers: list[urllib.request.BaseHandler] = [_AsTheyAre(), urllib.request.HTTPSHandler(context=context)]
    if host in ("localhost", "::1") or host.startswith("127."):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _body(response: Any, deadline: float) -> bytes:
    body = b""
    while piece := response.read1(_PIECE):
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
        if len(body) > _LONGEST:
            raise ValueError("the answer is longer than 1 MiB")
    if response.length:  # read1 does not tell of an answer that was cut; half a password would be refused for ever.
        raise http.client.IncompleteRead(body, response.length)
    return body
