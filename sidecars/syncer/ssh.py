"""The ssh that git starts: its command line, keys in a state that it takes, and a user that it knows."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import stat
from collections.abc import Callable, Sequence

from sidecars.core.errors import SidecarError
from sidecars.syncer.private import PrivateFile
from sidecars.syncer.settings import Settings

# ssh reads a value of -o as a line of its configuration file: words at spaces, tokens at %.
_PLAIN = re.compile(r"[^\s\"'\\]+")
_SCHEMES = ("ssh://", "git+ssh://", "ssh+git://")


class NoUser(SidecarError):  # noqa: N818
    """The user that --add-user asks for cannot be added."""


def spoken(repo: str) -> bool:
    """Whether git reaches a repository by ssh: by an ssh:// URL, or by host:path as scp writes it.

    Source: git, "GIT URLS": the latter is one only with no slash before its first colon.
    """
    head, colon, _ = repo.partition(":")
    return repo.startswith(_SCHEMES) or bool(colon and "/" not in head and "://" not in repo)


def command(program: str, settings: Settings, keys: Sequence[str]) -> str:
    """Give what git runs in the place of ssh. It passes through a shell, and so every path is quoted for one.

    ssh -v -i /etc/git-secret/ssh -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/etc/git-secret/known_hosts
    """
    words = [program or "ssh"]  # $GIT_SSH_COMMAND, which may hold options: it is not quoted
    words += _loudness(settings.verbose)
    for key in keys:
        # ssh looks for the file of -i before it reads % as a token, and opens it afterwards: neither % nor %% would do.
        words += ["-o", shlex.quote(f"IdentityFile={_option(key)}")] if "%" in key else ["-i", shlex.quote(key)]
    if settings.ssh_known_hosts:
        known = _option(settings.ssh_known_hosts_file)
        return " ".join([*words, "-o StrictHostKeyChecking=yes -o", shlex.quote(f"UserKnownHostsFile={known}")])
    return " ".join([*words, "-o StrictHostKeyChecking=no"])


def _loudness(verbose: int) -> list[str]:
    return ["-" + "v" * count for count in [sum(verbose >= level for level in (5, 7, 9))] if count]


def _option(path: str) -> str:
    path = path.replace("%", "%%")
    return path if _PLAIN.fullmatch(path) else '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Keys:
    """The keys as ssh takes them.

    ssh refuses a key of its own user's that others can read, and a volume with fsGroup, or `defaultMode: 0640`, makes
    just that. Such a key is copied to a private file, and the copy follows when the key is renewed.
    """

    def __init__(self, files: Sequence[str], say: Callable[[str], None]) -> None:
        self._files = files
        self._say = say
        self._copies: dict[str, PrivateFile] = {}

    def paths(self) -> list[str]:
        """Give the paths for -i. A key that is not there, or cannot be read, is left to ssh to complain of."""
        return [self._path(file) for file in self._files]

    def _path(self, file: str) -> str:
        try:
            found = os.stat(file)
            if found.st_uid != os.getuid() or not found.st_mode & 0o077 or not stat.S_ISREG(found.st_mode):
                return file
            with open(file, "rb") as key:
                text = key.read()
        except OSError:
            return file
        if file not in self._copies:
            self._copies[file] = PrivateFile()
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            self._say(
                f"the SSH key {file} has mode {mode} and is ours, which ssh refuses: a private copy of it is used"
            )
        self._copies[file].replace(text)
        return self._copies[file].path

    def close(self) -> None:
        """Forget the copies."""
        for copy in self._copies.values():
            copy.close()
        self._copies.clear()


def known(uid: int) -> bool:
    """Whether the user has an entry in the passwd database, without which ssh does not start."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def add_user(uid: int, gid: int, home: str, path: str = "/etc/passwd") -> None:
    """Give the user an entry in the passwd file, unless it has one. Raises NoUser."""
    if known(uid):
        return
    if ":" in home or "\n" in home:
        raise NoUser(f"--add-user cannot put the home {home!r} into {path}; set HOME to a path without a colon")
    try:
        with open(path, "rb+") as file:
            text = file.read()
            line = f"git-sync:x:{uid}:{gid}::{home}:/sbin/nologin\n".encode()
            file.write(line if text.endswith(b"\n") or not text else b"\n" + line)
    except OSError as error:
        raise NoUser(
            f"--add-user cannot write {path}: {error.strerror}; "
            "run as a user that the image knows, such as 65533, or mount a passwd file that can be written"
        ) from None
