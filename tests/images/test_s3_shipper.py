"""s3-shipper in its container: what the README promises of the image, with an S3 server in a container beside it."""

import gzip
import itertools
import json
import os
import re
import time

import boto3
import botocore.exceptions
import pytest
import yaml

from tests.images.conftest import OWN

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEYS = {"SHIPPER_ACCESS_KEY_ID": "demo", "SHIPPER_SECRET_ACCESS_KEY": "demo-secret"}


class Bucket:
    """A bucket of a moto in a container; other containers reach it at `endpoint`."""

    def __init__(self, client, name, endpoint):
        self.client, self.name, self.endpoint = client, name, endpoint

    def objects(self):
        """Every object, unpacked, by its key."""
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {one["Key"]: self._body(one["Key"]) for one in listed}

    def _body(self, key):
        body = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return gzip.decompress(body) if key.endswith(".gz") else body

    def lines(self):
        return sorted(line for body in self.objects().values() for line in body.splitlines(keepends=True))


@pytest.fixture(scope="module")
def server(engine):
    """An S3 server for all of these tests: its client on this machine, and its address for containers."""
    variables = {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    ports = {"5000/tcp": ("127.0.0.1", None)}
    container = engine.containers.run("sidecars/s3-server", detach=True, environment=variables, ports=ports)
    try:
        container.reload()
        [published, *_] = container.ports["5000/tcp"]
        client = boto3.client(
            "s3",
            "us-east-1",
            endpoint_url=f"http://127.0.0.1:{published['HostPort']}",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        wait_until_it_answers(client)
        yield client, f"http://{container.attrs['NetworkSettings']['IPAddress']}:5000"
    finally:
        container.remove(force=True)


def wait_until_it_answers(client):
    deadline = time.monotonic() + 30
    while True:
        try:
            client.list_buckets()
            return
        except botocore.exceptions.HTTPClientError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


NUMBERS = itertools.count()


@pytest.fixture
def bucket(server):
    client, endpoint = server
    name = f"logs-{next(NUMBERS)}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name, endpoint)


@pytest.fixture
def ship(start, logs, bucket):
    """Start s3-shipper over the folder, mounted read-only at /logs, with the bucket as its destination."""

    def ship(*arguments, mounts=None, **options):
        volumes = {str(logs): {"bind": "/logs", "mode": "ro"}} | (mounts or {})
        tmpfs = None if "/state" in [mount["bind"] for mount in volumes.values()] else {"/state": OWN}
        words = ["--bucket", bucket.name, "--endpoint", bucket.endpoint, "--region", "us-east-1", *arguments]
        return start("s3-shipper", "/logs/*.log", *words, tmpfs=tmpfs, volumes=volumes, environment=KEYS, **options)

    return ship


def test_after_sigterm_every_line_is_in_the_bucket_once(logs, bucket, ship):
    (logs / "a.log").write_bytes(b"before\n")
    container = ship("--prefix", "web/").wait_until_ready()
    os.rename(logs / "a.log", logs / "a.log.1")
    (logs / "a.log").write_bytes(b"after a rotation\n")
    container.kill(signal="SIGTERM")
    container.wait_for(lambda: not container.is_ready(), "drain")
    with open(logs / "a.log", "ab") as file:
        file.write(b"last words\n")
    assert container.wait() == 0, container.stderr()
    assert bucket.lines() == [b"after a rotation\n", b"before\n", b"last words\n"]
    assert all(key.startswith("web/") and key.endswith(".gz") for key in bucket.objects())


def test_a_chunk_goes_when_its_time_has_come_and_memory_stays_within_its_budget(logs, bucket, ship, measured):
    (logs / "a.log").write_bytes(b"a line\n")
    container = ship("--chunk-age", "1s").wait_until_ready()
    container.wait_for(lambda: has_uploaded(container), "upload")
    assert bucket.lines() == [b"a line\n"]
    status = container.python("print(open('/proc/1/status').read())")
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    measured(f"s3-shipper: {resident:.1f} MiB resident when idle after its first upload")
    assert resident <= 76


def has_uploaded(container):
    """Not by a look into the bucket: before its first upload the shipper tries the endpoint with an empty object."""
    return '\nshipper_objects_total{output="s3"} 1.0' in container.get("/metrics")[1]


def test_killed_and_restarted_it_goes_on_where_it_was(logs, state, bucket, ship):
    (logs / "a.log").write_bytes(b"one\n")
    container = ship("--chunk-age", "1s", mounts=state).wait_until_ready()
    container.wait_for(lambda: has_uploaded(container), "upload")
    with open(logs / "a.log", "ab") as file:
        file.write(b"two\n")
    container.kill(signal="SIGKILL")
    container.wait()
    container.start()
    container.wait_until_ready()
    container.kill(signal="SIGTERM")
    assert container.wait() == 0, container.stderr()
    assert bucket.lines() == [b"one\n", b"two\n"]


def test_what_s3_refuses_stays_in_the_volume_and_the_end_says_so(logs, state, bucket, ship):
    (logs / "a.log").write_bytes(b"refused at first\n")
    container = ship("--bucket", "no-such-bucket", "--grace", "3s", mounts=state).wait_until_ready()
    container.kill(signal="SIGTERM")
    assert container.wait() == 1
    assert "NoSuchBucket" in container.stderr()
    container = ship(mounts=state).wait_until_ready()
    container.kill(signal="SIGTERM")
    assert container.wait() == 0, container.stderr()
    assert bucket.lines() == [b"refused at first\n"]


def test_without_a_volume_for_its_state_it_does_not_start(start, logs):
    words = ("/logs/*.log", "--bucket", "logs")
    container = start("s3-shipper", *words, tmpfs=None, volumes={str(logs): {"bind": "/logs", "mode": "ro"}})
    assert container.wait() == 2
    assert "mount a volume at /state" in container.stderr()


def test_check_tries_the_bucket_with_a_real_write(ship):
    right = ship("--check")
    assert right.wait() == 0, right.stderr()
    wrong = ship("--check", "--bucket", "no-such-bucket")
    assert wrong.wait() == 1
    assert "NoSuchBucket" in wrong.stderr() + wrong.stdout().decode()


def test_fluentds_variable_and_configuration_make_fluentds_keys(tmp_path, logs, bucket, start):
    """The configuration is the gallery's: one found in the wild, with bucket, endpoint and keys filled in."""
    with open(f"{ROOT}/manifests/gallery/7-fluentd-s3.yaml") as file:
        _, config_map = yaml.safe_load_all(file)
    text = config_map["data"]["fluent.conf"]
    for before, after in (("http://s3:5000", bucket.endpoint), ("s3_bucket logs", f"s3_bucket {bucket.name}")):
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "fluent.conf").write_text(text)
    logs.chmod(0o777)
    (logs / "1.log").write_text("fluentd begins at the end, too\n")
    container = start(
        "s3-shipper",
        tmpfs=None,
        environment={
            "FLUENTD_ARGS": "-c /fluentd/etc/fluent.conf",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo-secret",
        },
        volumes={
            str(logs): {"bind": "/var/log", "mode": "rw"},
            str(tmp_path / "fluent.conf"): {"bind": "/fluentd/etc/fluent.conf", "mode": "ro"},
        },
    ).wait_until_ready()
    assert container.run("s3-shipper", "healthcheck")[0] == 0
    with open(logs / "1.log", "a") as file:
        file.write("0: Mon\n")
    (logs / "2.log").write_text("Mon INFO 0\n")
    container.kill(signal="SIGTERM")
    assert container.wait() == 0, container.stderr()
    assert [key for key in bucket.objects() if not re.fullmatch(r"logs/\d{12}_\d+\.txt", key)] == []
    records = [line.split(b"\t") for line in bucket.lines()]
    assert sorted((tag, json.loads(record)) for _, tag, record in records) == [
        (b"count.format1", {"message": "0: Mon"}),
        (b"count.format2", {"message": "Mon INFO 0"}),
    ]
    assert (logs / ".sidecars").is_dir()


NEEDED = """
import sqlite3, ssl, isal.igzip, zoneinfo, zstandard
import boto3
print(sqlite3.sqlite_version, ssl.OPENSSL_VERSION)
assert zstandard.ZstdDecompressor().decompress(zstandard.ZstdCompressor().compress(b"line")) == b"line"
assert zoneinfo.ZoneInfo("Europe/Berlin").key
for service in ("s3", "sts", "sso", "sso-oidc", "signin"):
    print(boto3.client(service, "eu-central-1", aws_access_key_id="a", aws_secret_access_key="b").meta.endpoint_url)
"""


def test_what_is_imported_late_is_there(start):
    """Amazon's other services, time zones and debuggers' tables were cut off; this is what must be left."""
    container = start("s3-shipper", "-c", NEEDED, entrypoint="python")
    assert container.wait() == 0, container.stderr()
    assert container.stdout().decode().split()[-4:-3] == ["https://sts.eu-central-1.amazonaws.com"]
