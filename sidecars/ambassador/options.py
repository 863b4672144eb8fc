"""The options of LISTEN=UPSTREAMS?OPTION&OPTION: the fields of a listener and of its parts, by one name each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

from sidecars.ambassador.http.settings import BasicCredential, Credential, Http
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
from sidecars.core.declaration import Setting, declared, holds, nested, struct
from sidecars.core.errors import WrongSettings
from sidecars.core.values import Place, build, fill, nearest, read

_CHECKS: dict[str, type[Any]] = {"tcp": TcpCheck, "http": HttpCheck, "redis": RedisCheck}
# Parts of a listener, by what an option of theirs may begin with; `listen` is TLS towards clients.
_PARTS: dict[str, type[Any]] = {
    "redis": Redis,
    "http": Http,
    "tls": ClientTls,
    "check": Check,
    "eject": Eject,
    "listen": ServerTls,
}
# Where an option without such a beginning is looked for, once it is none of the listener's own.
_BARE = ("redis", "http", "tls", "check")
# What is of redis:// and http:// only, and is likely to be meant otherwise.
_AMBIGUOUS = {"timeout": "say which: connect-timeout, idle-timeout, queue-timeout or check-timeout"}
# What no option gives: what stands before the `?`; and `timeout`, unless it is a mode's, for too many things have one.
_NO_OPTIONS = {
    ("", "check", "timeout"), ("", "", "listen"), ("", "upstream", "address"), ("", "upstream", "weight"),
    ("", "upstream", "name"), ("", "upstream", "path"),
}  # fmt: skip


class _Option(Place, frozen=True):
    """An option; the parts of a part are told with dashes."""

    def key(self, key: str) -> Place:
        """Go to a part's own."""
        return _Option(f"{self.name}-{key}")


class Word(Place, frozen=True):
    """A LISTEN=UPSTREAMS, without its options, whose keys they are."""

    def key(self, key: str) -> Place:
        """Go to an option."""
        return _Option(self.name if key in ("address", "listen", "upstreams") else f"{self.name}?{key}")


def refuse(place: Place, what: str, advice: str) -> NoReturn:
    """Say what is wrong, and what to do instead."""
    raise WrongSettings(f"{place} {what}; {advice}")


class Modes(NamedTuple):
    """What a listener does with what clients send; neither: it passes bytes on."""

    redis: bool = False
    http: bool = False


class Options:
    """The options of one LISTEN=UPSTREAMS, by the part of the listener that they are of.

    parts  values as they are written, by part; "": the listener's own, "kind": the check's kind's, "upstream": each
           upstream's, "http.auth.basic": of a part of HTTP mode
    login  the user and the password that stood before the servers
    """

    def __init__(self, place: Place, modes: Modes) -> None:
        self.parts: dict[str, dict[str, object]] = {name: {} for name, on in modes._asdict().items() if on}
        self.login: dict[str, object] = {}
        self._place = place
        self._kind = ""
        self._modes = modes

    def take(self, key: str, text: str) -> None:
        """Note one option."""
        word = key.replace("-", "_")
        if word == "tls":
            if read(bool, text or "on", self._place.key(key)):
                self.parts.setdefault("tls", {})
        elif word == "check":
            self._take_check(key, text)
        elif found := _known(self._modes).get(word):
            self._take_value(key, text, *found)
        else:
            raise WrongSettings(f"{self._place.key(key)} is unknown; {_advice(word, self._modes)}")

    def _take_value(self, key: str, text: str, part: str, setting: Setting, field: str) -> None:
        values = self.parts.setdefault(part, {})
        if field in values and not setting.many:
            refuse(self._place, f"has the option {key} twice", "keep one")
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
        if self._modes.redis:
            values["redis"] = build(Redis, self._read(Redis, "redis") | self._redis_login(), self._place)
        if self._modes.http:
            values["http"] = self._http()
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

    def _redis_login(self) -> dict[str, object]:
        for key in self.login:
            if {key, f"{key}_file"} & self.parts["redis"].keys():
                refuse(self._place, f"says {key} twice", "keep it before the @, or as an option")
        return self.login

    def _http(self) -> Http:
        whole: dict[str, Any] = {}
        for part, values in self.parts.items():
            first, *rest = part.split(".")
            if first == "http":
                functools.reduce(lambda inside, name: inside.setdefault(name, {}), rest, whole).update(values)
        made = fill(declared(Http), whole, self._place)
        if self.login and not self._modes.redis:
            made["credential"] = self._http_login(made)
        http: Http = build(Http, made, self._place)
        return http

    def _http_login(self, made: dict[str, Any]) -> Credential:
        if "credential" in made:
            refuse(self._place, "says twice who we are", "keep it before the @, or as an option")
        if self.login.keys() != {"user", "password"}:
            refuse(self._place, "has a user or a password alone", "write USER:PASSWORD@, or leave both out")
        return Credential(basic=BasicCredential(**self.login))  # type: ignore[arg-type]

    def _tls(self) -> ClientTls | None:
        if "tls" not in self.parts:
            return None
        made: ClientTls = build(ClientTls, self._read(ClientTls, "tls"), self._place)
        return made

    def _check(self) -> Check:
        kind = self._kind or ("redis" if self._modes.redis else "tcp")
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


