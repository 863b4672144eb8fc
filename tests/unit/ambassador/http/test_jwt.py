"""What tokens are taken, and how they can be forged in vain."""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.admission import Alone
from sidecars.ambassador.http.guarding import Guard
from sidecars.ambassador.http.jwt import (
    Key,
    Rejected,
    UnknownKey,
    Verifier,
    claim_of,
    in_file,
    published,
    scopes_of,
    shared,
    written,
)
from sidecars.ambassador.http.request import Refusal, Request, Wait
from sidecars.ambassador.http.settings import ApiKeys, Auth, Claim, ClaimHeader, Http, Jwt
from sidecars.ambassador.plan import Jwks, Outcome, Route
from sidecars.ambassador.settings import Listener, Upstream
from sidecars.core.units import Seconds, Secret

SECRET = "s" * 32
NOW = int(time.time())


class In(int):
    """So many seconds from when the test runs, which may be minutes after this was read."""


def counted(claims: dict[str, Any]) -> dict[str, Any]:
    now = int(time.time())
    return {name: now + value if isinstance(value, In) else value for name, value in claims.items()}


# RFC 7515, appendix A: one payload, expired in 2011, signed by each kind of key.
PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
HS256 = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
HS256_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
RS256 = (
    f"eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_"
    "lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe"
    "7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt"
    "5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
RS256_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS"
    "-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapH"
    "g665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FR"
    "WyuXpoQ",
    "e": "AQAB",
}
ES256 = (
    f"eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6N"
    "U1Q"
)
ES256_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
UNSECURED = f"eyJhbGciOiJub25lIn0.{PAYLOAD}."


@functools.cache
def private(kind: str) -> Any:
    match kind:
        case "rsa" | "other":
            return rsa.generate_private_key(65537, 2048)
        case "small":
            return rsa.generate_private_key(65537, 1024)
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "P-521":
            return ec.generate_private_key(ec.SECP521R1())
        case "k1":
            return ec.generate_private_key(ec.SECP256K1())
    return ed25519.Ed25519PrivateKey.generate()


def pem(kind: str) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(private(kind).public_key().public_bytes(serialization.Encoding.PEM, form).decode())


def jwk(kind: str, algorithm: str, **more: Any) -> dict[str, Any]:
    made = pyjwt.get_algorithm_by_name(algorithm).to_jwk(private(kind).public_key(), as_dict=True)  # type: ignore[call-overload]
    return {**made, "kid": kind, **more}


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": keys})


def token(claims: dict[str, Any], kind: str = "", algorithm: str = "HS256", key: Any = None, **header: Any) -> bytes:
    key = key or (private(kind) if kind else SECRET)
    return pyjwt.encode(claims, key, algorithm, headers=header).encode()


def raw(header: object, payload: object, signature: bytes = b"") -> bytes:
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    return b".".join(base64.urlsafe_b64encode(each).rstrip(b"=") for each in (*parts, signature))


def unsigned(value: object) -> str | None:
    """A name for a parameter: signatures differ in each process that collects the tests."""
    return "token" if isinstance(value, bytes) else None


def settings(**more: Any) -> Jwt:
    return Jwt(**{"secret": Secret(SECRET), **more})


def by_keys(**more: Any) -> Jwt:
    return Jwt(keys="/keys", **more)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (HS256, (Key(None, frozenset({"HS256"}), base64.urlsafe_b64decode(HS256_KEY + "==")),)),
        (RS256, published(jwks(RS256_KEY))),
        (ES256, published(jwks(ES256_KEY))),
        (ES256, published(jwks(RS256_KEY, ES256_KEY))),
    ],
)
def test_the_examples_of_rfc_7515_are_verified(text: str, keys: tuple[Key, ...]) -> None:
    lenient = Verifier(settings(leeway=Seconds(NOW)))
    assert lenient.verify(text.encode(), keys) == {
        "iss": "joe", "exp": 1300819380, "http://example.com/is_root": True,
    }  # fmt: skip
    with pytest.raises(Rejected, match="has expired"):
        Verifier(settings()).verify(text.encode(), keys)
    changed = text.replace("OjEzMDA4", "OjIzMDA4")
    with pytest.raises(Rejected, match="is not signed by a key"):
        lenient.verify(changed.encode(), keys)
    with pytest.raises(Rejected, match="algorithm that is not taken"):
        lenient.verify(UNSECURED.encode(), keys)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("rsa", "RS256"), ("rsa", "RS384"), ("rsa", "RS512"), ("rsa", "PS256"), ("rsa", "PS512"), ("P-256", "ES256"),
        ("P-384", "ES384"), ("P-521", "ES512"), ("ed", "EdDSA"),
    ],
)  # fmt: skip
def test_each_algorithm_is_verified_by_a_jwks_and_by_pem(kind: str, algorithm: str) -> None:
    made = token({"sub": "ann"}, kind, algorithm, kid=kind)
    for keys in (published(jwks(jwk(kind, algorithm))), in_file(pem(kind)), in_file(jwks(jwk(kind, algorithm)))):
        assert Verifier(by_keys()).verify(made, keys) == {"sub": "ann"}
        with pytest.raises(Rejected):
            Verifier(by_keys()).verify(made[:-8] + b"AAAAAAAA", keys)


