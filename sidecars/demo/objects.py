"""What the demo's S3 server holds: `sidecars demo objects`, for those who have no S3 client at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from sidecars.core.errors import SidecarError
from sidecars.core.service import Lifecycle
from sidecars.core.settings import LIFE, LOGS, Common, Help

BUCKET = "logs"
# The demo's server takes any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_DEFAULT_REGION": "us-east-1"}


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """List the objects in the demo's bucket, or print those whose keys are given: pipe them through zcat."""

    keys: Annotated[
        tuple[str, ...], Help("Objects to print; by default all are listed.", metavar="KEY", positional=True)
    ] = ()
    endpoint: Annotated[str, Help("The demo's S3 server.", metavar="URL")] = "http://127.0.0.1:9000"
    state_dir: Annotated[str | None, Help("Not needed: there is no state to keep.", LIFE, none="", metavar="DIR")] = (
        "off"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Help("How much to log.", LOGS)] = "warning"


class Objects:
    """Print what is in the bucket.

    run    list, or print
    drain  there is nothing to wait for
    stop   cancelled
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self, life: Lifecycle) -> None:
        """Ask the server. Raises SidecarError."""
        import boto3  # only who asks pays for it
        from botocore.exceptions import BotoCoreError, ClientError

        os.environ.update({name: os.environ.get(name, value) for name, value in CREDENTIALS.items()})
        client = boto3.client("s3", endpoint_url=self._settings.endpoint)
        try:
            for data in self._printed(client):
                sys.stdout.buffer.write(data)
            sys.stdout.flush()
        except client.exceptions.NoSuchBucket:
            print("no objects yet: s3-shipper makes the bucket with the first one", file=sys.stderr)
        except (BotoCoreError, ClientError) as error:
            raise SidecarError(f"{self._settings.endpoint} gives no objects: {error}; does the demo run?") from error

    def _printed(self, client: Any) -> Iterator[bytes]:
        for key in self._settings.keys:
            yield client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        if not self._settings.keys:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
                # s3-shipper tries the server with an object that comes and goes.
                for each in (each for each in page.get("Contents", ()) if "/.sidecars-probe-" not in each["Key"]):
                    yield f"{each['Size']:>10}  {each['Key']}\n".encode()

    def undelivered(self) -> str | None:
        """Nothing is delivered."""
        return None

    def status(self) -> dict[str, object]:
        """There is nothing to tell."""
        return {}