def _advice(word: str, modes: Modes) -> str:
    """Say what may have been meant by an unknown option."""
    if word in _AMBIGUOUS:
        return _AMBIGUOUS[word]
    if word in _known(Modes(redis=True)):
        return "it is for redis://"
    if word in _known(Modes(http=True)):
        return "it is for http:// and https://"
    names = {each.replace("_", "-") for each in _known(modes)} | {"tls", "check"}
    return nearest(word.replace("_", "-"), names)


Known = dict[str, tuple[str, Setting, str]]


@functools.cache
def _known(modes: Modes) -> Known:
    """Give each option: its part, its setting and its key there; what comes later is preferred."""
    known: Known = {}
    kinds: list[tuple[str, str, type[Any]]] = [("check_", "kind", kind) for kind in _CHECKS.values()]
    begun = [(f"{part}_", part, kind) for part, kind in _PARTS.items()]
    bare = [("", part, _PARTS[part]) for part in reversed(_BARE)]
    own: list[tuple[str, str, type[Any]]] = [("", "upstream", Upstream), ("", "", Listener)]
    for beginning, part, kind in [*kinds, *begun, *bare, *own]:
        if getattr(modes, part, True):
            for setting, key in _plain(kind):
                if (beginning, part, key) not in _NO_OPTIONS:
                    known[beginning + key] = part, setting, key
    if modes.http:
        known |= {name: each for name, *each in _inside(Http, "", "http")}  # type: ignore[misc]
    return known


def _inside(kind: type[Any], beginning: str, place: str) -> Iterator[tuple[str, str, Setting, str]]:
    """Give the options of the parts of a part, by their whole way: auth-basic-users-file, retry-tries.

    A word is not said twice: it is auth-api-keys-file, of auth.api_keys.keys_file.
    """
    for part in declared(kind):
        inner = holds(part.kind)
        if struct(inner):
            begun, where = f"{beginning}{part.key}_", f"{place}.{part.key}"
            last = begun.rstrip("_").rpartition("_")[2]
            for setting, key in _plain(inner):
                rest = key.removeprefix(last).removeprefix("_") if key.split("_")[0] == last else key
                yield (begun + rest).rstrip("_"), where, setting, key
            yield from _inside(inner, begun, where)


def _plain(kind: type[Any]) -> Iterable[tuple[Setting, str]]:
    """Give the settings of a part that have no structure, by each of their keys."""
    return [(setting, key) for setting in declared(kind) for key in setting.keys if not nested(setting.kind)]
