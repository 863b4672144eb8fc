"""boto3's connections, with a time to connect that is not the time to send.

urllib3 lets each piece of a body, 128 KiB, take no longer than a connection may: what is short enough for a server that
is down is too short for one that is slow (urllib3 issue 857). Only bucket.py imports this, with boto3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

if TYPE_CHECKING:
    import socket

CONNECT_SECONDS = 5.0


class _Impatient:
    """A connection whose timeout is for reading and writing."""

    timeout: float | None
    sock: socket.socket

    def connect(self) -> None:
        patience = self.timeout
        self.timeout = min(patience or CONNECT_SECONDS, CONNECT_SECONDS)
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self.timeout = patience
        self.sock.settimeout(patience)


class _Plain(_Impatient, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _Secure(_Impatient, AWSHTTPSConnection):  # type: ignore[misc]
    pass


def use() -> None:
    """Let boto3 connect so from now on, to whatever service."""
    AWSHTTPConnectionPool.ConnectionCls = _Plain
    AWSHTTPSConnectionPool.ConnectionCls = _Secure
