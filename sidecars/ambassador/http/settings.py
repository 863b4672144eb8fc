"""What an operator sets of HTTP mode: the parts of a listener's `http`."""

from __future__ import annotations

from typing import Annotated, Literal

from sidecars.ambassador.http import checking
from sidecars.core.settings import Bytes, Help, Part, Seconds, Secret


class HeaderRule(Part, frozen=True):
    """What one header of a request must be like."""

    name: Annotated[str, Help("The header.")]
    matches: Annotated[
        str | None, Help("A regular expression that the whole value must match; without it any value will do.", none="")
    ] = None
    forbidden: Annotated[bool, Help("It must not be there; with matches: not with such a value.")] = False

    def __post_init__(self) -> None:
        """Refuse what is no header, and no expression; ValueError."""
        checking.header_rule(self)


class ApiKeys(Part, frozen=True):
    """Clients must give one of these keys."""

    keys: Annotated[Secret, Help("The keys, a line each: KEY, or NAME KEY.")]
    header: Annotated[str, Help("The header it is in.")] = "X-API-Key"
    query: Annotated[str | None, Help("The parameter of the query it may be in instead; it is taken out.", none="")] = (
        None
    )

    def __post_init__(self) -> None:
        """Refuse a place where no key can be; ValueError."""
        checking.api_keys(self)


class Basic(Part, frozen=True):
    """Clients must log in with a user and a password."""

    users: Annotated[Secret, Help("The users, a line each: USER:PASSWORD, or USER:sha256:HEX.")]
    realm: Annotated[str, Help("What clients are told it is for.")] = "ambassador"

    def __post_init__(self) -> None:
        """Refuse a realm that cannot be quoted; ValueError."""
        checking.basic(self)


class Bearer(Part, frozen=True):
    """Clients must give one of these tokens."""

    tokens: Annotated[Secret, Help("The tokens, a line each: TOKEN, or NAME TOKEN.")]


class Claim(Part, frozen=True):
    """What a claim of a JWT must be."""

    name: Annotated[str, Help("The claim; a dot goes into an object.")]
    values: Annotated[
        tuple[str, ...], Help("It, or one of it if it is a list, must be one of these; without any it must be there.")
    ] = ()

    def __post_init__(self) -> None:
        """Refuse an empty name; ValueError."""
        checking.claim(self)


class ClaimHeader(Part, frozen=True):
    """A claim that the upstream is told in a header."""

    claim: Annotated[str, Help("The claim; a dot goes into an object.")]
    header: Annotated[str, Help("The header; what the client has put there is taken out.")]

    def __post_init__(self) -> None:
        """Refuse an empty claim, and what is no header; ValueError."""
        checking.claim_header(self)


class Jwt(Part, frozen=True):
    """Clients must give a JSON Web Token. In the image ambassador-full only."""

    jwks: Annotated[str | None, Help("Where the keys are published, as https://HOST/PATH.", none="")] = None
    jwks_ca: Annotated[str | None, Help("What to trust there; the system's authorities without it.", "", "PATH")] = None
    jwks_interval: Annotated[Seconds, Help("How often they are asked for.")] = Seconds(300)
    keys: Annotated[
        str | None, Help("A file with the keys instead: a JWKS, or public keys in PEM.", metavar="PATH", none="")
    ] = None
    secret: Annotated[Secret | None, Help("The shared secret of HS256, HS384 and HS512.")] = None
    algorithms: Annotated[
        tuple[str, ...], Help("Which algorithms are taken.", default="those of the kind of key that is given")
    ] = ()
    issuer: Annotated[tuple[str, ...], Help("Who must have issued it, one of these.")] = ()
    audience: Annotated[tuple[str, ...], Help("Whom it must be for, one of these.")] = ()
    claims: Annotated[tuple[Claim, ...], Help("What else it must say.")] = ()
    scopes: Annotated[tuple[str, ...], Help("Scopes (scope or scp) of which it must have all.")] = ()
    leeway: Annotated[Seconds, Help("How far clocks may differ.")] = Seconds(60)
    header: Annotated[str, Help("The header it is in, as Bearer.")] = "Authorization"
    pass_on: Annotated[bool, Help("The upstream gets it too.")] = False
    claim_headers: Annotated[tuple[ClaimHeader, ...], Help("Claims that the upstream is told.")] = ()

    def __post_init__(self) -> None:
        """Refuse no source of keys, two, and algorithms that do not go with it; ValueError."""
        checking.jwt(self)


class Auth(Part, frozen=True):
    """Who may come in: whoever satisfies one of what is given. What has let a client in is not passed on."""

    api_keys: Annotated[ApiKeys | None, Help("A key.", none="")] = None
    basic: Annotated[Basic | None, Help("A user and a password.", none="")] = None
    bearer: Annotated[Bearer | None, Help("A token.", none="")] = None
    jwt: Annotated[Jwt | None, Help("A JSON Web Token.", none="")] = None

    def __post_init__(self) -> None:
        """Refuse no way at all; ValueError."""
        checking.auth(self)


