"""What is secret and has to be read by other programs from a file: files in memory."""

from __future__ import annotations

import os
import threading


class PrivateFile:
    """A file in memory, which this user's processes read by its path, whole at every moment.

    A secret in it never comes to lie on a disk, and is gone with this process however that ends: a file below /tmp
    would stay behind after a kill, in a volume that outlives the container.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._descriptor = _filled(data)
        self._lock = threading.Lock()
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def replace(self, data: bytes) -> None:
        """Change the content at once: who has opened the file reads the old one to its end."""
        with self._lock:
            # Once it is closed, the number may be another file's, which must not be replaced.
            if data == self._data or self._descriptor < 0:
                return
            descriptor = _filled(data)
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)
            self._data = data

    def close(self) -> None:
        """Forget the content, and with it the path."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1


def _filled(data: bytes) -> int:
    descriptor = os.memfd_create("private")
    os.fchmod(descriptor, 0o600)  # ssh refuses a key that others can read.
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
