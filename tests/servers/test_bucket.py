"""The bucket, against a real S3 server, and through a proxy that fails between them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from sidecars.core.units import Secret
from sidecars.shipper import connections
from sidecars.shipper.bucket import CHUNK_KEY, LINES_KEY, Bucket, Conflict, Corrupted, Failed, Taken
from sidecars.shipper.plan import Credentials, Destination
from tests.servers.s3 import S3
from tests.servers.s3_proxy import S3Proxy

ANY = Credentials(access_key_id=Secret("any-key"), secret_access_key=Secret("any-secret"))
ROLE = "arn:aws:iam::123456789012:role/shipper"
PAGE = b"<html><body><h1>Welcome</h1></body></html>"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Nothing of the machine's own credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def proxy(s3):
    with S3Proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "chunk"
    path.write_bytes(b"0123456789" * 20_000 + b"not part of it")
    return path


def to(server: S3 | S3Proxy, bucket: str, **more: object) -> Destination:
    return Destination(**{"bucket": bucket, "endpoint": server.endpoint, "credentials": ANY, **more})


def put(target: Bucket, path: Path, key: str = "a.gz", length: int = 200_000, **more: object) -> None:
    facts = {"chunk": "id-1", "conditional": True, "encoding": None, "content_type": "text/plain", "lines": 7}
    target.put(key, str(path), length, **{**facts, **more})


def failed(target: Bucket, path: Path, **more: object) -> Failed:
    with pytest.raises(Failed) as caught:
        put(target, path, **more)
    return caught.value


# What is stored


def test_the_first_bytes_of_the_file_are_stored_with_all_that_an_object_is_given(s3, bucket, file):
    place = to(
        s3, bucket, encryption="AES256", storage_class="STANDARD_IA", acl="public-read",
        object_tags={"team": "web + more", "kind": "log"}, metadata={"colour": "blue"},
    )  # fmt: skip
    put(Bucket(place), file, content_type="application/json", encoding="gzip")
    assert s3.objects(bucket) == {"a.gz": b"0123456789" * 20_000}
    about = s3.client().head_object(Bucket=bucket, Key="a.gz")
    assert about["Metadata"] == {CHUNK_KEY: "id-1", LINES_KEY: "7", "colour": "blue"}
    assert (about["ContentType"], about["ContentEncoding"]) == ("application/json", "gzip")
    assert (about["ServerSideEncryption"], about["StorageClass"]) == ("AES256", "STANDARD_IA")
    tags = s3.client().get_object_tagging(Bucket=bucket, Key="a.gz")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "web + more", "kind": "log"}
    grants = s3.client().get_object_acl(Bucket=bucket, Key="a.gz")["Grants"]
    assert "READ" in [grant["Permission"] for grant in grants if grant["Grantee"].get("URI", "").endswith("AllUsers")]


def test_a_kms_key_and_grants_are_asked_for(proxy, bucket, file):
    place = to(
        proxy, bucket, encryption="aws:kms", kms_key_id="key-1", grant_read="id=1", grant_read_acp="id=2",
        grant_write_acp="id=3", grant_full_control="id=4",
    )  # fmt: skip
    put(Bucket(place), file)
    names = ("server-side-encryption", "server-side-encryption-aws-kms-key-id", "grant-read", "grant-read-acp",
             "grant-write-acp", "grant-full-control")  # fmt: skip
    sent = [proxy.requests[-1].headers[f"x-amz-{name}"] for name in names]
    assert sent == ["aws:kms", "key-1", "id=1", "id=2", "id=3", "id=4"]


def test_no_checksum_is_sent_but_content_md5_and_no_trailer(proxy, bucket, file):
    put(Bucket(to(proxy, bucket)), file)
    headers = proxy.requests[-1].headers
    assert base64.b64decode(headers["content-md5"]) == hashlib.md5(b"0123456789" * 20_000).digest()
    assert not [name for name in headers if "checksum" in name or "trailer" in name or name == "content-encoding"]


def test_a_key_that_exists_is_taken_and_its_object_stays(s3, bucket, file):
    target = Bucket(to(s3, bucket))
    put(target, file, length=10)
    with pytest.raises(Taken):
        put(target, file, length=20)
    assert s3.objects(bucket) == {"a.gz": b"0123456789"}


def test_without_the_condition_the_object_is_replaced(s3, bucket, file):
    target = Bucket(to(s3, bucket))
    put(target, file, length=10)
    put(target, file, length=20, conditional=False)
    assert s3.objects(bucket) == {"a.gz": b"0123456789" * 2}


def test_a_file_that_is_shorter_than_recorded_is_not_stored(s3, bucket, file):
    with pytest.raises(OSError, match="has 200014 bytes, expected 300000"):
        put(Bucket(to(s3, bucket)), file, length=300_000)
    assert s3.keys(bucket) == []


def test_the_owner_of_an_object_is_told_from_others(s3, bucket, file):
    target = Bucket(to(s3, bucket))
    put(target, file, length=1)
    s3.client().put_object(Bucket=bucket, Key="theirs")
    assert [target.owner(key) for key in ("a.gz", "theirs", "none")] == ["id-1", "", None]


def test_many_objects_are_stored_by_many_threads_and_listed_on_all_pages(s3, bucket, file):
    target = Bucket(to(s3, bucket))
    keys = [f"web/{number:03}" for number in range(101)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(target, file, key=key, length=1), [*keys, "other"]))
    assert list(target.keys("web/")) == keys


# What goes wrong

REFUSALS = [
    ("AccessDenied", True, True, "Access Denied (AccessDenied); allow s3:PutObject to these credentials"),
    ("BadDigest", False, True, "did not match what we received"),
    ("ExpiredToken", True, True, "The provided token has expired. (ExpiredToken); renew the credentials"),
    ("InternalError", False, False, "We encountered an internal error"),
    ("InvalidAccessKeyId", True, True, "does not exist in our records. (InvalidAccessKeyId); is it the right"),
    ("NoSuchBucket", True, True, "does not exist (NoSuchBucket); make the bucket, or correct its name"),
    ("NotImplemented", True, True, "functionality that is not implemented"),
    ("RequestTimeTooSkewed", True, True, "too large. (RequestTimeTooSkewed); set this machine's clock"),
    ("SlowDown", False, False, "Please reduce your request rate. (SlowDown); if it lasts"),
]


@pytest.mark.parametrize(("code", "permanent", "known", "words"), REFUSALS, ids=lambda value: str(value)[:20])
def test_a_refusal_is_told_in_s3s_own_words(proxy, bucket, file, code, permanent, known, words):
    proxy.fault("refuse", code=code)
    error = failed(Bucket(to(proxy, bucket)), file)
    assert (error.code, error.permanent, error.outcome_known) == (code, permanent, known)
    assert str(error).startswith(f"cannot store s3://{bucket}/a.gz: ")
    assert words in str(error)


def test_another_writer_at_the_same_moment_is_a_conflict(proxy, bucket, file):
    proxy.fault("refuse", code="ConditionalRequestConflict")
    assert isinstance(failed(Bucket(to(proxy, bucket)), file), Conflict)


ANSWERS = [
    (502, PAGE, "502", False, False, "Bad Gateway (502); is it an S3 server"),
    (403, PAGE, "403", True, True, "Forbidden (403); allow s3:PutObject"),
    (412, PAGE, "412", False, True, "Precondition Failed (412)"),
    (200, PAGE, "answer", True, False, "the answer has no ETag; is it an S3 server"),
    (200, b"", "answer", True, False, "the answer has no ETag"),
    (500, b"", "500", False, False, "Internal Server Error (500)"),
    (400, b"<Error><Code>Two\nlines</Code><Message>two\nlines</Message></Error>", "400", True, True, "two lines (400)"),
    (400, b"<Error><Code>Odd</Code><Message>a\x1b[1mb</Message></Error>", "400", True, True, "Bad Request (400)"),
    (400, b"<Error><Code>Odd</Code><Message>one\ntwo&#9;three" + b"x" * 999 + b"</Message></Error>", "Odd", True, True,
     "one two three" + "x" * 287 + "... (Odd); correct the settings"),
    (503, b"<Error><Code>SlowDown</Code></Error>", "SlowDown", False, False, "Service Unavailable (SlowDown)"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code", "permanent", "known", "words"), ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_that_is_not_s3s_is_a_failure_too(proxy, bucket, file, status, body, code, permanent, known, words):
    kind = "text/html" if body is PAGE else "application/xml"
    proxy.fault("refuse", status=status, body=body, headers={"Content-Type": kind})
    error = failed(Bucket(to(proxy, bucket)), file)
    assert type(error) is Failed
    assert (error.code, error.permanent, error.outcome_known) == (code, permanent, known)
    assert words in str(error)


def test_a_page_is_not_taken_for_an_object(proxy, bucket):
    proxy.fault("refuse", status=200, body=PAGE, headers={"Content-Type": "text/html"})
    with pytest.raises(Failed, match="no ETag"):
        Bucket(to(proxy, bucket)).owner("a.gz")


@pytest.mark.parametrize(
    ("call", "right"),
    [
        (lambda target: target.owner("a"), "s3:GetObject"),
        (lambda target: list(target.keys("a")), "s3:ListBucket"),
        (lambda target: target.check("a"), "s3:PutObject"),
    ],
    ids=["owner", "keys", "check"],
)
def test_a_right_that_is_missing_is_named(proxy, bucket, call, right):
    proxy.fault("refuse", code="AccessDenied")
    with pytest.raises(Failed, match=f"allow {right}") as caught:
        call(Bucket(to(proxy, bucket)))
    assert caught.value.permanent


def test_a_connection_cut_in_the_middle_of_the_body_leaves_the_outcome_unknown(s3, proxy, bucket, file):
    proxy.fault("cut", times=1)
    target = Bucket(to(proxy, bucket))
    error = failed(target, file)
    assert (error.code, error.permanent, error.outcome_known) == ("connection", False, False)
    put(target, file)
    assert s3.objects(bucket) == {"a.gz": b"0123456789" * 20_000}


def test_after_a_lost_answer_the_same_key_is_taken_by_ourselves(proxy, bucket, file):
    proxy.fault("lose", times=1)
    target = Bucket(to(proxy, bucket))
    assert not failed(target, file).outcome_known
    with pytest.raises(Taken):
        put(target, file)
    assert target.owner("a.gz") == "id-1"


def test_a_server_that_does_not_answer_in_time_has_a_timeout(proxy, bucket, file):
    proxy.fault("stall", delay=60)
    error = failed(Bucket(to(proxy, bucket), timeout=0.2), file)
    assert (error.code, error.permanent, error.outcome_known) == ("timeout", False, False)
    assert "no answer from 127.0.0.1:" in str(error)


@pytest.fixture
def large(tmp_path):
    """More than the buffers of two sockets hold."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(32 << 20)
    return path


