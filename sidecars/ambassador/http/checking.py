"""What an operator's settings of HTTP mode must be to make sense: each refusal says what to do instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import fields

from sidecars.core.units import Address

if TYPE_CHECKING:
    from sidecars.ambassador.http import settings
    from sidecars.ambassador.settings import Listener, Redis

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_UNFIT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_QUOTED = re.compile(r"[ !#-\[\]-~]*")
# What says where a message ends, and whom it is for: not to be played with.
_FRAMING = frozenset(
    (
        *("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    )
)
_SHARED = ("HS256", "HS384", "HS512")
_PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_UNSIGNED = ("s3", "s3-outposts", "s3-object-lambda", "s3express", "vpc-lattice-svcs")


def _least(least: float, part: object, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if value is not None and value < least:
            raise ValueError(f"has {name} {value}, expected {least:g} or more")


def _above_zero(part: object, *names: str) -> None:
    for name in names:
        if getattr(part, name) <= 0:
            raise ValueError(f"has {name} {getattr(part, name)}, expected more than 0")


def _header(name: str, what: str = "name", *, ours: bool = False) -> None:
    """Refuse what is no header's name; with `ours` also what we must keep in hand."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"has {what} {name!r}, which is no name of a header; letters, digits and - are")
    if ours and name.lower() in _FRAMING:
        raise ValueError(f"has {what} {name}, which says how a message is framed or whom it is for; leave it out")


def _value(value: str, what: str) -> None:
    if _UNFIT.search(value) or value != value.strip():
        raise ValueError(
            f"has a {what} that no header may have: a line break, a control character, or a space at an end"
        )


def _expression(text: str, what: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"has {what} {text!r}, which is no regular expression: {error}") from None


def _one_of(part: object, *names: str) -> str:
    """Give the one of these that is set; ValueError when none is, or two are."""
    given = [name for name in names if getattr(part, name) is not None]
    if not given:
        raise ValueError(f"has none of {', '.join(names)}; give one")
    if len(given) > 1:
        raise ValueError(f"has {' and '.join(given)}; keep one")
    return given[0]


def _installed(what: str, *modules: str) -> None:
    import importlib.util  # only who needs more than the plain image has pays for it

    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"needs the image ambassador-full, or pip's extra of that name: {what} is by the Python package"
            f" {missing[0]}, which is not installed here"
        )


def header_rule(rule: settings.HeaderRule) -> None:
    """Check what a header must be like."""
    _header(rule.name)
    if rule.matches is not None:
        _expression(rule.matches, "matches")


def api_keys(rule: settings.ApiKeys) -> None:
    """Check where keys are."""
    _header(rule.header, "header", ours=True)
    if rule.query is not None and not re.fullmatch(r"[\w.~-]+", rule.query):
        raise ValueError(f"has query {rule.query!r}, expected the name of a parameter: letters, digits, _ . ~ -")


def basic(rule: settings.Basic) -> None:
    """Check the realm."""
    if not _QUOTED.fullmatch(rule.realm):
        raise ValueError(f"has realm {rule.realm!r}, expected ASCII without quotes and backslashes")


def claim(rule: settings.Claim) -> None:
    """Check a claim's name."""
    if not rule.name:
        raise ValueError("has an empty name; give the claim's")


def claim_header(rule: settings.ClaimHeader) -> None:
    """Check what a claim is told in."""
    if not rule.claim:
        raise ValueError("has an empty claim; give its name")
    _header(rule.header, "header", ours=True)


def jwt(rule: settings.Jwt) -> None:
    """Check how tokens are verified."""
    source = _one_of(rule, "jwks", "keys", "secret")
    _header(rule.header, "header", ours=True)
    _least(0, rule, "leeway")
    _least(1, rule, "jwks_interval")
    if rule.jwks is not None:
        _published(rule.jwks)
    elif rule.jwks_ca is not None:
        raise ValueError("has jwks_ca without jwks; leave it out")
    known = _SHARED if source == "secret" else _PUBLIC
    if wrong := [each for each in rule.algorithms if each not in known]:
        raise ValueError(f"has algorithm {wrong[0]}, but with {source} there are {', '.join(known)}")
    if wrong := [each for each in rule.scopes if not re.fullmatch(r"[!#-\[\]-~]+", each)]:
        raise ValueError(f"has scope {wrong[0]!r}, expected one without spaces, quotes and backslashes")
    _installed("jwt", "jwt", "cryptography", *(["aiohttp"] if rule.jwks is not None else []))


