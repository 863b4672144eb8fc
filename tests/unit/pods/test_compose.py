"""Compose files, converted: services as containers, and what compose puts in as what nobody knows."""

from __future__ import annotations

import pytest
import yaml

from sidecars.pods import reporting
from sidecars.pods.converting import convert
from sidecars.pods.drafting import Conversion
from sidecars.pods.planning import Options

OPTIONS = Options(target=(1, 37), registry="sidecars", tag="1.2.3")

SHOP = """\
# The shop on one machine.
services:
  wait:
    image: busybox
    command: sh -c "until nc -z db 5432; do sleep 1; done"   # for the database
  shop:
    build: .
    depends_on:
      wait: {condition: service_completed_successfully}
    volumes: [logs:/logs]
  access-log:
    # Shows it.
    image: alpine:3.19
    entrypoint: ["tail", "-F"]
    command:
    - /logs/access.log
    volumes:
    - logs:/logs
    healthcheck: {test: [CMD-SHELL, "pgrep tail"]}
  tunnel: {image: alpine/socat, command: "TCP-LISTEN:6379,fork TCP:redis:6379"}
  db:
    image: postgres:16
volumes: {logs: {}}
"""


def converted(text: str) -> Conversion:
    return convert(text, "compose.yaml", OPTIONS)


def found(conversion: Conversion) -> list[tuple[str, str, str]]:
    return [(each.container, each.kind, reporting.row(each)) for each in conversion.findings]


def test_services_are_converted_where_they_stand() -> None:
    done = converted(SHOP)
    assert found(done)[:3] == [("wait", "exact", "#2"), ("access-log", "exact", "#13"), ("tunnel", "exact", "#30")]
    services = yaml.safe_load(done.after)["services"]
    assert services["wait"]["image"] == "sidecars/pod-init:1.2.3"
    assert services["wait"]["command"] == ["wait", "tcp://db:5432", "--timeout=5m"]
    assert services["wait"]["cap_drop"] == ["ALL"]
    assert services["access-log"] == {
        "image": "sidecars/log-tailer:1.2.3",
        "command": ["/logs/access.log"],
        "volumes": ["logs:/logs:ro"],
        "user": "0:0",
        "read_only": True,
    }
    before = yaml.safe_load(SHOP)["services"]
    assert (services["shop"], services["db"]) == (before["shop"], before["db"])
    for comment in ("# The shop on one machine.", "# for the database", "# Shows it."):
        assert done.after.count(comment) == 1
    assert converted(done.after).after == done.after


def service(image: str, **keys: object) -> str:
    return yaml.safe_dump({"services": {"it": {"image": image, **keys}, "app": {"image": "app"}}}, sort_keys=False)


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"command": "sh -c 'until nc -z ${DB:-db} 5432; do sleep 1; done'"}, "partial"),
        ({"command": ["sh", "-c", "until nc -z $DB 5432; do sleep 1; done"]}, "partial"),
        ({"entrypoint": "tail -f /logs/app.log", "volumes": ["logs:/logs"]}, "exact"),
        ({"command": "tail -f '/logs/app.log"}, None),
        ({"command": "serve"}, None),
        ({}, None),
    ],
)
def test_what_compose_puts_in_is_not_known(keys: dict[str, object], kind: str | None) -> None:
    findings = converted(service("busybox", **keys)).findings
    assert [each.kind for each in findings] == ([kind] if kind else [])
    assert not any("{{" in each.verdict.instead for each in findings)


@pytest.mark.parametrize("as_list", [False, True])
def test_variables_of_both_spellings_are_kept(as_list: bool) -> None:
    given = {"GIT_SYNC_REPO": "https://git.example/x", "GIT_SYNC_ROOT": "/git"}
    environment = [f"{name}={value}" for name, value in given.items()] if as_list else given
    text = service("registry.k8s.io/git-sync/git-sync:v4.4.0", environment=environment, volumes=["site:/git"])
    done = yaml.safe_load(converted(text).after)["services"]["it"]
    told = dict(each.split("=", 1) for each in done["environment"]) if as_list else done["environment"]
    assert told == {**given, "GITSYNC_MAX_FAILURES": "-1"}
    assert done["tmpfs"] == ["/tmp"]


def test_who_waits_for_its_health_is_left_waiting() -> None:
    text = (
        "services:\n"
        "  keep: {image: busybox, command: sleep infinity, healthcheck: {test: [CMD, test, -f, /x]}}\n"
        "  app: {image: app, depends_on: {keep: {condition: service_healthy}}}\n"
    )
    done = converted(text)
    assert found(done) == [("keep", "partial", "#36")]
    assert "left alone, for others wait until it is healthy" in reporting.instead(done.findings[0])
    assert done.after == text


def test_what_extends_others_is_left_alone_and_said() -> None:
    text = "x-base: &base {restart: always}\nservices:\n  a: {<<: *base, image: busybox, command: tail -f /l/x}\n"
    done = converted(text + "  b: {image: b}\n")
    assert found(done) == [("a", "partial", "#12")]
    assert done.after == done.before


ODD = "services: {a: 3, b: {image: 4}, c: {image: x, volumes: 7, environment: 8, depends_on: 9}}\n"


@pytest.mark.parametrize("text", ["services: 3\n", ODD, "a: b\n", ""])
def test_what_is_no_compose_file_is_left_alone(text: str) -> None:
    assert converted(text).after == text
