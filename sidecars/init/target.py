"""The grammar of targets: what to look at, and what it must be like, in one word of a command line."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.units import Seconds, Secret
from sidecars.core.values import boolean, nearest
from sidecars.init.checks import CHECKS, COMMON, Scheme

HEAD = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)(?P<options>\?[^:/]*)?:(?P<rest>.*)", re.DOTALL)
AUTHORITY = re.compile(
    r"(?:(?P<user>.*)@)?(?:\[(?P<literal>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>[^:@\[\]]*))(?::(?P<port>[0-9]*))?",
    re.DOTALL,
)
BARE = re.compile(r"(?:\[[^\]]*\]|[^:/?#\[\]]*):[0-9]+(?:\?.*)?", re.DOTALL)
LOGIN = re.compile(r"//[^/?#@:\s]*:(?![0-9]+(?:[/?#]|$))(?P<password>.*)@", re.DOTALL)
PRIVATE = re.compile(r"(?i)([?&][^=&#]*(?:token|secret|passw|key|sig|auth|credential)[^=&#]*=)[^&#]*")
UNSET = "was it written with a variable that is not set?"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What one check looks at.

        not:tcp://db.prod:5432?patience=2s

    scheme    lower case; of `db:5432` it is tcp
    path      with its leading slash, percent signs decoded; of http the path and the query as they are sent; of cmd:
              the command; of k8s: KIND/NAME
    negated   what is wanted is that it is not so
    text      as written, without what must not be seen
    memory    what the check keeps from one attempt to the next
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    options: dict[str, str] = {}
    negated: bool = False
    text: str
    user: str = ""
    password: Secret | None = None
    memory: dict[str, Any] = msgspec.field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Read an option that is true or false; alone, it is true."""
        try:
            return boolean(self.options.get(name, "false") or "true")
        except ValueError:
            raise self.wrong(name, "true or false") from None

    def seconds(self, name: str) -> float | None:
        """Read an option that is a duration, in seconds; None when it is not given."""
        if name not in self.options:
            return None
        try:
            return Seconds.read(self.options[name])
        except ValueError:
            raise self.wrong(name, Seconds.expected) from None

    def number(self, name: str, default: int, least: int = 0) -> int:
        """Read an option that is a whole number."""
        text = self.options.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
            raise self.wrong(name, f"a whole number of at least {least}")
        return int(text)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """Read an option that is one of several words."""
        word = self.options.get(name, default)
        if word not in choices:
            raise self.wrong(name, " or ".join(choices))
        return word

    def pattern(self, name: str) -> re.Pattern[str] | None:
        """Read an option that is a regular expression; None when it is not given."""
        if name not in self.options:
            return None
        try:
            return re.compile(self.options[name])
        except re.error as error:
            raise self.wrong(name, f"a regular expression ({error})") from None

    def wrong(self, name: str, expected: str) -> WrongSettings:
        """Make the error for an option that cannot be read."""
        return WrongSettings(f"{name} of {self.text} is {self.options[name]!r}, expected {expected}")


def parse(text: str) -> Target:
    """Read one target.

        dns://db?answers=3   tcp://db:5432   db:5432   http://[::1]:80/up?status=204   file:///run/ready?nonempty
        cmd:pg_isready -h db   cmd?exit=3:grep -q x /y   not:unix:///run/old.sock

    What follows a question mark are the check's own options. With http, parameters that are none of them are sent; with
    a `#`, everything before it is sent and the options follow it. Percent signs escape. Raises WrongSettings.
    """
    written = text.strip()
    negated = written.startswith("not:")
    body = written.removeprefix("not:").strip()
    if not body:
        raise WrongSettings(f"a target is empty; {UNSET}")
    _check_escapes(body)
    shown = PRIVATE.sub(r"\1***", redacted(written))
    scheme, head, rest = _divided(body, shown)
    found = CHECKS.get(scheme)
    if found is None:
        raise WrongSettings(f"{shown} begins with the unknown scheme {scheme!r}; {nearest(scheme, CHECKS)}")
    base: dict[str, Any] = {"scheme": scheme, "negated": negated, "text": shown}
    if found.form == "words":
        return _complete(Target(path=rest.strip(), options=_options(head[1:], found, shown)[0], **base))
    place, options, sent = _parameters(rest, found, shown)
    if found.form == "authority":
        return _complete(Target(options=options, **_authority(place, sent, found, shown), **base))
    return _complete(Target(path=_path(place, scheme, found, shown), options=options, **base))


def _check_escapes(body: str) -> None:
    """Refuse a password that ends the authority early: what follows it would be taken for no secret, and shown."""
    login = LOGIN.search(body)
    if login and re.search(r"[/?#\s]", login["password"]):
        raise WrongSettings(
            "a target with a password in it has a /, ?, # or space before its last @; write it as %2F, %3F, %23 or "
            "%20, or give the password by password_file"
        )


