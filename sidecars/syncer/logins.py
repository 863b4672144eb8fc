"""User names and passwords by URL, and the files from which git reads them."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from sidecars.core.errors import SidecarError, redacted
from sidecars.syncer.gitconfig import block
from sidecars.syncer.private import PrivateFile

_UNFIT = re.compile(r"[\x00-\x20\x7f]")
_BREAKS = re.compile(r"[\n\r\0]")


class WrongLogin(SidecarError):  # noqa: N818
    """A user name, a password or their URL is of a kind that git cannot be given."""


class Login(NamedTuple):
    """A user name and a password, and the URL without userinfo that they are for."""

    url: str
    username: str
    password: str


def taken_out(repo: str) -> tuple[str, Login | None]:
    """Take the userinfo out of an http or https URL; others keep theirs, for ssh needs the user.

    https://bot:p%40ss@git.example/app -> https://git.example/app and bot, p@ss
    https://TOKEN@git.example/app      -> https://git.example/app and TOKEN with an empty password
    """
    scheme, _, rest = repo.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if scheme.lower() not in ("http", "https") or not at:
        return repo, None
    url = f"{scheme}://{host}{slash}{path}"
    user, _, password = userinfo.partition(":")
    return url, Login(url, unquote(user), unquote(password)) if userinfo else None


def basic(login: Login) -> str:
    """Write a login as HTTP's Basic authentication does: YWxhZGRpbjpvcGVuc2VzYW1l."""
    return base64.b64encode(os.fsencode(f"{login.username}:{login.password}")).decode()


def line(login: Login) -> bytes:
    """Write a login as a line of git's credential store: https://bot:p%40ss@git.example/app. Raises WrongLogin."""
    scheme, colon, rest = login.url.partition("://")
    if not colon or _UNFIT.search(login.url):
        raise WrongLogin(
            f"there is a password for {redacted(login.url)}, which is no URL such as https://git.example/app"
        )
    if _BREAKS.search(login.username + login.password):
        raise WrongLogin(
            f"user name or password for {redacted(login.url)} has more than one line; is it the right file?"
        )
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    user, password = (quote(text, safe="", errors="surrogateescape") for text in (login.username, login.password))
    return os.fsencode(f"{scheme}://{user}:{password}@{host}{slash}{path}\n")


def best(logins: Sequence[Login], url: str) -> Login | None:
    """Give the login that git uses for a URL: of those for its host, the one with the longest path that the URL has."""
    candidates = [login for login in logins if _host(login.url) == _host(url)]
    under = [login for login in candidates if f"{url}/".startswith(login.url.rstrip("/") + "/")]
    return max(under, key=lambda login: len(login.url.rstrip("/")), default=candidates[0] if candidates else None)


def _host(url: str) -> str:
    return "/".join(url.split("/")[:3]).lower()


class LoginFiles:
    """What git's children read the logins from: no daemon is left running, and nothing is on a command line.

    git's own `credential-store` reads a file in memory. It is asked to get only: what git would have it store is there
    already, and what a server refuses once, perhaps only because it was overloaded, is not to be forgotten.

    By itself git looks at the host alone. Where a host has logins for several paths, each path has a file of its own,
    which git chooses by the longest path and asks before the file of all.
    """

    def __init__(self, urls: Iterable[str], *, by_path: bool) -> None:
        paths: dict[str, set[str]] = {}
        for url in urls:
            paths.setdefault(_host(url), set()).add(url.rstrip("/"))
        several = [url for each in paths.values() if len(each) > 1 and by_path for url in each]
        self._all = PrivateFile()
        # git takes the helpers of what is more specific only after those of what is less.
        self._files = {url: PrivateFile() for url in sorted(several, key=lambda url: (len(url), url))}

    @property
    def helper(self) -> str:
        """The value of credential.helper."""
        return _helper(self._all)

    def blocks(self) -> str:
        """Give the sections of the configuration for the paths."""
        helpers = ((url, ("", _helper(file), self.helper)) for url, file in self._files.items())
        return "".join(block("credential", url, [("helper", each) for each in three]) for url, three in helpers)

    def replace(self, logins: Sequence[Login]) -> None:
        """Have git find these from now on, the first of those that fit. Raises WrongLogin."""
        lines = [(login.url.rstrip("/"), line(login)) for login in logins]
        self._all.replace(b"".join(text for _, text in lines))
        for url, file in self._files.items():
            file.replace(b"".join(text for known, text in lines if known == url))

    def close(self) -> None:
        """Forget all."""
        for file in (self._all, *self._files.values()):
            file.close()


def _helper(file: PrivateFile) -> str:
    return f'!f() {{ test "$1" != get || exec git credential-store --file={file.path} get; }}; f'
