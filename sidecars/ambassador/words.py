"""LISTEN=UPSTREAMS: a listener as one word of the command line."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from sidecars.ambassador.settings import (
    Check,
    ClientTls,
    Eject,
    HttpCheck,
    Listener,
    Redis,
    RedisCheck,
    ServerTls,
    TcpCheck,
    Upstream,
)
from sidecars.core.declaration import Setting, declared, holds, nested
from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.units import Secret
from sidecars.core.values import Place, build, fill, nearest, read

SCHEMES = ("tcp", "tls", "unix", "srv", "redis", "rediss")
_EXAMPLE = "write :6379=redis://a:6379,b:6379 or :5432=tcp://db:5432"
_REDIS_PORT = 6379
_CHECKS: dict[str, type[Any]] = {"tcp": TcpCheck, "http": HttpCheck, "redis": RedisCheck}
# Parts of a listener, by what an option of theirs may begin with; `listen` is TLS towards clients.
_PARTS: dict[str, type[Any]] = {
    "redis": Redis,
    "tls": ClientTls,
    "check": Check,
    "eject": Eject,
    "listen": ServerTls,
}
# Where an option without such a beginning is looked for, once it is none of the listener's own.
_BARE = ("redis", "tls", "check")
# What is of redis:// only, and is likely to be meant otherwise.
_OF_REDIS = {"timeout": "say which: connect-timeout, idle-timeout, queue-timeout or check-timeout"}
# What no option gives: what stands before the `?`; and `timeout`, unless it is Redis's, for too many things have one.
_NO_OPTIONS = {
    ("", "check", "timeout"), ("", "", "listen"), ("", "upstream", "address"), ("", "upstream", "weight"),
    ("", "upstream", "name"),
}  # fmt: skip


class _Word(Place, frozen=True):
    """A LISTEN=UPSTREAMS, without its options, whose keys they are."""

    def key(self, key: str) -> Place:
        """Go to an option."""
        return Place(self.name if key in ("address", "listen", "upstreams") else f"{self.name}?{key}")


def read_route(text: str) -> Listener:
    """Read one LISTEN=UPSTREAMS.

        :6379=redis://a:6379,b:6379:2?hash_tag={}
        0.0.0.0:5432=tcp://db-0:5432,db-1:5432?tls=on&ca=/tls/ca.crt&check=tcp&check-interval=10s
        unix:///run/db.sock=srv://_postgresql._tcp.db
        :6379=rediss://bot:password@cache:6379/2

    A server is HOST:PORT, HOST:PORT:WEIGHT or HOST:PORT:WEIGHT NAME, or a path. The options are the fields of Listener,
    Redis, ClientTls and Check, written with `-` or `_`; those of Check, Eject and ServerTls with check-, eject- and
    listen- before them. Raises WrongSettings, which never says what may be a secret.
    """
    head, _, query = text.partition("?")
    listen, equals, url = head.partition("=")
    place = _Word(redacted(head))
    if not equals or not listen or not url:
        _refuse(place, "does not say both where to listen and where to go", _EXAMPLE)
    scheme, separator, rest = url.partition("://")
    if not separator:
        _refuse(place, "does not say what is spoken", f"write {listen}=tcp://{url} or {listen}=redis://{url}")
    _check_scheme(place, scheme)
    redis = scheme in ("redis", "rediss")
    login, servers = _login(rest) if redis else ({}, rest)
    options = Options(place, redis)
    for key, value in _pairs(query):
        options.take(key, value)
    if scheme in ("tls", "rediss"):
        options.parts.setdefault("tls", {})
    if redis:
        servers = _database(servers, options)
        _log_in(place, login, options)
    return options.listener(listen, list(_servers(place, scheme, servers)))


def _refuse(place: Place, what: str, advice: str) -> NoReturn:
    raise WrongSettings(f"{place} {what}; {advice}")


def _check_scheme(place: Place, scheme: str) -> None:
    if scheme in ("http", "https"):
        _refuse(place, f"asks for {scheme}://, which this version does not serve", "tcp:// carries it as it is")
    if scheme not in SCHEMES:
        known = [f"{each}://" for each in SCHEMES]
        _refuse(place, f"asks for {scheme}://, which is unknown", nearest(f"{scheme}://", known))


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    if query:
        from urllib.parse import unquote  # only who gives options pays for it

        for pair in filter(None, query.split("&")):
            # Not parse_qsl: a + is a plus here, as in the path of a file.
            key, _, value = pair.partition("=")
            yield unquote(key), unquote(value)


def _login(rest: str) -> tuple[dict[str, object], str]:
    """Split USER:PASSWORD@ from the servers."""
    userinfo, at, servers = rest.rpartition("@")
    if not at:
        return {}, rest
    from urllib.parse import unquote

    user, colon, password = userinfo.partition(":")
    login: dict[str, object] = {"password": Secret(unquote(password))} if colon and password else {}
    return login | ({"user": unquote(user)} if user else {}), servers


def _log_in(place: Place, login: dict[str, object], options: Options) -> None:
    own = options.parts["redis"]
    for key, value in login.items():
        if {key, f"{key}_file"} & own.keys():
            _refuse(place, f"says {key} twice", "keep it before the @, or as an option")
        options.ready[key] = value


def _database(servers: str, options: Options) -> str:
    """Take /2 from the end of servers: the database, as in Redis's own URLs."""
    front, slash, number = servers.rpartition("/")
    if slash and front and not front.startswith("/") and "," not in number and number.isdecimal():
        options.parts["redis"].setdefault("database", number)
        return front
    return servers