CLAIMS = {"sub": "ann", "exp": NOW + 86400, "iss": "https://issuer", "aud": ["a", "b"]}
PUBLIC = published(jwks(jwk("rsa", "RS256"), jwk("P-256", "ES256"), jwk("P-384", "ES384")))
ONLY_PS = published(jwks(jwk("rsa", "PS256", alg="PS256")))


@pytest.mark.parametrize(
    ("made", "keys", "said"),
    [
        # No signature, in several spellings.
        (raw({"alg": "none"}, CLAIMS), PUBLIC, "algorithm that is not taken"),
        (raw({"alg": "None", "kid": "rsa"}, CLAIMS), PUBLIC, "algorithm that is not taken"),
        (raw({"alg": ""}, CLAIMS), PUBLIC, "algorithm that is not taken"),
        (raw({"kid": "rsa"}, CLAIMS), PUBLIC, "algorithm that is not taken"),
        (raw({"alg": ["RS256"]}, CLAIMS), PUBLIC, "algorithm that is not taken"),
        (raw({"alg": "RS256", "kid": "rsa"}, CLAIMS), PUBLIC, "is not signed by the key that it names"),
        (raw({"alg": "ES256", "kid": "P-256"}, CLAIMS, bytes(64)), PUBLIC, "is not signed by the key that it names"),
        # The public key as a shared secret, RFC 8725, section 2.1.
        (raw({"alg": "HS256", "kid": "rsa"}, CLAIMS, b"x"), PUBLIC, "another algorithm than its key is for"),
        (raw({"alg": "HS256"}, CLAIMS, b"x"), in_file(pem("rsa")), "another algorithm than the keys are for"),
        # The right key, by another algorithm or curve.
        (token(CLAIMS, "rsa", "RS256", kid="rsa"), ONLY_PS, "another algorithm than its key is for"),
        (raw({"alg": "ES384", "kid": "P-256"}, CLAIMS, bytes(96)), PUBLIC, "another algorithm than its key is for"),
        (raw({"alg": "ES256K", "kid": "P-256"}, CLAIMS, bytes(64)), PUBLIC, "algorithm that is not taken"),
        # A key of the token's own.
        (token(CLAIMS, "ed", "EdDSA", kid="rsa", jwk=jwk("ed", "EdDSA")), PUBLIC, "another algorithm than its key"),
        (token(CLAIMS, "k1", "ES256K", kid="x"), PUBLIC, "algorithm that is not taken"),
        (token(CLAIMS, "other", "RS256", jku="https://evil/jwks"), in_file(pem("rsa")), "is not signed by a key"),
        # What is not understood.
        (raw({"alg": "RS256", "kid": "rsa", "crit": ["exp"], "exp": 1}, CLAIMS), PUBLIC, "is no signed JWT"),
        (raw({"alg": "RS256", "kid": "rsa", "b64": False, "crit": ["b64"]}, b""), PUBLIC, "not understood"),
        (raw({"alg": "RS256", "kid": {"a": 1}}, CLAIMS), PUBLIC, "is no signed JWT"),
        (raw({"alg": "RS256", "kid": "../../dev/null"}, CLAIMS), PUBLIC, "names a key that is not known"),
        (raw(b"[]", CLAIMS), PUBLIC, "is no signed JWT"),
        (raw(b"{" * 2000, CLAIMS), PUBLIC, "is no signed JWT"),
        (raw(b'{"a":' * 3000, b""), PUBLIC, "is longer|is no signed JWT"),
        (b"a.b.c.d.e", PUBLIC, "is no signed JWT"),
        (b"...", PUBLIC, "is no signed JWT"),
        (b"..", PUBLIC, "is no signed JWT"),
        (b"", PUBLIC, "is no signed JWT"),
        (b"\xff.\xff.\xff", PUBLIC, "is no signed JWT"),
        (b"a" * 20000, PUBLIC, "longer than 16 KiB"),
        (token(CLAIMS, "rsa", "RS256", kid="rsa") + b"=", PUBLIC, "is no signed JWT"),
    ],
    ids=unsigned,
)
def test_a_forged_token_is_refused(made: bytes, keys: tuple[Key, ...], said: str) -> None:
    with pytest.raises(Rejected, match=said):
        Verifier(by_keys()).verify(made, keys)


