"""docker-compose.yml, brought up as a newcomer does, and one request followed through all of it."""

import contextlib
import functools
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.test_adapter_page import ARGUMENTS, CHROMIUM, SCREENSHOTS

ROOT = Path(__file__).parents[2]
PROJECT = "sidecars-test"
# Instead of images that come from a registry.
STAND_INS = {"NGINX_IMAGE": "sidecars/nginx", "REDIS_IMAGE": "sidecars/redis", "S3_IMAGE": "sidecars/s3-server"}
# The variable with the port of each admin door on this machine.
DOORS = {
    "log-tailer": "ADMIN_PORT",
    "log-adapter": "ADAPTER_ADMIN_PORT",
    "s3-shipper": "SHIPPER_PORT",
    "git-syncer": "SYNCER_PORT",
    "ambassador": "AMBASSADOR_PORT",
}


class Suite:
    """What runs of the file, met from this machine."""

    def __init__(self, engine: docker.DockerClient, host: str) -> None:
        self._engine = engine
        self._words = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        names = (*DOORS.values(), "ADAPTER_PORT", "S3_PORT", "WEB_PORT", "REDIS_PORT")
        # Ports of this machine that nobody holds, as a demo may do.
        with contextlib.ExitStack() as held:
            sockets = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
            self.ports = {name: each.getsockname()[1] for name, each in sockets.items()}
        self._environment = {"DOCKER_HOST": host, "COMPOSE_PROJECT_NAME": PROJECT, **STAND_INS}
        self._environment |= {name: str(port) for name, port in self.ports.items()}

    def compose(self, *arguments: str) -> None:
        """Run a command of the oldest compose that the file is written for, or of the machine's own."""
        done = subprocess.run(
            [*self._words, *arguments],
            cwd=ROOT,
            env=os.environ | self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout

    def container(self, service: str) -> docker.models.containers.Container:
        labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
        [container] = self._engine.containers.list(all=True, filters={"label": labels})
        return container

    def logs(self, service: str) -> str:
        """What a service has said, on stdout and stderr."""
        return self.container(service).logs().decode()

    def run(self, service: str, *command: str) -> str:
        """What a command prints in the container of a service."""
        code, output = self.container(service).exec_run(list(command))
        assert code == 0, output
        return output.decode()

    def get(self, port: str, path: str, **headers: str) -> str:
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.read().decode()

    def metric(self, sidecar: str, name: str, /, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        families = text_string_to_metric_families(self.get(DOORS[sidecar], "/metrics"))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    @functools.cached_property
    def s3(self) -> Any:
        """A client with the keys that the head of the file gives to curl."""
        keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo-secret"}
        return boto3.client("s3", "us-east-1", endpoint_url=f"http://127.0.0.1:{self.ports['S3_PORT']}", **keys)

    def objects(self) -> list[str]:
        """The text of each object in the bucket; what the shipper tries the server with is none, and soon gone."""
        found = self.s3.list_objects_v2(Bucket="logs", Prefix="demo/").get("Contents", [])
        keys = [each["Key"] for each in found if each["Key"].endswith(".gz")]
        bodies = [self.s3.get_object(Bucket="logs", Key=key)["Body"].read() for key in keys]
        return [gzip.decompress(body).decode() for body in bodies]

    def wait_for(self, happened: Callable[[], object], *services: str, patience: float = 40) -> object:
        """Wait until something is so, and give it; or fail with what these services have said."""
        deadline = time.monotonic() + patience
        while not (found := happened()):
            assert time.monotonic() < deadline, "\n".join(map(self.logs, services))
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def suite(engine, engine_host):
    """Everything that the file names, running."""
    suite = Suite(engine, engine_host)
    try:
        suite.compose("up", "--detach", "--no-build")
        yield suite
    finally:
        suite.compose("down", "--volumes", "--timeout", "10")


def test_a_request_goes_from_the_access_log_to_stdout_to_the_page_to_the_bucket_and_is_counted(suite):
    path = f"/orders/{uuid.uuid4().hex}"
    assert suite.get("WEB_PORT", path, **{"User-Agent": "traveller/1.0"}) == "Thank you.\n"

    log = suite.run("web", "cat", "/logs/web-access.log").splitlines()
    [line] = [line for line in log if path in line]

    def shown() -> bool:
        return f"web-access.log: {line}\n" in suite.container("log-tailer").logs(stderr=False).decode()

    suite.wait_for(shown, "log-tailer")
    assert suite.metric("log-tailer", "tailer_delivered_bytes_total") >= len(line)

    def records() -> list[dict[str, object]]:
        return [one for one in json.loads(suite.get("ADAPTER_PORT", "/logs?tail=10000")) if one.get("path") == path]

    [record] = suite.wait_for(records, "log-adapter")
    assert record["client"] == line.split()[0]
    assert (record["method"], record["status"], record["bytes"]) == ("GET", 200, len("Thank you.\n"))
    assert record["user_agent"] == "traveller/1.0"
    assert abs(time.time() - time.mktime(time.strptime(record["time"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60
    assert suite.metric("log-adapter", "adapter_requests_total", method="GET", status_class="2xx") >= 1

    [body] = suite.wait_for(lambda: [one for one in suite.objects() if path in one], "s3-shipper", "s3")
    assert body.splitlines().count(line) == 1
    assert suite.metric("s3-shipper", "shipper_objects_total") >= 1
    assert suite.metric("s3-shipper", "follow_lost_bytes_total") == 0


def test_the_lines_of_every_application_have_the_names_of_their_files(suite):
    def names() -> set[str]:
        lines = suite.container("log-tailer").logs(stderr=False).decode().splitlines()
        return {line.partition(": ")[0] for line in lines}

    suite.wait_for(lambda: {"web-access.log", "access.log", "orders.log"} <= names(), "log-tailer")


def test_the_status_pages_are_open_on_this_machine_and_the_metrics_too(suite):
    for name, port in DOORS.items():
        assert suite.metric(name, "sidecar_build_info", name=name) == 1
        if name != "log-adapter":  # its page is the one of the logs
            assert json.loads(suite.get(port, "/status"))["name"] == name


def test_the_page_of_the_logs_is_open_on_this_machine(suite):
    assert "<html" in suite.get("ADAPTER_PORT", "/", Accept="text/html")


def test_the_site_follows_the_commits_of_its_repository(suite):
    seen: set[str] = set()

    def more() -> bool:
        seen.update(re.findall(r"This is revision \d+", suite.get("WEB_PORT", "/")))
        return len(seen) > 1

    suite.wait_for(more, "git-syncer", "git", "web")
    assert suite.metric("git-syncer", "git_sync_count_total", status="success") >= 2


def test_the_keys_are_on_both_redis_servers_and_the_application_counts(suite):
    for server in ("redis-0:6379", "redis-1:6379"):
        suite.wait_for(
            lambda server=server: suite.metric("ambassador", "ambassador_upstream_up", upstream=server), "ambassador"
        )
    with (
        socket.create_connection(("127.0.0.1", suite.ports["REDIS_PORT"]), 10) as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(b"".join(b"SET %d:visits %d\r\n" % (each, each) for each in range(40)))
        assert [answers.readline() for _ in range(40)] == [b"+OK\r\n"] * 40
    sizes = [int(suite.run(f"redis-{number}", "redis-cli", "dbsize")) for number in range(2)]
    assert all(sizes) and sum(sizes) >= 40
    suite.wait_for(lambda: re.search(r"(?m)^\d", suite.logs("visits")), "visits", "ambassador")
    assert suite.metric("ambassador", "ambassador_redis_command_seconds_count", command="set") == 40


# Asks as `curl` would, which no image has.
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


def test_an_application_sees_no_error_while_the_api_that_it_calls_fails(suite):
    def failed() -> int:
        counts = json.loads(suite.run("api", "python", "-c", ASK, "http://127.0.0.1:9000/counts"))
        return counts["failed_total"] if counts["failed_total"] >= 3 else 0

    failed = suite.wait_for(failed, "api", "ambassador")
    status = json.loads(suite.run("caller", "python", "-c", ASK, "http://127.0.0.1:9110/status"))
    assert status["numbers"]["requests_total"] > 3 and status["numbers"]["errors_total"] == 0
    assert '"event": "call failed"' not in suite.logs("caller")
    assert suite.metric("ambassador", "ambassador_http_retries_total", listener=":8081") >= failed


@pytest.mark.parametrize(
    ("gate", "opens", "said"),
    [
        ("config", "web", '"event": "written"'),
        ("wait-for-web", "visitors", '"target": "http://web:8080/"'),
        ("wait-for-servers", "visits", '"target": "redis://127.0.0.1:6380"'),
        ("wait-for-servers", "caller", '"target": "http://127.0.0.1:8081/price"'),
    ],
)
def test_an_application_starts_once_what_prepares_it_has_ended_well(suite, gate, opens, said):
    assert said in suite.logs(gate)
    ended = suite.container(gate).attrs["State"]
    assert (ended["Status"], ended["ExitCode"]) == ("exited", 0)
    assert ended["FinishedAt"] <= suite.container(opens).attrs["State"]["StartedAt"]


def test_the_pages_are_good_to_look_at(suite):
    """The screenshots are for people; that each page has drawn what it is for is asserted."""
    if not os.path.exists(CHROMIUM):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("chromium is not here: run make tools")
    from playwright.sync_api import sync_playwright

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        ambassador, logs = context.new_page(), context.new_page()
        ambassador.goto(f"http://127.0.0.1:{suite.ports['AMBASSADOR_PORT']}/", wait_until="commit")
        logs.goto(f"http://127.0.0.1:{suite.ports['ADAPTER_PORT']}/", wait_until="commit")
        logs.get_by_text("/orders/").first.wait_for()
        logs.screenshot(path=SCREENSHOTS / "compose-log-adapter.png")
        ambassador.get_by_text(re.compile(r"^[1-9].*/s$")).first.wait_for()
        ambassador.get_by_text("api:9000").first.wait_for()
        ambassador.screenshot(path=SCREENSHOTS / "compose-ambassador.png", full_page=True)
        browser.close()


def needed_by(service: dict[str, object]) -> set[str]:
    """The services that a service cannot start without."""
    shared = str(service.get("network_mode", "")).removeprefix("service:")
    return {*service.get("depends_on", {}), *filter(None, [shared])}


def test_each_profile_has_one_sidecar_with_all_that_it_needs_and_without_one_everything_starts():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service["profiles"]}
    assert profiles == {"all", "tailer", "adapter", "shipper", "syncer", "ambassador", "init"}
    for profile in profiles:
        started = {name for name, service in services.items() if profile in service["profiles"]}
        assert {need for name in started for need in needed_by(services[name])} <= started
        assert profile == "all" or {name for name in started if name in DOORS} == set(only(profile))
    assert {name for name, service in services.items() if "all" in service["profiles"]} == set(services)
    assert "COMPOSE_PROFILES=all\n" in (ROOT / ".env").read_text()


def only(profile: str) -> list[str]:
    """The one sidecar with a door that a profile is named after; pod-init has none."""
    return [name for name in DOORS if name.endswith(profile)]


def test_what_is_run_of_the_suite_is_as_restricted_as_pod_security_asks(engine, suite):
    for container in engine.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"}):
        settings = container.attrs["HostConfig"]
        assert settings["ReadonlyRootfs"] and settings["CapDrop"] == ["ALL"], container.name
        assert settings["SecurityOpt"] == ["no-new-privileges:true"]
        assert container.attrs["Config"]["User"] not in ("", "0", "root")