def _published(url: str) -> None:
    from urllib.parse import urlsplit  # only who has such an address pays for it

    expected = "expected https://HOST/PATH, or http:// of this pod's loopback"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"has a jwks that is no URL; {expected}") from None
    if parts.username is not None or port == 0 or not parts.hostname or re.search(r"[^!-~]", url):
        raise ValueError(f"has a jwks with a user, without a host, or with spaces; {expected}")
    near = parts.hostname == "localhost" or re.fullmatch(r"127(\.\d+){3}|::1", parts.hostname)
    if parts.scheme != "https" and not (parts.scheme == "http" and near):
        # Who can change an answer on its way could let in whom he likes.
        raise ValueError(f"has a jwks that is not https; {expected}")


def auth(rule: settings.Auth) -> None:
    """Check that there is a way to come in."""
    if not any((rule.api_keys, rule.basic, rule.bearer, rule.jwt)):
        raise ValueError("has no way to come in; give one of api_keys, basic, bearer and jwt")


def rate_limit(rule: settings.RateLimit) -> None:
    """Check a rate limit."""
    _above_zero(rule, "rate")
    _least(1, rule, "burst")
    name = rule.key.removeprefix("header:")
    if rule.key not in ("client", "user", "listener") and (name == rule.key or not _TOKEN.fullmatch(name)):
        raise ValueError(f"has key {rule.key!r}, expected client, user, listener, or header:NAME")


def header_value(change: settings.HeaderValue) -> None:
    """Check a header that is put."""
    _header(change.name, ours=True)
    _value(change.value, "value")


def header_rewrite(change: settings.HeaderRewrite) -> None:
    """Check a header that is changed."""
    _header(change.name, ours=True)
    expression = _expression(change.matches, "matches")
    try:
        expression.sub(change.to, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"has to {change.to!r}, which does not go with matches: {error}") from None
    _value(change.to.strip(), "to")


def header_changes(changes: settings.HeaderChanges) -> None:
    """Check what is taken out."""
    for name in changes.remove:
        _header(name.removesuffix("*"), "remove", ours=True)


def path_rewrite(change: settings.PathRewrite) -> None:
    """Check a beginning of paths."""
    from sidecars.ambassador.http.paths import BadPath, normal

    for name in ("prefix", "to"):
        text: str = getattr(change, name)
        try:
            as_is = text.startswith("/") and "?" not in text and normal(text.encode()) == text.encode()
        except BadPath as error:
            raise ValueError(f"has {name} {text!r}, which {error}") from None
        if not as_is:
            raise ValueError(f"has {name} {text!r}, expected a path as it is sent: from /, with no . and .. segments")


def key_credential(one: settings.KeyCredential) -> None:
    """Check where a key is put."""
    _header(one.header, "header", ours=True)


def basic_credential(one: settings.BasicCredential) -> None:
    """Check a user."""
    if not one.user or ":" in one.user or _UNFIT.search(one.user):
        raise ValueError(f"has user {one.user!r}, expected a name without a colon and control characters")


def hmac_credential(one: settings.HmacCredential) -> None:
    """Check how requests are signed."""
    _header(one.header, "header", ours=True)
    if not _QUOTED.fullmatch(one.key_id):
        raise ValueError(f"has key_id {one.key_id!r}, expected ASCII without quotes and backslashes")
    if one.key_id and one.style == "body":
        raise ValueError("has key_id, for which style body has no place; leave it out")


def sigv4_credential(one: settings.SigV4Credential) -> None:
    """Check how requests are signed for AWS."""
    for name in ("region", "service"):
        if not re.fullmatch(r"[a-z0-9-]+", getattr(one, name)):
            raise ValueError(f"has {name} {getattr(one, name)!r}, expected AWS's own word, as us-east-1 or s3")
    if (one.access_key_id is None) != (one.secret_access_key is None):
        raise ValueError("has one of access_key_id and secret_access_key; give both, or none for the SDK's chain")
    if one.session_token is not None and one.access_key_id is None:
        raise ValueError("has session_token without access_key_id; give all three, or none for the SDK's chain")
    if not one.sign_body and one.service not in _UNSIGNED:
        raise ValueError(f"has sign_body off, which {one.service} does not take; leave it out")
    _installed("sigv4", "botocore")


def credential(one: settings.Credential) -> None:
    """Check that it is one."""
    _one_of(one, "api_key", "basic", "bearer", "hmac", "sigv4")


def retry(rule: settings.Retry) -> None:
    """Check when requests are tried again."""
    if not 0 <= rule.tries <= 10:
        raise ValueError(f"has tries {rule.tries}, expected 0 to 10")
    if wrong := [status for status in rule.statuses if not 500 <= status <= 599]:
        raise ValueError(f"has status {wrong[0]}, expected 500 to 599: other answers are the client's to understand")
    if not 0 <= rule.budget <= 100:
        raise ValueError(f"has budget {rule.budget}, expected percent: 0 to 100")
    _least(0, rule, "floor", "buffer")
    _above_zero(rule, "backoff")
    if rule.max_backoff < rule.backoff:
        raise ValueError(f"has max_backoff {rule.max_backoff}, less than backoff, {rule.backoff}; give as much or more")


