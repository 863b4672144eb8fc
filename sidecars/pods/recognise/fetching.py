"""Files fetched from servers and buckets, and archives unpacked: rows 22, 25 and 26 of the catalogue."""

from __future__ import annotations

import posixpath
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Change, Finding, Step
from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.scope import UNSURE, Scope
from sidecars.pods.statements import Command, Pipeline, Statement

_WGET = "q c O P T t nv N timeout tries output-document directory-prefix quiet no-verbose continue"
_CURL = (
    "s S f L o O J retry connect-timeout max-time m fail silent show-error location output create-dirs remote-name "
    "output-dir # progress-bar fail-with-body retry-delay url retry-connrefused retry-all-errors"
)
_TAR = (
    "x z j J v p f C m o extract gzip file directory strip-components strip no-same-owner no-same-permissions overwrite"
)
_AWS = "recursive quiet only-show-errors no-progress region endpoint-url no-sign-request delete"
_NO_DIGEST = "add --sha256 or --sha256-url, so that nothing else is taken for it"


class _Download(msgspec.Struct, frozen=True):
    """What wget or curl gets; file is empty for stdout."""

    url: str
    file: str
    doubt: str


def fetch(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise downloads and what unpacks them."""
    match statement:
        case Command() if statement.name in ("wget", "curl"):
            download = _download(statement, scope)
            return (_finding(download),) if download and download.file else None
        case Command() if statement.name == "tar":
            return _tar(statement, scope)
        case Command() if statement.name == "unzip":
            return _unzip(statement, scope)
        case Command() if statement.name == "aws":
            return _aws(statement, scope)
        case Pipeline([Command() as first, Command() as last]) if first.name in ("wget", "curl"):
            return _piped(first, last, scope)
    return None


def _finding(download: _Download) -> Finding:
    return Finding(
        pattern=25,
        found="a file fetched by a shell",
        wrong="nothing checks what comes, a page that says 404 may be saved, and half a file stays",
        args=("fetch", download.url, download.file),
        paths=(download.file,),
        file=True,
        doubt=download.doubt,
        notes=(_NO_DIGEST,),
    )


def _download(command: Command, scope: Scope) -> _Download | None:
    if command.assignments:
        return None
    found = _wget(command, scope) if command.name == "wget" else _curl(command, scope)
    return replace(found, doubt=found.doubt or scope.proxied()) if found else None


def _wget(command: Command, scope: Scope) -> _Download | None:
    long = ("output-document", "directory-prefix", "timeout", "tries", "header", "user", "password", "progress")
    options = parted(scope.texts(command)[1:], "OPTtUo", long)
    if len(options.operands) != 1 or options.has("spider", "post-data", "method"):
        return None
    url = options.operands[0]
    output, folder = options.value("O", "output-document"), options.value("P", "directory-prefix")
    if output in ("-", "/dev/stdout"):
        return _checked(url, _redirected(command, scope), options, _WGET)
    file = output or posixpath.join(folder or "", _named(url))
    return _checked(url, scope.path(file), options, _WGET) if output != "/dev/null" else None


def _curl(command: Command, scope: Scope) -> _Download | None:
    long = ("output", "retry", "connect-timeout", "max-time", "header", "user", "data", "request", "output-dir", "url")
    options = parted(scope.texts(command)[1:], "oHmXduAbcEeTKxyYzr", (*long, "retry-delay", "cacert", "write-out"))
    urls = [*options.operands, *options.values.get("url", [])]
    if len(urls) != 1 or options.has("X", "request", "d", "data", "I", "head"):
        return None
    output = options.value("o", "output")
    if output == "/dev/null":
        return None
    if options.has("O", "remote-name"):
        output = posixpath.join(options.value("output-dir") or "", _named(urls[0]))
    file = scope.path(output) if output and output != "-" else _redirected(command, scope)
    return _checked(urls[0], file, options, _CURL)


def _named(url: str) -> str:
    return posixpath.basename(url.partition("?")[0]) or "index.html"


def _redirected(command: Command, scope: Scope) -> str:
    """Give the file that stdout goes to."""
    files = [
        scope.text(each.word) for each in command.redirects if each.operator == ">" and each.descriptor in ("", "1")
    ]
    return scope.path(files[0]) if files and not files[0].startswith("/dev/") else ""


def _checked(url: str, file: str, options: Options, known: str) -> _Download:
    doubt = "" if options.only(known) else "it sends a login or headers, or checks no certificate"
    scheme = url.partition("://")[0]
    if not url.startswith(UNSURE) and scheme not in ("http", "https"):
        url, doubt = (f"http://{url}", doubt) if "://" not in url else (url, doubt or f"it fetches by {scheme}")
    if "@" in _authority(url):
        doubt = "a login in the URL: --user and --password-file, or --token-file"
    return _Download(url, file, doubt)


def _authority(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return "@"


def _piped(first: Command, last: Command, scope: Scope) -> tuple[Step, ...] | None:
    """Read `wget -O- URL | tar xz -C DIR`, and `curl URL | tee FILE`."""
    download = _download(first, scope)
    if download is None or download.file:
        return None
    if last.name == "tar":
        unpacked = _tar(last, scope, "-")
        return (unpack(_finding(download), unpacked[0]),) if unpacked else None
    return None


def unpack(fetched: Finding, change: Change) -> Finding:
    """Put a download and what unpacks it together."""
    folder, *more = change.detail
    doubts = [word for word in more if not word.startswith("--")]
    return replace(
        fetched,
        pattern=26,
        found="an archive fetched and unpacked by a shell",
        wrong="nothing checks what comes, a pipe hides that it failed, and members may lead out of the directory",
        args=("fetch", fetched.args[1], folder, "--extract", *(word for word in more if word.startswith("--"))),
        paths=(folder,),
        file=False,
        doubt=fetched.doubt or (doubts[0] if doubts else ""),
    )


def _tar(command: Command, scope: Scope, default: str = "") -> tuple[Change] | None:
    """Read tar's own words, whose first may do without a dash."""
    words = scope.texts(command)[1:]
    if words and not words[0].startswith("-") and "x" in words[0]:
        words = [f"-{words[0]}", *words[1:]]
    options = parted(words, "fC", ("file", "directory", "strip-components", "strip"))
    archive = options.value("f", "file") or default
    if not options.has("x", "extract", "get") or not archive or not idle.quiet(command.redirects):
        return None
    folder = scope.path(options.value("C", "directory") or ".")
    strip = options.value("strip-components", "strip")
    more = [f"--strip-components={strip}"] if strip else []
    if not options.only(_TAR) or options.operands:
        more.append("it unpacks a part of the archive")
    return (Change("unpack", (archive if archive == "-" else scope.path(archive),), (folder, *more)),)


def _unzip(command: Command, scope: Scope) -> tuple[Change] | None:
    options = parted(scope.texts(command)[1:], "d")
    if not options.operands or not idle.quiet(command.redirects):
        return None
    more = ["it unpacks a part of the archive"] if len(options.operands) > 1 or not options.only("q o d n") else []
    folder = scope.path(options.value("d") or ".")
    return (Change("unpack", (scope.path(options.operands[0]),), (folder, *more)),)


def _aws(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    """Read `aws s3 sync s3://b/p DIR` and `aws s3 cp s3://b/k FILE`."""
    long = ("region", "endpoint-url", "profile", "exclude", "include", "storage-class", "sse", "acl")
    options = parted(scope.texts(command)[1:], "", long)
    match options.operands:
        case ["s3", ("sync" | "cp") as verb, source, dest] if source.startswith("s3://") and not dest.startswith(
            "s3://"
        ):
            return (_bucket(verb, source, scope.path(dest), options),)
        case ["s3", "sync" | "cp" | "mv", *_, dest] if dest.startswith("s3://"):
            return (_upload(),)
    return None


def _bucket(verb: str, source: str, dest: str, options: Options) -> Finding:
    whole = verb == "sync" or options.has("recursive")
    uri = f"{source.rstrip('/')}/" if whole else source
    more = [f"--{ours}={value}" for theirs, ours in (("region", "region"), ("endpoint-url", "endpoint"))
            if (value := options.value(theirs))]  # fmt: skip
    more += ["--anonymous"] if options.has("no-sign-request") else []
    more += ["--mirror"] if options.has("delete") else []
    return Finding(
        pattern=22,
        found="files fetched from S3 by aws",
        wrong="edits of the same size are missed, and nothing says that all of it is there",
        image="pod-init-full",
        args=("fetch", uri, dest, *more),
        paths=(dest,),
        doubt="" if options.only(_AWS) else "its options",
        notes=("the keys come from the variables and the service account, as before",),
    )


def _upload() -> Finding:
    return Finding(
        kind="refuse",
        pattern=22,
        found="files sent to S3 by aws",
        wrong="half a file may be sent, and a failure is seen by nobody",
        instead="nothing of ours sends files as they are; s3-shipper sends logs",
    )
