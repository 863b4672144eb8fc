"""What is put into requests, against what others say it must be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from sidecars.ambassador.http.credentials import Signer, Unavailable, signer
from sidecars.ambassador.http.credentials.hmac import base, digest_of
from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import (
    BasicCredential,
    BearerCredential,
    Credential,
    HmacCredential,
    KeyCredential,
    SigV4Credential,
)
from sidecars.core.units import Secret

HOST = (b"Host", b"example.com")


def made(credential: Credential) -> Signer:
    found = signer(credential)
    assert found
    return found


def signed(
    credential: Credential, *headers: tuple[bytes, bytes], method: str = "GET", target: bytes = b"/", body: bytes = b"",
    authority: str = "example.com",
) -> Headers:  # fmt: skip
    found = made(credential)
    return found.sign(method, "https", authority, target, [HOST, *headers], body if found.needs_body else None)


@pytest.mark.parametrize(
    ("credential", "header"),
    [
        (Credential(api_key=KeyCredential(key=Secret("k1"))), (b"X-API-Key", b"k1")),
        (Credential(api_key=KeyCredential(key=Secret(" k1\n"), header="X-K")), (b"X-K", b"k1")),
        (Credential(bearer=BearerCredential(token=Secret("t"))), (b"Authorization", b"Bearer t")),
        # RFC 7617, section 2.
        (
            Credential(basic=BasicCredential(user="Aladdin", password=Secret("open sesame"))),
            (b"Authorization", b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
    ],
)
def test_a_credential_is_put_in_the_place_of_the_clients(credential: Credential, header: tuple[bytes, bytes]) -> None:
    name = header[0]
    theirs = [(name.lower(), b"theirs"), (name.upper(), b"too"), (name.replace(b"-", b"_"), b"three")]
    assert signed(credential, *theirs, (b"X-Other", b"1")) == [HOST, (b"X-Other", b"1"), header]
    assert not made(credential).needs_body


@pytest.mark.parametrize("text", ["", "a\nb", "a\r\nX-Admin: 1", "a\0", "caf\u00e9"])
def test_a_secret_that_would_break_out_of_its_header_is_unavailable_and_not_told(text: str) -> None:
    for credential in (
        Credential(api_key=KeyCredential(key=Secret(text))),
        Credential(bearer=BearerCredential(token=Secret(text))),
    ):
        with pytest.raises(Unavailable, match="cannot be read, or is none that a header may have"):
            signed(credential)


def test_a_secret_whose_file_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        signed(Credential(hmac=HmacCredential(key=Secret(file=str(tmp_path / "gone")))))


# RFC 9421, appendix B.1.5 and B.2.5.
RFC_9421_KEY = base64.b64decode(
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
)
RFC_9421_BASE = (
    b'"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@authority": example.com\n"content-type": application/json\n'
    b'"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
)


def test_the_base_of_a_signature_is_that_of_rfc_9421() -> None:
    values = {
        "date": b"Tue, 20 Apr 2021 02:07:55 GMT", "@authority": b"example.com", "content-type": b"application/json",
    }  # fmt: skip
    text = base(values, b'("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"')
    assert text == RFC_9421_BASE
    signature = hmac.new(RFC_9421_KEY, text, hashlib.sha256).digest()
    assert base64.b64encode(signature) == b"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


def test_the_digest_of_a_body_is_that_of_rfc_9530() -> None:
    assert digest_of(b'{"hello": "world"}') == b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


def test_a_message_signature_is_what_its_receiver_makes_of_the_message() -> None:
    credential = Credential(hmac=HmacCredential(key=Secret("k"), key_id="shop"))
    theirs = [(b"signature", b"x=:AA==:"), (b"Signature-Input", b"x=()"), (b"Date", b"old"), (b"content-digest", b"x")]
    headers = signed(
        credential, *theirs, method="POST", target=b"/v1/a%20b?x=1&y", body=b"{}", authority="Example.com:443"
    )
    assert len(headers) == 5
    has = {name.lower().decode(): value for name, value in headers}
    input_ = has["signature-input"].removeprefix(b"sig1=")
    created = re.search(rb";created=(\d+);", input_)
    assert created
    assert abs(int(created[1]) - time.time()) < 60
    assert parsedate_to_datetime(has["date"].decode()).timestamp() == int(created[1])
    assert input_.endswith(b';keyid="shop";alg="hmac-sha256"')
    expected = (
        b'"@method": POST\n"@authority": example.com\n"@path": /v1/a%20b\n"@query": ?x=1&y\n'
        b'"date": ' + has["date"] + b'\n"content-digest": ' + digest_of(b"{}") + b'\n"@signature-params": ' + input_
    )
    signature = base64.b64encode(hmac.new(b"k", expected, hashlib.sha256).digest())
    assert has["signature"] == b"sig1=:" + signature + b":"
    assert has["content-digest"] == digest_of(b"{}")


def test_the_signature_of_a_body_is_that_of_githubs_documentation() -> None:
    credential = Credential(hmac=HmacCredential(key=Secret("It's a Secret to Everybody"), style="body"))
    assert signed(credential, (b"x-hub-signature-256", b"theirs"), body=b"Hello, World!") == [
        HOST,
        (b"X-Hub-Signature-256", b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
    ]


# AWS Signature Version 4, as its documentation says it, in few lines: what botocore signs is compared with it.
ID, KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def reference(
    method: str, path: str, query: str, headers: dict[str, str], payload: str, region: str, service: str
) -> str:  # fmt: skip
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join([method, path, query, lines, names, payload])
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + KEY.encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return f"AWS4-HMAC-SHA256 Credential={ID}/{scope}, SignedHeaders={names}, Signature={key.hex()}"


EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("method", "query", "signature"),
    [
        # get-vanilla, get-vanilla-query-order-key-case and post-vanilla of AWS's test suite.
        ("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "Param1=value1&Param2=value2", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ],
)
def test_the_reference_is_right(method: str, query: str, signature: str) -> None:
    headers = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}
    assert reference(method, "/", query, headers, EMPTY, "us-east-1", "service").endswith(f"Signature={signature}")


def aws(service: str, **more: object) -> Credential:
    sigv4 = SigV4Credential(
        region="us-east-1", service=service, access_key_id=Secret(ID), secret_access_key=Secret(KEY), **more
    )  # type: ignore[arg-type]
    return Credential(sigv4=sigv4)


def test_what_is_the_servers_canonical_form_is_signed_whatever_a_client_writes() -> None:
    cases = [
        ("service", "/", "", "/", ""),
        ("service", "/a/../b//c", "", "/b/c", ""),
        ("service", "/a%20b", "x=1", "/a%2520b", "x=1"),
        ("service", "/a(b)", "", "/a%2528b%2529", ""),
        ("service", "/a%2Fb", "", "/a%252Fb", ""),
        ("service", "/~a", "b=2&a=1&a=0", "/~a", "a=0&a=1&b=2"),
        ("s3", "/a%20b/../(c)", "list-type=2&prefix=a/b", "/a%20b/../%28c%29", "list-type=2&prefix=a%2Fb"),
        ("s3", "/k%2fl", "acl", "/k/l", "acl="),
        ("s3", "/caf%C3%A9", "x=a+b&y=%7e", "/caf%C3%A9", "x=a%20b&y=~"),
    ]
    for service, path, query, canonical, parameters in cases:
        target = f"{path}?{query}" if query else path
        headers = {
            name.lower().decode(): value.decode()
            for name, value in signed(aws(service), target=target.encode(), body=b"{}", method="PUT")
        }
        hashed = hashlib.sha256(b"{}").hexdigest()
        included = {"host": "example.com", "x-amz-date": headers["x-amz-date"]}
        if service == "s3":
            included["x-amz-content-sha256"] = hashed
        expected = reference("PUT", canonical, parameters, included, hashed, "us-east-1", service)
        assert headers["authorization"] == expected, target


def test_amz_headers_are_signed_and_the_clients_own_signature_is_taken_out() -> None:
    theirs = [
        (b"authorization", b"AWS4-HMAC-SHA256 theirs"), (b"X-Amz-Date", b"old"), (b"x-amz-security-token", b"theirs"),
        (b"X-Amz-Content-SHA256", b"theirs"), (b"X-Amz-Acl", b"private"), (b"User-Agent", b"curl"),
    ]  # fmt: skip
    headers = signed(aws("s3", session_token=Secret("session")), *theirs, body=b"x")
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names))
    has = dict(headers)
    assert (
        b"SignedHeaders=host;x-amz-acl;x-amz-content-sha256;x-amz-date;x-amz-security-token," in has[b"Authorization"]
    )
    assert has[b"X-Amz-Security-Token"] == b"session"
    assert has[b"X-Amz-Content-SHA256"] == hashlib.sha256(b"x").hexdigest().encode()
    assert has[b"User-Agent"] == b"curl"


def test_a_body_that_is_not_signed_is_not_needed() -> None:
    credential = aws("s3", sign_body=False)
    assert not made(credential).needs_body
    headers = dict(signed(credential, method="PUT"))
    assert headers[b"X-Amz-Content-SHA256"] == b"UNSIGNED-PAYLOAD"


def test_a_target_that_is_no_text_is_not_signed() -> None:
    for target in (b"/\xff", b"/%ff", b"/?a=%ff"):
        with pytest.raises(Unavailable, match="UTF-8"):
            signed(aws("s3"), target=target)


def test_the_sdks_chain_is_asked_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    found = made(Credential(sigv4=SigV4Credential(region="us-east-1", service="es")))
    deadline = time.monotonic() + 30
    while True:
        try:
            headers = dict(found.sign("GET", "https", "example.com", b"/", [HOST], b""))
            break
        except Unavailable as error:
            assert "is looking" in str(error)
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert f"Credential={ID}/".encode() in headers[b"Authorization"]


def test_nothing_is_put_where_nothing_is_set() -> None:
    assert signer(None) is None