def test_a_server_that_stops_reading_has_a_timeout(proxy, bucket, large):
    proxy.fault("slow", rate=1)
    error = failed(Bucket(to(proxy, bucket), timeout=0.3), large, length=32 << 20)
    assert (error.code, error.outcome_known) == ("timeout", False)


def test_a_server_that_reads_on_after_longer_than_it_may_take_to_connect_gets_it_all(
    s3, proxy, bucket, large, monkeypatch
):
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.2)
    proxy.fault("pause", delay=0.6)
    put(Bucket(to(proxy, bucket)), large, length=32 << 20)
    assert s3.objects(bucket) == {"a.gz": bytes(32 << 20)}


def test_a_server_that_is_not_there_is_given_up_soon(bucket, file, monkeypatch):
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.2)
    with contextlib.ExitStack() as open_sockets:
        full = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # The queue of those who wait to be accepted takes one: the next is not answered, as by a host that is down.
        for _ in range(2):
            client = open_sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        place = Destination(bucket=bucket, endpoint=f"http://127.0.0.1:{full.getsockname()[1]}", credentials=ANY)
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(failed, Bucket(place), file).result(timeout=20)
    assert (error.code, error.permanent, error.outcome_known) == ("timeout", False, True)


def test_an_object_that_arrived_changed_is_corrupted(s3, proxy, bucket, file):
    proxy.fault("corrupt", unnoticed=True, times=1)
    target = Bucket(to(proxy, bucket))
    with pytest.raises(Corrupted, match="it has to be stored again") as caught:
        put(target, file)
    assert caught.value.code == "checksum"
    assert s3.keys(bucket) == ["a.gz"]
    put(target, file, conditional=False)
    assert s3.objects(bucket) == {"a.gz": b"0123456789" * 20_000}


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"0-1"'}, {"ETag": f'"{"0" * 32}"', "x-amz-server-side-encryption": "aws:kms"}],
    ids=["another-digest", "kms"],
)
def test_an_etag_that_is_no_md5_is_not_compared(proxy, bucket, file, headers):
    proxy.fault("refuse", status=200, body=b"", headers=headers)
    put(Bucket(to(proxy, bucket)), file)


