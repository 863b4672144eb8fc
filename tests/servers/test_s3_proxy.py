"""The proxy that the shipper is tested through: it fails as it is told, and otherwise passes on."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import random
import signal
import subprocess
import sys
import urllib.parse

import pytest

from tests.servers import s3_proxy
from tests.servers.s3_proxy import ANSWERS, FAULTS, S3Proxy

BODY = bytes(range(256)) * 1000
# moto looks at no signature, and wants one to be there.
SIGNED = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


@pytest.fixture
def proxy(s3):
    with S3Proxy(s3.endpoint) as proxy:
        yield proxy


class Client:
    """One connection to the proxy; it waits for 100 Continue, if it asks for it, as boto3 does."""

    def __init__(self, endpoint: str) -> None:
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(endpoint).netloc, timeout=20)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        headers = {name.replace("_", "-"): text for name, text in headers.items()}
        self.connection.request(method, path, body, {"Authorization": SIGNED, **headers})
        response = self.connection.getresponse()
        return response.status, response.read()


@pytest.fixture
def client(proxy):
    with Client(proxy.endpoint) as client:
        yield client


def test_what_is_not_to_fail_is_passed_on_and_recorded(s3, proxy, bucket, client):
    assert client.ask("PUT", f"/{bucket}/a", BODY, x_amz_meta_colour="blue")[0] == 200
    assert client.ask("GET", f"/{bucket}/a") == (200, BODY)
    assert client.ask("HEAD", f"/{bucket}/a") == (200, b"")
    assert client.ask("DELETE", f"/{bucket}/b")[0] == 204
    assert client.ask("GET", f"/{bucket}?list-type=2&prefix=x%20y")[0] == 200
    assert [(request.method, request.path, request.status) for request in proxy.requests] == [
        ("PUT", f"/{bucket}/a", 200), ("GET", f"/{bucket}/a", 200), ("HEAD", f"/{bucket}/a", 200),
        ("DELETE", f"/{bucket}/b", 204), ("GET", f"/{bucket}?list-type=2&prefix=x%20y", 200),
    ]  # fmt: skip
    assert s3.client().head_object(Bucket=bucket, Key="a")["Metadata"] == {"colour": "blue"}
    assert proxy.connections == 1


@pytest.mark.parametrize("code", ANSWERS)
def test_a_refusal_has_s3s_status_and_words_and_is_not_passed_on(s3, proxy, bucket, client, code):
    proxy.fault("refuse", code=code, times=1)
    status, text = client.ask("PUT", f"/{bucket}/a", BODY)
    assert status == ANSWERS[code][0]
    assert f"<Code>{code}</Code><Message>{ANSWERS[code][1]}</Message>".encode() in text
    assert s3.keys(bucket) == []
    assert client.ask("PUT", f"/{bucket}/a", BODY)[0] == 200


def test_who_waits_to_be_told_to_go_on_is_refused_before_the_body(proxy, bucket):
    proxy.fault("refuse", code="AccessDenied")
    with Client(proxy.endpoint) as client:
        client.connection.putrequest("PUT", f"/{bucket}/a")
        for name, value in (("Expect", "100-continue"), ("Content-Length", "1000000")):
            client.connection.putheader(name, value)
        client.connection.endheaders()
        assert client.connection.getresponse().status == 403


def test_an_answer_of_ones_own_is_given_as_it_is(proxy, client):
    proxy.fault("refuse", status=502, body=b"<html>", headers={"Content-Type": "text/html"})
    assert client.ask("GET", "/any") == (502, b"<html>")


def test_a_connection_that_is_cut_has_had_half_of_the_body(s3, proxy, bucket, client):
    proxy.fault("cut", times=1)
    with pytest.raises(OSError):
        client.ask("PUT", f"/{bucket}/a", BODY)
    assert (proxy.requests[0].status, proxy.requests[0].faults) == (0, ("cut",))
    assert s3.keys(bucket) == []


def test_after_a_lost_answer_the_object_is_there(s3, proxy, bucket, client):
    proxy.fault("lose", times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        client.ask("PUT", f"/{bucket}/a", BODY)
    assert proxy.requests[0].status == 0
    assert s3.objects(bucket) == {"a": BODY}


def test_a_byte_that_was_changed_is_noticed_by_the_checksum_unless_it_is_not_to_be(s3, proxy, bucket, client):
    proxy.fault("corrupt", times=1)
    proxy.fault("corrupt", unnoticed=True, times=1)
    assert client.ask("PUT", f"/{bucket}/a", BODY, Content_MD5=md5(BODY))[0] == 400
    assert s3.keys(bucket) == []
    assert client.ask("PUT", f"/{bucket}/a", BODY, Content_MD5=md5(BODY))[0] == 200
    [stored] = s3.objects(bucket).values()
    assert sum(one != other for one, other in zip(stored, BODY, strict=True)) == 1


def test_without_the_condition_an_object_is_stored_again(proxy, bucket, client):
    proxy.fault("unconditional", times=1)
    client.ask("PUT", f"/{bucket}/a", BODY)
    assert [client.ask("PUT", f"/{bucket}/a", BODY, If_None_Match="*")[0] for _ in range(2)] == [200, 412]


@pytest.mark.parametrize(("kind", "options"), [("stall", {"delay": 60}), ("slow", {"rate": 1})])
def test_a_request_that_waits_is_seen_and_ends_with_the_proxy(s3, bucket, kind, options):
    with S3Proxy(s3.endpoint) as proxy, Client(proxy.endpoint) as client:
        proxy.fault(kind, **options)
        client.connection.request("PUT", f"/{bucket}/a", BODY)
        proxy.wait_for(lambda: len(proxy.requests) == 1)
        assert proxy.requests[0].status is None
    assert proxy.requests[0].status == 0
    assert s3.keys(bucket) == []


def test_faults_are_committed_where_they_belong_so_often_and_one_after_the_other(proxy, bucket, client):
    first = proxy.fault("refuse", code="SlowDown", times=2, method="PUT", path="/a")
    proxy.fault("refuse", code="InternalError", times=1, method="PUT")
    asked = [("PUT", "b"), ("GET", "a"), ("PUT", "a"), ("PUT", "a"), ("PUT", "a")]
    assert [client.ask(method, f"/{bucket}/{key}", b"")[0] for method, key in asked] == [500, 404, 503, 503, 200]
    assert (first.committed, proxy.committed) == (2, 3)


def test_a_fault_ends_with_its_time_and_with_recovery(proxy, bucket, client):
    proxy.fault("refuse", seconds=-1)
    assert client.ask("PUT", f"/{bucket}/a", b"")[0] == 200
    proxy.fault("refuse")
    proxy.random_faults(seed=1, every=1)
    proxy.recover()
    assert client.ask("PUT", f"/{bucket}/a", b"")[0] == 200


def test_a_fault_that_there_is_not_is_refused(proxy):
    with pytest.raises(ValueError, match="there are refuse, cut"):
        proxy.fault("explode")


def test_an_upstream_that_is_gone_is_a_bad_gateway():
    with S3Proxy("http://127.0.0.1:9") as proxy, Client(proxy.endpoint) as client:
        status, text = client.ask("GET", "/any")
    assert (status, b"502 Bad Gateway" in text) == (502, True)


def outcomes(proxy: S3Proxy, bucket: str, seed: int) -> list[tuple[str, ...]]:
    proxy.random_faults(seed=seed, every=2)
    for number in range(40):
        with Client(proxy.endpoint) as client:
            try:
                client.ask("PUT", f"/{bucket}/{number}", b"x" * 100, Content_MD5=md5(b"x" * 100))
            except OSError:
                continue
    return [request.faults for request in proxy.requests]


def test_faults_at_random_are_the_same_for_the_same_seed_and_no_lie(s3, bucket):
    seed, found = random.randrange(10**6), []
    for _ in range(2):
        with S3Proxy(s3.endpoint) as proxy:
            found.append(outcomes(proxy, bucket, seed))
            # What was said to be stored is stored, whole.
            said = {request.path.rpartition("/")[2] for request in proxy.requests if request.status == 200}
        stored = s3.objects(bucket)
        assert all(stored[key] == b"x" * 100 for key in said)
    assert found[0] == found[1]
    assert 5 < sum(bool(faults) for faults in found[0]) < 35
    assert {kind for faults in found[0] for kind in faults} <= set(FAULTS)


def test_as_a_process_it_commits_what_its_flags_say(s3, bucket):
    command = [sys.executable, s3_proxy.__file__, "--upstream", s3.endpoint, "--fault", "refuse", "--times", "1",
               "--code", "AccessDenied", "--seed", "3", "--every", "1000000"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        with Client(json.loads(process.stdout.readline())["endpoint"]) as client:
            assert [client.ask("PUT", f"/{bucket}/a", b"")[0] for _ in range(2)] == [403, 200]
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.readline()) == {"event": "ended", "requests": 2, "faults": 1}
        assert process.wait(timeout=10) == 0
