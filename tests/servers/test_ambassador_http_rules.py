"""Each rule of HTTP mode and each credential, as a client and an upstream see them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.servers.ambassador import Ambassador, configured, running
from tests.servers.ambassador_http import Client, Got, Origin, request, response
from tests.servers.s3 import S3

SECRET = "s" * 32
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("first", "second")}


def token(claims: dict[str, Any], key: str | None = None, **header: str) -> str:
    if key:
        return pyjwt.encode(claims, KEYS[key], "ES256", {"kid": key, **header})
    return pyjwt.encode(claims, SECRET, "HS256", header)


def jwks(*names: str) -> bytes:
    keys = [pyjwt.algorithms.ECAlgorithm.to_jwk(KEYS[name].public_key(), as_dict=True) for name in names]
    return json.dumps({"keys": [{**key, "kid": name} for key, name in zip(keys, names, strict=True)]}).encode()


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


class Secrets:
    """A mounted secret: files behind a symlink, which the kubelet swaps."""

    def __init__(self, folder: Path, **files: str) -> None:
        self._folder = folder
        self._files = files
        self._version = 0
        self.write()

    def write(self, **files: str) -> None:
        self._files |= files
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir(parents=True)
        for name, text in self._files.items():
            (version / name).write_text(text)
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        (self._folder / "..new").symlink_to(version.name)
        (self._folder / "..new").rename(self._folder / "..data")

    def __getitem__(self, name: str) -> str:
        return str(self._folder / name)


RULES: dict[str, Any] = {
    "plain": {},
    "methods": {"methods": ["GET", "HEAD"]},
    "paths": {"paths": ["/v1/*/items", "/files/**"]},
    "required": {"headers": [{"name": "X-Tenant", "matches": "[a-z]+"}]},
    "forbidden": {"headers": [{"name": "X-Admin", "forbidden": True}]},
    "keys": {"auth": {"api_keys": {"keys_file": "KEYS", "query": "key"}}},
    "basic": {"auth": {"basic": {"users_file": "USERS"}}},
    "bearer": {"auth": {"bearer": {"tokens_file": "TOKENS"}}},
    "jwt": {
        "auth": {
            "jwt": {
                "secret_file": "SHARED", "issuer": ["login"], "audience": ["shop"], "scopes": ["read"],
                "claims": [{"name": "plan", "values": ["paid"]}],
                "claim_headers": [{"claim": "sub", "header": "X-User"}],
            }
        }
    },
    "limited": {"rate_limit": {"rate": 0.01, "burst": 2, "key": "header:X-Tenant"}},
    "small": {"max_body": "10", "max_url": "64", "max_head": "1024"},
    "signed": {"credential": {"hmac": {"key_file": "HMAC", "key_id": "shop"}}, "signed_body": "1000"},
    "webhook": {"credential": {"hmac": {"key_file": "HMAC", "style": "body"}}},
    "as-key": {"credential": {"api_key": {"key_file": "CREDENTIAL", "header": "X-Key"}}},
    "as-user": {"credential": {"basic": {"user": "shop", "password_file": "CREDENTIAL"}}},
    "as-bearer": {"credential": {"bearer": {"token_file": "CREDENTIAL"}}},
}  # fmt: skip


class Guarded:
    """An ambassador with a listener for each rule, and the upstream behind all of them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.secrets = Secrets(
            folder / "secrets",
            KEYS="shop k-shop\nk-bare\n", USERS=f"ann:p:w\nbob:sha256:{hashlib.sha256(b'secret').hexdigest()}\n",
            TOKENS="ci t-ci", SHARED=SECRET, HMAC="shared", CREDENTIAL="c-1\n",
        )  # fmt: skip
        self.origin = stack.enter_context(Origin())
        self.access = folder / "access.log"
        text = re.sub(r'_file": "([A-Z]+)"', lambda found: f'_file": "{self.secrets[found[1]]}"', json.dumps(RULES))
        self._listens = {name: f"127.0.1.{number}:0" for number, name in enumerate(RULES, 1)}
        listeners = [
            {"listen": self._listens[name], "upstreams": [{"address": self.origin.address}], "http": http}
            for name, http in json.loads(text).items()
        ]
        flag = configured(folder / "config.json", *listeners, access_log=str(self.access))
        self.ambassador: Ambassador = stack.enter_context(running(flag))

    def client(self, rule: str) -> Client:
        return Client(self.ambassador.connect(self._listens[rule]))

    def ask(self, rule: str, data: bytes) -> Got:
        with self.client(rule) as client:
            client.send(data)
            return client.read("HEAD" if data.startswith(b"HEAD") else "GET")

    def passed(self, rule: str, data: bytes) -> Got:
        """What the upstream has got of a request that is let through."""
        before = len(self.origin.got)
        got = self.ask(rule, data)
        assert got.status == 200, got
        return self.origin.wait(before + 1)[-1]

    def id(self, rule: str) -> str:
        return self._listens[rule]

    def records(self) -> list[dict[str, Any]]:
        whole = self.access.read_text().rpartition("\n")[0] if self.access.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def recorded(self, since: int, **wanted: object) -> None:
        """Wait for a line of the access log, after so many: it is written beside the answer."""
        self.ambassador.until(lambda: any(wanted.items() <= each.items() for each in self.records()[since:]))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with contextlib.ExitStack() as stack:
        yield Guarded(tmp_path_factory.mktemp("rules"), stack)


