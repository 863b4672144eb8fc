"""A program under test, met as a person meets it: by what it prints, by signals, and by its exit code."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from types import TracebackType


class Process:
    """A command that runs; what it prints is kept, and a test waits for it."""

    def __init__(self, *command: str, **variables: str) -> None:
        self.popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | variables,
            # As under a shell's job control, so that a signal to the group is what Ctrl-C sends.
            process_group=0,
        )
        assert self.popen.stdout and self.popen.stderr
        self._streams = selectors.DefaultSelector()
        self._streams.register(self.popen.stdout, selectors.EVENT_READ, "stdout")
        self._streams.register(self.popen.stderr, selectors.EVENT_READ, "stderr")
        self.said = {"stdout": "", "stderr": ""}

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream:
                stream.close()
        self._streams.close()

    def wait_for(self, pattern: str, stream: str = "stdout", seconds: float = 30) -> re.Match[str]:
        """Wait until the pattern is in what the process has printed."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said[stream], re.MULTILINE)):
            assert self._read(deadline), f"{pattern!r} is not in {self.said}"
        return found

    def end(self, seconds: float = 30) -> int:
        """Wait for the end; its exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.popen.wait(max(1.0, deadline - time.monotonic()))

    def close_stdout(self) -> None:
        """Stop reading, as `head` does once it has its lines."""
        assert self.popen.stdout
        self._streams.unregister(self.popen.stdout)
        self.popen.stdout.close()

    def _read(self, deadline: float) -> bool:
        """Read what is there, or wait for it; false at the end, and after the deadline."""
        ready = self._streams.select(max(0.0, deadline - time.monotonic()))
        for key, _ in ready:
            if data := os.read(key.fd, 1 << 16):
                self.said[key.data] += data.decode()
            else:
                self._streams.unregister(key.fileobj)
        return bool(ready) and bool(self._streams.get_map())
