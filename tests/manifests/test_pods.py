"""Every manifest runs as a real pod: tailer and adapter show the application's lines, the shipper puts them into S3."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.manifests import documents, kustomize
from tests.manifests.documents import ROOT, S3_SERVER, Document
from tests.manifests.podman import Podman, podman_form, redis_address
from tests.unit.demo.process import Process

# What the tailer of each manifest must print.
LINES = {
    "tailer/native-sidecar.yaml": r"access\.log.*GET /",
    "tailer/pod.yaml": r"access\.log.*GET /",
    "tailer/job.yaml": r'^\{.*"pod": ?"nightly".*\}$',
    "gallery/4-log-tail.yaml": r"^logging at ",
    "gallery/5-log-cat-loop.yaml": r"^203\.0\.113\.\d+ - - .*GET /",
    "components/example": r'^\{.*"order placed".*\}$',
}

# What the adapter of each manifest must print.
RECORDS = {
    "adapter/native-sidecar.yaml": r'^\{.*"method":"GET".*"status":\d+.*\}$',
    "adapter/pod.yaml": r'^\{.*"method":"GET".*"status":\d+.*\}$',
    "gallery/6-adapter.yaml": r'^\{.*"message":"This is log".*\}$',
}

# What the keys of each manifest's objects must be.
DATED = r"\d{4}/\d\d/\d\d/[\w.-]+\.gz"
KEYS = {
    "shipper/native-sidecar.yaml": rf"shop/{DATED}",
    "shipper/pod.yaml": rf"shop/{DATED}",
    "shipper/job.yaml": rf"nightly/{DATED}",
    "shipper/statefulset.yaml": rf"payments/{DATED}",
    "components/example": rf"example/{DATED}",
}

# What the application of each manifest reads, and a part of it.
REVISION = r"This is revision \d+"
READ = {
    "syncer/native-sidecar.yaml": ("/git/shop/site/index.html", REVISION),
    "syncer/pod.yaml": ("/git/shop/site/index.html", REVISION),
    "syncer/init-container.yaml": ("/git/shop/site/index.html", REVISION),
    "syncer/dag-folder.yaml": ("/git/repo/dags/orders.py", r"orders copied, by revision \d+"),
    "gallery/8-git-sync.yaml": ("/git/shop.git/site/index.html", REVISION),
    "components/example": ("/git/current/site/index.html", REVISION),
}
# Where the application of each manifest finds its Redis, whose keys are on two servers.
SHARDED = {
    "ambassador/native-sidecar.yaml": 6379,
    "ambassador/pod.yaml": 6379,
    "gallery/9-ambassador-redis.yaml": 6380,
    "components/example": 6379,
}
# What the application of each manifest prints when it has started, with what pod-init has prepared.
PREPARED = {
    "gallery/1-model-copy.yaml": r"^\['\.pod-init\.json', '\.version', 'doc2vec\.model', 'vectors'\]$",
    "gallery/2-wait-for-services.yaml": r"^The app is running!$",
    "gallery/3-create-dir.yaml": r"^drwxrwsr-x .* /opt/log$",
    "init/fetch-model.yaml": r"^\['\.pod-init\.json', 'labels', 'weights\.bin'\]$",
    "init/wait-and-migrate.yaml": r"^postgres://shop@db:5432/shop$",
}
# What is validated and not run, and why.
NOT_RUN = {
    "ambassador/postgres.yaml": "there is no image of Postgres to run here",
    "init/wait-for-job.yaml": "there is no Kubernetes API to ask here",
}
FLUENTD = "gallery/7-fluentd-s3.yaml"
API = "ambassador/http.yaml"
ALL = "all-in-one/shop.yaml"

Found = list[Document]


def manifests() -> dict[str, Path]:
    """Every manifest with a program of ours; each needs its line in LINES, RECORDS, KEYS, READ, SHARDED or PREPARED."""
    overlays = [path.parent for path in documents.kustomizations() if "resources" in documents.documents(path)[0]]
    paths = [path for path in documents.plain() if documents.sidecars(documents.documents(path))]
    return {str(path.relative_to(ROOT)): path for path in [*paths, *overlays]}


def resources(name: str) -> Found:
    path = manifests()[name]
    found = kustomize.build_here(path) if path.is_dir() else documents.documents(path)
    beside = documents.documents(S3_SERVER) if documents.sidecars(found, "s3-shipper") else []
    return found + [one for one in beside if one["kind"] == "Secret"] + documents.secrets_made_by_hand(found)


def played(name: str, lost: dict[str, list[str]]) -> Found:
    """The podman form of a manifest."""
    forms = [podman_form(document) for document in resources(name)]
    lost[name] = [text for _, texts in forms for text in texts]
    return [form for form, _ in forms]


class Running:
    """A manifest's containers as they run, by the part they have in it."""

    def __init__(self, podman: Podman, name: str, ids: dict[str, str], sidecar: str) -> None:
        self._podman = podman
        everything = [one for pod in documents.pods(resources(name)) for one in documents.containers(pod)]

        def of(wanted: Callable[[documents.Container], bool]) -> list[str]:
            names = tuple(f"-{one.name}" for one in everything if wanted(one))
            return [key for full, key in ids.items() if full.endswith(names)]

        (one,) = [one for one in everything if one.sidecar == sidecar]
        self._native = one.native
        self._once = "--one-time" in one.spec.get("args", ())
        (self.sidecar,) = of(lambda one: one.sidecar == sidecar)
        (self.application,) = of(lambda one: one.sidecar is None)
        # What prepares the pod has ended by itself.
        self._others = of(lambda one: one.sidecar not in (None, sidecar, documents.INIT))
        self.s3 = next((key for full, key in ids.items() if full.endswith("-s3")), "")

    def reads(self, path: str) -> str:
        """What the application finds in a file; nothing as long as it is not there."""
        return self._podman("exec", self.application, "python", "-c", READ_FILE, path)

    def end(self) -> None:
        """Send SIGTERM as the kubelet does: a native sidecar gets it only after the application has ended."""
        first, last = [self.application, *self._others], [] if self._once else [self.sidecar]
        for together in (first, last) if self._native else (first + last,):
            # Not `podman stop`: it sends a second SIGTERM once the first container is gone; Kubernetes does not.
            self._podman("kill", "--signal", "TERM", *together)
            self._podman("wait", *together, *([self.sidecar] if self._once else []))

    def exit_codes(self) -> set[int]:
        ended = [self.application, *self._others, self.sidecar]
        return {int(code) for code in self._podman("inspect", "--format", "{{.State.ExitCode}}", *ended).split()}

    def written(self, pattern: str = "*", *, wrapped: bool = False) -> list[str]:
        """Every line in the application's files, rotated ones too; of what a wrapper extends, only that it is there."""
        mounts = json.loads(self._podman("inspect", "--format", "{{json .Mounts}}", self.application))
        (folder,) = [mount["Source"] for mount in mounts if mount["Destination"].startswith(("/logs", "/var/log"))]
        files = [path for path in Path(folder).glob(pattern) if path.is_file()]
        lines = [line for path in files for line in path.read_text().splitlines()]
        return sorted("an object" if wrapped and line.startswith("{") else line for line in lines)