def _divided(body: str, shown: str) -> tuple[str, str, str]:
    """Give the scheme, the options that stand before the colon, and the rest."""
    if BARE.fullmatch(body):
        return "tcp", "", f"//{body}"
    match = HEAD.fullmatch(body)
    if match and (not match["options"] or match["scheme"].lower() == "cmd"):
        return match["scheme"].lower(), match["options"] or "", match["rest"]
    if body.startswith("/"):
        raise WrongSettings(f"{shown} is no target; for a file write file://{shown.removeprefix('not:')}")
    if body.count(":") > 1:
        raise WrongSettings(f"{shown} is no target; write an IPv6 address in brackets: tcp://[::1]:80")
    raise WrongSettings(f"{shown} is no target; write dns://{shown} for the name, or tcp://{shown}:PORT for a port")


def _parameters(rest: str, found: Scheme, shown: str) -> tuple[str, dict[str, str], str]:
    """Part what is before the question mark, the options, and the parameters that are to be sent."""
    if found.sends and "#" in rest:
        rest, _, own = rest.partition("#")
        place, _, sent = rest.partition("?")
        return place, _options(own, found._replace(sends=False), shown)[0], sent
    place, _, query = rest.partition("?")
    return place, *_options(query, found, shown)


def _options(query: str, found: Scheme, shown: str) -> tuple[dict[str, str], str]:
    from urllib.parse import unquote

    known = {*found.options.split(), *COMMON}
    options: dict[str, str] = {}
    sent = []
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name in options:
            raise WrongSettings(f"{shown} has {name} twice; keep one")
        if name in known:
            options[name] = unquote(value)
        elif found.sends and not _alike(name, known):
            sent.append(pair)
        else:
            more = " (to send it, write the check's options after a #)" if found.sends else ""
            raise WrongSettings(f"{shown} has the unknown option {name!r}; {nearest(name, known)}{more}")
    return options, "&".join(sent)


def _alike(name: str, known: set[str]) -> bool:
    """A parameter looks like a mistyped option."""
    import difflib  # only who sends parameters pays for it

    return bool(difflib.get_close_matches(name, known, 1, 0.8))


def _authority(place: str, sent: str, found: Scheme, shown: str) -> dict[str, Any]:
    """Read //user:password@host:port/path."""
    from urllib.parse import unquote

    authority, slash, path = place.removeprefix("//").partition("/")
    match = AUTHORITY.fullmatch(authority)
    if not match or not place.startswith("//"):
        raise WrongSettings(f"{shown} is no target; write SCHEME://HOST:PORT, an IPv6 address in brackets")
    host = match["literal"] or _ascii(unquote(match["name"] or ""))
    if not host:
        raise WrongSettings(f"{shown} has no host; {UNSET}")
    user, colon, password = (match["user"] or "").partition(":")
    read = {
        "host": host,
        "port": _port(match["port"], found, shown),
        "path": slash + path if found.sends else unquote(slash + path),
        "user": unquote(user),
        "password": Secret(unquote(password)) if colon else None,
    }
    return {**read, "path": f"{read['path'] or '/'}{'?' if sent else ''}{sent}"} if found.sends else read


def _ascii(name: str) -> str:
    """Write a name as the DNS has it; one that cannot be written so cannot exist, which its check will say."""
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def _port(text: str | None, found: Scheme, shown: str) -> int:
    if found.port is None:
        if text:
            raise WrongSettings(f"{shown} has a port, but a name has none; write tcp://HOST:PORT to reach one")
        return 0
    if text is not None and not text:
        raise WrongSettings(f"{shown} has an empty port; {UNSET}")
    if not text and not found.port:
        raise WrongSettings(f"{shown} has no port; write it as {shown}:PORT")
    port = int(text or found.port)
    if not 0 < port < 65536:
        raise WrongSettings(f"{shown} has the port {port}, expected 1 to 65535")
    return port


def _path(place: str, scheme: str, found: Scheme, shown: str) -> str:
    from urllib.parse import unquote

    path = unquote(place.removeprefix("//"))
    if not path or path == "/":
        raise WrongSettings(f"{shown} names nothing; {UNSET}")
    if found.form == "path" and place.startswith("//") and not path.startswith("/"):
        raise WrongSettings(f"{shown} is a relative path; write {scheme}:///{path}")
    return path


def _complete(target: Target) -> Target:
    """Put in who asks, from the options that name a user and the file of a password."""
    if target.scheme == "cmd" and not target.path:
        raise WrongSettings(f"{target.text} names no command; {UNSET}")
    target.seconds("patience")
    user, file = target.options.get("user"), target.options.get("password_file")
    return msgspec.structs.replace(
        target, user=target.user if user is None else user, password=Secret(file=file) if file else target.password
    )