@given(
    st.binary(max_size=200) | st.lists(st.binary(max_size=30), min_size=3, max_size=3).map(lambda parts: raw(*parts))
)
def test_no_rubbish_does_more_than_be_refused(made: bytes) -> None:
    with pytest.raises(Rejected):
        Verifier(by_keys()).verify(made, PUBLIC)


@pytest.mark.parametrize(
    ("claims", "wanted", "said"),
    [
        ({"exp": In(-30)}, {}, ""),
        ({"exp": In(-90)}, {}, "has expired"),
        ({"exp": In(-3)}, {"leeway": Seconds(0)}, "has expired"),
        ({"nbf": In(30), "iat": In(30)}, {}, ""),
        ({"nbf": In(90)}, {}, "is not valid yet"),
        ({"iat": In(90)}, {}, "is not valid yet"),
        ({"exp": "soon"}, {}, "is malformed"),
        ({"exp": float("inf")}, {}, "is malformed"),
        ({"exp": float("nan")}, {}, "is malformed"),
        ({"exp": [1]}, {}, "is malformed"),
        ({"exp": None}, {}, "is malformed"),
        ({}, {"issuer": ("i",)}, "does not say"),
        ({"iss": "i"}, {"issuer": ("h", "i")}, ""),
        ({"iss": "j"}, {"issuer": ("h", "i")}, "of another issuer"),
        ({}, {"audience": ("a",)}, "does not say"),
        ({"aud": "a"}, {"audience": ("a", "b")}, ""),
        ({"aud": ["c", "b"]}, {"audience": ("a", "b")}, ""),
        ({"aud": ["c"]}, {"audience": ("a", "b")}, "another audience"),
        ({"aud": {"a": 1}}, {"audience": ("a",)}, "another audience"),
        ({"aud": ["a"]}, {}, ""),
    ],
)
def test_times_issuer_and_audience_are_held_to(claims: dict[str, Any], wanted: dict[str, Any], said: str) -> None:
    claims = counted(claims)
    made, verifier, keys = token(claims), Verifier(settings(**wanted)), shared(SECRET)
    if not said:
        assert verifier.verify(made, keys) == claims
        return
    with pytest.raises(Rejected, match=said) as caught:
        verifier.verify(made, keys)
    assert not caught.value.lacking


@pytest.mark.parametrize(
    ("claims", "wanted", "said"),
    [
        ({"role": "admin"}, {"claims": (Claim(name="role", values=("admin", "root")),)}, ""),
        ({"role": ["user", "root"]}, {"claims": (Claim(name="role", values=("admin", "root")),)}, ""),
        ({"role": "user"}, {"claims": (Claim(name="role", values=("admin",)),)}, "the right role"),
        ({}, {"claims": (Claim(name="role", values=("admin",)),)}, "the right role"),
        ({"realm": {"roles": ["x"]}}, {"claims": (Claim(name="realm.roles", values=("x",)),)}, ""),
        ({"https://a.b/c": True}, {"claims": (Claim(name="https://a.b/c", values=("true",)),)}, ""),
        ({"n": 7}, {"claims": (Claim(name="n", values=("7",)),)}, ""),
        ({}, {"claims": (Claim(name="exp"),)}, "the right exp"),
        ({"exp": In(9)}, {"claims": (Claim(name="exp"),)}, ""),
        ({"scope": "read write"}, {"scopes": ("read", "write")}, ""),
        ({"scp": ["read"], "scope": "write"}, {"scopes": ("read", "write")}, ""),
        ({"scope": "reader"}, {"scopes": ("read",)}, "the scope read"),
        ({"scope": 7}, {"scopes": ("read",)}, "the scope read"),
    ],
)
def test_a_genuine_token_may_lack_a_right(claims: dict[str, Any], wanted: dict[str, Any], said: str) -> None:
    claims = counted(claims)
    made, verifier, keys = token(claims), Verifier(settings(**wanted)), shared(SECRET)
    if not said:
        assert verifier.verify(made, keys) == claims
        return
    with pytest.raises(Rejected, match=said) as caught:
        verifier.verify(made, keys)
    assert caught.value.lacking