def test_every_manifest_says_what_its_sidecars_do() -> None:
    assert set(manifests()) == {*LINES, *RECORDS, *KEYS, *READ, *SHARDED, *PREPARED, *NOT_RUN, FLUENTD, API, ALL}


@pytest.mark.parametrize("name", LINES)
def test_its_tailer_shows_the_lines_of_the_application(name: str, podman: Podman, lost: dict[str, list[str]]) -> None:
    with podman.playing(played(name, lost)) as ids:
        with follow(podman, Running(podman, name, ids, "log-tailer").sidecar) as log:
            log.wait_for(LINES[name])
        if name in READ:  # a pod for one more reader would take as long again
            assert found(Running(podman, name, ids, "git-syncer"), *READ[name])
        if name in SHARDED:
            assert shards(podman, ids, SHARDED[name])
        if name in KEYS:
            assert_every_line_is_in_the_bucket(podman, name, ids)


@pytest.mark.parametrize("name", [name for name in LINES if name.startswith("tailer/")])
def test_it_ends_well_within_the_grace_and_loses_no_line(name: str, podman: Podman, lost: dict[str, list[str]]) -> None:
    with podman.playing(played(name, lost)) as ids:
        running = Running(podman, name, ids, "log-tailer")
        with follow(podman, running.sidecar) as log:
            log.wait_for(LINES[name])
        running.end()
        assert running.exit_codes() == {0}
        with follow(podman, running.sidecar) as log:
            log.wait_for('"event": "done"', "stderr")
            assert log.end() == 0
        assert '"event": "stopping"' not in log.said["stderr"]
        lines = log.said["stdout"].splitlines()
        assert sorted(original(line) for line in lines) == running.written(wrapped=lines[0].startswith("{"))


