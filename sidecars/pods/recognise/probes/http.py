"""Looks at pages: wget and curl, and tests of what they print."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.probes.probe import Probe
from sidecars.pods.recognise.scope import UNSURE, Scope, is_base
from sidecars.pods.statements import Command, Output

_WGET = ("OTtPUo", ("timeout", "tries", "output-document", "header", "user", "password", "method", "post-data"))
_CURL = ("oHmXdwuAbcEeTKxyYzr", (
    "output", "header", "max-time", "connect-timeout", "request", "data", "write-out", "user", "cacert",
    "retry", "retry-delay", "retry-max-time", "cert", "key", "resolve", "user-agent", "proxy", "interface",
    "url", "output-dir",
))  # fmt: skip
_WGET_KNOWN = "q O T t S s spider timeout tries quiet output-document no-check-certificate no-verbose nv v c"
_CURL_KNOWN = (
    "s S f k L o m I g w silent show-error fail insecure location output max-time connect-timeout head write-out i v "
    "fail-with-body retry retry-delay retry-max-time retry-connrefused retry-all-errors cacert url 4 6 N X request"
)


_TURNED = "+?|(){}"
# Sets in brackets that mean the same to both: [0-9a-z], without classes and without what is special outside of them.
_PLAIN_SETS = re.compile(r"(?:[^\[\]]|\[[\w .,:/-]*\])*")


class _Request(msgspec.Struct, frozen=True):
    """What wget or curl asks for, and what it takes for success."""

    url: str
    options: tuple[str, ...]
    doubt: str
    pattern: int
    wrong: str
    notes: tuple[str, ...] = ()
    calls: bool = True


def _wget(command: Command, scope: Scope) -> _Request | None:
    options = parted(scope.texts(command)[1:], *_WGET)
    if len(options.operands) != 1 or not _nowhere(options.value("O", "output-document"), options):
        return None
    busybox = is_base(scope.container.image)
    notes: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    if options.has("no-check-certificate") or (busybox and options.operands[0].startswith("https:")):
        extra = ("insecure",)
        notes = ("the certificate is not checked, as it was not; leave `insecure` out, or give ca=FILE",)
    doubt = (
        scope.proxied()
        if options.only(_WGET_KNOWN)
        else "it sends headers or a login: header_file=FILE, password_file=FILE"
    )
    wrong = "any page counts as ready, that of a login too, and nothing ends the wait"
    return _Request(options.operands[0], extra, doubt, 3, wrong, notes, calls=not options.has("spider"))


def _nowhere(output: str | None, options: Options) -> bool:
    """What comes is not kept: wget is asked whether it is there."""
    return output in ("-", "/dev/null", "/dev/stdout") or (output is None and options.has("spider"))


def _curl(command: Command, scope: Scope) -> _Request | None:
    options = parted(scope.texts(command)[1:], *_CURL)
    urls = [*options.operands, *options.values.get("url", [])]
    if len(urls) != 1 or options.value("o", "output") not in (None, "/dev/null", "-", "/dev/stdout"):
        return None
    extra = [word for name, word in (("k", "insecure"), ("I", "method=HEAD")) if options.has(name)]
    extra += ["insecure"] if options.has("insecure") else []
    extra += ["follow"] if options.has("L", "location") else []
    authority = options.value("cacert")
    extra += [f"ca={authority}"] if authority else []
    plain = options.only(_CURL_KNOWN) and (options.value("X", "request") or "GET") == "GET"
    doubt = scope.proxied() if plain else "it sends more than a GET: header_file=FILE, password_file=FILE"
    doubt = doubt or (scope.foreign(authority) if authority else "")
    fails = options.has("f", "fail", "fail-with-body")
    wrong = (
        "nothing ends the wait" if fails else "without -f an answer of 500 counts as ready, and nothing ends the wait"
    )
    shown = not options.has("I", "head") and options.value("o", "output") != "/dev/null"
    return _Request(urls[0], tuple(extra) if fails else ("any", *extra), doubt, 4, wrong, calls=shown)


_REQUESTS: dict[str, Callable[[Command, Scope], _Request | None]] = {"wget": _wget, "curl": _curl}


def _probe(request: _Request, *more: str) -> Probe:
    """Make the probe; `more` are options of the target that say what is wanted, instead of any success."""
    lenient = "any" in request.options
    options = [option for option in request.options if option != "any"]
    # A redirect is an answer too: curl takes it, wget goes where it leads.
    wanted = list(more) or ["status=2xx,3xx,4xx" if lenient else "status=2xx,3xx"]
    notes = request.notes
    if lenient and not more:
        notes = (*notes, "4xx counts as ready, as it did: say status=200 if that is what is meant")
    return Probe(
        pattern=request.pattern,
        found=f"a wait for a page by {'wget' if request.pattern == 3 else 'curl'}",
        wrong=request.wrong,
        targets=(target(request.url, [*wanted, *options]),),
        calls=request.calls,
        doubt=request.doubt or ("a password in the URL: password_file=FILE" if _login(request.url) else ""),
        notes=notes,
    )


def target(url: str, options: list[str]) -> str:
    """Write one target; after a # stand the options where the URL has parameters of its own."""
    whole = url if "://" in url else f"http://{url}"
    scheme, _, rest = whole.partition("://")
    unsure = "" if scheme in ("http", "https") else UNSURE
    plain, _, _ = rest.partition("#")
    mark = "#" if "?" in plain else "?"
    return f"{unsure}{scheme}://{plain}{mark}{'&'.join(options)}" if options else f"{unsure}{scheme}://{plain}"


