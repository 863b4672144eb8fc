"""Ceph's radosgw in a container, as an S3 server for tests: see the script beside this file."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Self

from tests.servers.s3 import Server

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "radosgw")
PATIENCE = 60.0


class NotStarted(Exception):  # noqa: N818
    """It does not serve; the script has said why, on stderr."""


class Radosgw(Server):
    """Serves from the moment it is made, which takes a minute when its image is not there yet; nothing is left.

    version  "ceph version 16.2.15 (...) pacific (stable)"
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert self._process.stdout
            answer = self._process.stdout.readline()
            if not answer:
                raise NotStarted("radosgw does not serve")
            said = json.loads(answer)
            self.version = str(said["version"])
            key = said["user"]["keys"][0]
            keys = {"aws_access_key_id": key["access_key"], "aws_secret_access_key": key["secret_key"]}
            super().__init__(said["endpoint"], keys)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and forget all that it held."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