def _servers(place: Place, scheme: str, text: str) -> Iterator[dict[str, object]]:
    """Give the fields of each upstream."""
    for item in text.split(","):
        written = item.strip().removeprefix(f"{scheme}://")
        if not written:
            _refuse(place, "has an empty upstream", "is a variable empty, or a comma one too many?")
        yield _server(place, scheme, written)


def _server(place: Place, scheme: str, written: str) -> dict[str, object]:
    if "://" in written and not written.startswith("unix:///"):
        _refuse(place, f"mixes {scheme}:// with {written!r}", "give each its own LISTEN, or list them in --config")
    where, _, name = written.removeprefix("unix://").partition(" ")
    if "%" in where:
        from urllib.parse import unquote

        where, _, name = unquote(written.removeprefix("unix://")).partition(" ")
    named: dict[str, object] = {"name": name.strip()} if name.strip() else {}
    if scheme == "srv":
        return {"address": f"srv://{where}", **named}
    if not where.startswith(("/", "[")) and where.count(":") > 2:
        _refuse(place, f"has the upstream {written!r}", "an IPv6 address stands in brackets, as [::1]:5432")
    host, port, weight = _split(where)
    if not port and not host.startswith("/"):
        if scheme not in ("redis", "rediss"):
            _refuse(place, f"has the upstream {written!r} without a port", f"write {written}:PORT")
        port = str(_REDIS_PORT)
    address = f"{host}:{port}" if port else host
    return {"address": address, **({"weight": weight} if weight else {}), **named}


def _split(where: str) -> tuple[str, str, str]:
    """Split HOST, HOST:PORT or HOST:PORT:WEIGHT, or /PATH or /PATH:WEIGHT, into three; what is not there is empty."""
    if where.startswith("/"):
        path, colon, weight = where.rpartition(":")
        return (path, "", weight) if colon and weight.isdecimal() else (where, "", "")
    host, bracket, rest = where.rpartition("]") if where.startswith("[") else ("", "", where)
    if not bracket:
        host, _, rest = where.partition(":")
        rest = f":{rest}" if rest else ""
    port, _, weight = rest.removeprefix(":").partition(":")
    return host + bracket, port, weight


