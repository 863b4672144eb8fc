"""JSON Web Tokens: whose keys have signed one, and what it says. The one door to PyJWT.

A token says itself by which algorithm and with which key it is signed, and is a stranger's until it is verified. So the
key says which algorithms there are: a public key is never a shared secret, and "none" is no algorithm.

Sources: RFC 7515, 7517, 7518, 7519; RFC 8725 for what goes wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from sidecars.ambassador.http.settings import Jwt

LONGEST = 16 * 1024  # bytes of a token
_MOST_KEYS = 100  # in one set
_MOST_TRIED = 8  # keys for one token that does not name one
_RSA_BITS = 2048  # RFC 7518, section 3.3

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# RFC 7518, section 3.2: a key is as long as the hash at least.
SHARED = {"HS256": 32, "HS384": 48, "HS512": 64}
ALGORITHMS = (*SHARED, *RSA, *_CURVES.values(), "EdDSA")

_PEM = re.compile(r"-----BEGIN (PUBLIC KEY|RSA PUBLIC KEY|CERTIFICATE)-----.+?-----END \1-----", re.DOTALL)
_JWS = jwt.PyJWS(algorithms=ALGORITHMS)

Claims = dict[str, Any]


class Key(NamedTuple):
    """A key, and what it may be used for.

    id          its kid; None if it has none
    algorithms  those it may have signed with
    key         as PyJWT takes it
    """

    id: str | None
    algorithms: frozenset[str]
    key: Any


class Rejected(Exception):  # noqa: N818  (named for what it is)
    """A token is not taken; the text says why, without anything of the token's.

    lacking  it is genuine, but does not give the right to this: 403
    """

    def __init__(self, text: str, *, lacking: bool = False) -> None:
        super().__init__(text)
        self.lacking = lacking


class UnknownKey(Rejected):
    """No key that is known can have signed it: perhaps a newer one has."""


def published(text: str) -> tuple[Key, ...]:
    """Read a JWKS: its public keys that may verify; what is of no use to us is passed over.

    Raises ValueError when it is none, or has no key at all that can be used.
    """
    try:
        known = json.loads(text)
        entries = known["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError('is no JWKS: a JSON object with a list "keys"') from None
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise ValueError(f'is no JWKS: "keys" is no list, or has more than {_MOST_KEYS}')
    keys = tuple(key for each in entries if (key := _published(each)))
    if not keys:
        raise ValueError(
            "has no public key for signatures in it: RSA of 2048 bits or more, P-256, P-384, P-521, Ed25519"
        )
    return keys


def _published(entry: object) -> Key | None:
    # A shared key (oct) that is published is no secret.
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if entry.get("use", "sig") != "sig" or "verify" not in (entry.get("key_ops") or ["verify"]):
        return None
    # The private part, if somebody has published it, is not wanted.
    public = {name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    try:
        key = jwt.PyJWK(public).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithms = _algorithms(key)
    if entry.get("alg") is not None:
        algorithms &= {entry["alg"]} if isinstance(entry["alg"], str) else set()
    id = entry.get("kid")
    return Key(id if isinstance(id, str) else None, algorithms, key) if algorithms else None


def _algorithms(key: object) -> frozenset[str]:
    if isinstance(key, RSAPublicKey):
        return frozenset(RSA) if key.key_size >= _RSA_BITS else frozenset()
    if isinstance(key, EllipticCurvePublicKey):
        return frozenset({_CURVES[key.curve.name]}) if key.curve.name in _CURVES else frozenset()
    return frozenset({"EdDSA"}) if isinstance(key, Ed25519PublicKey) else frozenset()


def in_file(text: str) -> tuple[Key, ...]:
    """Read the keys of a file: a JWKS, or public keys or certificates in PEM. ValueError when there is none."""
    if text.lstrip().startswith("{"):
        return published(text)
    keys = tuple(Key(None, algorithms, key) for key in _in_pem(text) if (algorithms := _algorithms(key)))
    if not keys:
        raise ValueError("has neither a JWKS nor a public key in PEM that can be used")
    return keys


def _in_pem(text: str) -> Iterator[object]:
    for block in _PEM.finditer(text):
        pem = block[0].encode()
        try:
            yield load_pem_x509_certificate(pem).public_key() if block[1] == "CERTIFICATE" else load_pem_public_key(pem)
        except ValueError:
            raise ValueError("has a PEM block that cannot be read") from None


def shared(text: str) -> tuple[Key, ...]:
    """Make a shared secret a key, for the algorithms that it is long enough for. ValueError when it is for none."""
    secret = text.encode()
    algorithms = frozenset(name for name, least in SHARED.items() if len(secret) >= least)
    if not algorithms:
        raise ValueError(f"is {len(secret)} bytes long; HS256 takes 32 or more, HS384 48, HS512 64 (RFC 7518)")
    return (Key(None, algorithms, secret),)


class Verifier:
    """Verifies tokens as the settings say, by the keys it is given."""

    def __init__(self, settings: Jwt) -> None:
        self._settings = settings
        self._algorithms = frozenset(settings.algorithms or ALGORITHMS)
        self._options: Any = {
            "verify_aud": bool(settings.audience),
            "verify_sub": False,
            "verify_jti": False,
            "require": ["iss"] * bool(settings.issuer) + ["aud"] * bool(settings.audience),
        }

    def verify(self, token: bytes, keys: Sequence[Key]) -> Claims:
        """Give what a token says. Raises Rejected, UnknownKey."""
        if len(token) > LONGEST:
            raise Rejected("is longer than 16 KiB")
        if token.count(b".") != 2:
            raise Rejected("is no signed JWT")
        try:
            header = _JWS.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Rejected("is no signed JWT") from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Rejected("is signed by an algorithm that is not taken")
        if "crit" in header or "b64" in header:
            raise Rejected("wants something that is not understood (crit)")
        claims = self._signed(token, algorithm, _candidates(keys, header.get("kid"), algorithm))
        _check(claims, self._settings)
        return claims

    def _signed(self, token: bytes, algorithm: str, keys: Sequence[Key]) -> Claims:
        settings = self._settings
        for key in keys:
            try:
                return dict(
                    jwt.decode(
                        token,
                        key.key,
                        [algorithm],
                        self._options,
                        audience=settings.audience or None,
                        issuer=settings.issuer or None,
                        leeway=float(settings.leeway),
                    )
                )
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                raise Rejected(_why(error)) from None
        if any(key.id for key in keys) and len(keys) == 1:
            raise Rejected("is not signed by the key that it names")
        raise UnknownKey("is not signed by a key that is known")


def _candidates(keys: Sequence[Key], id: str | None, algorithm: str) -> list[Key]:
    """Give the keys that may have signed a token: the one it names, or those without a name."""
    possible = [key for key in keys if algorithm in key.algorithms]
    if id is not None:
        named = [key for key in possible if key.id == id]
        if named:
            return named[:_MOST_TRIED]
        if any(key.id == id for key in keys):
            raise Rejected("is signed by another algorithm than its key is for")
        possible = [key for key in possible if key.id is None]
    if keys and not possible and all(key.id is None for key in keys):
        raise Rejected("is signed by another algorithm than the keys are for")
    if not possible:
        raise UnknownKey("names a key that is not known")
    return possible[:_MOST_TRIED]


_WHY: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "has expired"),
    (jwt.ImmatureSignatureError, "is not valid yet; is one of the clocks wrong?"),
    (jwt.InvalidAudienceError, "is for another audience"),
    (jwt.InvalidIssuerError, "is of another issuer"),
    (jwt.MissingRequiredClaimError, "does not say its issuer or its audience"),
)


def _why(error: Exception) -> str:
    return next((text for kind, text in _WHY if isinstance(error, kind)), "is malformed")


def _check(claims: Claims, settings: Jwt) -> None:
    """See that a genuine token gives the right to this. Raises Rejected."""
    for claim in settings.claims:
        has = claim_of(claims, claim.name)
        if has is None or (claim.values and not _meets(has, claim.values)):
            raise Rejected(f"does not have the right {claim.name}", lacking=True)
    if missing := [each for each in settings.scopes if each not in scopes_of(claims)]:
        raise Rejected(f"does not have the scope {missing[0]}", lacking=True)


def _meets(has: object, wanted: Sequence[str]) -> bool:
    return any(written(each) in wanted for each in (has if isinstance(has, list) else [has]))


def claim_of(claims: Claims, name: str) -> object:
    """Give a claim, None where there is none: by its whole name, as https://a.example/roles is one, or by its dots."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def scopes_of(claims: Claims) -> frozenset[str]:
    """Give the scopes: words of `scope` (RFC 8693) or `scp`, or a list of them."""
    scopes: set[str] = set()
    for name in ("scope", "scp"):
        has = claims.get(name)
        if isinstance(has, str):
            scopes |= set(has.split())
        elif isinstance(has, list):
            scopes |= {each for each in has if isinstance(each, str)}
    return frozenset(scopes)


def written(value: object) -> str:
    """Give a claim as the text of a header: lists by commas, objects as JSON."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case list() if all(isinstance(each, (str, int, float)) for each in value):
            return ",".join(map(written, value))
        case dict() | list():
            return json.dumps(value, separators=(",", ":"))
    return str(value)
