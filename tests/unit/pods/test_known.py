"""Images that are known by name, and what takes their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from sidecars.adapter import settings as adapter
from sidecars.ambassador import settings as ambassador
from sidecars.core.settings import load
from sidecars.pods.known import known
from sidecars.pods.verdict import Container, Replacement
from sidecars.syncer import words
from tests.manifests import house


class Known(NamedTuple):
    """A container, and what is put in its place; nothing where a person has to finish it."""

    container: Container
    image: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}


def one(image: str, *args: str, command: tuple[str, ...] = (), **env: str | None) -> Container:
    return Container(image=image, args=args, command=command, env=env, mounts=(("logs", "/var/log", False),))


ROOT, ON = {"GITSYNC_ROOT": "/tmp/git"}, {"GITSYNC_MAX_FAILURES": "-1"}
REPO = "--repo=https://git.example/site.git"
KNOWN = [
    Known(one("bbachin1/adapter-node-server"), "log-adapter"),
    Known(one("registry.example:5000/mirror/bbachin1/adapter-node-server:1@sha256:ab"), "log-adapter"),
    Known(one("bbachin1/adapter-node-server", command=("node", "x.js"))),
    Known(one("lrakai/fluentd-s3", FLUENTD_ARGS="-c /etc/f.conf"), "s3-shipper"),
    Known(one("lrakai/fluentd-s3"), "s3-shipper", ("-c", "/fluentd/etc/fluent.conf")),
    Known(one("lrakai/fluentd-s3", "-c", "/f.conf", command=("fluentd",)), "s3-shipper", ("-c", "/f.conf")),
    Known(one("lrakai/fluentd-s3", command=("sh", "-c", "x"))),
    Known(one("k8s.gcr.io/git-sync:v3.1.6", GIT_SYNC_REPO="https://g.example/x"), "git-syncer", env=ROOT | ON),
    Known(
        one("registry.k8s.io/git-sync/git-sync:v4.4.0", REPO, "--root=/git"), "git-syncer", (REPO, "--root=/git"), ON
    ),
    Known(one("git-sync", REPO, "--root=/git", "--one-time"), "git-syncer", (REPO, "--root=/git", "--one-time")),
    Known(one("git-sync", REPO, "--max-failures=3", GITSYNC_ROOT="/g"), "git-syncer", (REPO, "--max-failures=3")),
    Known(one("git-sync", f"-{REPO[2:]}", "-wait=30"), "git-syncer", (REPO, "--wait=30"), ROOT | ON),
    Known(one("git-sync", REPO, command=("/git-sync",)), "git-syncer", (REPO,), ROOT | ON),
    Known(one("git-sync", REPO, "--teleport")),
    Known(one("git-sync", REPO, command=("sh", "-c", "git-sync"))),
    Known(one("git-sync", "--repo=$(REPO)", REPO=None), "git-syncer", ("--repo=$(REPO)",), ROOT | ON),
    Known(one("malexer/twemproxy", REDIS_SERVERS="a:6379:1,b:6379:1"), "ambassador"),
    Known(one("malexer/twemproxy", "-v", REDIS_SERVERS="a:6379:1")),
    Known(one("jwilder/dockerize", "-wait", "tcp://db:5432"), "pod-init", ("wait", "tcp://db:5432", "--timeout=10s")),
    Known(
        one("jwilder/dockerize", "-wait=http://web/?a=1", "-timeout=1m30s", "-wait-retry-interval", "2s"),
        "pod-init",
        ("wait", "http://web/?a=1#follow", "--timeout=1m30s", "--interval=2s"),
    ),
    Known(one("jwilder/dockerize", "-wait", "tcp://db:5432", "./serve")),
    Known(one("jwilder/dockerize", "-wait", "kafka://db:5432")),
    Known(one("jwilder/dockerize", "-timeout", "3s")),
    Known(one("groundnuty/k8s-wait-for", "job", "db"), "pod-init-full", ("wait", "k8s:job/db", "--timeout=1h")),
    Known(
        one("ghcr.io/groundnuty/k8s-wait-for:v2", "pod", "-lapp=db", WAIT_TIME="3"),
        "pod-init-full",
        ("wait", "k8s:pod?selector=app=db", "--timeout=1h"),
    ),
    Known(one("groundnuty/k8s-wait-for", "pod-wr", "x")),
    Known(one("groundnuty/k8s-wait-for", "job", "x", "-n", "other")),
]


def replacement(case: Known) -> Replacement | None:
    verdict = known(case.container)
    assert verdict is not None
    assert (verdict.kind == "exact") == bool(case.image)
    return verdict.replacements[0] if verdict.replacements else None


@pytest.mark.parametrize("case", KNOWN, ids=lambda case: " ".join([case.container.image, *case.container.args]))
def test_an_image_is_known_by_its_name(case: Known) -> None:
    found = replacement(case)
    if found is not None:
        assert (found.image, found.args, dict(found.env)) == (case.image, case.args, dict(case.env))


@pytest.mark.parametrize("case", [case for case in KNOWN if case.image and case.image != "s3-shipper"])
def test_the_program_takes_what_is_written(case: Known) -> None:
    found = replacement(case)
    assert found is not None
    kept = {name: value or "x" for name, value in case.container.env.items() if name not in found.drop_env}
    variables = {**kept, **found.env}
    match found.image:
        case "git-syncer":
            words.load(found.args, {"GITSYNC_ROOT": "/git", **variables})
        case "log-adapter":
            load(adapter.Settings, prog="log-adapter", prefix=adapter.PREFIX, argv=found.args, environ=variables)
        case "ambassador":
            load(ambassador.Settings, prog="ambassador", prefix=ambassador.PREFIX, argv=found.args, environ=variables)
        case _:
            house.init_settings(list(found.args), variables)


@pytest.mark.parametrize(
    ("image", "args", "row"),
    [
        ("alpine/socat:1.8", ("TCP-LISTEN:5432,fork", "TCP:db:5432"), 30),
        ("bitnami/kubectl", ("wait", "--for=condition=complete", "job/x"), 8),
        ("registry.k8s.io/kubectl:v1.31.0", ("wait", "--for=condition=complete", "job/x"), 8),
    ],
)
def test_an_image_with_a_program_as_entry_point_is_judged_by_its_arguments(
    image: str, args: tuple[str, ...], row: int
) -> None:
    verdict = known(Container(image=image, args=args, init=row == 8))
    assert verdict is not None
    assert (verdict.pattern, verdict.kind) == (row, "exact")


@pytest.mark.parametrize("image", ["sidecars/git-syncer:0.1.0", "example/git-sync-hooks", "ganomede/twemproxy", ""])
def test_other_images_are_not_known(image: str) -> None:
    assert known(Container(image=image)) is None


def test_servers_between_spaces_are_noted() -> None:
    verdict = known(one("malexer/twemproxy", REDIS_SERVERS="a:6379:1 b:6379:1"))
    assert verdict is not None
    assert "kept every key on the first server" in verdict.replacements[0].notes[0]