GOOD = {"iss": "login", "aud": "shop", "scope": "read write", "plan": "paid", "sub": "ann"}
NOW = int(time.time())


def bearing(made: str) -> bytes:
    return request(authorization=f"Bearer {made}")


REFUSED: list[tuple[str, bytes, int, str, str]] = [
    ("plain", request(method="TRACE"), 405, "method", "TRACE is not allowed"),
    ("methods", request(method="POST", body=b"x"), 405, "method", "POST is not allowed"),
    ("paths", request("/v1/a/b/items"), 403, "path", "is not allowed"),
    ("paths", request("/files/../v1"), 403, "path", "is not allowed"),
    ("paths", request("/files/%2e%2e/%2E%2e/etc"), 400, "path", "goes up above the root"),
    ("paths", request("/files/..%2fv1"), 400, "path", "has an encoded slash"),
    ("paths", request("/files//a"), 400, "path", "has an empty segment"),
    ("required", request(), 400, "header", "X-Tenant is missing"),
    ("required", request(x_tenant="Shop"), 400, "header", "X-Tenant is not as it must be"),
    ("forbidden", request(x_admin="1"), 403, "header", "X-Admin is not allowed"),
    ("forbidden", b"GET / HTTP/1.1\r\nHost: a\r\nX_ADMIN: 1\r\n\r\n", 403, "header", "X-Admin is not allowed"),
    ("keys", request(), 401, "api_key", "give a key"),
    ("keys", request(x_api_key="hunter2"), 401, "api_key", "is not known"),
    ("keys", request("/?key=hunter2"), 401, "api_key", "is not known"),
    ("basic", request(), 401, "basic", "give a user"),
    ("basic", request(authorization=basic("ann:hunter2")), 401, "basic", "is wrong"),
    ("bearer", request(), 401, "bearer", "give a token"),
    ("bearer", bearing("hunter2"), 401, "bearer", "is not known"),
    ("jwt", request(), 401, "jwt", "give a token"),
    ("jwt", bearing(token(GOOD)[:-4] + "AAAA"), 401, "jwt", "is not signed"),
    ("jwt", bearing(pyjwt.encode(GOOD, None, "none")), 401, "jwt", "algorithm that is not taken"),
    ("jwt", bearing(token(GOOD, "first")), 401, "jwt", "another algorithm"),
    ("jwt", bearing(token({**GOOD, "exp": NOW - 3600})), 401, "jwt", "has expired"),
    ("jwt", bearing(token({**GOOD, "nbf": NOW + 3600})), 401, "jwt", "is not valid yet"),
    ("jwt", bearing(token({**GOOD, "iss": "evil"})), 401, "jwt", "of another issuer"),
    ("jwt", bearing(token({**GOOD, "aud": "bank"})), 401, "jwt", "another audience"),
    ("jwt", bearing(token({**GOOD, "scope": "write"})), 403, "jwt", "the scope read"),
    ("jwt", bearing(token({**GOOD, "plan": "free"})), 403, "jwt", "the right plan"),
    ("jwt", bearing("a" * 20000), 401, "jwt", "longer than 16 KiB"),
    (
        "jwt", request(authorization=f"Bearer {token(GOOD)}", connection="close, X-User"), 400, "header",
        "names a header that is not the client's",
    ),
    ("small", request("/" + "a" * 64), 414, "url_size", "longer than 64 bytes"),
    ("small", request(method="POST", body=b"x" * 11), 413, "body_size", "longer than 10 bytes"),
    (
        "small", request(method="POST", transfer_encoding="chunked") + b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n", 413,
        "body_size", "too large",
    ),
    ("small", request(x_long="x" * 1024), 431, "head_size", "too large"),
    ("signed", request(method="POST", body=b"x" * 1001), 413, "body_size", "longer than 1000 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("listener", "data", "status", "rule", "text"), REFUSED, ids=[
    f"{number}-{each[0]}-{each[4].replace(' ', '-')}" for number, each in enumerate(REFUSED)
])  # fmt: skip
def test_what_a_rule_refuses_has_its_answer_its_record_and_its_count(
    guarded: Guarded, listener: str, data: bytes, status: int, rule: str, text: str
) -> None:
    before, recorded = len(guarded.origin.got), len(guarded.records())
    got = guarded.ask(listener, data)
    assert got.status == status
    assert text in got.body.decode()
    assert len(got.body) < 200
    assert got.get(b"content-type") == b"text/plain; charset=utf-8" or got.get(b"content-type") == b"text/plain"
    assert (got.get(b"www-authenticate") is not None) == (status == 401 or rule == "jwt")
    guarded.recorded(recorded, status=status, rule=rule, why="refused", listener=guarded.id(listener))
    assert guarded.ambassador.sum("http_refused_total", listener=guarded.id(listener), rule=rule) >= 1
    if rule != "body_size":
        # A chunked body is counted as it comes: its head may have been passed on.
        assert len(guarded.origin.got) == before


