"""An SSH server for tests: the real sshd on a free port of loopback, with a host key and one client key of its own.

Debian: apt-get install openssh-server. Without it these tests are skipped with one line; with CI=true they fail.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
NO_SSHD = "NOT PROVEN HERE: there is no sshd; apt-get install openssh-server"


def needed() -> None:
    """Skip the module that calls this where there is no sshd; in CI its tests fail then."""
    if SSHD is None and os.environ.get("CI") != "true":
        pytest.skip(NO_SSHD, allow_module_level=True)


class SshServer:
    """An sshd that lets in who has `key`, as the user that runs the tests.

    key          the client's private key, mode 0600
    known_hosts  the line for this server
    """

    def __init__(self, directory: Path, port: int) -> None:
        assert SSHD is not None, NO_SSHD
        directory.mkdir(parents=True)
        self.port = port
        self.key, self.known_hosts = directory / "key", directory / "known_hosts"
        host_key, authorized, self._config = directory / "host_key", directory / "authorized", directory / "config"
        for path in (self.key, host_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
        authorized.write_text(self.key.with_suffix(".pub").read_text())
        self.known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.with_suffix('.pub').read_text()}")
        self._config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nPidFile none\nLogLevel VERBOSE\nMaxStartups 100\n"
        )
        self.lines: list[str] = []
        self._listening = threading.Event()

    def __enter__(self) -> Self:
        assert SSHD is not None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # It locks itself in there; Debian's service makes it.
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", self._config], stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._listening.wait(20), self.lines
        assert self._process.poll() is None, self.lines
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr
        self._process.stderr.close()

    def address(self, path: Path) -> str:
        """The URL of a repository."""
        return f"ssh://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}{path}"

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self.lines.append(line.rstrip())
            if "Server listening on" in line:
                self._listening.set()
        self._listening.set()