def test_what_the_server_finds_changed_is_refused_and_may_be_tried_again(s3, proxy, bucket, file):
    proxy.fault("corrupt", times=1)
    error = failed(Bucket(to(proxy, bucket)), file)
    assert (error.code, error.permanent, error.outcome_known) == ("BadDigest", False, True)
    assert s3.keys(bucket) == []


WRONG = [
    ({"endpoint": "http://me:hunter2@127.0.0.1:9"}, "connection", "no connection to 127.0.0.1:9: Connection refused"),
    ({"endpoint": "http://nowhere.invalid"}, "connection", "no connection to nowhere.invalid: "),
    ({"endpoint": "minio:9000"}, "settings", "Invalid endpoint: minio:9000; correct the endpoint"),
    ({"region": "not a region"}, "settings", "'not a region'"),
    ({"proxy": "http://me:hunter2@127.0.0.1:9"}, "proxy", "no connection to the proxy: Connection refused"),
    ({"bucket": "no-such-bucket"}, "NoSuchBucket", "make the bucket, or correct its name"),
    ({"bucket": "no such"}, "settings", 'Invalid bucket name "no such"'),
    ({"metadata": {"a": "\xfc"}}, "settings", "ASCII"),
    ({"credentials": Credentials()}, "credentials", "Unable to locate credentials; give an access key"),
    ({"credentials": Credentials(profile="nope")}, "settings", "profile (nope) could not be found"),
    ({"credentials": Credentials(process="/nonexistent")}, "credentials", "No such file or directory: '/nonexistent'"),
    ({"credentials": Credentials(process="echo hunter3")}, "credentials", "what was given are none"),
    ({"credentials": Credentials(access_key_id=Secret("a"))}, "credentials", "missing: secret_access_key"),
    ({"credentials": Credentials(access_key_id=Secret(file="/nonexistent"), secret_access_key=Secret("hunter2"))},
     "settings", "cannot read the secret in /nonexistent: No such file or directory; is it mounted?"),
    ({"credentials": Credentials(role_arn=ROLE, web_identity_token_file="/nonexistent")}, "credentials",
     "No such file or directory: '/nonexistent'"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "code", "words"), WRONG, ids=[f"{n}-{row[1]}" for n, row in enumerate(WRONG)])