class RateLimit(Part, frozen=True):
    """How many requests one key may make."""

    rate: Annotated[float, Help("So many a second.")]
    burst: Annotated[int, Help("So many at once.")] = 10
    key: Annotated[
        str, Help("Whose they are: client (its address), user (as whom it came in), listener, or header:NAME.")
    ] = "client"

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and an unknown key; ValueError."""
        checking.rate_limit(self)


class HeaderValue(Part, frozen=True):
    """A header and its value."""

    name: Annotated[str, Help("The header.")]
    value: Annotated[str, Help("The value.")]

    def __post_init__(self) -> None:
        """Refuse what would break out of a header; ValueError."""
        checking.header_value(self)


class HeaderRewrite(Part, frozen=True):
    """A change of a header's value."""

    name: Annotated[str, Help("The header.")]
    matches: Annotated[str, Help("A regular expression.")]
    to: Annotated[str, Help("What stands there instead of what it matches; \\1 is its first group.")]

    def __post_init__(self) -> None:
        """Refuse expressions that are none; ValueError."""
        checking.header_rewrite(self)


class HeaderChanges(Part, frozen=True):
    """What becomes of headers: they are removed, then rewritten, then set, then added."""

    remove: Annotated[tuple[str, ...], Help("Headers to take out; a * at the end is for any ending.")] = ()
    rewrite: Annotated[tuple[HeaderRewrite, ...], Help("Headers to change.")] = ()
    set: Annotated[tuple[HeaderValue, ...], Help("Headers to put in the place of those of the same name.")] = ()
    add: Annotated[tuple[HeaderValue, ...], Help("Headers to put beside those of the same name.")] = ()

    def __post_init__(self) -> None:
        """Refuse what is no header; ValueError."""
        checking.header_changes(self)


class PathRewrite(Part, frozen=True):
    """A beginning of the path, and what stands in its place."""

    prefix: Annotated[str, Help("What the path begins with.")]
    to: Annotated[str, Help("What it begins with instead.")]

    def __post_init__(self) -> None:
        """Refuse paths that are not in their normal form; ValueError."""
        checking.path_rewrite(self)


class KeyCredential(Part, frozen=True):
    """A key in a header."""

    key: Annotated[Secret, Help("The key.")]
    header: Annotated[str, Help("The header.")] = "X-API-Key"

    def __post_init__(self) -> None:
        """Refuse what is no header; ValueError."""
        checking.key_credential(self)


class BasicCredential(Part, frozen=True):
    """A user and a password."""

    user: Annotated[str, Help("The user.")]
    password: Annotated[Secret, Help("The password.")]

    def __post_init__(self) -> None:
        """Refuse a user with a colon; ValueError."""
        checking.basic_credential(self)


class BearerCredential(Part, frozen=True):
    """A token."""

    token: Annotated[Secret, Help("The token.")]


class HmacCredential(Part, frozen=True):
    """A signature with a shared key."""

    key: Annotated[Secret, Help("The shared key.")]
    key_id: Annotated[str, Help("Its name, for the upstream.")] = ""
    style: Annotated[
        Literal["message-signature", "body"],
        Help("Of method, path, host, date and body, as RFC 9421 says it; or of the body alone, as webhooks have it."),
    ] = "message-signature"
    header: Annotated[str, Help("Where style body puts it, as sha256=HEX.")] = "X-Hub-Signature-256"

    def __post_init__(self) -> None:
        """Refuse what cannot be quoted; ValueError."""
        checking.hmac_credential(self)


class SigV4Credential(Part, frozen=True):
    """AWS Signature Version 4. In the image ambassador-full only."""

    region: Annotated[str, Help("The region.")]
    service: Annotated[str, Help("The service's signing name, as s3, execute-api, es.")]
    access_key_id: Annotated[Secret | None, Help("The access key; without it the SDK's chain is asked.")] = None
    secret_access_key: Annotated[Secret | None, Help("The secret key.")] = None
    session_token: Annotated[Secret | None, Help("The session token.")] = None
    sign_body: Annotated[bool, Help("Sign the body too; else it is sent as UNSIGNED-PAYLOAD, which only S3 takes.")] = (
        True
    )

    def __post_init__(self) -> None:
        """Refuse half a key, and what the service does not take; ValueError."""
        checking.sigv4_credential(self)


class Credential(Part, frozen=True):
    """As whom the upstream knows the application: one of these."""

    api_key: Annotated[KeyCredential | None, Help("A key in a header.", none="")] = None
    basic: Annotated[BasicCredential | None, Help("A user and a password.", none="")] = None
    bearer: Annotated[BearerCredential | None, Help("A token.", none="")] = None
    hmac: Annotated[HmacCredential | None, Help("A signature with a shared key.", none="")] = None
    sigv4: Annotated[SigV4Credential | None, Help("AWS Signature Version 4.", none="")] = None

    def __post_init__(self) -> None:
        """Refuse none, and two; ValueError."""
        checking.credential(self)