def test_no_secret_of_a_refused_request_is_in_a_log(guarded: Guarded) -> None:
    guarded.ask("keys", request("/a?key=hunter2", x_api_key="hunter2"))
    guarded.ask("basic", request(authorization=basic("ann:hunter2")))
    guarded.ambassador.until(lambda: any(each["path"] == "/a" for each in guarded.records() if "path" in each))
    for text in (
        guarded.access.read_text(),
        "\n".join(guarded.ambassador.lines),
        json.dumps(guarded.ambassador.status()),
    ):
        for secret in ("hunter2", "k-shop", "p:w", "t-ci", SECRET, "c-1"):
            assert secret not in text


@pytest.mark.parametrize(
    ("listener", "data", "user"),
    [
        ("keys", request("/a?x=1", x_api_key="k-shop"), "shop"),
        ("keys", request("/a?key=k-bare&x=1"), "key-2"),
        ("basic", request("/a?x=1", authorization=basic("ann:p:w")), "ann"),
        ("basic", request("/a?x=1", authorization=basic("bob:secret")), "bob"),
        ("bearer", request("/a?x=1", authorization="Bearer t-ci"), "ci"),
        ("jwt", request("/a?x=1", authorization=f"Bearer {token(GOOD)}"), "ann"),
    ],
    ids=["key", "query", "password", "hash", "token", "jwt"],
)
def test_who_is_let_in_is_known_and_what_let_them_in_is_not_passed_on(
    guarded: Guarded, listener: str, data: bytes, user: str
) -> None:
    recorded = len(guarded.records())
    got = guarded.passed(listener, data)
    assert got.target == b"/a?x=1"
    assert not {name for name, _ in got.headers} & {b"x-api-key", b"authorization"}
    assert got.get(b"x-user") == (b"ann" if listener == "jwt" else None)
    guarded.recorded(recorded, status=200, user=user, listener=guarded.id(listener))


def test_the_claims_of_a_token_win_over_what_the_client_says(guarded: Guarded) -> None:
    data = request(authorization=f"Bearer {token(GOOD)}", x_user="root").replace(
        b"\r\n\r\n", b"\r\nX_User: root\r\n\r\n"
    )
    got = guarded.passed("jwt", data)
    assert [value for name, value in got.headers if name.replace(b"_", b"-") == b"x-user"] == [b"ann"]


def test_a_path_is_passed_on_in_the_form_that_was_allowed(guarded: Guarded) -> None:
    assert guarded.passed("paths", request("/files/./x/../%61?q=../b")).target == b"/files/a?q=../b"


