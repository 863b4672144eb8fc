"""A GitHub App's token: asked for with a signed request, used in the place of a password, renewed before it expires."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from datetime import datetime
from typing import Any

from sidecars.core.errors import SidecarError
from sidecars.core.units import Secret
from sidecars.syncer.private import PrivateFile
from sidecars.syncer.settings import Settings

_RENEW_BEFORE = 30  # seconds
_JWT_LIFE = 600  # seconds; GitHub takes no longer one
_PATIENCE = 30.0  # seconds


class NoToken(SidecarError):  # noqa: N818
    """There is no token of the GitHub App."""


class GitHubApp:
    """One installation of a GitHub App.

    Source: docs.github.com, "Generating an installation access token for a GitHub App"; RFC 7519, RFC 7518 section 3.3.
    """

    def __init__(self, settings: Settings, key: Secret, ca_file: str) -> None:
        self._key = key
        self._ca_file = ca_file
        self._issuer = settings.github_app_client_id or str(settings.github_app_application_id)
        base = settings.github_base_url.rstrip("/")
        self._url = f"{base}/app/installations/{settings.github_app_installation_id}/access_tokens"
        self._expires = 0.0
        self.token = ""

    @property
    def due(self) -> bool:
        """Whether a token must be asked for: there is none, or it expires within 30 s."""
        return time.time() > self._expires - _RENEW_BEFORE

    def renew(self, deadline: float) -> None:
        """Ask for a token, until time.monotonic() is at the deadline. Raises NoToken, WrongSettings and NoAnswer."""
        from sidecars.syncer.asking import ask  # urllib, which few need

        left = max(0.1, min(_PATIENCE, deadline - time.monotonic()))
        signed = jwt(self._issuer, self._key.reveal(), int(time.time()), left)
        headers = {
            "Authorization": f"Bearer {signed}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "git-syncer",  # GitHub refuses a request without one.
        }
        status, body = ask("POST", self._url, headers, left, self._ca_file)
        if status != 201:
            raise NoToken(
                f"GitHub answers {status} instead of 201 to {self._url}{_said(body)}; "
                "are the App's id, its installation's id, its key and this machine's clock right?"
            )
        self.token, self._expires = _read(body)


def _read(body: bytes) -> tuple[str, float]:
    """Read a token, and when it expires in seconds since 1970."""
    try:
        found = json.loads(body)
        token, expires = found["token"], datetime.fromisoformat(found["expires_at"]).timestamp()
    except (ValueError, TypeError, KeyError):
        raise NoToken("GitHub's answer holds no token with its time of expiry") from None
    if not isinstance(token, str) or not token.isprintable() or not token:
        raise NoToken("GitHub's answer holds a token that is no text")
    return token, expires


def _said(body: bytes) -> str:
    """What GitHub says of an error, quoted and bounded: it is another's text."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, TypeError, KeyError):
        return ""
    return f" ({json.dumps(str(message)[:200])})"


def jwt(issuer: str, key: str, now: int, seconds: float) -> str:
    """Make the signed request: three parts of base64url without padding, joined by dots. Raises NoToken.

    {"alg": "RS256", "typ": "JWT"} . {"iat": 1700000000, "exp": 1700000600, "iss": "Iv1.8a61f9b3a7aba766"} . signature
    """
    parts: list[dict[str, Any]] = [
        {"alg": "RS256", "typ": "JWT"},
        {"iat": now, "exp": now + _JWT_LIFE, "iss": issuer},
    ]
    head = b".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return b".".join([head, _base64url(_signature(head, key, seconds))]).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _signature(text: bytes, key: str, seconds: float) -> bytes:
    """Sign with RSASSA-PKCS1-v1_5 and SHA-256, by the openssl program: the library would cost every pod 46 MB."""
    if "PRIVATE KEY-----" not in key:
        raise NoToken("the GitHub App's private key is no key in PEM; give the file that GitHub let you download")
    file = PrivateFile(key.encode())
    command = ["openssl", "dgst", "-sha256", "-passin", "pass:", "-sign", file.path]
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise NoToken("a GitHub App needs the openssl program, which is not in this image; add it") from None
    except subprocess.TimeoutExpired:
        raise NoToken(f"openssl has not signed within {seconds:.0f} s") from None
    finally:
        file.close()
    # A key of another kind signs too, but not so that GitHub could read it: no RSA key of use is below 1024 bits.
    if done.returncode != 0 or len(done.stdout) < 128:
        raise NoToken("openssl cannot sign with the GitHub App's private key; is it an RSA key, without a passphrase?")
    return done.stdout
