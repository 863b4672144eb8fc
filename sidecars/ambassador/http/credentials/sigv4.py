"""AWS Signature Version 4, by botocore: the one door to it."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

import botocore.session
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

from sidecars.ambassador.http.credentials import Unavailable, without
from sidecars.ambassador.http.renewing import Renewed
from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import SigV4Credential
from sidecars.core.log import log
from sidecars.core.units import Secret

UNSIGNED = "UNSIGNED-PAYLOAD"
_OURS = (b"authorization", b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256")
_LOOK, _RETRY = 60.0, 5.0  # seconds between two looks at the SDK's chain, after a success and after a failure
_S3 = ("s3", "s3-object-lambda", "s3-outposts")


def _signature(kind: type[SigV4Auth]) -> type[SigV4Auth]:
    """Give one of botocore's ways to sign, for bodies whose hash is known."""

    class Signature(kind):  # type: ignore[misc]
        def payload(self, request: AWSRequest) -> str:
            return str(request.context["payload"])

    return Signature


_PLAIN, _FOR_S3 = _signature(SigV4Auth), _signature(S3SigV4Auth)


class SigV4Signer:
    """Signs with keys from files, or with those that the SDK finds: variables, a profile, a web identity, a role."""

    def __init__(self, settings: SigV4Credential) -> None:
        self.needs_body = settings.sign_body
        self._settings = settings
        self._s3 = settings.service in _S3
        self._id, self._key, self._token = map(_kept, _secrets(settings))
        if self._id is None:
            _chain.begin()

    def sign(
        self, method: str, scheme: str, authority: str, target: bytes, headers: Headers, body: bytes | None
    ) -> Headers:
        """Give the headers with the signature. Raises Unavailable."""
        settings, credentials = self._settings, self._credentials()
        rest = without(headers, *_OURS)
        try:
            request = _request(method, f"{scheme}://{authority}", target, _signed(rest, authority), self._s3)
        except UnicodeError:
            raise Unavailable("the target is not UTF-8, which AWS takes only") from None
        request.context["payload"] = hashlib.sha256(body or b"").hexdigest() if settings.sign_body else UNSIGNED
        signature = _FOR_S3 if self._s3 else _PLAIN
        if not settings.sign_body:
            request.headers["X-Amz-Content-SHA256"] = UNSIGNED
        signature(credentials, settings.service, settings.region).add_auth(request)
        added = {name.lower(): (name, value) for name, value in request.headers.items()}
        names = [name for each in _OURS if (name := each.decode()) in added]
        return rest + [(added[name][0].encode(), added[name][1].encode()) for name in names]

    def _credentials(self) -> ReadOnlyCredentials:
        if self._id is None:
            return _chain.credentials()
        id, key = self._id.get(), self._key.get() if self._key else ""
        if not id or not key:
            raise Unavailable("the access key or its secret cannot be read, or is empty")
        return ReadOnlyCredentials(id, key, (self._token.get() if self._token else "") or None)


def _secrets(settings: SigV4Credential) -> tuple[Secret | None, Secret | None, Secret | None]:
    return settings.access_key_id, settings.secret_access_key, settings.session_token


def _kept(secret: Secret | None) -> Renewed[str] | None:
    return None if secret is None else Renewed(secret, str.strip, "")


def _signed(headers: Headers, authority: str) -> dict[str, str]:
    """Give the headers that are signed: those that must be. Others may be changed on the way."""
    signed: dict[str, list[str]] = {}
    for name, value in headers:
        low = name.lower().decode("latin-1")
        if low.startswith("x-amz-") or low in ("content-type", "content-md5"):
            signed.setdefault(low, []).append(value.decode("latin-1"))
    return {"host": authority, **{name: ",".join(values) for name, values in signed.items()}}


def _request(method: str, origin: str, target: bytes, headers: dict[str, str], s3: bool) -> AWSRequest:
    """Give what botocore signs: the target as the server will write it after it has understood it.

    A client may send what no escape is needed for either way, and an empty parameter with and without its =; the
    server compares with one form of all that. S3's paths are encoded once, and all others twice, which botocore does.
    """
    path, _, query = target.decode("ascii").partition("?")
    pairs = [each.partition("=") for each in query.split("&") if each]
    parameters = [(_text(name), _text(value)) for name, _, value in pairs]
    # An encoded slash is one in a key of S3; elsewhere it is a part of its segment.
    segments = [path] if s3 else path.split("/")
    encoded = "/".join(quote(unquote(each, errors="strict"), "/-_.~" if s3 else "-_.~") for each in segments)
    return AWSRequest(method, origin + encoded, headers, params=parameters)


def _text(part: str) -> str:
    return unquote_plus(part, errors="strict")


class _Chain:
    """The SDK's own search for credentials, which may ask other machines: in a thread, for it blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._found: ReadOnlyCredentials | None = None
        self._why = "the SDK is looking for credentials still"

    def begin(self) -> None:
        """Look from now on, and keep what is found fresh. It ends with the process."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aws-credentials", daemon=True)
                self._thread.start()

    def credentials(self) -> ReadOnlyCredentials:
        """Give what was found last. Raises Unavailable."""
        if self._found is None:
            raise Unavailable(self._why)
        return self._found

    def _run(self) -> None:
        session: Any = None
        while True:
            try:
                session = session or botocore.session.Session()
                found = session.get_credentials()
                self._found = found and found.get_frozen_credentials()
                self._why = "the SDK finds no credentials: no variables, profile, web identity or instance role"
            except (BotoCoreError, OSError, ValueError) as error:
                # What was found before holds as long as AWS takes it.
                self._why = f"the SDK cannot get credentials: {type(error).__name__}"
            if self._found is None:
                log.warning("no AWS credentials", reason=self._why)
            time.sleep(_LOOK if self._found else _RETRY)


_chain = _Chain()