def _login(url: str) -> bool:
    return "@" in url.partition("://")[2].partition("/")[0]


def _look(command: Command, scope: Scope) -> Probe | None:
    request = _REQUESTS[command.name](command, scope)
    return _probe(request) if request else None


def searched(first: Command, last: Command, scope: Scope) -> Probe | None:
    """Read `curl -s URL | grep -q WORD`."""
    request = _REQUESTS[first.name](first, scope) if first.name in _REQUESTS else None
    options = parted(scope.texts(last)[1:], "e")
    words = [*options.operands, *options.values.get("e", [])]
    if request is None or len(words) != 1:
        return None
    fails = "status=2xx" if "any" not in request.options else "status=1xx,2xx,3xx,4xx,5xx"
    pattern = _pattern(words[0], last.name, options)
    doubt = "" if options.only("q s E F i o e") else "grep's options"
    doubt = doubt or ("" if pattern is not None else "Python reads that regular expression in another way than grep")
    body = words[0] if pattern is None else pattern
    found = _probe(request, fails, f"body={quote(body, safe='') if UNSURE not in body else body}")
    headed = bool({"method=HEAD"} & set(request.options)) or "w" in parted(scope.texts(first)[1:], *_CURL).values
    return replace(found, doubt=found.doubt or doubt or ("it looks at the headers" if headed else ""))


def _pattern(word: str, name: str, options: Options) -> str | None:
    if UNSURE in word:
        return word
    if name == "fgrep" or options.has("F"):
        pattern: str | None = re.escape(word)
    else:
        pattern = python(word, extended=name == "egrep" or options.has("E"))
    return f"(?i){pattern}" if pattern is not None and options.has("i") else pattern


def python(pattern: str, *, extended: bool) -> str | None:
    r"""Write grep's regular expression as Python has it; None for what is not certain.

    Basic ones have it the other way round what a backslash makes special: `up\|ok (all)` -> `up|ok \(all\)`.
    """
    written, rest = "", pattern
    if "[" in pattern and not _PLAIN_SETS.fullmatch(pattern):
        return None
    if pattern.startswith("*"):
        return None
    while rest:
        escaped = rest.startswith("\\")
        char, rest = (rest[1:2], rest[2:]) if escaped else (rest[0], rest[1:])
        if char in _TURNED and char:
            written += char if escaped is not extended else f"\\{char}"
        elif escaped and (char.isalnum() or char in "<>`'"):
            return None
        else:
            written += f"\\{char}" if escaped else char
    return f"(?m){written}" if set("^$") & set(pattern) else written  # grep reads line by line


def tested(command: Command, scope: Scope) -> Probe | None:
    """Read `[ "$(curl -s -o /dev/null -w '%{http_code}' URL)" = 200 ]`."""
    words = command.words[1:] if command.name == "test" else command.words[1:-1]
    match words:
        case [first, operator, last]:
            swapped = any(isinstance(part, Output) for part in last.parts)
            asked, wanted = (last, first) if swapped else (first, last)
            return _compared(asked.parts, operator.literal or "", wanted.literal or "", scope)
    return None


def _compared(parts: tuple[object, ...], operator: str, wanted: str, scope: Scope) -> Probe | None:
    if len(parts) != 1 or operator not in ("=", "==", "-eq", "!=", "-ne"):
        return None
    match parts[0]:
        case Output([Command() as asked]) if asked.name == "curl" and wanted.isdecimal() and len(wanted) == 3:
            request = _curl(asked, scope)
            options = parted(scope.texts(asked)[1:], *_CURL)
            if request and (options.value("w", "write-out") or "").strip("\\n") == "%{http_code}":
                found = _probe(request, f"status={wanted}")
                wrong = replace(found, targets=tuple(f"not:{text}" for text in found.targets))
                return wrong if operator in ("!=", "-ne") else found
    return None


LOOKS: dict[str, Callable[[Command, Scope], Probe | None]] = {"wget": _look, "curl": _look}
