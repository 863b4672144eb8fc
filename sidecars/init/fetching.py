"""pod-init fetch: a file, an archive, a prefix or a repository, checked and published whole; unchanged, not fetched."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Literal
from urllib.parse import unquote

from sidecars.core.errors import SidecarError, WrongSettings, redacted
from sidecars.core.settings import Bytes, Help, Seconds, Secret
from sidecars.init import tree
from sidecars.init.advice import said
from sidecars.init.archives import Limits, Rules
from sidecars.init.arrival import Errand, Meter, Stamp, fetch_archive, fetch_file, short
from sidecars.init.settings import Common
from sidecars.init.sources import Bounds, File, Patience
from sidecars.init.tree import Selection

WHAT, CHECKS, ARCHIVES, ACCESS, HOW = (
    "What to fetch", "What is checked", "Archives", "Who asks, and whom it trusts", "How to fetch it",
)  # fmt: skip
SCHEMES = ("http", "https", "file", "s3", "git+https", "git+http", "git+ssh")
_HEARTBEAT = 10.0  # seconds between two lines that say how far it is
_NOTE = 0.5  # seconds between two notes of what is there
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")


class Settings(Common, frozen=True, kw_only=True):
    """Fetch a file, checked and whole or not at all. Run again, it asks whether it has changed, and ends.

    A file comes to DEST, or into DEST if that is a directory or ends with a slash. With --extract an archive (tar, also
    compressed by gzip, zstd, bzip2 or xz; zip; or one compressed file) is unpacked into the directory DEST, and a DEST
    that has a .pod-init.json is complete. What is interrupted goes on where it was.

        pod-init fetch https://models.example/resnet.onnx?sha256=9f86d0... /models/
        pod-init fetch https://example.org/site-1.2.tar.gz /srv/www --extract --strip-components 1
        pod-init fetch s3://models/resnet/ /models/resnet                        in pod-init-full
        pod-init fetch 'git+https://git.example/app.git?ref=v1.2&path=conf' /etc/app    in pod-init-full
    """

    paths: Annotated[
        tuple[str, ...], Help("What, and where to.", WHAT, metavar="URI DEST", positional=True, words=True)
    ] = ()
    sha256: Annotated[
        str | None,
        Help("The SHA-256 of the file, as ?sha256= in the URI gives it too.", CHECKS, "HEX", none="", default="any"),
    ] = None
    sha256_url: Annotated[
        str | None,
        Help("Where a list of digests is, such as a SHA256SUMS, that names the file.", CHECKS, "URL", none=""),
    ] = None
    max_size: Annotated[Bytes | None, Help("Bytes of the file at most.", CHECKS)] = None
    extract: Annotated[bool, Help("Unpack it into the directory DEST.", ARCHIVES)] = False
    strip_components: Annotated[int, Help("Take so many directories away from the front of names.", ARCHIVES)] = 0
    include: Annotated[
        tuple[str, ...], Help("Only files like this: by name, or by path if it has a slash.", ARCHIVES, "GLOB")
    ] = ()
    exclude: Annotated[tuple[str, ...], Help("Leave out files and directories like this.", ARCHIVES, "GLOB")] = ()
    unsafe: Annotated[
        Literal["refuse", "skip"],
        Help("What to do about members that could do harm: names and links out of DEST, devices, FIFOs.", ARCHIVES),
    ] = "refuse"
    max_extracted: Annotated[Bytes, Help("Bytes that may be unpacked at most.", ARCHIVES)] = Bytes(10 << 30)
    max_files: Annotated[int, Help("Members of an archive at most.", ARCHIVES, "N")] = 1_000_000
    max_ratio: Annotated[int, Help("Bytes that may be unpacked for each byte of the archive.", ARCHIVES, "N")] = 200
    mirror: Annotated[bool, Help("Remove from DEST what is not in it; else only what an earlier one left.", HOW)] = (
        False
    )
    mode: Annotated[
        str | None, Help("Permissions of files.", HOW, "OCTAL", none="", default="0644; of an archive, as in it")
    ] = None
    dir_mode: Annotated[
        str | None, Help("Permissions of directories.", HOW, "OCTAL", none="", default="0755, or as in the archive")
    ] = None
    user: Annotated[str | None, Help("The user's name, for HTTP's Basic authentication.", ACCESS, "NAME", none="")] = (
        None
    )
    password: Annotated[Secret | None, Help("The user's password.", ACCESS, none="")] = None
    token: Annotated[Secret | None, Help("A bearer token.", ACCESS, none="")] = None
    header: Annotated[Secret | None, Help("Headers, NAME: VALUE on each line.", ACCESS, none="")] = None
    ca: Annotated[
        str | None, Help("Whom to trust, as PEM.", ACCESS, "FILE", none="", default="the image's authorities")
    ] = None
    cert: Annotated[str | None, Help("The certificate to show, as PEM.", ACCESS, "FILE", none="")] = None
    cert_key: Annotated[str | None, Help("Its key, unless it is in the same file.", ACCESS, "FILE", none="")] = None
    jobs: Annotated[int, Help("Ranges of a file, or objects of a prefix, at once.", HOW, "N")] = 4
    piece: Annotated[Bytes, Help("Bytes of a range.", HOW)] = Bytes(64 << 20)
    retries: Annotated[int, Help("Attempts after one that failed, while none gets further.", HOW, "N")] = 6
    retry_interval: Annotated[
        Seconds, Help("Pause before the second attempt; it doubles from one to the next.", HOW)
    ] = Seconds(0.5)
    connect_timeout: Annotated[Seconds, Help("How long a server may take to accept.", HOW)] = Seconds(10)
    read_timeout: Annotated[Seconds, Help("How long a server may send nothing.", HOW)] = Seconds(30)
    timeout: Annotated[Seconds | None, Help("End with exit code 124 after this time.", HOW)] = Seconds(6 * 3600)

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if len(self.paths) != 2 or not all(self.paths):
            raise WrongSettings(
                f"fetch needs URI and DEST, and got {len(self.paths)}: pod-init fetch https://example.org/a /models/"
            )
        if self.scheme not in SCHEMES:
            from sidecars.core.values import nearest

            raise WrongSettings(
                f"the URI {redacted(self.uri)[:200]} begins with no known scheme; {nearest(self.scheme, SCHEMES)}"
            )
        tree.checked_mode("--mode", self.mode)
        tree.checked_mode("--dir-mode", self.dir_mode)
        self._check_numbers()
        self._check_access()

    def _check_numbers(self) -> None:
        bounds = {"jobs": (1, 64), "retries": (0, 1000), "strip_components": (0, 100), "max_ratio": (1, 10**6)}
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                flag = "--" + name.replace("_", "-")
                raise WrongSettings(f"{flag} is {getattr(self, name)}, expected {least} to {most}")
        if self.piece < 1024:
            raise WrongSettings(f"--piece is {self.piece}, expected 1KiB or more")
        for digest in filter(None, (self.sha256, *self.digests())):
            if not _SHA256.fullmatch(digest):
                raise WrongSettings(f"the SHA-256 {digest[:80]!r} is none: expected 64 hexadecimal digits")
        if len({digest.lower() for digest in (self.sha256, *self.digests()) if digest}) > 1:
            raise WrongSettings("--sha256 and ?sha256= are different; keep one")

    def _check_access(self) -> None:
        if self.cert_key and not self.cert:
            raise WrongSettings("--cert-key is set without --cert; give both")
        if self.password and not self.user:
            raise WrongSettings("--password-file is set without --user; give both")
        if self.token and self.user:
            raise WrongSettings("--token-file and --user are both set; keep one")
        if self.scheme == "file" and self.sha256_url:
            raise WrongSettings("--sha256-url is for http and https; give --sha256")

    @property
    def uri(self) -> str:
        """What is fetched."""
        return self.paths[0]

    @property
    def dest(self) -> str:
        """Where to."""
        return self.paths[1]

    @property
    def scheme(self) -> str:
        """The URI's."""
        return self.uri.partition("://")[0].lower() if "://" in self.uri else ""

    def digests(self) -> list[str]:
        """What ?sha256= says."""
        return [text.partition("=")[2] for text in _query(self.uri) if text.startswith("sha256=")]

    def without_digest(self) -> str:
        """The URI without what is meant for us: ?sha256= and the fragment."""
        head = self.uri.partition("#")[0].partition("?")[0]
        query = "&".join(text for text in _query(self.uri) if not text.startswith("sha256="))
        return f"{head}?{query}" if query else head


