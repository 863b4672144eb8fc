"""From what an operator has set to the source that it names, and to what is done with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sidecars.core.errors import SidecarError, WrongSettings, redacted
from sidecars.init import tree
from sidecars.init.archives import Limits, Rules
from sidecars.init.arrival import fetch_file
from sidecars.init.errand import Errand, Meter, Stamp, short
from sidecars.init.sources import Bounds, File, Patience
from sidecars.init.tree import Selection

if TYPE_CHECKING:
    from sidecars.init.fetching import Settings
    from sidecars.init.sources.session import Url

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")


def fetch(settings: Settings, meter: Meter) -> None:
    """Fetch what the URI names. Raises SidecarError, OSError."""
    if settings.scheme == "s3":
        _fetch_s3(settings, meter)
    elif settings.scheme.startswith("git+"):
        _fetch_git(settings, meter)
    elif settings.scheme == "file":
        source = _local(settings)
        _bring(settings, _errand(settings, source.shown), source, meter)
    else:
        source, query, listed = _http(settings, meter)
        _bring(settings, _errand(settings, source.shown, query, listed), source, meter)


def _bring(settings: Settings, errand: Errand, source: File, meter: Meter) -> None:
    if settings.extract:
        from sidecars.init.filling import fetch_archive

        fetch_archive(errand, source, meter)
    else:
        fetch_file(errand, source, meter)


def _need(library: str, scheme: str) -> None:
    if find_spec(library) is None:
        raise WrongSettings(f"this image has nothing for {scheme}://; take the image pod-init-full")


def _fetch_s3(settings: Settings, meter: Meter) -> None:
    _need("boto3", "s3")
    from sidecars.core.bucket import Store
    from sidecars.init.filling import fetch_directory
    from sidecars.init.sources import s3

    place = s3.address(settings.without_digest())
    store = Store(
        settings.endpoint, settings.region, settings.ca, settings.anonymous, settings.connect_timeout,
        settings.read_timeout, settings.jobs + 1,
    )  # fmt: skip
    source = s3.find(place, s3.Door(store, _patience(settings, meter)), _bounds(settings))
    errand = _errand(settings, source.shown, settings.endpoint or "")
    if isinstance(source, s3.Object):
        _bring(settings, errand, source, meter)
        return
    if errand.wanted or settings.extract:
        raise WrongSettings(
            f"{source.shown} is a prefix with its objects: neither a SHA-256 nor --extract is for those"
        )
    meter.part = source
    fetch_directory(errand, source, meter)


def _fetch_git(settings: Settings, meter: Meter) -> None:
    from shutil import which

    _need("git", settings.scheme)
    if which("git") is None:
        raise WrongSettings(f"this image has no git for {settings.scheme}://; take the image pod-init-full")
    from sidecars.init.filling import fetch_directory
    from sidecars.init.sources import git

    text, login = settings.without_digest(), ("", "")
    header = ""
    if settings.scheme != "git+ssh":
        text, login = _without_userinfo(text, settings)
        header = dict(_headers(settings, login)).get("Authorization", "")
    if header.startswith("Bearer "):
        # What forges take for a token over HTTP is a password.
        header = git.basic("x-access-token", header.removeprefix("Bearer "))
    place = git.address(text)
    access = git.Login(header, settings.ca, settings.ssh_key, settings.ssh_known_hosts)
    source = git.Repository(
        place, access, _patience(settings, meter), keep=settings.keep_git, deadline=settings.timeout
    )
    meter.stop = source.git.kill_all
    fetch_directory(_errand(settings, source.shown), source, meter)


def _local(settings: Settings) -> File:
    from sidecars.init.sources.file import LocalFile

    return LocalFile(settings.without_digest(), _bounds(settings))


def _bounds(settings: Settings) -> Bounds:
    return Bounds(settings.jobs, settings.piece, settings.max_size)


def _patience(settings: Settings, meter: Meter) -> Patience:
    seconds = settings.retry_interval, settings.connect_timeout, settings.read_timeout
    return Patience(settings.retries, *seconds, meter.note)


def _http(settings: Settings, meter: Meter) -> tuple[File, str, str]:
    """Give the source, its query, and the digest that a list has for it."""
    from sidecars.init.sources.http import HttpFile
    from sidecars.init.sources.session import Credentials, Session
    from sidecars.init.transfer import persist

    text, login = _without_userinfo(settings.without_digest(), settings)
    address = _address(text)
    credentials = Credentials(dict(_headers(settings, login)), settings.ca, settings.cert, settings.cert_key)
    patience = _patience(settings, meter)
    listed = ""
    if settings.sha256_url:
        there = _address(settings.sha256_url)
        # Credentials are for where the file is.
        session = Session(address.origin, credentials, patience)
        listed = _find(
            persist(lambda: session.text(there), patience), unquote(address.path.rpartition("/")[2]), there.shown
        )
    checked = bool(settings.sha256 or settings.digests() or listed)
    return HttpFile(address, credentials, patience, _bounds(settings), checked=checked), address.query, listed


def _address(text: str) -> Url:
    from sidecars.init.sources import session

    try:
        return session.url(text)
    except (ValueError, UnicodeError):
        raise WrongSettings(f"{redacted(text)[:200]} is no URL; write https://HOST/PATH") from None


def _without_userinfo(uri: str, settings: Settings) -> tuple[str, tuple[str, str]]:
    """Take a user and a password out of the URI, which only a variable can have given."""
    scheme, _, rest = uri.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, host = authority.rpartition("@")
    if not at:
        return uri, ("", "")
    if settings.user or settings.token:
        raise WrongSettings("the URI holds a user, and --user or --token-file is set; keep one")
    user, colon, password = userinfo.partition(":")
    if not colon:
        raise WrongSettings("the URI holds a user without a password; give --user and --password-file")
    return f"{scheme}://{host}{rest[len(authority) :]}", (unquote(user), unquote(password))


def _headers(settings: Settings, login: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Give the headers that say who asks. Raises WrongSettings."""
    if settings.user:
        login = settings.user, settings.password.reveal() if settings.password else ""
    if login != ("", ""):
        from base64 import b64encode

        yield "Authorization", f"Basic {b64encode(':'.join(login).encode()).decode()}"
    if settings.token:
        token = settings.token.reveal().strip()
        if not token.isascii() or not token.isprintable():
            raise WrongSettings("the token has characters that no token can have; is it the right file?")
        yield "Authorization", f"Bearer {token}"
    for line in settings.header.reveal().splitlines() if settings.header else ():
        match = _HEADER.fullmatch(line)
        if match is None and line.strip():
            raise WrongSettings("--header-file has a line that is no header; write NAME: VALUE")
        if match is not None:
            yield match[1], match[2].encode().decode("latin-1")