def test_a_rate_limit_is_for_each_key_and_says_when_to_come_again(guarded: Guarded) -> None:
    with guarded.client("limited") as client:
        assert [client.ask(x_tenant="a").status for _ in range(3)] == [200, 200, 429]
        refused = client.ask(x_tenant="a")
        assert 1 <= int(refused.get(b"retry-after") or 0) <= 100
        assert client.ask(x_tenant="b").status == 200


@pytest.mark.parametrize(
    ("listener", "header", "value"),
    [
        ("as-key", b"x-key", b"c-1"),
        ("as-user", b"authorization", basic("shop:c-1").encode()),
        ("as-bearer", b"authorization", b"Bearer c-1"),
    ],
)
def test_a_credential_stands_in_the_place_of_the_clients(
    guarded: Guarded, listener: str, header: bytes, value: bytes
) -> None:
    name = header.decode()
    got = guarded.passed(listener, request(**{name: "theirs", "connection": f"close, {name}"}))
    assert [each for each in got.headers if each[0] == header] == [(header, value)]


@pytest.mark.parametrize("body", [None, b"", b"{}", b"x" * 1000])
def test_a_message_signature_is_right_for_what_the_upstream_gets(guarded: Guarded, body: bytes | None) -> None:
    got = guarded.passed("signed", request("/v1/a?x=%20", method="POST" if body is not None else "GET", body=body))
    digest = b"sha-256=:" + base64.b64encode(hashlib.sha256(got.body).digest()) + b":"
    assert got.get(b"content-digest") == digest
    parameters = (got.get(b"signature-input") or b"").removeprefix(b"sig1=")
    assert b';keyid="shop";alg="hmac-sha256"' in parameters
    lines = [
        b'"@method": ' + got.line[0], b'"@authority": ' + (got.get(b"host") or b""), b'"@path": /v1/a',
        b'"@query": ?x=%20', b'"date": ' + (got.get(b"date") or b""), b'"content-digest": ' + digest,
        b'"@signature-params": ' + parameters,
    ]  # fmt: skip
    signature = base64.b64encode(hmac.new(b"shared", b"\n".join(lines), hashlib.sha256).digest())
    assert got.get(b"signature") == b"sig1=:" + signature + b":"


def test_a_chunked_body_is_signed_whole(guarded: Guarded) -> None:
    data = request(method="POST", transfer_encoding="chunked", x_hub_signature_256="sha256=theirs")
    got = guarded.passed("webhook", data + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert got.body == b"abcde"
    assert (
        got.get(b"x-hub-signature-256")
        == b"sha256=" + hmac.new(b"shared", b"abcde", hashlib.sha256).hexdigest().encode()
    )


def test_secrets_are_taken_up_when_their_files_are_swapped(guarded: Guarded) -> None:
    with guarded.client("keys") as client:
        assert client.ask(x_api_key="k-shop").status == 200
        guarded.secrets.write(KEYS="shop k-new\n", CREDENTIAL="c-2")
        guarded.ambassador.until(lambda: client.ask(x_api_key="k-new").status == 200)
        assert client.ask(x_api_key="k-shop").status == 401
    guarded.ambassador.until(lambda: guarded.passed("as-bearer", request()).get(b"authorization") == b"Bearer c-2")
    guarded.secrets.write(KEYS="not at all good\n")
    guarded.ambassador.until(
        lambda: guarded.ask("keys", request(x_api_key="k-new")).status and said(guarded.ambassador)
    )
    assert guarded.ask("keys", request(x_api_key="k-new")).status == 200


def said(ambassador: Ambassador) -> bool:
    return bool(ambassador.said("secret not taken"))


def test_a_request_that_awaits_continue_is_refused_before_its_body(guarded: Guarded) -> None:
    with guarded.client("keys") as client:
        client.send(request(method="POST", content_length="1000000", expect="100-continue"))
        assert client.read().status == 401


def test_settings_that_lend_a_credential_to_everybody_are_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    http = {"credential": {"bearer": {"token_file": str(tmp_path / "token")}}}
    listener = {"listen": "0.0.0.0:0", "upstreams": [{"address": "127.0.0.1:1"}], "http": http}
    with Ambassador(configured(tmp_path / "c.json", listener)) as ambassador:
        assert ambassador.ended()[0] == 2
        assert "--allow-public" in "\n".join(ambassador.lines)


# AWS Signature Version 4, by a server that checks it.


def test_what_is_signed_for_s3_is_taken_by_s3(tmp_path: Path, s3: S3) -> None:
    s3.make("box")
    with s3.guarded() as keys, contextlib.ExitStack() as stack:
        for name, text in keys.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "wrong").write_text("hunter2")

        def signing(secret: str) -> dict[str, Any]:
            files = {"access_key_id_file": "aws_access_key_id", "secret_access_key_file": secret}
            sigv4 = {key: str(tmp_path / name) for key, name in files.items()}
            return {"credential": {"sigv4": {"region": "us-east-1", "service": "s3", **sigv4}}}

        address = s3.endpoint.removeprefix("http://")
        listeners = [
            {"listen": f"127.0.1.{number}:0", "upstreams": [{"address": address}], "http": signing(secret)}
            for number, secret in enumerate(["aws_secret_access_key", "wrong"])
        ]
        ambassador = stack.enter_context(running(configured(tmp_path / "c.json", *listeners)))
        signed, wrong = (stack.enter_context(Client(ambassador.connect(each["listen"]))) for each in listeners)
        assert wrong.ask("/box/a", "PUT", b"hello").status == 403
        for target in ("/box/a", "/box/a%20b", "/box/caf%C3%A9"):
            assert signed.ask(target, "PUT", b"hello", authorization="theirs").status == 200
            assert signed.ask(target).body == b"hello"
        listed = signed.ask("/box?prefix=a%20&list-type=2")
        assert listed.status == 200
        assert b"<Key>a b</Key>" in listed.body


