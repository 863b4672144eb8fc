"""What settings of HTTP mode are refused, and that the refusal says why."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecars.ambassador.http import starting
from sidecars.ambassador.http.settings import (
    ApiKeys,
    Auth,
    Basic,
    BasicCredential,
    Bearer,
    BearerCredential,
    Claim,
    ClaimHeader,
    Credential,
    HeaderChanges,
    HeaderRewrite,
    HeaderRule,
    HeaderValue,
    HmacCredential,
    Http,
    Jwt,
    KeyCredential,
    PathRewrite,
    RateLimit,
    Retry,
    SigV4Credential,
)
from sidecars.ambassador.settings import Listener, ServerTls, Upstream
from sidecars.core.errors import WrongSettings
from sidecars.core.units import Bytes, Seconds, Secret

S = Secret("s")
TOKEN = Credential(bearer=BearerCredential(token=S))
URL = "https://issuer/jwks"


def listening(listen: str, http: Http, **more: Any) -> Listener:
    return Listener(listen=listen, upstreams=(Upstream(address="a:80"),), http=http, **more)


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: HeaderRule(name="X Y"), "is no name of a header"),
    (lambda: HeaderRule(name="X\r\nY"), "is no name of a header"),
    (lambda: HeaderRule(name="X", matches="("), "is no regular expression"),
    (lambda: ApiKeys(keys=S, header="Transfer-Encoding"), "how a message is framed"),
    (lambda: ApiKeys(keys=S, query="a&b"), "expected the name of a parameter"),
    (lambda: Basic(users=S, realm='a"b'), "expected ASCII without quotes"),
    (lambda: Claim(name="", values=("a",)), "has an empty name"),
    (lambda: ClaimHeader(claim="", header="X-A"), "has an empty claim"),
    (lambda: ClaimHeader(claim="a", header="Host"), "how a message is framed or whom it is for"),
    (lambda: Jwt(), "has none of jwks, keys, secret"),
    (lambda: Jwt(jwks=URL, secret=S), "has jwks and secret; keep one"),
    (lambda: Jwt(jwks="http://issuer/jwks"), "is not https"),
    (lambda: Jwt(jwks="http://localhost.evil/jwks"), "is not https"),
    (lambda: Jwt(jwks="ftp://localhost/jwks"), "is not https"),
    (lambda: Jwt(jwks="https://u:p@issuer/jwks"), "with a user"),
    (lambda: Jwt(jwks="https:///jwks"), "without a host"),
    (lambda: Jwt(jwks="https://issuer:99999/"), "is no URL"),
    (lambda: Jwt(jwks="https://issuer/a b"), "with spaces"),
    (lambda: Jwt(keys="/k", jwks_ca="/ca"), "jwks_ca without jwks"),
    (lambda: Jwt(keys="/k", algorithms=("HS256",)), "with keys there are RS256"),
    (lambda: Jwt(secret=S, algorithms=("RS256",)), "with secret there are HS256"),
    (lambda: Jwt(secret=S, algorithms=("none",)), "has algorithm none"),
    (lambda: Jwt(jwks=URL, jwks_interval=Seconds(0.5)), "expected 1 or more"),
    (lambda: Jwt(secret=S, scopes=("a b",)), "without spaces"),
    (lambda: Auth(), "has no way to come in"),
    (lambda: RateLimit(rate=0), "expected more than 0"),
    (lambda: RateLimit(rate=1, burst=0), "expected 1 or more"),
    (lambda: RateLimit(rate=1, key="ip"), "expected client, user, listener, or header:NAME"),
    (lambda: RateLimit(rate=1, key="header:"), "expected client, user"),
    (lambda: HeaderValue(name="X", value="a\r\nb"), "that no header may have"),
    (lambda: HeaderValue(name="Content-Length", value="1"), "how a message is framed"),
    (lambda: HeaderRewrite(name="X", matches="a", to=r"\1"), "does not go with matches"),
    (lambda: HeaderRewrite(name="X", matches="[", to="a"), "is no regular expression"),
    (lambda: HeaderChanges(remove=("Te",)), "how a message is framed"),
    (lambda: PathRewrite(prefix="a", to="/"), "expected a path as it is sent"),
    (lambda: PathRewrite(prefix="/a", to="/b/../c"), "expected a path as it is sent"),
    (lambda: PathRewrite(prefix="/a//", to="/"), "which has an empty segment"),
    (lambda: KeyCredential(key=S, header="a:b"), "is no name of a header"),
    (lambda: BasicCredential(user="a:b", password=S), "without a colon"),
    (lambda: HmacCredential(key=S, key_id='a"'), "without quotes"),
    (lambda: HmacCredential(key=S, key_id="a", style="body"), "has no place"),
    (lambda: SigV4Credential(region="US East", service="s3"), "expected AWS's own word"),
    (lambda: SigV4Credential(region="r", service="s3", access_key_id=S), "give both, or none"),
    (lambda: SigV4Credential(region="r", service="s3", session_token=S), "session_token without access_key_id"),
    (lambda: SigV4Credential(region="r", service="es", sign_body=False), "which es does not take"),
    (lambda: Credential(), "has none of api_key"),
    (lambda: Credential(bearer=BearerCredential(token=S), api_key=KeyCredential(key=S)), "keep one"),
    (lambda: Retry(tries=11), "expected 0 to 10"),
    (lambda: Retry(statuses=(429,)), "expected 500 to 599"),
    (lambda: Retry(budget=101), "expected percent"),
    (lambda: Retry(floor=-1), "expected 0 or more"),
    (lambda: Retry(backoff=Seconds(0)), "expected more than 0"),
    (lambda: Retry(backoff=Seconds(2)), "less than backoff"),
    (lambda: Http(methods=("get",)), "write GET"),
    (lambda: Http(methods=("CONNECT",)), "CONNECT, which is never passed on"),
    (lambda: Http(methods=("TRACE",)), "TRACE, which is never passed on"),
    (lambda: Http(paths=("v1",)), "begins with something else"),
    (lambda: Http(paths=("/a/**/b",)), "has \\*\\* before its end"),
    (lambda: Http(paths=("/a/%2f",)), "has an encoded slash"),
    (lambda: Http(timeout=Seconds(0)), "has timeout 0s, expected more than 0"),
    (lambda: Http(max_head=Bytes(10)), "has max_head"),
    (lambda: Http(max_requests=0), "expected 1 or more"),
    (lambda: Http(request_id="X Y"), "is no name of a header"),
    (lambda: Http(host="a b"), "expected HOST, HOST:PORT, or client"),
    (lambda: Http(host="a\r\nb"), "expected HOST, HOST:PORT, or client"),
    (lambda: Http(auth=Auth(jwt=Jwt(secret=S, pass_on=True)), credential=TOKEN), "Authorization too; leave one out"),
    (lambda: listening(":1", Http(rate_limit=RateLimit(rate=1, key="user"))), "nobody says as whom"),
]


@pytest.mark.parametrize(("make", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_makes_no_sense_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_what_makes_sense_is_taken() -> None:
    Jwt(jwks="http://127.0.0.1:8080/jwks")
    Jwt(jwks="http://[::1]:8080/jwks")
    Http(host="api.example.com", methods=("GET",), paths=("/v1/**",))
    Http(host="[::1]:8080")
    HeaderRewrite(name="X", matches="(a)b", to=r"\1")
    HeaderChanges(remove=("X-*",))
    PathRewrite(prefix="/", to="/v1/")
    tls = ServerTls(cert="/c", client_ca="/a")
    listening(":1", Http(rate_limit=RateLimit(rate=1, key="user")), tls=tls)
    Http(
        auth=Auth(jwt=Jwt(secret=S, pass_on=True)),
        credential=Credential(api_key=KeyCredential(key=S)),
    )


@pytest.mark.parametrize("module", ["jwt", "cryptography", "botocore", "aiohttp"])
def test_what_needs_the_full_image_says_so(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(ValueError, match=f"needs the image ambassador-full, or pip's extra.* package {module},"):
        if module == "botocore":
            SigV4Credential(region="r", service="s3")
        else:
            Jwt(jwks=URL)
    if module == "aiohttp":
        Jwt(keys="/k")


@pytest.mark.parametrize(
    ("listen", "near"),
    [
        (":1", True), ("localhost:1", True), ("127.0.0.9:1", True), ("[::1]:1", True), ("/run/a.sock", True),
        ("*:1", False), ("0.0.0.0:1", False), ("10.0.0.1:1", False), ("[::]:1", False), ("[fe80::1]:1", False),
    ],
)  # fmt: skip
def test_a_credential_is_not_lent_to_other_machines_without_a_word(listen: str, near: bool) -> None:
    one = listening(listen, Http(credential=TOKEN))
    starting.check([one, listening("*:9", Http())], allow_public=True)
    if near:
        starting.check([one], allow_public=False)
        return
    with pytest.raises(WrongSettings, match="which is loopback, or give --allow-public"):
        starting.check([one], allow_public=False)


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        (Auth(api_keys=ApiKeys(keys=Secret("a b c"))), r":1: http.auth.api_keys.keys line 1 has more than two words"),
        (Auth(basic=Basic(users=Secret("hunter2"))), r"http.auth.basic.users line 1 is not USER:PASSWORD"),
        (Auth(bearer=Bearer(tokens=Secret("\n"))), r"http.auth.bearer.tokens has no token"),
        (Auth(jwt=Jwt(secret=Secret("hunter2"))), r"http.auth.jwt.secret is 7 bytes long"),
        (Auth(jwt=Jwt(secret=Secret("s" * 32), algorithms=("HS512",))), r"is too short for HS512"),
        (Auth(jwt=Jwt(jwks=URL, jwks_ca="/nowhere")), r"http.auth.jwt.jwks_ca is '/nowhere', which .* No such file"),
        (Auth(jwt=Jwt(jwks=URL, jwks_ca=__file__)), r"which cannot be used: it has no certificate"),
        (Auth(jwt=Jwt(keys="/nowhere/keys")), r"cannot read the secret in /nowhere/keys"),
        (Auth(jwt=Jwt(keys=__file__)), r"http.auth.jwt.keys, in .*test_checking.py, has neither a JWKS nor"),
    ],
)
def test_files_that_make_no_sense_are_found_at_the_start(auth: Auth, said: str) -> None:
    with pytest.raises(WrongSettings, match=said) as caught:
        starting.check([listening(":1", Http(auth=auth))], allow_public=False)
    assert "hunter2" not in str(caught.value)


def test_a_good_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("shop k\n")
    auth = Auth(api_keys=ApiKeys(keys=Secret(file=str(tmp_path / "keys"))))
    starting.check([listening(":1", Http(auth=auth))], allow_public=False)