def test_wrong_settings_are_told_and_no_secret_with_them(s3, bucket, file, wrong, code, words):
    error = failed(Bucket(to(s3, **{"bucket": bucket, **wrong})), file)
    assert (error.code, error.outcome_known) == (code, True)
    assert words in str(error)
    assert "hunter2" not in str(error)


# Endpoints that know no conditions; --check; making the bucket


def test_an_endpoint_that_honours_conditions_is_found_to_and_nothing_stays(s3, bucket):
    target = Bucket(to(s3, bucket))
    assert not target.ignores_conditions("web/")
    assert s3.keys(bucket) == []


def test_an_endpoint_that_ignores_conditions_is_found_to_and_nothing_stays(s3, proxy, bucket):
    proxy.fault("unconditional")
    assert Bucket(to(proxy, bucket)).ignores_conditions("web/")
    assert s3.keys(bucket) == []


def test_an_endpoint_that_refuses_conditions_counts_as_one_that_ignores_them(s3, proxy, bucket):
    proxy.fault("refuse", code="NotImplemented", times=1)
    assert Bucket(to(proxy, bucket)).ignores_conditions("web/")
    assert s3.keys(bucket) == []


def test_a_probe_that_may_not_be_removed_changes_nothing_and_there_is_only_one(s3, proxy, bucket):
    proxy.fault("refuse", code="AccessDenied", method="DELETE")
    target = Bucket(to(proxy, bucket))
    assert [target.ignores_conditions("web/") for _ in range(3)] == [False] * 3
    [probe] = s3.keys(bucket)
    assert probe.startswith("web/.")