# Published keys.


class Issuer(Origin):
    """Where keys are published."""

    def __init__(self) -> None:
        self.said = response(503)
        super().__init__(lambda got, _: self.said)

    def publish(self, *names: str) -> None:
        self.said = response(200, jwks(*names))


@contextlib.contextmanager
def issuing(folder: Path, issuer: Issuer, interval: str) -> Iterator[tuple[Ambassador, Client]]:
    auth = {"jwt": {"jwks": f"http://{issuer.address}/jwks", "jwks_interval": interval}}
    with Origin() as origin:
        listener = {"listen": ":0", "upstreams": [{"address": origin.address}], "http": {"auth": auth}}
        flag = configured(folder / "c.json", listener)
        with running(flag, "--workers=2") as ambassador, Client(ambassador.connect()) as client:
            yield ambassador, client


def healthy(ambassador: Ambassador) -> bool:
    return ambassador.ask("/healthz")[0] == 200


def test_keys_that_cannot_be_had_yet_are_waited_for_and_the_last_good_ones_stay(tmp_path: Path) -> None:
    with Issuer() as issuer, issuing(tmp_path, issuer, "1s") as (ambassador, client):
        first, second = (f"Bearer {token({'sub': 'ann'}, name)}" for name in ("first", "second"))
        got = client.ask(authorization=first)
        assert (got.status, got.get(b"retry-after")) == (503, b"1")
        ambassador.until(lambda: "it answers 503" in ambassador.ask("/healthz")[1])
        issuer.publish("first")
        ambassador.until(lambda: client.ask(authorization=first).status == 200)
        ambassador.until(lambda: healthy(ambassador))
        issuer.said = response(200, b"<html>we are back soon</html>")
        ambassador.until(lambda: not healthy(ambassador))
        assert "is no JWKS" in ambassador.ask("/healthz")[1]
        issuer.close()
        assert client.ask(authorization=first).status == 200
        assert client.ask(authorization=second).status == 401


def test_a_token_with_a_new_key_has_the_keys_fetched_at_once(tmp_path: Path) -> None:
    with Issuer() as issuer:
        issuer.publish("first")
        with issuing(tmp_path, issuer, "1h") as (ambassador, client):
            first, second = (f"Bearer {token({'sub': 'ann'}, name)}" for name in ("first", "second"))
            ambassador.until(lambda: client.ask(authorization=first).status == 200)
            issuer.publish("first", "second")
            asked = len(issuer.got)
            # They were fetched just now; whoever makes up keys has them fetched once in five seconds.
            ambassador.until(lambda: client.ask(authorization=second).status == 200)
            assert client.ask(authorization=first).status == 200
            assert len(issuer.got) == asked + 1
