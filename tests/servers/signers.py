"""People who sign commits and tags, with real OpenPGP and SSH keys."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.git_server import environment


class Gpg:
    """An OpenPGP home of its own, and its agent; in a short path, for its sockets."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="gpg."))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self.environment(), check=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        return {**environment(), "GNUPGHOME": str(self.home)}

    def run(self, *words: str, input: bytes | None = None) -> bytes:
        done = subprocess.run(
            ["gpg", "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback", *words],
            env=self.environment(), input=input, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(self, name: str, expires: str = "never") -> str:
        """Make a key that signs; give its fingerprint."""
        self.run("--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", expires)
        listed = self.run("--with-colons", "--list-keys", f"{name}@example.org").decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    @contextlib.contextmanager
    def at(self, time: str) -> Iterator[None]:
        """Let gpg, also where git starts it, believe that it is this time: 20200101T000000!"""
        (self.home / "gpg.conf").write_text(f"faked-system-time {time}\n")
        yield
        (self.home / "gpg.conf").unlink()

    def export(self, path: Path, *keys: str, armor: bool = False) -> str:
        """Write public keys to a file; give its path."""
        path.write_bytes(self.run(*(["--armor"] if armor else []), "--export", *keys))
        return str(path)

    def revoke(self, fingerprint: str) -> None:
        """Revoke a key, by the certificate that was made with it."""
        text = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.run("--import", input=text.replace(":-----BEGIN", "-----BEGIN").encode())


def ssh_key(directory: Path, name: str) -> tuple[str, str]:
    """Make an SSH key; give the path of its private part, and its public part."""
    private = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", private], check=True)
    return str(private), " ".join(private.with_suffix(".pub").read_text().split()[:2])


class Repository:
    """A repository in which commits and tags are signed."""

    def __init__(self, path: Path, gpg: Gpg | None) -> None:
        self.path = path
        self._gpg = gpg
        path.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str, input: bytes | None = None, config: dict[str, str] | None = None) -> str:
        config = {"user.name": "A U Thor", "user.email": "author@example.org", **(config or {})}
        pairs = [word for key, value in config.items() for word in ("-c", f"{key}={value}")]
        variables = self._gpg.environment() if self._gpg else environment()
        done = subprocess.run(
            ["git", *pairs, *words], cwd=self.path, env={**os.environ, **variables}, input=input,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def commit(self, *, gpg: str = "", ssh: str = "", words: tuple[str, ...] = ()) -> str:
        """Commit, signed with this key; give the hash."""
        self.git("commit", "-q", "--allow-empty", "-m", "a commit", *_sign(gpg, ssh), *words, config=_config(gpg, ssh))
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, *, gpg: str = "", ssh: str = "") -> str:
        """Tag the last commit, signed with this key; give the hash of the tag."""
        self.git("tag", "-f", "-m", "a tag", "-s" if gpg or ssh else "-a", name, config=_config(gpg, ssh))
        return self.git("rev-parse", f"refs/tags/{name}")

    def forge(self, commit: str) -> str:
        """Change what was signed, under the same signature; give the new hash."""
        text = self.git("cat-file", "commit", commit).replace("a commit", "another") + "\n"
        return self.git("hash-object", "-t", "commit", "-w", "--stdin", input=text.encode())


def _sign(gpg: str, ssh: str) -> tuple[str, ...]:
    return ("-S",) if gpg or ssh else ()


def _config(gpg: str, ssh: str) -> dict[str, str]:
    if ssh:
        return {"gpg.format": "ssh", "user.signingkey": ssh}
    return {"user.signingkey": gpg} if gpg else {}
