"""log-adapter in its container: what the README promises of the image."""

import json
import re
import subprocess

import pytest
import zstandard

# What the application of the tutorials runs, in a loop: shared/pods, and bbachin1/adapter-node-server.
PRODUCER = "echo $(date -u)'#This is log' >> {}/file.log"
WEB = 3080


@pytest.fixture
def adapt(start, logs):
    """Start log-adapter over the folder, mounted read-only at /var/log, where the tutorials have it."""

    def adapt(*arguments, **options):
        volumes = {str(logs): {"bind": "/var/log", "mode": "ro"}}
        return start("log-adapter", *arguments, tmpfs=None, volumes=volumes, **options)

    return adapt


def array(container, query=""):
    status, text = container.get(f"/logs{query}", WEB)
    assert status == 200, text
    return json.loads(text)


def test_without_arguments_it_is_in_the_node_server_s_place(logs, adapt):
    container = adapt().wait_until_ready()
    assert array(container) == []
    for _ in range(2):
        subprocess.run(["sh", "-c", PRODUCER.format(logs)], check=True)
    written = [line.split("#") for line in (logs / "file.log").read_text().splitlines()]
    expected = [{"time": time, "message": message} for time, message in written]
    assert array(container) == expected
    assert array(container) == expected, "the node server gives everything once more"
    container.kill(signal="SIGTERM")
    assert container.wait() == 0


def test_the_page_for_people_is_complete(adapt):
    """A page whose script was left out of the image would be an empty one."""
    container = adapt().wait_until_ready()
    seen: dict[str, str] = {}
    missing = {""}
    while missing:
        path = missing.pop()
        status, seen[path] = container.ask("GET", f"/{path}", {"Accept": "text/html"}, WEB)
        assert status == 200 and seen[path], path
        missing |= set(re.findall(r'"(?:\./)?([\w-]+\.(?:css|js|svg))"', seen[path])) - seen.keys()
    assert {name.rpartition(".")[2] for name in seen} >= {"css", "js"}


LINE = '203.0.113.9 - - [23/Nov/2026:06:26:17 +0000] "GET /cart HTTP/1.1" 200 5120 "-" "curl/8.14.1"'
ERROR = "2026/11/23 07:26:18 [error] 7#7: *1 open() failed (2: No such file or directory), client: 203.0.113.9"


def test_rotated_and_compressed_logs_of_two_formats_become_json_lines(logs, adapt):
    """Compression, time zones and processes are what an image may lack although its program starts."""
    (logs / "access.log.1.zst").write_bytes(zstandard.compress(f"{LINE}\n".encode()))
    (logs / "access.log").write_text(f"{LINE}\n" * 2)
    (logs / "error.log").write_text(f"{ERROR}\n")
    paths = [f"/var/log/{name}" for name in ("access.log.1.zst", "access.log", "error.log")]
    container = adapt("--once", "--time-zone", "Europe/Berlin", "--workers", "2", *paths)
    assert container.wait() == 0, container.stderr()
    records = [json.loads(line) for line in container.stdout().splitlines()]
    requests = [record for record in records if "status" in record]
    assert len(requests) == 3
    assert {(record["path"], record["status"], record["bytes"]) for record in requests} == {("/cart", 200, 5120)}
    [error] = [record for record in records if "status" not in record]
    assert (error["time"], error["level"]) == ("2026-11-23T07:26:18+01:00", "error")
