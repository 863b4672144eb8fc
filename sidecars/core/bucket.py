"""The door to boto3 for who reads: a client with the usual credentials, and its errors in words.

boto3 is imported with the first client: it takes 25 MiB and 0.2 s.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from typing import Any, NamedTuple

from sidecars.core.errors import SidecarError, Transient, WrongSettings, redacted

# boto3 asks for a region also where there is none: the name that MinIO, Ceph and others go by.
_REGION = "us-east-1"
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_PASSING_CODES = ("SlowDown", "RequestTimeout", "InternalError", "RequestLimitExceeded", "TooManyRequests")
_LONGEST = 300
_ADVICE = {
    "NoSuchBucket": "correct the bucket's name",
    "NoSuchKey": "correct the key",
    "AccessDenied": "may these credentials do it?",
    "403": "may these credentials do it?",
    "404": "correct the bucket and the key",
    "InvalidAccessKeyId": "is it the right access key, and for this endpoint?",
    "SignatureDoesNotMatch": "is the secret access key right?",
    "ExpiredToken": "renew the credentials",
    "PermanentRedirect": "set the region that the bucket is in",
    "AuthorizationHeaderMalformed": "set the region that the bucket is in",
    "301": "set the region that the bucket is in",
}


class Store(NamedTuple):
    """Where a bucket is, and how to get in.

    anonymous        ask without credentials, for what everybody may read
    connect, read    seconds to wait at most
    connections      at once
    """

    endpoint: str | None = None
    region: str | None = None
    ca: str | None = None
    anonymous: bool = False
    connect: float = 10.0
    read: float = 30.0
    connections: int = 10


class Refused(SidecarError):  # noqa: N818
    """S3 will not do it, however often it is asked; `status` is HTTP's, 0 where there was no answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


def connect(store: Store) -> Any:
    """Make a client that asks once. Raises WrongSettings; imports boto3."""
    import logging

    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # What goes wrong is said by `asking`; botocore would print its traceback beside that.
    logging.getLogger("botocore").addHandler(logging.NullHandler())
    config = Config(
        connect_timeout=store.connect,
        read_timeout=store.read,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=store.connections,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **({"signature_version": UNSIGNED} if store.anonymous else {}),
        **({"s3": {"addressing_style": "path"}} if store.endpoint else {}),
    )
    try:
        session = boto3.Session(region_name=store.region)
        region = session.region_name or _REGION
        return session.client("s3", region_name=region, endpoint_url=store.endpoint, verify=store.ca, config=config)
    except (ValueError, BotoCoreError) as error:
        raise WrongSettings(
            f"cannot use S3: {redacted(str(error))}; correct the endpoint, region or profile"
        ) from error


@contextlib.contextmanager
def asking(doing: str) -> Iterator[None]:
    """Tell what goes wrong with "read s3://logs/a": Transient if it may go well the next time, else Refused."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
    from botocore.exceptions import ConnectionError as NotConnected
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise _refused(error.response, doing) from error
    except NoCredentialsError as error:
        raise Refused(
            f"cannot {doing}: no credentials; give keys, a profile, a service account, or ask anonymously"
        ) from error
    except (HTTPClientError, NotConnected, ResponseParserError, http.client.HTTPException, OSError) as error:
        text = f"cannot {doing}: {redacted(' '.join(str(error).split()))[:_LONGEST]}"
        if "SSL" in type(error).__name__:
            raise Refused(f"{text}; is its CA given, and its name right?") from error
        raise Transient(f"{text}; is the endpoint right, and up?") from error
    except BotoCoreError as error:
        raise Refused(f"cannot {doing}: {redacted(str(error))[:_LONGEST]}; correct the settings") from error


def _refused(answer: Any, doing: str) -> SidecarError:
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    code = str(answer.get("Error", {}).get("Code", "")) or str(status)
    said = " ".join(str(answer.get("Error", {}).get("Message", "")).split())[:_LONGEST]
    text = f"cannot {doing}: {status} {code}" + (f" ({said})" if said else "")
    if status in _PASSING or code in _PASSING_CODES:
        return Transient(text)
    return Refused(f"{text}; {_ADVICE.get(code, 'is it the right bucket and endpoint?')}", status)