def test_amazon_is_not_asked_whether_it_honours_conditions(proxy):
    amazon = Destination(bucket="logs", region="eu-central-1", credentials=ANY, proxy=proxy.endpoint)
    assert not Bucket(amazon).ignores_conditions("")
    assert proxy.requests == []


def test_a_check_writes_and_removes(s3, proxy, bucket):
    assert Bucket(to(proxy, bucket)).check("web/") == []
    assert [request.method for request in proxy.requests] == ["PUT", "PUT", "DELETE"]
    assert s3.keys(bucket) == []


def test_a_check_warns_of_what_is_not_as_it_should_be(proxy, bucket):
    proxy.fault("unconditional")
    proxy.fault("refuse", code="AccessDenied", method="DELETE")
    ignored, refused = Bucket(to(proxy, bucket)).check("web/")
    assert ignored == f"{proxy.endpoint} ignores If-None-Match; let no other writer use the same keys"
    assert "allow s3:DeleteObject to these credentials; the object is empty, and may stay" in refused


@pytest.mark.parametrize("region", [None, "eu-central-1"])
def test_a_bucket_is_made_unless_it_is_there(s3, bucket, region):
    target = Bucket(to(s3, f"{bucket}-new", region=region))
    target.create()
    target.create()
    assert s3.keys(f"{bucket}-new") == []


def test_a_bucket_that_may_not_be_looked_at_is_there(proxy, bucket):
    proxy.fault("refuse", code="AccessDenied", method="HEAD")
    Bucket(to(proxy, bucket)).create()
    assert [request.method for request in proxy.requests] == ["HEAD"]


# Credentials. moto checks every signature while it is guarded.


