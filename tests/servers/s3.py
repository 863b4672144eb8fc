"""A real S3 server on loopback: moto, as its own process, on a port of its own.

with S3() as server: server.make("logs"); ...; server.objects("logs") == {"web/1.gz": b"..."}
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any, Self

import boto3
from botocore.config import Config

PATIENCE = 60.0
# It takes any.
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
_CONFIG = Config(retries={"total_max_attempts": 5, "mode": "standard"}, s3={"addressing_style": "path"})
_ALLOWED = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'


class Server:
    """An S3 server that runs, with the keys to it, as the fields of boto3.client."""

    def __init__(self, endpoint: str, keys: dict[str, str]) -> None:
        self.endpoint = endpoint
        self.credentials = keys
        self._session = boto3.Session(**keys, region_name="us-east-1")
        self._making = threading.Lock()
        self._client = self.client()

    def client(self, service: str = "s3", **options: Any) -> Any:
        """A client of boto3; its requests go to this server, whatever the service."""
        with self._making:  # a session of boto3 may make one client at a time
            return self._session.client(service, **{"endpoint_url": self.endpoint, "config": _CONFIG, **options})

    def make(self, bucket: str) -> None:
        """Make a bucket."""
        self._client.create_bucket(Bucket=bucket)

    def keys(self, bucket: str) -> list[str]:
        """The keys of all objects, in S3's order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Every object by its key."""
        return {key: self._client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in self.keys(bucket)}


class S3(Server):
    """moto. Serves from the moment it is made; nothing is left when it stops."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "moto.server", "-p", "0"]
        # Lists come in pages of so many: a tenth of S3's.
        environ = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "100"}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._log, env=environ)
        try:
            super().__init__(self._listening(), KEYS)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listening(self) -> str:
        """Wait until it says where it listens."""
        deadline = time.monotonic() + PATIENCE
        while True:
            # Read beside the process, which writes through the same description: its offset must stay.
            said = os.pread(self._log.fileno(), 65536, 0).decode(errors="replace")
            if found := re.search(r"http://127\.0\.0\.1:\d+", said):
                return found[0]
            assert self._process.poll() is None, f"the S3 server ended:\n{said}"
            assert time.monotonic() < deadline, f"the S3 server does not listen:\n{said}"
            time.sleep(0.01)

    def user(self) -> dict[str, str]:
        """Make a user who may do all, and give the keys, as boto3.client takes them."""
        iam, name = self.client("iam"), f"user-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=_ALLOWED)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": made["AccessKeyId"], "aws_secret_access_key": made["SecretAccessKey"]}

    @contextlib.contextmanager
    def guarded(self) -> Iterator[dict[str, str]]:
        """Check signatures and rights meanwhile: only users get in, of whom one is made."""
        keys = self.user()
        self._open_for("0")
        try:
            yield keys
        finally:
            self._open_for("inf")

    def _open_for(self, requests: str) -> None:
        """Check no signature and no right of so many requests more."""
        headers = {"Content-Type": "text/plain"}
        asked = urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", requests.encode(), headers)
        urllib.request.urlopen(asked, timeout=PATIENCE).close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End it, and forget all that it held."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()