def _query(uri: str) -> list[str]:
    text = uri.partition("#")[0].partition("?")[2]
    return text.split("&") if text else []


def run(settings: Settings) -> None:
    """Fetch. Raises SidecarError."""
    meter = Meter(settings.timeout)
    try:
        attend(lambda: _run(settings, meter), meter)
    except OSError as error:
        raise SidecarError(said("fetch to", settings.dest, error)) from error


def attend(work: Callable[[], None], meter: Meter) -> None:
    """Work in a thread, and keep the main one for signals, the timeout and what is said meanwhile.

    A look-up of a name, or a server that sends on and on, holds up a thread for longer than anybody's patience.
    """
    failed: list[Exception] = []

    def whole() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (it is raised again where the thread is waited for)
            failed.append(error)

    thread = threading.Thread(target=whole, name="fetch", daemon=True)
    thread.start()
    try:
        _watch(thread, meter)
    finally:
        meter.save()
    if failed:
        raise failed[0]


def _watch(thread: threading.Thread, meter: Meter) -> None:
    told = time.monotonic()
    thread.join(0.05)
    while thread.is_alive():
        thread.join(_NOTE)
        meter.save()
        if time.monotonic() - told >= _HEARTBEAT:
            told = time.monotonic()
            meter.beat()
        if thread.is_alive():
            meter.look()


