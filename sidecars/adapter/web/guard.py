"""Who may read, and what every answer says to browsers."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecars.adapter.web.refusal import Refusal
from sidecars.core.errors import WrongSettings

if TYPE_CHECKING:
    from sidecars.adapter.settings import Settings

# The page's script and style are files of their own, and logs are hostile text: nothing inline ever runs. No header
# lets other origins read. A Host that is a name is not refused, for Services and Ingresses have names; where that
# matters, --auth-* keeps out pages that make a name of theirs resolve to this address.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "log-adapter",
}


class Guard:
    """Asks for a password or a token, if the settings have one. Secrets are read anew when their files change."""

    def __init__(self, settings: Settings) -> None:
        if (settings.auth_user is None) != (settings.auth_password is None):
            raise WrongSettings("--auth-user and --auth-password-file need each other: give both, or none")
        self._user = settings.auth_user
        self._password = settings.auth_password
        self._token = settings.auth_token

    @property
    def token_only(self) -> bool:
        """Whether a browser cannot answer by itself: the page, which holds nothing, is given to ask for the token."""
        return self._token is not None and self._password is None

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise Refusal, with status 401, unless the client knows a secret."""
        if self._password is None and self._token is None:
            return
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if not (self._knows_password(scheme.lower(), given) or self._knows_token(scheme.lower(), given)):
            raise Refusal(401, "this needs credentials: " + self._wanted(), {"WWW-Authenticate": self._challenge()})

    def _knows_password(self, scheme: str, given: str) -> bool:
        if self._password is None or scheme != "basic":
            return False
        try:
            user, colon, password = base64.b64decode(given.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        right_user = hmac.compare_digest(user, (self._user or "").encode())
        right_password = hmac.compare_digest(password, self._password.reveal().encode())
        return bool(colon) and right_user & right_password

    def _knows_token(self, scheme: str, given: str) -> bool:
        if self._token is None or scheme != "bearer":
            return False
        secret = self._token.reveal()
        return bool(secret) and hmac.compare_digest(given.strip().encode(errors="surrogateescape"), secret.encode())

    def _challenge(self) -> str:
        known = {'Basic realm="logs", charset="UTF-8"': self._password, 'Bearer realm="logs"': self._token}
        return ", ".join(text for text, secret in known.items() if secret is not None)

    def _wanted(self) -> str:
        known = {"a user and a password": self._password, "a bearer token": self._token}
        return " or ".join(text for text, secret in known.items() if secret is not None)


def check_origin(headers: Mapping[str, str]) -> None:
    """Raise Refusal for a POST that a page of another origin makes in somebody's browser."""
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("Host", ""):
        raise Refusal(403, "POST is refused to pages of other origins")