class Options:
    """The options of one LISTEN=UPSTREAMS, by the part of the listener that they are of.

    parts  values as they are written, by part; "": the listener's own, "kind": the check's kind's, "upstream": each
           upstream's
    ready  values of Redis that need no reading
    """

    def __init__(self, place: Place, redis: bool) -> None:
        self.parts: dict[str, dict[str, object]] = {"redis": {}} if redis else {}
        self.ready: dict[str, object] = {}
        self._place = place
        self._kind = ""
        self._redis = redis

    def take(self, key: str, text: str) -> None:
        """Note one option."""
        word = key.replace("-", "_")
        if word == "tls":
            if read(bool, text or "on", self._place.key(key)):
                self.parts.setdefault("tls", {})
        elif word == "check":
            self._take_check(key, text)
        elif found := _known(self._redis).get(word):
            self._take_value(key, text, *found)
        else:
            names = {each.replace("_", "-") for each in _known(self._redis)} | {"tls", "check"}
            advice = _OF_REDIS.get(word) or ("it is for redis://" if word in _known(True) else nearest(key, names))
            raise WrongSettings(f"{self._place.key(key)} is unknown; {advice}")

    def _take_value(self, key: str, text: str, part: str, setting: Setting, field: str) -> None:
        values = self.parts.setdefault(part, {})
        if field in values and not setting.many:
            _refuse(self._place, f"has the option {key} twice", "keep one")
        if setting.secret and field == setting.key:
            raise WrongSettings(f"{self._place.key(key)} holds a secret in plain text; give {key}-file")
        values[field] = _value(setting, text, values.get(field))

    def _take_check(self, key: str, text: str) -> None:
        if text == "off":
            return
        if text not in _CHECKS:
            raise self._place.key(key).wrong(text, "tcp, http, redis or off")
        self._kind = text
        self.parts.setdefault("check", {})

    def listener(self, listen: str, servers: list[dict[str, object]]) -> Listener:
        """Make the listener."""
        values: dict[str, Any] = {"listen": listen, **self._read(Listener, "")}
        tls = self._tls()
        each = self._read(Upstream, "upstream") | ({"tls": tls} if tls else {})
        values["upstreams"] = tuple(self._upstream(server, each) for server in servers)
        if "redis" in self.parts:
            values["redis"] = build(Redis, self._read(Redis, "redis") | self.ready, self._place)
        if "check" in self.parts or "kind" in self.parts:
            values["check"] = self._check()
        for part, key in (("eject", "eject"), ("listen", "tls")):
            if part in self.parts:
                values[key] = build(_PARTS[part], self._read(_PARTS[part], part), self._place)
        made: Listener = build(Listener, values, self._place)
        return made

    def _upstream(self, server: dict[str, object], each: dict[str, Any]) -> Upstream:
        made: Upstream = build(Upstream, fill(declared(Upstream), server, self._place) | each, self._place)
        return made

    def _read(self, kind: type[Any], part: str) -> dict[str, Any]:
        values = self.parts.get(part)
        return fill(declared(kind), values, self._place) if values else {}

    def _tls(self) -> ClientTls | None:
        if "tls" not in self.parts:
            return None
        made: ClientTls = build(ClientTls, self._read(ClientTls, "tls"), self._place)
        return made

    def _check(self) -> Check:
        kind = self._kind or ("redis" if "redis" in self.parts else "tcp")
        of_kind = build(_CHECKS[kind], self._read(_CHECKS[kind], "kind"), self._place)
        values = self._read(Check, "check") | {kind: of_kind}
        made: Check = build(Check, values, self._place)
        return made


def _value(setting: Setting, text: str, known: object) -> object:
    """Give an option's value as a config file would have it."""
    if setting.many:
        before = known if isinstance(known, list) else []
        return [*before, *(word.strip() for word in text.split(",") if word.strip())]
    if not text and holds(setting.kind) is bool:
        return "on"
    return text


@functools.cache
def _known(redis: bool) -> dict[str, tuple[str, Setting, str]]:
    """Give each option: its part, its setting and its key there; what comes later is preferred."""
    known: dict[str, tuple[str, Setting, str]] = {}
    kinds: list[tuple[str, str, type[Any]]] = [("check_", "kind", kind) for kind in _CHECKS.values()]
    begun = [(f"{part}_", part, kind) for part, kind in _PARTS.items()]
    bare = [("", part, _PARTS[part]) for part in reversed(_BARE)]
    own: list[tuple[str, str, type[Any]]] = [("", "upstream", Upstream), ("", "", Listener)]
    for beginning, part, kind in [*kinds, *begun, *bare, *own]:
        if part != "redis" or redis:
            for setting, key in _plain(kind):
                if (beginning, part, key) not in _NO_OPTIONS:
                    known[beginning + key] = part, setting, key
    return known


def _plain(kind: type[Any]) -> Iterable[tuple[Setting, str]]:
    """Give the settings of a part that have no structure, by each of their keys."""
    return [(setting, key) for setting in declared(kind) for key in setting.keys if not nested(setting.kind)]