def original(line: str) -> str:
    """A line as it was before the tailer marked it with its file or wrapped it; of an object, what was not its own."""
    return str(json.loads(line).get("log", "an object")) if line.startswith("{") else line.split(": ", 1)[1]


@pytest.mark.parametrize("name", RECORDS)
def test_its_adapter_gives_a_record_for_each_line_and_ends_well(
    name: str, podman: Podman, lost: dict[str, list[str]]
) -> None:
    with podman.playing(played(name, lost)) as ids:
        running = Running(podman, name, ids, "log-adapter")
        with follow(podman, running.sidecar) as log:
            log.wait_for(RECORDS[name])
        assert json.loads(podman("exec", running.sidecar, "python", "-c", GET, "http://127.0.0.1:3080/logs"))
        running.end()
        assert running.exit_codes() == {0}
        with follow(podman, running.sidecar) as log:
            assert log.end() == 0
        records = [json.loads(line) for line in log.said["stdout"].splitlines()]
        assert [record for record in records if "parse_error" in record] == []
        clients_or_times = sorted(record.get("client", record["time"]) for record in records)
        lines = running.written("access.log*") + running.written("file.log")
        assert clients_or_times == sorted(re.split(" - |#", line)[0] for line in lines)


# Asks as `curl` would, which no image has.
GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


READ_FILE = "import os, sys; path = sys.argv[1]; print(open(path).read() if os.path.exists(path) else '')"


@pytest.mark.parametrize("name", [name for name in READ if name not in LINES])
def test_its_application_reads_what_is_published_and_the_pod_ends_well(
    name: str, podman: Podman, lost: dict[str, list[str]]
) -> None:
    path, pattern = READ[name]
    with podman.playing(played(name, lost)) as ids:
        running = Running(podman, name, ids, "git-syncer")
        seen = {found(running, path, pattern)}
        if name == "syncer/native-sidecar.yaml":
            # Each commit comes to the application while it runs.
            wait_until(lambda: len(seen | {found(running, path, pattern)}) > 1)
        running.end()
        assert running.exit_codes() == {0}, said(podman, running.sidecar)


def found(running: Running, path: str, pattern: str) -> str:
    """The part of a file that the application is to read, once it is there."""
    parts: list[str] = []
    wait_until(lambda: bool(parts.extend(re.findall(pattern, running.reads(path))) or parts))
    return parts[0]


@pytest.mark.parametrize("name", [name for name in KEYS if name not in LINES])
def test_its_shipper_has_put_every_line_into_the_bucket_once_when_the_pod_has_ended(
    name: str, podman: Podman, lost: dict[str, list[str]]
) -> None:
    with podman.playing(played(name, lost)) as ids:
        assert_every_line_is_in_the_bucket(podman, name, ids)


def assert_every_line_is_in_the_bucket(podman: Podman, name: str, ids: dict[str, str]) -> None:
    running = Running(podman, name, ids, "s3-shipper")
    objects = shipped(podman, running)
    assert objects
    assert [key for key in objects if not re.fullmatch(KEYS[name], key)] == []
    assert sorted(line for body in objects.values() for line in body) == running.written()


@pytest.mark.parametrize("name", [name for name in SHARDED if name not in LINES])
def test_its_ambassador_shards_the_keys_and_the_pod_ends_well(
    name: str, podman: Podman, lost: dict[str, list[str]]
) -> None:
    with podman.playing(played(name, lost)) as ids:
        running = Running(podman, name, ids, "ambassador")
        assert shards(podman, ids, SHARDED[name])
        running.end()
        assert running.exit_codes() == {0}, said(podman, running.sidecar)


