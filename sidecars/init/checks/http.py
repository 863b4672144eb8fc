"""http:// and https://: an answer with the status, and where wanted the body, that says ready."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import h11
import msgspec

from sidecars import __version__
from sidecars.core.errors import WrongSettings
from sidecars.init.checks import Result, Unmet, shown
from sidecars.init.connecting import Streams, connected

if TYPE_CHECKING:
    import ssl

    from sidecars.init.target import Target

_MOST_BODY = 1024 * 1024  # bytes looked at
_MOST_HOPS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_STATUSES = re.compile(r"[1-5](?:[0-9]{2}|xx)(?:-[1-5][0-9]{2})?(?:[,|][1-5](?:[0-9]{2}|xx)(?:-[1-5][0-9]{2})?)*")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class Answer(msgspec.Struct, frozen=True):
    """What was answered; the body only as far as it is looked at."""

    status: int
    location: str
    body: bytes


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    target.pattern("body")
    target.flag("follow")
    if not _STATUSES.fullmatch(target.options.get("status", "2xx")):
        raise target.wrong("status", "a list such as 200,204 or 2xx or 200-299")
    if not re.fullmatch(r"[A-Za-z]+", target.options.get("method", "GET")):
        raise target.wrong("method", "a word such as GET or HEAD")
    if not target.options.get("json", "x"):
        raise target.wrong("json", "a path such as status, or a.b[0]==UP")
    if not target.path.isascii() or re.search(r"[\x00-\x20\x7f]", target.path):
        raise WrongSettings(f"{target.text} has a space or a letter in its path that no URL may have; escape it by %XX")
    if target.scheme == "https":
        from sidecars.init.tls import validate as validate_tls

        validate_tls(target)


async def check(target: Target, patience: float) -> Result:
    """Ask once, and with `follow` go where the answers lead."""
    headers = _headers(target)
    place = target
    for _ in range(_MOST_HOPS + 1):
        try:
            answer = await _ask(place, headers, patience)
        except Unmet as unmet:
            if place is target or unmet.result.state != "impossible":
                raise
            # Where a server sends us is not what was asked for: it may send us elsewhere tomorrow.
            raise Unmet("not-ready", f"leads to {place.host}: {unmet}") from None
        if answer.status not in _REDIRECTS or not target.flag("follow") or not answer.location:
            return _judged(target, answer)
        place = _onward(place, answer)
        if (place.host, place.port, place.scheme) != (target.host, target.port, target.scheme):
            headers = []  # Credentials are for the host they were given for.
    return Result("not-ready", f"redirects more than {_MOST_HOPS} times")


def _headers(target: Target) -> list[tuple[str, str]]:
    """Read the headers of header_file, and make the one of a user and a password: anew each time, for files change."""
    headers = []
    if file := target.options.get("header_file"):
        try:
            with open(file, encoding="ascii") as lines:
                written = [line.rstrip("\r\n") for line in lines if line.strip()]
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise Unmet("error", f"cannot read header_file {file}: {why}; is it mounted?") from None
        for line in written:
            match = _HEADER.fullmatch(line)
            if not match:
                raise Unmet("error", f"a line of {file} is no header; write Name: value")
            headers.append((match[1], match[2]))
    if target.user or target.password:
        import base64

        login = f"{target.user}:{target.password.reveal() if target.password else ''}".encode()
        headers.append(("Authorization", f"Basic {base64.b64encode(login).decode()}"))
    return headers


def _onward(place: Target, answer: Answer) -> Target:
    """Make the target that a redirect leads to; only http and https, and never from the latter to the former."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    try:
        url = urlsplit(urljoin(f"{place.scheme}://{host}:{place.port}{place.path}", answer.location))
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise Unmet("not-ready", f"redirects to {shown(answer.location)}, which is no URL") from None
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if url.scheme not in ("http", "https") or (url.scheme, place.scheme) == ("http", "https") or not url.hostname:
        raise Unmet("not-ready", f"redirects to {shown(answer.location)}, which is not followed")
    if not path.isascii() or re.search(r"[\x00-\x20\x7f]", path):
        raise Unmet("not-ready", f"redirects to {shown(answer.location)}, which is no URL")
    return msgspec.structs.replace(place, scheme=url.scheme, host=url.hostname, port=port, path=path)


async def _ask(place: Target, headers: Sequence[tuple[str, str]], patience: float) -> Answer:
    context: ssl.SSLContext | None = None
    if place.scheme == "https":
        from sidecars.init.tls import complain, context_of

        context = context_of(place)
    async with connected(place, patience, context, place.options.get("server_name")) as streams:
        if context is not None:
            complain(place, streams)
        try:
            return await _exchange(place, headers, streams)
        except h11.RemoteProtocolError as error:
            raise Unmet("not-ready", f"does not answer in HTTP: {shown(str(error))}") from None
        except h11.LocalProtocolError:
            # Its text may quote a header's value, which may be a secret.
            raise Unmet("error", "the request cannot be sent, a header is malformed; see header_file") from None