def test_keys_that_change_in_their_files_are_used_at_once(s3, bucket, file, tmp_path):
    access, secret = tmp_path / "access", tmp_path / "secret"
    old = s3.user()
    with s3.guarded() as new:
        target = Bucket(to(s3, bucket, credentials=Credentials(
            access_key_id=Secret(file=str(access)), secret_access_key=Secret(file=str(secret)))))  # fmt: skip
        for number, keys in enumerate((old, new)):
            access.write_text(f"{keys['aws_access_key_id']}\n")
            secret.write_text(f"{keys['aws_secret_access_key']}\n")
            put(target, file, key=str(number))
        secret.write_text("wrong")
        assert failed(target, file).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_keys_that_change_in_the_shared_file_are_used_after_a_refusal(s3, bucket, file, tmp_path, monkeypatch, named):
    shared = tmp_path / "credentials"
    if named:
        # A file that is named counts before the environment.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "no")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no")
        shared = tmp_path / "named"
    target = Bucket(to(s3, bucket, credentials=Credentials(shared_file=str(shared) if named else None)))
    with s3.guarded() as keys:
        shared.write_text("[default]\naws_access_key_id = old\naws_secret_access_key = old\n")
        assert failed(target, file).code == "InvalidAccessKeyId"
        shared.write_text("[default]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items()))
        put(target, file)


def test_credentials_that_come_later_are_found(s3, bucket, file, tmp_path):
    target = Bucket(to(s3, bucket, credentials=Credentials()))
    assert failed(target, file).code == "credentials"
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    put(target, file)


def test_keys_of_a_profile_are_used(s3, bucket, file, tmp_path):
    with s3.guarded() as keys:
        text = "[profile mine]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())
        (tmp_path / "config").write_text(text)
        put(Bucket(to(s3, bucket, credentials=Credentials(profile="mine"))), file)


def test_keys_of_a_process_are_used(s3, bucket, file):
    with s3.guarded() as keys:
        access, secret = keys["aws_access_key_id"], keys["aws_secret_access_key"]
        made = {"Version": 1, "AccessKeyId": access, "SecretAccessKey": secret}
        put(Bucket(to(s3, bucket, credentials=Credentials(process=f"echo '{json.dumps(made)}'"))), file)


def test_keys_of_the_container_come_before_those_of_the_environment(s3, proxy, bucket, file, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "no")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{proxy.endpoint}/role")
    with s3.guarded() as keys:
        given = {"AccessKeyId": keys["aws_access_key_id"], "SecretAccessKey": keys["aws_secret_access_key"],
                 "Token": None, "Expiration": "2099-01-01T00:00:00Z"}  # fmt: skip
        proxy.fault("refuse", path="/role", status=200, body=json.dumps(given).encode())
        target = Bucket(to(s3, bucket, credentials=Credentials(instance_profile=True)))
        put(target, file)
        put(target, file, key="b")
    assert len(proxy.requests) == 1


def test_a_role_is_assumed_as_it_is_asked_for_and_anew_before_it_expires(s3, proxy, bucket, file):
    allowed = json.dumps({"Version": "2012-10-17", "Statement": []})
    credentials = Credentials(
        access_key_id=Secret("any"), secret_access_key=Secret("any"), role_arn=ROLE, role_session_name="pod-1",
        external_id="ours", role_policy=allowed, role_seconds=900, sts_endpoint=proxy.endpoint, sts_region="eu-west-1",
    )  # fmt: skip
    target = Bucket(to(s3, bucket, credentials=credentials))
    put(target, file)
    asked = proxy.requests[0]
    for text in (b"Action=AssumeRole&", b"SessionName=pod-1", b"ExternalId=ours", b"DurationSeconds=900", b"Policy="):
        assert text in asked.body
    assert "/eu-west-1/sts/" in asked.headers["authorization"]
    # A role of 15 minutes is in its last 15 minutes at once.
    before = len(proxy.requests)
    put(target, file, key="b")
    assert len(proxy.requests) > before


def test_a_role_that_is_not_given_is_told_in_the_services_words(s3, proxy, bucket, file):
    words = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>"
    proxy.fault("refuse", status=403, body=words, headers={"Content-Type": "text/xml"})
    credentials = Credentials(
        access_key_id=Secret("a"), secret_access_key=Secret("b"), role_arn=ROLE, sts_endpoint=proxy.endpoint
    )
    error = failed(Bucket(to(s3, bucket, credentials=credentials)), file)
    assert (error.permanent, error.outcome_known) == (True, True)
    assert "AssumeRole: not you (AccessDenied); allow sts:AssumeRole to these credentials" in str(error)
    proxy.recover()
    put(Bucket(to(s3, bucket, credentials=credentials)), file)


def test_a_role_is_assumed_with_the_token_of_the_service_account(s3, proxy, bucket, file, tmp_path):
    (tmp_path / "token").write_text("token-of-the-pod")
    credentials = Credentials(
        role_arn=ROLE, web_identity_token_file=str(tmp_path / "token"), sts_endpoint=proxy.endpoint
    )
    put(Bucket(to(s3, bucket, credentials=credentials)), file)
    assert b"Action=AssumeRoleWithWebIdentity" in proxy.requests[0].body
    assert b"WebIdentityToken=token-of-the-pod" in proxy.requests[0].body
    assert "authorization" not in proxy.requests[0].headers


# The way there


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(s3, authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with S3Proxy(s3.endpoint, tls=context) as proxy:
        yield proxy


def test_a_ca_of_ones_own_is_trusted(s3, secure, authority, bucket, file, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    put(Bucket(to(secure, bucket, ca_file=str(tmp_path / "ca.pem"))), file)
    assert len(s3.objects(bucket)) == 1


def test_a_certificate_of_a_stranger_is_refused(secure, bucket, file):
    error = failed(Bucket(to(secure, bucket)), file)
    assert (error.code, error.permanent, error.outcome_known) == ("tls", True, True)
    assert "certificate verify failed" in str(error)


def test_a_certificate_is_not_looked_at_when_that_is_asked_for(s3, secure, bucket, file):
    put(Bucket(to(secure, bucket, verify=False)), file)
    assert len(s3.objects(bucket)) == 1


@pytest.mark.parametrize(
    ("more", "host", "path"),
    [
        ({"addressing": "path"}, "s3.invalid", "/{bucket}/a.gz"),
        ({"addressing": "auto"}, "s3.invalid", "/{bucket}/a.gz"),
        ({"addressing": "virtual"}, "{bucket}.s3.invalid", "/a.gz"),
    ],
)
def test_the_bucket_is_in_the_path_or_in_the_host_and_a_proxy_is_used(proxy, bucket, file, more, host, path):
    proxy.fault("refuse", code="AccessDenied")
    failed(Bucket(to(proxy, bucket, endpoint="http://s3.invalid", proxy=proxy.endpoint, **more)), file)
    asked = proxy.requests[0]
    assert (asked.headers["host"], asked.path) == (host.format(bucket=bucket), path.format(bucket=bucket))


@pytest.mark.parametrize(
    ("more", "host"),
    [
        ({}, "logs.s3.eu-central-1.amazonaws.com"),
        ({"addressing": "path"}, "s3.eu-central-1.amazonaws.com"),
        ({"accelerate": True}, "logs.s3-accelerate.amazonaws.com"),
        ({"dual_stack": True}, "logs.s3.dualstack.eu-central-1.amazonaws.com"),
    ],
    ids=str,
)
def test_amazons_endpoints_are_known(proxy, file, more, host):
    proxy.fault("refuse", code="AccessDenied")
    amazon = Destination(bucket="logs", region="eu-central-1", credentials=ANY, proxy=proxy.endpoint, **more)
    assert failed(Bucket(amazon), file).code == "proxy"
    assert proxy.requests[0].path == f"{host}:443"


# What it costs


def test_boto3_is_imported_with_the_first_request_and_no_body_is_held_in_memory(s3, bucket, large):
    program = f"""
import re, sys
from sidecars.core.units import Secret
from sidecars.shipper.bucket import Bucket
from sidecars.shipper.plan import Credentials, Destination
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
keys = Credentials(access_key_id=Secret("a"), secret_access_key=Secret("b"))
bucket = Bucket(Destination(bucket={bucket!r}, endpoint={s3.endpoint!r}, credentials=keys))
assert not [name for name in sys.modules if name.startswith(("boto", "urllib3"))]
def put(key, length):
    facts = dict(chunk="1", conditional=True, encoding=None, content_type="a/b", lines=1)
    bucket.put(key, {str(large)!r}, length, **facts)
put("small", 1)
assert "boto3" in sys.modules
before = most()
put("large", 32 << 20)
assert most() - before < 8, (before, most())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_buckets_share_what_boto3_knows_of_the_service(s3, bucket):
    import psutil

    process = psutil.Process()
    kept = [Bucket(to(s3, bucket))]
    kept[0].owner("a")
    before = process.memory_info().rss
    for _ in range(10):
        kept.append(Bucket(to(s3, bucket)))
        kept[-1].owner("a")
    assert process.memory_info().rss - before < 30 << 20


def test_connections_are_kept_and_used_again(proxy, bucket, file):
    target = Bucket(to(proxy, bucket))
    for number in range(5):
        put(target, file, key=str(number))
    assert proxy.connections == 1