def http(mode: settings.Http) -> None:
    """Check what is said of HTTP mode."""
    _methods(mode.methods)
    _paths(mode.paths)
    _above_zero(mode, "head_timeout", "body_timeout", "keep_alive", "timeout", "try_timeout", "stream_timeout")
    _least(0, mode, "upstream_keep_alive", "upstream_idle", "max_body", "min_rate")
    _least(1, mode, "max_requests", "signed_body")
    _least(1024, mode, "max_head")
    _least(16, mode, "max_url")
    if mode.request_id not in (None, "off"):
        _header(str(mode.request_id), "request_id", ours=True)
    if mode.host not in (None, "client") and not _authority(str(mode.host)):
        raise ValueError(f"has host {mode.host!r}, expected HOST, HOST:PORT, or client")
    _one_header(mode)


def _authority(text: str) -> bool:
    try:
        address = Address(text if re.search(r":\d+$", text) and not text.endswith("]") else f"{text}:80")
    except ValueError:
        return False
    return bool(address.host)


def _methods(methods: Sequence[str]) -> None:
    for method in methods:
        if not re.fullmatch(r"[A-Z-]+", method):
            hint = f"; write {method.upper()}" if method.upper() != method else ""
            raise ValueError(f"has method {method!r}, expected one in capital letters{hint}")
        if method in ("CONNECT", "TRACE"):
            # An upstream's answer to TRACE would show the client what is put into its requests.
            raise ValueError(f"has method {method}, which is never passed on; leave it out")


def _paths(paths: Iterable[str]) -> None:
    if not paths:
        return
    from sidecars.ambassador.http.paths import pattern  # only who has such a list pays for it

    for path in paths:
        try:
            pattern(path)
        except ValueError as error:
            raise ValueError(f"has path {path!r}, which {error}; write /v1/*/items, or /v1/**") from None


def _one_header(mode: settings.Http) -> None:
    """Refuse two that want one header: of who came in, and of who we are."""
    tokens, credential = mode.auth.jwt if mode.auth else None, mode.credential
    if not tokens or not credential or not tokens.pass_on:
        return
    ours = credential.api_key.header if credential.api_key else "Authorization"
    if credential.hmac is None and tokens.header.lower() == ours.lower():
        raise ValueError(f"has jwt pass_on, and a credential that is put into {ours} too; leave one out")


# What a listener may be told of connections that are passed on, and what to do instead where they carry requests.
_NOT_OURS = {
    "retries": "give http.retry.tries",
    "idle_timeout": "give http.keep_alive and http.stream_timeout",
    "max_age": "leave it out",
}
_OF_SERVERS = ("credential", "request", "response", "rewrite", "host")


def listener(one: Listener) -> None:
    """Check what a listener's http needs of the rest of it; ValueError."""
    if one.http is None:
        return
    limit = one.http.rate_limit
    if limit and limit.key == "user" and not (one.http.auth or (one.tls and one.tls.client_ca)):
        raise ValueError("has rate_limit key user, but nobody says as whom they come; give auth, or another key")
    _whole(one)


def _whole(one: Listener) -> None:
    """Refuse what has no meaning in HTTP mode."""
    if one.redis and one.http:
        _keys(one, one.http, one.redis)
    for tls in (one.tls, *(each.tls for each in one.upstreams if one.redis is None)):
        if tls is not None and tls.alpn not in ((), ("http/1.1",)):
            raise ValueError(f"has alpn {', '.join(tls.alpn)}, but HTTP mode speaks http/1.1; leave alpn out")
    for field in fields(one):
        if field.name in _NOT_OURS and getattr(one, field.name) != field.default:
            raise ValueError(f"has {field.name}, which is for connections; in HTTP mode {_NOT_OURS[field.name]}")


def _keys(one: Listener, mode: settings.Http, redis: Redis) -> None:
    """Refuse what has no meaning where keys are served by HTTP."""
    if any(each.path for each in one.upstreams):
        raise ValueError("has an upstream with a path, but a shard has none; leave it out")
    if redis.client_password or redis.client_user:
        raise ValueError("has a password for clients of Redis, but they come by HTTP; give http.auth")
    for field in fields(mode):
        if field.name in _OF_SERVERS and getattr(mode, field.name) != field.default:
            raise ValueError(f"has http.{field.name}, which is for servers of HTTP; shards have no use for it")