def _run(settings: Settings, meter: Meter) -> None:
    if settings.scheme in ("http", "https"):
        source, query, listed = _http(settings)
    else:
        source, query, listed = _file(settings), "", ""
    errand = _errand(settings, source, query)
    errand = errand._replace(wanted=errand.wanted or listed)
    (fetch_archive if settings.extract else fetch_file)(errand, meter)


def _file(settings: Settings) -> File:
    from sidecars.init.sources.file import LocalFile

    return LocalFile(settings.without_digest(), _bounds(settings))


def _bounds(settings: Settings) -> Bounds:
    return Bounds(settings.jobs, settings.piece, settings.max_size)


def _patience(settings: Settings) -> Patience:
    return Patience(settings.retries, settings.retry_interval, settings.connect_timeout, settings.read_timeout)


def _http(settings: Settings) -> tuple[File, str, str]:
    """Give the source, its query, and the digest that a list has for it."""
    from sidecars.init.sources import http
    from sidecars.init.transfer import persist

    text, login = _without_userinfo(settings.without_digest(), settings)
    address = _address(text)
    credentials = http.Credentials(dict(_headers(settings, login)), settings.ca, settings.cert, settings.cert_key)
    patience = _patience(settings)
    listed = ""
    if settings.sha256_url:
        there = _address(settings.sha256_url)
        # Credentials are for where the file is.
        session = http.Session(address.origin, credentials, patience)
        listed = _find(
            persist(lambda: session.text(there), patience), unquote(address.path.rpartition("/")[2]), there.shown
        )
    checked = bool(settings.sha256 or settings.digests() or listed)
    return http.HttpFile(address, credentials, patience, _bounds(settings), checked=checked), address.query, listed


def _address(text: str) -> http.Url:  # type: ignore[name-defined]  # noqa: F821
    from sidecars.init.sources import http

    try:
        return http.url(text)
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


def _errand(settings: Settings, source: File, query: str) -> Errand:
    mode, dir_mode = (
        tree.checked_mode(*each) for each in (("--mode", settings.mode), ("--dir-mode", settings.dir_mode))
    )
    selection = Selection(settings.include, settings.exclude)
    limits = Limits(settings.max_extracted, settings.max_files, settings.max_ratio)
    rules = Rules(limits, settings.strip_components, selection, settings.unsafe == "skip", mode, dir_mode)
    how = short(repr((rules[1:], settings.mirror))) if settings.extract else ""
    wanted = next(filter(None, (settings.sha256, *settings.digests())), "").lower()
    return Errand(
        Stamp(source.shown, short(query), how),
        source,
        settings.dest,
        _bounds(settings),
        settings.timeout or 3600.0,
        wanted,
        0o644 if mode is None else mode,
        rules,
        selection if settings.mirror else None,
    )