class Retry(Part, frozen=True):
    """When a request is tried again: one that changes nothing by being made twice; elsewhere, if there is a choice."""

    tries: Annotated[int, Help("How often at most, beside the first; 0: never.")] = 2
    statuses: Annotated[tuple[int, ...], Help("The answers that are worth another try.")] = (502, 503, 504)
    budget: Annotated[int, Help("So many percent of the requests at most may be such tries.")] = 20
    floor: Annotated[float, Help("So many a second may be, however few the requests.")] = 3.0
    backoff: Annotated[Seconds, Help("How long to wait at first; doubled each time, with jitter.")] = Seconds(0.025)
    max_backoff: Annotated[Seconds, Help("How long at most; a Retry-After up to this is kept to.")] = Seconds(1)
    buffer: Annotated[Bytes, Help("Bodies up to this are kept for another try.")] = Bytes(64 * 1024)

    def __post_init__(self) -> None:
        """Refuse numbers out of range; ValueError."""
        checking.retry(self)


class Http(Part, frozen=True):
    """HTTP mode: requests are checked, completed, passed on and tried again."""

    methods: Annotated[
        tuple[str, ...], Help("The methods that are allowed; all but CONNECT and TRACE without it.")
    ] = ()
    paths: Annotated[
        tuple[str, ...], Help("The paths that are allowed: * is one segment, ** at the end any rest; all without it.")
    ] = ()
    headers: Annotated[tuple[HeaderRule, ...], Help("What headers must be like.")] = ()
    auth: Annotated[Auth | None, Help("Who may come in.", none="")] = None
    rate_limit: Annotated[RateLimit | None, Help("How many requests one key may make.", none="")] = None
    credential: Annotated[Credential | None, Help("As whom the upstream knows the application.", none="")] = None
    request: Annotated[HeaderChanges, Help("What becomes of a request's headers.")] = HeaderChanges()
    response: Annotated[HeaderChanges, Help("What becomes of a response's headers.")] = HeaderChanges()
    rewrite: Annotated[tuple[PathRewrite, ...], Help("Beginnings of paths to change; the first that fits.")] = ()
    host: Annotated[
        str | None, Help("The Host header that is sent, or client: the client's.", none="", default="the upstream's")
    ] = None
    forwarded: Annotated[
        tuple[Literal["x-forwarded", "forwarded"], ...], Help("How the upstream is told whom a request is from.")
    ] = ("x-forwarded",)
    trust_forwarded: Annotated[bool, Help("Add to what clients say in these headers; else it is taken out.")] = False
    request_id: Annotated[
        str | None, Help("The header with the request's id, made if the client gives none; or off.")
    ] = "X-Request-ID"
    retry: Annotated[Retry, Help("When a request is tried again.")] = Retry()
    max_requests: Annotated[
        int | None, Help("The circuit breaker: how many requests may be at the upstreams at once, for each process.")
    ] = 1024
    max_body: Annotated[Bytes | None, Help("The largest body of a request.")] = None
    max_head: Annotated[Bytes, Help("The largest head of a request or response.")] = Bytes(64 * 1024)
    max_url: Annotated[Bytes, Help("The longest target of a request.")] = Bytes(8 * 1024)
    signed_body: Annotated[Bytes, Help("The largest body that is signed; it is held until it is whole.")] = Bytes(
        1024 * 1024
    )
    head_timeout: Annotated[Seconds, Help("How long a client may take for a request's head.")] = Seconds(10)
    body_timeout: Annotated[Seconds, Help("How long a request's body may stand still.")] = Seconds(30)
    min_rate: Annotated[
        Bytes | None, Help("How many bytes of a body a client must send a second, after a grace of 10 s.")
    ] = Bytes(100)
    keep_alive: Annotated[Seconds, Help("How long a client's connection may wait for its next request.")] = Seconds(75)
    timeout: Annotated[Seconds, Help("How long the answer's head may take, all tries together.")] = Seconds(60)
    try_timeout: Annotated[Seconds, Help("How long it may take in one try.")] = Seconds(30)
    stream_timeout: Annotated[
        Seconds, Help("How long an answer's body, or an upgraded connection, may stand still.")
    ] = Seconds(300)
    upstream_keep_alive: Annotated[
        Seconds, Help("How long a connection to an upstream is kept for the next request.")
    ] = Seconds(30)
    upstream_idle: Annotated[int, Help("How many such connections are kept for each address.")] = 100

    def __post_init__(self) -> None:
        """Refuse what does not go together, and numbers out of range; ValueError."""
        checking.http(self)
