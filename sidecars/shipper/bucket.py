"""The door to boto3: a bucket that files are put into. Each call blocks, has its own timeouts, and is tried once.

boto3 is imported with the first request: it takes 25 MiB and 0.2 s.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import threading
import urllib.parse
import uuid
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from sidecars.core.errors import WrongSettings, redacted
from sidecars.shipper.failures import Conflict, Corrupted, Failed, Taken, failure
from sidecars.shipper.plan import Destination

if TYPE_CHECKING:
    from sidecars.shipper.credentials import Rights

__all__ = ["CHUNK_KEY", "LINES_KEY", "Bucket", "Conflict", "Corrupted", "Failed", "Taken"]

# Metadata of each object: the chunk that it is, and the number of its lines.
CHUNK_KEY, LINES_KEY = "sidecars-chunk", "sidecars-lines"
TIMEOUT = 60.0

_CONNECTIONS = 64
_PIECE = 256 << 10
_FIELDS = {
    "encryption": "ServerSideEncryption",
    "kms_key_id": "SSEKMSKeyId",
    "storage_class": "StorageClass",
    "acl": "ACL",
    "grant_read": "GrantRead",
    "grant_read_acp": "GrantReadACP",
    "grant_write_acp": "GrantWriteACP",
    "grant_full_control": "GrantFullControl",
}
_AMAZON = re.compile(r"\.amazonaws\.[a-z.]+$")
_MD5 = re.compile(r"[0-9a-f]{32}")
_PROBE = ".sidecars-probe-"


class Bucket:
    """A bucket at a destination. Its methods may be called from several threads. All raise Failed.

    `timeout` is how many seconds the server may take to answer, or to read on; to connect, it has 5 of them.
    """

    def __init__(self, destination: Destination, *, timeout: float = TIMEOUT) -> None:
        self._destination = destination
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Any = None
        self._rights: Rights | None = None
        # One name for all probes, so that those that cannot be removed do not add up.
        self._probe = f"{_PROBE}{uuid.uuid4().hex}"

    def put(
        self,
        key: str,
        path: str,
        length: int,
        *,
        chunk: str,
        conditional: bool,
        encoding: str | None,
        content_type: str,
        lines: int,
    ) -> None:
        """Store the first `length` bytes of a file as one object; if conditional, only where there is none.

        Raises Taken if there is one, Conflict if another is being written, Corrupted if the object is stored now and is
        not what was sent, OSError if the file cannot be read or is shorter.
        """
        fields = {"Metadata": {CHUNK_KEY: chunk, LINES_KEY: str(lines)}, "ContentType": content_type}
        if encoding is not None:
            fields["ContentEncoding"] = encoding
        with open(path, "rb", buffering=0) as file:
            part = _Part(file, length)
            self._store(key, part, part.md5(), conditional, **fields)

    def owner(self, key: str) -> str | None:
        """Give the id of the chunk that an object is; "" if it is another's, None if there is no object."""
        with self._asking(f"look up {self._url(key)}") as client:
            try:
                answer = client.head_object(Bucket=self._destination.bucket, Key=key)
            except client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        self._etag(answer, f"cannot look up {self._url(key)}")
        return str(answer.get("Metadata", {}).get(CHUNK_KEY, ""))

    def keys(self, prefix: str) -> Iterator[str]:
        """Give the keys that begin so, in S3's order."""
        with self._asking(f"list {self._url(prefix)}") as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._destination.bucket, Prefix=prefix)
            for page in pages:
                yield from (each["Key"] for each in page.get("Contents", ()))

    def create(self) -> None:
        """Make the bucket unless it is there. One that may not be looked at is there, too."""
        with self._asking(f"make bucket {self._destination.bucket}") as client:
            try:
                client.head_bucket(Bucket=self._destination.bucket)
            except client.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 404:
                    self._make(client)
                elif status != 403:
                    raise

    def _make(self, client: Any) -> None:
        region = client.meta.region_name
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=self._destination.bucket, **where)

    def check(self, prefix: str) -> list[str]:
        """Write an empty object under the prefix, as chunks are written, and remove it. Give what else may go wrong."""
        key = prefix + self._probe
        found = []
        if self._ignores_condition(key):
            found.append(f"{redacted(self._endpoint())} ignores If-None-Match; let no other writer use the same keys")
        try:
            self._remove(key)
        except Failed as error:
            found.append(f"{error}; the object is empty, and may stay")
        return found

    def ignores_conditions(self, prefix: str) -> bool:
        """Say whether the endpoint stores a second object under a key; asked by an empty one under the prefix.

        An endpoint that refuses the condition ignores it, too. Amazon is known to honour it, and is not asked.
        """
        if self._is_amazon():
            return False
        ignores = self._ignores_condition(prefix + self._probe)
        with contextlib.suppress(Failed):  # a writer need not have the right to delete
            self._remove(prefix + self._probe)
        return ignores

    def _ignores_condition(self, key: str) -> bool:
        for _ in range(1 if self._is_amazon() else 2):
            try:
                self._store_empty(key, conditional=True)
            except Taken:
                return False
            except Failed as error:
                if error.code not in ("NotImplemented", "501"):
                    raise
                self._store_empty(key, conditional=False)
                return True
        return not self._is_amazon()

    def _store_empty(self, key: str, *, conditional: bool) -> None:
        self._store(key, b"", hashlib.md5(usedforsecurity=False).digest(), conditional, ContentType="text/plain")

    def _remove(self, key: str) -> None:
        with self._asking(f"remove {self._url(key)}") as client:
            client.delete_object(Bucket=self._destination.bucket, Key=key)

    def _store(self, key: str, body: Any, digest: bytes, conditional: bool, **fields: Any) -> None:
        """Put one object, and compare what has arrived with what was sent."""
        place = self._destination
        given = {name: getattr(place, field) for field, name in _FIELDS.items() if getattr(place, field) is not None}
        if place.object_tags:
            given["Tagging"] = urllib.parse.urlencode(place.object_tags, quote_via=urllib.parse.quote)
        if conditional:
            given["IfNoneMatch"] = "*"
        fields["Metadata"] = {**place.metadata, **fields.get("Metadata", {})}
        checksum = base64.b64encode(digest).decode()
        doing = f"store {self._url(key)}"
        with self._asking(doing) as client:
            answer = client.put_object(Bucket=place.bucket, Key=key, Body=body, ContentMD5=checksum, **given, **fields)
        etag = self._etag(answer, f"cannot {doing}")
        # Encrypted with a key of KMS, and in a directory bucket, an object has an ETag that is not its MD5.
        comparable = answer.get("ServerSideEncryption", "AES256") == "AES256" and not place.bucket.endswith("--x-s3")
        if comparable and _MD5.fullmatch(etag) and etag != digest.hex():
            raise Corrupted(
                f"cannot {doing}: it arrived with the MD5 {etag} instead of {digest.hex()}; it has to be stored again",
                code="checksum",
            )

    def _etag(self, answer: dict[str, Any], doing: str) -> str:
        """Give the answer's ETag. What gives none is no S3 server, whatever the status: a web server, a portal."""
        if "ETag" not in answer:
            text = f"{doing}: the answer has no ETag; is it an S3 server, and nothing between that answers instead?"
            raise Failed(text, code="answer", permanent=True, outcome_known=False)
        return str(answer["ETag"]).strip('"')

    def _url(self, key: str) -> str:
        return f"s3://{self._destination.bucket}/{key}"

    def _endpoint(self) -> str:
        with self._asking(f"use bucket {self._destination.bucket}") as client:
            return str(client.meta.endpoint_url)

    def _is_amazon(self) -> bool:
        return bool(_AMAZON.search(urllib.parse.urlsplit(self._endpoint()).hostname or ""))

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[Any]:
        """Give the client; what goes wrong with it is Failed."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            yield self._connected()
        except (BotoCoreError, ClientError, ResponseParserError, WrongSettings) as error:
            failed = failure(error, f"cannot {doing}")
            if failed.permanent and self._rights is not None:
                self._rights.forget()
            raise failed from error

    def _connected(self) -> Any:
        """Give the client, which is made once: its credentials change, it does not."""
        with self._lock:  # a session makes one client at a time
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        import logging

        import boto3
        from botocore.config import Config

        from sidecars.shipper import connections
        from sidecars.shipper.credentials import Rights

        # What goes wrong is said by `failure`; botocore would print its traceback beside that.
        logging.getLogger("botocore").addHandler(logging.NullHandler())
        connections.use()
        place = self._destination
        if not place.verify:
            # It was asked for, and would be said with each connection.
            warnings.filterwarnings("ignore", message="Unverified HTTPS request")
        self._rights = Rights(place, Config(**_config(place, self._timeout)))
        session = boto3.Session(botocore_session=self._rights.session())
        s3 = {"addressing_style": place.addressing, "use_accelerate_endpoint": place.accelerate}
        own = Config(s3=s3, use_dualstack_endpoint=place.dual_stack or None)
        verify = place.ca_file if place.verify else False
        try:
            return session.client("s3", endpoint_url=place.endpoint, verify=verify, config=own)
        except ValueError as error:
            raise WrongSettings(f"{error}; correct the endpoint or the region") from error


def _config(place: Destination, timeout: float) -> dict[str, Any]:
    """Give what every client is like, also the one that asks for a role."""
    return {
        "connect_timeout": timeout,
        "read_timeout": timeout,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "max_pool_connections": _CONNECTIONS,
        "tcp_keepalive": True,
        # Checksums of boto3's own come as trailers that many servers do not know. Ours is Content-MD5.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "proxies": {"http": place.proxy, "https": place.proxy} if place.proxy else None,
    }


class _Part:
    """The first bytes of a file, as the stream that boto3 reads, several times if it must."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._length = length

    def md5(self) -> bytes:
        """Give the digest. Raises OSError if the file is shorter."""
        digest, read = hashlib.md5(usedforsecurity=False), 0
        while piece := self.read(_PIECE):
            digest.update(piece)
            read += len(piece)
        if read < self._length:
            raise OSError(f"{self._file.name} has {read} bytes, expected {self._length}; is the state volume damaged?")
        self.seek(0)
        return digest.digest()

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or all that are left."""
        left = max(0, self._length - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the part."""
        at_end = whence == os.SEEK_END
        return self._file.seek(self._length + offset if at_end else offset, os.SEEK_SET if at_end else whence)

    def tell(self) -> int:
        """Say where it is."""
        return self._file.tell()