async def _exchange(place: Target, headers: Sequence[tuple[str, str]], streams: Streams) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    method = place.options.get("method", "GET").upper()
    own = {name.lower() for name, _ in headers}
    usual = [("Host", _host(place)), ("User-Agent", f"pod-init/{__version__}"), ("Accept", "*/*")]
    every = [*headers, *((name, value) for name, value in usual if name.lower() not in own), ("Connection", "close")]
    request = h11.Request(method=method, target=place.path, headers=every)
    streams.writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    await streams.writer.drain()
    response = await _response(connection, streams)
    wants_body = method != "HEAD" and ("body" in place.options or "json" in place.options)
    body = await _body(connection, streams) if wants_body else b""
    location = next((value for name, value in response.headers if name == b"location"), b"")
    return Answer(response.status_code, location.decode(errors="replace"), body)


def _host(place: Target) -> str:
    # Neither the zone of an address nor the dot at the end of a name is the other end's business.
    host = f"[{place.host.partition('%')[0]}]" if ":" in place.host else place.host.rstrip(".")
    usual = 443 if place.scheme == "https" else 80
    return host if place.port == usual else f"{host}:{place.port}"


async def _response(connection: h11.Connection, streams: Streams) -> h11.Response:
    """Read up to the end of the headers; h11 bounds how long they are."""
    heard = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            return event
        if event is h11.NEED_DATA:
            data = await streams.reader.read(8192)
            heard = (heard + data)[:200]
            if not heard.startswith(b"HTTP/"[: len(heard)]):
                raise Unmet("not-ready", f"does not answer in HTTP: {shown(heard)}")
            if not data:
                what = f"says {shown(heard)}, and" if heard else "takes the request and"
                raise Unmet("reset", f"{what} ends the connection without an answer")
            connection.receive_data(data)


async def _body(connection: h11.Connection, streams: Streams) -> bytes:
    """Read the body, up to what is looked at."""
    body = bytearray()
    while len(body) < _MOST_BODY:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await streams.reader.read(65536))
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            break
    return bytes(body[:_MOST_BODY])


def _judged(target: Target, answer: Answer) -> Result:
    """Compare the answer with what is wanted."""
    wanted = target.options.get("status", "2xx")
    if not matches(answer.status, wanted):
        if answer.status in (401, 403, 407):
            return Result(
                "auth",
                f"answers {answer.status}; it wants credentials, or others; give password_file or header_file",
            )
        to = f", which leads to {shown(answer.location)}; add follow to go there" if answer.location else ""
        return Result("not-ready", f"answers {answer.status} instead of {wanted}{to}")
    pattern = target.pattern("body")
    if pattern and not pattern.search(answer.body.decode(errors="replace")):
        return Result("not-ready", f"answers {answer.status}, but the body does not match: {shown(answer.body)}")
    if "json" in target.options:
        return _told(target.options["json"], answer)
    return Result("ok", f"answers {answer.status}")


def matches(status: int, wanted: str) -> bool:
    """Say whether a status is one of `200,3xx,400-404`."""
    for each in re.split("[,|]", wanted):
        first, _, last = each.partition("-")
        if int(first.replace("xx", "00")) <= status <= int((last or first).replace("xx", "99")):
            return True
    return False


def _told(option: str, answer: Answer) -> Result:
    path, equals, wanted = option.partition("==")
    try:
        value = found(json.loads(answer.body), path)
    except (ValueError, RecursionError):
        return Result("not-ready", f"answers {answer.status}, but not in JSON: {shown(answer.body)}")
    except LookupError:
        return Result("not-ready", f"answers {answer.status}, but its JSON has no {path}")
    text = value if isinstance(value, str) else json.dumps(value)
    if (text != wanted) if equals else value in (None, False):
        return Result("not-ready", f"answers {answer.status}, but {path} is {shown(text)}")
    return Result("ok", f"answers {answer.status}, {path} is {shown(text)}")


def found(document: Any, path: str) -> Any:
    """Give what stands at a path such as `$.components.db[0].status` in a document; LookupError if nothing does."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path.removeprefix("$")):
        if index:
            if not isinstance(document, list):
                raise LookupError(index)
            document = document[int(index)]
        elif isinstance(document, dict):
            document = document[name]
        else:
            raise LookupError(name)
    return document