@pytest.mark.parametrize("name", PREPARED)
def test_its_application_starts_with_what_was_prepared_and_ends_well(
    name: str, podman: Podman, lost: dict[str, list[str]]
) -> None:
    with podman.playing(played(name, lost)) as ids:
        (pod,) = documents.pods([one for one in resources(name) if one["kind"] != "Job"])
        (application,) = [key for full, key in ids.items() if full.endswith(f"-{pod['containers'][0]['name']}")]
        with follow(podman, application) as log:
            log.wait_for(PREPARED[name])
        # That podman starts it says that each init container has ended with 0; this one is none there.
        waits = [key for full, key in ids.items() if full.endswith("-wait")]
        if waits:
            assert podman("wait", *waits).split() == ["0"], said(podman, waits[0])
        podman("kill", "--signal", "TERM", application)
        assert podman("wait", application).split() == ["0"]


# The default hash hardly tells keys apart that differ in their last digits alone.
KEYS_SET = range(100, 140)


def shards(podman: Podman, ids: dict[str, str], port: int) -> bool:
    """Set keys through the ambassador: each of the servers must have some of them, and both together all."""
    (client,) = [key for full, key in ids.items() if full.endswith("-redis-0")]
    (ambassador,) = [key for full, key in ids.items() if full.endswith("-ambassador")]
    words = "\n".join(f"SET {each}:visits {each}" for each in KEYS_SET)

    def asked(*address: str, stdin: str) -> list[str]:
        return podman("exec", "--interactive", client, "redis-cli", *address, stdin=stdin).split()

    def up() -> bool:
        metrics = podman("exec", ambassador, "python", "-c", GET, "http://127.0.0.1:9105/metrics")
        found = re.findall(r"(?m)^ambassador_upstream_up\{.*\} (\S+)$", metrics)
        return len(found) >= 2 and "0.0" not in found

    # A server that was not there yet is left out for some seconds, and its keys go to the other one meanwhile.
    for number in range(2):
        wait_until(lambda number=number: asked("-h", redis_address(number), stdin="PING") == ["PONG"])
    wait_until(up)
    wait_until(lambda: asked("-p", str(port), stdin=words) == ["OK"] * len(KEYS_SET))
    each = [asked("-h", redis_address(number), stdin="KEYS *:visits") for number in range(2)]
    return all(each) and sorted(each[0] + each[1]) == [f"{each}:visits" for each in KEYS_SET]


def test_its_ambassador_tries_again_what_an_api_fails_and_the_pod_ends_well(
    podman: Podman, lost: dict[str, list[str]]
) -> None:
    with podman.playing(played(API, lost)) as ids:
        running = Running(podman, API, ids, "ambassador")

        def counted(name: str, label: str) -> float:
            said = podman("exec", running.sidecar, "python", "-c", GET, "http://127.0.0.1:9105/metrics")
            return sum(map(float, re.findall(rf"(?m)^ambassador_http_{name}\{{.*{label}.*\}} (\S+)$", said)))

        wait_until(lambda: counted("retries_total", 'reason="status"') >= 2 and counted("requests_total", "2xx") >= 5)
        running.end()
        assert podman("inspect", "--format", "{{.State.ExitCode}}", running.sidecar).split() == ["0"]
        assert "k-123" not in said(podman, running.sidecar)


def test_in_fluentds_place_it_ships_what_fluentd_would_and_where(podman: Podman, lost: dict[str, list[str]]) -> None:
    with podman.playing(played(FLUENTD, lost)) as ids:
        running = Running(podman, FLUENTD, ids, "s3-shipper")
        objects = shipped(podman, running)
        assert [key for key in objects if not re.fullmatch(r"logs/\d{12}_\d+\.txt", key)] == []
        lines = {line for body in objects.values() for line in body}
        assert len(lines) == sum(map(len, objects.values()))
        # Without read_from_head fluentd leaves out what was written before its start, if the file was there: the count.
        counts = {int(re.sub(r".* INFO |:.*", "", line)) for line in running.written() if line not in lines}
        assert counts <= set(range(len(counts)))


