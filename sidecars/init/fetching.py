"""pod-init fetch: a file, an archive, a prefix or a repository, checked and published whole; unchanged, not fetched."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Annotated, Literal

from sidecars.core.errors import SidecarError, WrongSettings, redacted
from sidecars.core.settings import Bytes, Help, Seconds, Secret
from sidecars.init import tree
from sidecars.init.advice import said
from sidecars.init.errand import Meter
from sidecars.init.settings import Common

WHAT, CHECKS, ARCHIVES, ACCESS, HOW = (
    "What to fetch", "What is checked", "Archives", "Who asks, and whom it trusts", "How to fetch it",
)  # fmt: skip
SCHEMES = ("http", "https", "file", "s3", "git+https", "git+http", "git+ssh")
_HEARTBEAT = 10.0  # seconds between two lines that say how far it is
_NOTE = 0.5  # seconds between two notes of what is there
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


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
    max_size: Annotated[Bytes | None, Help("Bytes of the file, or of all of a prefix, at most.", CHECKS)] = None
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
    max_files: Annotated[int, Help("Members of an archive, or objects of a prefix, at most.", ARCHIVES, "N")] = (
        1_000_000
    )
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
    anonymous: Annotated[bool, Help("Ask S3 without credentials, for what everybody may read.", ACCESS)] = False
    endpoint: Annotated[
        str | None, Help("Where S3 is.", ACCESS, "URL", none="", default="AWS_ENDPOINT_URL, else Amazon")
    ] = None
    region: Annotated[
        str | None, Help("The region of the bucket.", ACCESS, "NAME", none="", default="AWS_REGION, or a profile's")
    ] = None
    ssh_key: Annotated[str | None, Help("The private key for git+ssh://.", ACCESS, "FILE", none="")] = None
    ssh_known_hosts: Annotated[
        str | None, Help("The hosts that git+ssh:// trusts.", ACCESS, "FILE", none="", default="ssh's own list")
    ] = None
    keep_git: Annotated[bool, Help("Keep the .git of what git fetches, with one commit.", HOW)] = False
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
        if self.sha256_url and self.scheme not in ("http", "https"):
            raise WrongSettings("--sha256-url is for http and https; give --sha256")
        if self.scheme.startswith("git+"):
            self._check_git()

    def _check_git(self) -> None:
        if self.sha256 or self.digests():
            raise WrongSettings("git has no use for a SHA-256: ref= with the hash of a commit says what to fetch")
        if self.extract or self.strip_components:
            raise WrongSettings(
                "git has no use for --extract and --strip-components; path= in the URI names a directory"
            )

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
    from sidecars.init.origins import fetch

    meter = Meter(settings.timeout)
    try:
        attend(lambda: fetch(settings, meter), meter)
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
        if thread.is_alive():
            meter.stop()
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
