"""LISTEN=UPSTREAMS: a listener as one word of the command line."""

from __future__ import annotations

from collections.abc import Iterator

from sidecars.ambassador.options import Modes, Options, Word, refuse
from sidecars.ambassador.settings import Listener
from sidecars.core.errors import redacted
from sidecars.core.units import Secret
from sidecars.core.values import Place, nearest

SCHEMES = ("tcp", "tls", "unix", "srv", "redis", "rediss", "http", "https", "http+redis", "http+rediss")
_EXAMPLE = "write :6379=redis://a:6379,b:6379 or :5432=tcp://db:5432"
_PATHS = ("http", "https")  # these have servers with paths
_TLS = ("tls", "rediss", "https", "http+rediss")
_PORTS = {"redis": 6379, "rediss": 6379, "http": 80, "https": 443, "http+redis": 6379, "http+rediss": 6379}


def read_route(text: str) -> Listener:
    """Read one LISTEN=UPSTREAMS.

        :6379=redis://a:6379,b:6379:2?hash_tag={}
        0.0.0.0:5432=tcp://db-0:5432,db-1:5432?tls=on&ca=/tls/ca.crt&check=tcp&check-interval=10s
        unix:///run/db.sock=srv://_postgresql._tcp.db
        :6379=rediss://bot:password@cache:6379/2
        :8080=https://api.example.com/v1?credential-bearer-token-file=/secrets/token
        :8081=http+redis://a:6379,b:6379

    A server is HOST:PORT, HOST:PORT:WEIGHT or HOST:PORT:WEIGHT NAME, or a path; for HTTP another path may follow, with
    which all paths begin there. The options are the fields of Listener, Redis, Http, ClientTls and Check, written with
    `-` or `_`; those of Check, Eject and ServerTls with check-, eject- and listen- before them, and those of the parts
    of Http with the parts' names. Raises WrongSettings, which never says what may be a secret.
    """
    head, _, query = text.partition("?")
    listen, equals, url = head.partition("=")
    place = Word(redacted(head))
    if not equals or not listen or not url:
        refuse(place, "does not say both where to listen and where to go", _EXAMPLE)
    scheme, separator, rest = url.partition("://")
    if not separator:
        spoken, _, where = url.partition(":/")  # http:/api.example has a slash too few
        ways = (f"{spoken}://{where}",) if spoken in SCHEMES else (f"tcp://{url}", f"redis://{url}")
        refuse(place, "does not say what is spoken", "write " + " or ".join(f"{listen}={way}" for way in ways))
    _check_scheme(place, scheme)
    modes = Modes(redis="redis" in scheme, http="http" in scheme)
    options = Options(place, modes)
    for key, value in _pairs(query):
        options.take(key, value)
    if scheme in _TLS:
        options.parts.setdefault("tls", {})
    servers = rest
    if any(modes):
        options.login, servers = _login(rest, scheme)
    if modes.redis:
        servers = _database(servers, options)
    return options.listener(listen, list(_servers(place, scheme, servers)))


def _check_scheme(place: Place, scheme: str) -> None:
    if scheme not in SCHEMES:
        known = [f"{each}://" for each in SCHEMES]
        refuse(place, f"asks for {scheme}://, which is unknown", nearest(f"{scheme}://", known))


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    if query:
        from urllib.parse import unquote  # only who gives options pays for it

        for pair in filter(None, query.split("&")):
            # Not parse_qsl: a + is a plus here, as in the path of a file.
            key, _, value = pair.partition("=")
            yield unquote(key), unquote(value)


def _login(rest: str, scheme: str) -> tuple[dict[str, object], str]:
    """Split USER:PASSWORD@ from the servers; in a path of HTTP, an @ is an @."""
    authority, slash, path = rest.partition("/") if scheme in _PATHS else (rest, "", "")
    userinfo, at, servers = authority.rpartition("@")
    if not at:
        return {}, rest
    from urllib.parse import unquote

    user, colon, password = userinfo.partition(":")
    login: dict[str, object] = {"password": Secret(unquote(password))} if colon and password else {}
    return login | ({"user": unquote(user)} if user else {}), servers + slash + path


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
            refuse(place, "has an empty upstream", "is a variable empty, or a comma one too many?")
        yield _server(place, scheme, written)


def _server(place: Place, scheme: str, written: str) -> dict[str, object]:
    if "://" in written and not written.startswith("unix:///"):
        refuse(place, f"mixes {scheme}:// with {written!r}", "give each its own LISTEN, or list them in --config")
    path = ""
    if scheme in _PATHS:
        written, path = _path(written)
    where, _, name = written.removeprefix("unix://").partition(" ")
    if "%" in where:
        from urllib.parse import unquote

        where, _, name = unquote(written.removeprefix("unix://")).partition(" ")
    more: dict[str, object] = {"name": name.strip(), "path": path}
    if scheme == "srv":
        more["address"] = f"srv://{where}"
    else:
        more["address"], more["weight"] = _address(place, scheme, where)
    return {key: value for key, value in more.items() if value}


def _path(written: str) -> tuple[str, str]:
    """Split HOST:PORT:WEIGHT/PATH NAME into what is there without the path, and that, without a / at its end."""
    if written.startswith(("/", "unix://")):
        return written, ""
    front, slash, rest = written.partition("/")
    path, space, name = rest.partition(" ")
    return front + space + name, f"/{path}".rstrip("/") if slash else ""


def _address(place: Place, scheme: str, where: str) -> tuple[str, str]:
    """Give the address and the weight of HOST, HOST:PORT or HOST:PORT:WEIGHT, or of a unix socket."""
    if not where.startswith(("/", "[")) and where.count(":") > 2:
        refuse(place, f"has the upstream {where!r}", "an IPv6 address stands in brackets, as [::1]:5432")
    host, port, weight = _split(where)
    if scheme in _PATHS and not port.isdecimal() and port:
        refuse(place, "has a port that is no number", "write HOST:PORT, and %2F for a / in a password")
    if not port and not host.startswith("/"):
        if scheme not in _PORTS:
            refuse(place, f"has the upstream {where!r} without a port", f"write {where}:PORT")
        port = str(_PORTS[scheme])
    return f"{host}:{port}" if port else host, weight


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