def test_all_of_them_do_their_work_in_one_pod(podman: Podman, lost: dict[str, list[str]]) -> None:
    with podman.playing(played(ALL, lost)) as ids:
        running = Running(podman, ALL, ids, "s3-shipper")
        make_bucket(podman, running.s3)
        (wait,) = [key for full, key in ids.items() if full.endswith("-wait")]
        assert podman("wait", wait).split() == ["0"], said(podman, wait)
        assert shards(podman, ids, 6379)
        assert found(Running(podman, ALL, ids, "git-syncer"), "/git/shop/site/index.html", REVISION)
        site = podman(
            "exec", running.application, "python", "-c", GET_WITH_POD, "http://127.0.0.1:8080/?from=a-visitor"
        )
        assert re.search(rf"^shop-.*\n(.*\n)+.*{REVISION}", site), site
        # One in five fails, and is asked again.
        podman("exec", running.application, "python", "-c", MANY, "http://127.0.0.1:8080/price")
        lines = running.written("access.log")
        (line,) = [line for line in lines if "a-visitor" in line]
        with follow(podman, Running(podman, ALL, ids, "log-tailer").sidecar) as log:
            log.wait_for(f"^{re.escape(line)}$")
        adapter = Running(podman, ALL, ids, "log-adapter").sidecar
        wait_until(lambda: "a-visitor" in podman("exec", adapter, "python", "-c", GET, "http://127.0.0.1:3080/logs"))
        running.end()
        assert running.exit_codes() == {0}, said(podman, running.sidecar)
        objects = stored(podman, running.s3)
        assert [key for key in objects if not re.fullmatch(rf"shop/{DATED}", key)] == []
        assert sorted(line for body in objects.values() for line in body) == lines


MANY = "import sys, urllib.request as r; [r.urlopen(sys.argv[1], timeout=10).read() for _ in range(20)]"
# The pod's name is in a header.
GET_WITH_POD = """
import sys, urllib.request
answer = urllib.request.urlopen(sys.argv[1], timeout=10)
print(answer.headers["X-Pod"], answer.read().decode())
"""


def shipped(podman: Podman, running: Running) -> dict[str, list[str]]:
    """Let some lines be written, end the pod, and give what the bucket has."""
    make_bucket(podman, running.s3)
    with follow(podman, running.sidecar) as log:
        log.wait_for('"event": "watching"', "stderr")
    some = len(running.written()) + 4
    wait_until(lambda: len(running.written()) >= some)
    running.end()
    assert running.exit_codes() == {0}, said(podman, running.sidecar)
    return stored(podman, running.s3)


def make_bucket(podman: Podman, server: str) -> None:
    """Do what the server's startup probe does: podman runs none."""
    (pod,) = documents.pods(documents.documents(S3_SERVER))
    command = pod["containers"][0]["startupProbe"]["exec"]["command"]
    deadline = time.monotonic() + 30
    while True:
        try:
            podman("exec", server, *command)
            return
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


OBJECTS = """
import base64, boto3, json
s3 = boto3.client("s3", "us-east-1", endpoint_url="http://127.0.0.1:5000", aws_access_key_id="a",
    aws_secret_access_key="b")
keys = [one["Key"] for one in s3.list_objects_v2(Bucket="logs").get("Contents", [])]
body = lambda key: base64.b64encode(s3.get_object(Bucket="logs", Key=key)["Body"].read()).decode()
print(json.dumps({key: body(key) for key in keys}))
"""


def stored(podman: Podman, server: str) -> dict[str, list[str]]:
    """The application's lines in the bucket, by object."""
    bodies = json.loads(podman("exec", server, "python3", "-c", OBJECTS))
    return {key: list(unpacked(key, base64.b64decode(body))) for key, body in bodies.items()}


def unpacked(key: str, body: bytes) -> Iterator[str]:
    """The lines of an object; of fluentd's format, the message in the record after time and tag."""
    if key.endswith(".gz"):
        yield from gzip.decompress(body).decode().splitlines()
    else:
        yield from (json.loads(line.split("\t")[2])["message"] for line in body.decode().splitlines())


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def said(podman: Podman, container: str) -> str:
    with follow(podman, container) as log:
        log.end()
        return log.said["stderr"]


def follow(podman: Podman, container: str) -> Process:
    return Process(*podman.command, "logs", "--follow", container)
