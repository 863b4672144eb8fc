"""What went wrong between us and S3: in the server's own words, and with what to do about it."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from typing import Any, NamedTuple

from sidecars.core.errors import Transient, redacted

_LONGEST = 300
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,60}")


class Failed(Transient):
    """S3 did not do what it was asked to.

    code           S3's own, such as SlowDown, or the status if it gave none; else timeout, connection, tls, proxy,
                   credentials, settings, answer, checksum
    permanent      somebody has to change something; tried again, it works once they have
    outcome_known  nothing was stored; else the object may be there
    """

    def __init__(self, text: str, *, code: str, permanent: bool = False, outcome_known: bool = True) -> None:
        super().__init__(text)
        self.code = code
        self.permanent = permanent
        self.outcome_known = outcome_known


class Taken(Failed):
    """There is an object under this key already (412)."""


class Conflict(Failed):
    """Somebody else writes to this key at the same moment (409)."""


class Corrupted(Failed):
    """The object is there, and is not what was sent."""


# Answers 4xx that the same request need not get again. All others are permanent, and so is 501.
_PASSING_STATUSES = (408, 409, 412, 425, 429)
_PASSING_CODES = {
    "BadDigest", "BandwidthLimitExceeded", "IncompleteBody", "RequestLimitExceeded", "RequestTimeout", "SlowDown",
    "TooManyRequests", "XAmzContentSHA256Mismatch",
}  # fmt: skip

_RIGHTS = {
    "PutObject": "s3:PutObject",
    "HeadObject": "s3:GetObject, and s3:ListBucket for objects that are not there,",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "HeadBucket": "s3:ListBucket",
    "CreateBucket": "s3:CreateBucket",
    "AssumeRole": "sts:AssumeRole",
    "AssumeRoleWithWebIdentity": "sts:AssumeRoleWithWebIdentity",
}
_REGION = "set the region that the bucket is in"
_RENEW = "renew the credentials"
_ADVICE = {
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": _RENEW,
    "ExpiredTokenException": _RENEW,
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": "is it the right access key, and for this endpoint?",
    "InvalidBucketName": "correct the bucket's name",
    "InvalidToken": _RENEW,
    "NoSuchBucket": "make the bucket, or correct its name",
    "PermanentRedirect": _REGION,
    "PreconditionFailed": "has another writer the same keys?",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": "is the secret access key right?",
    "SlowDown": "if it lasts, upload fewer and larger objects, or spread them over prefixes",
}


class _Broken(NamedTuple):
    """How an exception of botocore, by its class's name, is told."""

    name: str
    code: str
    permanent: bool
    outcome_known: bool
    text: str


_CREDENTIALS = "no credentials: {reason}; give an access key, a profile, a role or a service account"
_SETTINGS = "{reason}; correct the settings"
# The first that the exception is an instance of.
_BROKEN = (
    _Broken("ConnectTimeoutError", "timeout", False, True, "no connection to {host} in time; is it right, and up?"),
    _Broken("ReadTimeoutError", "timeout", False, False, "no answer from {host} in time; is it overloaded?"),
    _Broken("ProxyConnectionError", "proxy", False, True, "no connection to the proxy: {reason}; is it the right one?"),
    _Broken("SSLError", "tls", True, True, "no TLS with {host}: {reason}; is its CA given, and its name right?"),
    _Broken("EndpointConnectionError", "connection", False, True,
            "no connection to {host}: {reason}; is it right, and up?"),
    _Broken("HTTPClientError", "connection", False, False, "the connection to {host} broke: {reason}; is it stable?"),
    _Broken("ResponseParserError", "answer", False, False,
            "the answer cannot be read: {reason}; is it an S3 server, and nothing between?"),
    _Broken("WrongSettings", "settings", True, True, "{reason}"),
    *(
        _Broken(name, "credentials", True, True, _CREDENTIALS)
        for name in (
            "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "MetadataRetrievalError",
            "SSOError", "LoginError", "TokenRetrievalError", "NoAuthTokenError", "RefreshWithMFAUnsupportedError",
        )
    ),
    _Broken("BotoCoreError", "settings", True, True, _SETTINGS),
)  # fmt: skip


def failure(error: Any, doing: str) -> Failed:
    """Tell an exception of botocore's, or WrongSettings, that came of `doing`, such as "cannot store s3://logs/a"."""
    if hasattr(error, "response") and hasattr(error, "operation_name"):
        return _refused(error.response, error.operation_name, doing)
    names = {kind.__name__ for kind in type(error).__mro__}
    broken = next(each for each in _BROKEN if each.name in names)
    root = _root(error)
    url = str(getattr(error, "kwargs", {}).get("endpoint_url", ""))
    host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2] or "the endpoint"
    text = broken.text.format(host=host, reason=_words(_reason(error, root, broken)))
    code = "timeout" if isinstance(root, TimeoutError) else broken.code
    return Failed(
        redacted(f"{doing}: {text}"), code=code, permanent=broken.permanent, outcome_known=broken.outcome_known
    )


def _refused(response: dict[str, Any], operation: str, doing: str) -> Failed:
    """Tell an answer that is an error of S3's, or of the service that gives a role's credentials."""
    told, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode", 0))
    # Without an error of S3's in the answer, botocore gives the status for the code.
    code = code if _CODE.fullmatch(code := str(told.get("Code", ""))) else str(status)
    words = f"{_words(told.get('Message') or http.client.responses.get(status, 'no reason given'))} ({code})"
    by = "" if operation in _RIGHTS and not operation.startswith("Assume") else f"{operation}: "
    text = redacted(f"{doing}: {by}{words}; {_advice(code, status, operation)}")
    if by:
        return Failed(text, code=code, permanent=_is_permanent(code, status))
    # A page of HTML is not S3's answer, and must not be taken for the word that the object is there.
    if status == 412 and "html" not in about.get("HTTPHeaders", {}).get("content-type", ""):
        return Taken(text, code=code)
    if status == 409:
        return Conflict(text, code=code)
    known = 300 <= status < 500 or status == 501
    return Failed(text, code=code, permanent=_is_permanent(code, status), outcome_known=known)


def _is_permanent(code: str, status: int) -> bool:
    if code in _PASSING_CODES or "Throttl" in code or status in _PASSING_STATUSES:
        return False
    return 300 <= status < 500 or status == 501


def _advice(code: str, status: int, operation: str) -> str:
    if code in _ADVICE:
        return _ADVICE[code]
    if status in (401, 403):
        return f"allow {_RIGHTS.get(operation, operation)} to these credentials"
    if not _CODE.fullmatch(code):
        return "is it an S3 server, and nothing between that answers instead?"
    return "correct the settings" if _is_permanent(code, status) else "if it lasts, ask who runs the server"


def _root(error: BaseException) -> BaseException:
    """Give the exception that began it: botocore and urllib3 wrap each other's."""
    for _ in range(10):
        inner = getattr(error, "kwargs", {}).get("error") or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _reason(error: BaseException, root: BaseException, broken: _Broken) -> str:
    if broken.code not in ("connection", "tls", "proxy", "timeout"):
        return str(error)
    return (root.strerror if isinstance(root, OSError) else None) or str(root) or type(root).__name__


def _words(text: object) -> str:
    """Give a stranger's words on one line, short, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * _LONGEST]).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