def test_an_algorithm_may_be_ruled_out() -> None:
    verifier = Verifier(by_keys(algorithms=("ES256",)))
    assert verifier.verify(token(CLAIMS, "P-256", "ES256", kid="P-256"), PUBLIC)
    with pytest.raises(Rejected, match="not taken"):
        verifier.verify(token(CLAIMS, "rsa", "RS256", kid="rsa"), PUBLIC)


def test_keys_without_names_are_tried_and_an_unknown_name_asks_for_newer_ones() -> None:
    nameless = published(jwks({**jwk("rsa", "RS256"), "kid": None}, jwk("P-256", "ES256")))
    verifier = Verifier(by_keys())
    assert verifier.verify(token(CLAIMS, "rsa", "RS256"), nameless)
    assert verifier.verify(token(CLAIMS, "rsa", "RS256", kid="other"), nameless)
    for made in (token(CLAIMS, "P-256", "ES256", kid="new"), token(CLAIMS, "other", "RS256")):
        with pytest.raises(UnknownKey):
            verifier.verify(made, nameless)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", '{"keys": {}}', '{"keys": []}', "<html>", '{"keys": [1, null, "a"]}', "[" * 100000,
        jwks({"kty": "oct", "k": "c2VjcmV0"}), jwks({"kty": "RSA", "n": "!", "e": "AQAB"}), jwks({"kty": "RSA"}),
        jwks({**ES256_KEY, "use": "enc"}), jwks({**ES256_KEY, "key_ops": ["sign"]}), jwks({**ES256_KEY, "x": "AA"}),
        jwks({**ES256_KEY, "alg": "HS256"}), jwks({**ES256_KEY, "alg": 7}), json.dumps({"keys": [ES256_KEY] * 101}),
    ],
)  # fmt: skip
def test_what_is_no_jwks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no JWKS|has no public key"):
        published(text)


def test_small_keys_and_other_curves_are_of_no_use() -> None:
    for kind, algorithm in (("small", "RS256"), ("k1", "ES256K")):
        with pytest.raises(ValueError, match="has no public key"):
            published(jwks(jwk(kind, algorithm)))
        with pytest.raises(ValueError, match="that can be used"):
            in_file(pem(kind))
    assert [key.id for key in published(jwks(jwk("small", "RS256"), jwk("rsa", "RS256")))] == ["rsa"]
    with pytest.raises(ValueError, match="cannot be read"):
        in_file("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")


def test_a_shared_secret_has_the_length_of_the_hash() -> None:
    assert shared("s" * 48)[0].algorithms == {"HS256", "HS384"}
    with pytest.raises(ValueError, match="is 31 bytes long; HS256 takes 32 or more"):
        shared("s" * 31)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (True, "true"), (7, "7"), (["a", 1], "a,1"), ({"a": 1}, '{"a":1}'), ([["a"]], '[["a"]]')],
)
def test_a_claim_is_written_for_a_header(value: object, text: str) -> None:
    assert written(value) == text


