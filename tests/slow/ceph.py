"""Ceph's radosgw in a container, as an S3 server for tests: see the script beside this file."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Self

from tests.servers.s3 import Server

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "radosgw")
PATIENCE = 60.0


class Radosgw(Server):
    """Serves from the moment it is made, which takes minutes when its image is not there yet; nothing is left."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert self._process.stdout
            answer = self._process.stdout.readline()
            assert answer, "radosgw did not start; it has said why"
            said = json.loads(answer)
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