def _find(text: str, name: str, where: str) -> str:
    """Find a file's digest in a list as sha256sum writes it, or in one that holds only this digest."""
    words = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    for word in words:
        if len(word) == 2 and _SHA256.fullmatch(word[0]) and word[1].strip().lstrip("*").rpartition("/")[2] == name:
            return word[0].lower()
    if len(words) == 1 and len(words[0]) == 1 and _SHA256.fullmatch(words[0][0]):
        return words[0][0].lower()
    raise SidecarError(f"{where} has no SHA-256 for {name[:120]!r}; is it the list for this file?")


def _errand(settings: Settings, shown: str, query: str = "", listed: str = "") -> Errand:
    mode, dir_mode = (
        tree.checked_mode(*each) for each in (("--mode", settings.mode), ("--dir-mode", settings.dir_mode))
    )
    selection = Selection(settings.include, settings.exclude)
    limits = Limits(settings.max_extracted, settings.max_files, settings.max_ratio)
    rules = Rules(limits, settings.strip_components, selection, settings.unsafe == "skip", mode, dir_mode)
    how = short(repr((rules[1:], settings.extract, settings.keep_git)))
    wanted = next(filter(None, (settings.sha256, *settings.digests(), listed)), "").lower()
    return Errand(
        Stamp(shown, short(query), how),
        settings.dest,
        _bounds(settings),
        settings.timeout or 3600.0,
        wanted,
        0o644 if mode is None else mode,
        rules,
        selection if settings.mirror else None,
    )