def test_claims_are_found_by_name_and_by_dots() -> None:
    assert claim_of({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert claim_of({"a": {"b": 2}}, "a.b") == 2
    assert claim_of({"a": "b"}, "a.b") is None
    assert scopes_of({"scope": "a  b", "scp": ["c", 1]}) == {"a", "b", "c"}


# As the guard has it.


def guarded(settings: Jwt, tell: Callable[[Outcome], None] = lambda outcome: None, **auth: Any) -> Guard:
    return Guard(":1", Http(auth=Auth(jwt=settings, **auth)), Alone(), tell)


def bearing(made: bytes, *headers: tuple[bytes, bytes]) -> Request:
    return Request("GET", b"/", [(b"Host", b"a"), (b"Authorization", b"Bearer " + made), *headers], 0)


def route(text: str, age: float = 0.0) -> Route:
    listener = Listener(listen=":1", upstreams=(Upstream(address="a:1"),))
    return Route(listener, (), Jwks(text, time.monotonic() - age))


TOLD = (ClaimHeader(claim="sub", header="X-User"), ClaimHeader(claim="roles", header="X-Roles"))


def test_the_upstream_is_told_claims_and_never_what_a_client_says_of_them() -> None:
    guard = guarded(settings(claim_headers=TOLD), api_keys=ApiKeys(keys=Secret("k")))
    forged = [(b"x-user", b"root"), (b"X_User", b"root"), (b"X-Roles", b"admin")]
    asked = bearing(token({"sub": "j\u00f6", "roles": ["a", "b"]}), *forged)
    assert guard.check(asked) is None
    assert asked.headers == [
        (b"Host", b"a"), (b"X-User", "j\u00f6".encode()), (b"X-Roles", b"a,b"),
    ]  # fmt: skip
    assert asked.user == "j\u00f6"
    other = Request("GET", b"/", [(b"X-API-Key", b"k"), *forged], 0)
    assert guard.check(other) is None
    assert other.headers == []
    untold = guard.check(bearing(token({"sub": "j"}), (b"connection", b"close, x_user")))
    assert isinstance(untold, Refusal)
    assert (untold.status, untold.rule) == (400, "header")


def test_a_claim_cannot_break_out_of_its_header() -> None:
    asked = bearing(token({"sub": "a\r\nX-Admin: 1", "roles": 7}))
    assert guarded(settings(claim_headers=TOLD)).check(asked) is None
    assert asked.headers == [(b"Host", b"a"), (b"X-Roles", b"7")]
    assert asked.user == "a??X-Admin: 1"


def test_a_token_is_passed_on_only_where_that_is_said() -> None:
    asked = bearing(token({}))
    assert guarded(settings(pass_on=True)).check(asked) is None
    assert asked.get(b"authorization")


def test_a_token_may_be_in_a_header_of_its_own_with_and_without_its_scheme() -> None:
    guard = guarded(settings(header="Cf-Access-Jwt-Assertion"))
    for before in (b"", b"Bearer "):
        asked = Request("GET", b"/", [(b"cf-access-jwt-assertion", before + token({}))], 0)
        assert guard.check(asked) is None
        assert asked.headers == []


@pytest.mark.parametrize(
    ("made", "status", "challenge"),
    [
        (token({}, key="x" * 32), 401, b'error="invalid_token"'),
        (token({"exp": 1}), 401, b'error_description="the token has expired"'),
        (token({}), 403, b'error="insufficient_scope", scope="read"'),
    ],
    ids=unsigned,
)
def test_a_refusal_says_what_is_wrong_as_rfc_6750_has_it(made: bytes, status: int, challenge: bytes) -> None:
    answer = guarded(settings(scopes=("read",))).check(bearing(made))
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.rule) == (status, "jwt")
    ((name, value),) = answer.headers
    assert name == b"WWW-Authenticate"
    assert value.startswith(b'Bearer realm="ambassador", ')
    assert challenge in value
    assert made.decode() not in str(answer)


def test_a_verified_token_is_remembered_until_it_expires_or_the_keys_change() -> None:
    guard = guarded(Jwt(jwks="https://i/"))
    made = token({"sub": "ann", "exp": NOW + 86400}, "rsa", "RS256", kid="rsa")
    guard.update(route(jwks(jwk("rsa", "RS256"))))
    assert guard.check(bearing(made)) is None
    assert guard.check(bearing(made)) is None
    guard.update(route(jwks(jwk("P-256", "ES256"))))
    assert isinstance(guard.check(bearing(made)), Refusal)


def test_a_remembered_token_expires_like_any_other() -> None:
    # The leeway makes it expire in an instant from now.
    guard = guarded(settings(leeway=Seconds(time.time() - NOW + 0.3)))
    made = token({"exp": NOW})
    assert guard.check(bearing(made)) is None
    deadline = time.monotonic() + 30
    while guard.check(bearing(made)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_unknown_key_has_the_keys_fetched_once_and_is_asked_again() -> None:
    told: list[Outcome] = []
    guard = guarded(Jwt(jwks="https://i/"), told.append)
    made = token({}, "P-256", "ES256", kid="P-256")
    first = guard.check(bearing(made))
    assert isinstance(first, Wait), "they are fetched at the start"
    assert (first.refusal.status, told) == (503, [])
    guard.update(route("", age=1))
    answer = guard.check(bearing(made))
    assert isinstance(answer, Refusal)
    assert answer.status == 503
    assert (b"Retry-After", b"5") in answer.headers
    guard.update(route(jwks(jwk("rsa", "RS256")), age=60))
    for _ in range(3):
        waiting = guard.check(bearing(made))
        assert isinstance(waiting, Wait)
        assert waiting.refusal.status == 401
    assert told == [Outcome(":1", "", False, "jwks")]
    guard.update(route(jwks(jwk("rsa", "RS256"))))
    answer = guard.check(bearing(made))
    assert isinstance(answer, Refusal), "they are new, and do not have it"
    assert answer.status == 401
    guard.update(route(jwks(jwk("P-256", "ES256"))))
    assert guard.check(bearing(made)) is None
