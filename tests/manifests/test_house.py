"""Every manifest keeps the promises of the project: restricted, sized, ending in time, with arguments that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.manifests import documents, house
from tests.manifests.documents import ROOT, Document


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def faults(found: list[Document]) -> list[str]:
    return [text for pod in documents.pods(found) for text in house.complaints(pod, found)]


@pytest.mark.parametrize("path", documents.plain(), ids=named)
def test_a_manifest_keeps_the_house_rules(path: Path) -> None:
    assert faults(documents.documents(path)) == []


@pytest.mark.parametrize("path", documents.plain(), ids=named)
def test_the_program_accepts_its_arguments(path: Path, tmp_path: Path) -> None:
    found = documents.documents(path)
    for pod in documents.pods(found):
        for container in documents.containers(pod):
            if container.sidecar:
                accept(container.sidecar, *documents.placed(container, found, f"{tmp_path}/{container.name}"))


# git-sync's old names are taken; what they are called today is said of each.
OLD_NAME = re.compile(r"\$GITSYNC_\w+ is overridden by .*\n|\$GIT_SYNC_\w+ is deprecated: use .*\n")


def accept(name: str, arguments: list[str], variables: dict[str, str]) -> None:
    # A subcommand comes first, and what follows -- is not ours.
    first = name == documents.INIT
    questioned = [*arguments[:first], "--check-config", *arguments[first:]]
    said = subprocess.run(
        [sys.executable, "-m", house.SIDECARS[name].module, *questioned],
        env={"PATH": os.environ["PATH"], **dict(house.SIDECARS[name].image), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr
    assert not OLD_NAME.sub("", said.stderr), said.stderr


def test_an_argument_that_does_not_exist_is_not_accepted() -> None:
    with pytest.raises(AssertionError, match="--lable"):
        accept("log-tailer", ["/logs/*.log", "--lable=name"], {})


def test_a_variable_that_does_not_exist_is_not_accepted() -> None:
    with pytest.raises(AssertionError, match="TAILER_PATH"):
        accept("log-tailer", ["/logs/*.log"], {"TAILER_PATH": "/logs"})


def sidecar(pod: Document) -> Document:
    return next(container.spec for container in documents.containers(pod) if container.sidecar)


def app(pod: Document) -> Document:
    return next(container.spec for container in documents.containers(pod) if not container.sidecar)


# One way to break each rule, and a word of the complaint about it.
MISTAKES: dict[str, Callable[[Document], object]] = {
    "token": lambda pod: pod.pop("automountServiceAccountToken"),
    "hostNetwork": lambda pod: pod.update(hostNetwork=True),
    "restricted forbids": lambda pod: pod["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
    "sizeLimit": lambda pod: pod["volumes"].append({"name": "more", "emptyDir": {}}),
    "root file system": lambda pod: app(pod)["securityContext"].pop("readOnlyRootFilesystem"),
    "no version": lambda pod: app(pod).update(image="sidecars/demo"),
    "is of version 0.0.1": lambda pod: app(pod).update(image="sidecars/demo:0.0.1"),
    "resources.limits.memory": lambda pod: app(pod)["resources"].pop("limits"),
    "resources.requests.cpu": lambda pod: app(pod)["resources"]["requests"].pop("cpu"),
    "runAsNonRoot": lambda pod: pod["securityContext"].pop("runAsNonRoot"),
    "runAsUser is 0": lambda pod: pod["securityContext"].update(runAsUser=0),
    "allowPrivilegeEscalation": lambda pod: app(pod)["securityContext"].pop("allowPrivilegeEscalation"),
    "ALL capabilities": lambda pod: app(pod)["securityContext"].pop("capabilities"),
    "seccomp": lambda pod: pod["securityContext"].pop("seccompProfile"),
    "hostPort": lambda pod: app(pod).update(ports=[{"containerPort": 8080, "hostPort": 80}]),
    "readinessProbe": lambda pod: sidecar(pod).update(readinessProbe=sidecar(pod)["livenessProbe"]),
    "startupProbe": lambda pod: sidecar(pod).pop("startupProbe"),
    "livenessProbe": lambda pod: sidecar(pod)["livenessProbe"]["httpGet"].update(port=8080),
    "user 65532": lambda pod: sidecar(pod).update(securityContext={"runAsUser": 1000}),
    "memory request": lambda pod: sidecar(pod)["resources"]["requests"].update(memory="16Mi"),
    "memory limit": lambda pod: sidecar(pod)["resources"]["limits"].update(memory="40Mi"),
    "shares no volume": lambda pod: app(pod).pop("volumeMounts"),
    "only reads": lambda pod: sidecar(pod)["volumeMounts"][0].pop("readOnly"),
    "grace of 25 s": lambda pod: pod.update(terminationGracePeriodSeconds=20),
    "only delays": lambda pod: sidecar(pod)["args"].append("--quiet=10s"),
}


@pytest.mark.parametrize("word", MISTAKES)
def test_a_broken_rule_is_found(word: str) -> None:
    found = documents.documents(ROOT / "tailer" / "native-sidecar.yaml")
    (pod,) = documents.pods(found)
    MISTAKES[word](pod)
    assert any(word in text for text in house.complaints(pod, found))


def test_a_second_container_that_ends_too_early_is_found() -> None:
    found = documents.documents(ROOT / "tailer" / "pod.yaml")
    (pod,) = documents.pods(found)
    sidecar(pod)["args"].remove("--quiet=20s")
    assert any("quiet of 2 s" in text for text in house.complaints(pod, found))


# The same for rules that only a sidecar with a backlog has.
SHIPPER_MISTAKES: dict[str, Callable[[Document], object]] = {
    "admin port 9103": lambda pod: sidecar(pod)["livenessProbe"]["httpGet"].update(port=9101),
    "memory limit": lambda pod: sidecar(pod)["resources"]["limits"].update(memory="96Mi"),
    "no volume for its state": lambda pod: sidecar(pod)["volumeMounts"].pop(1),
    "only reads": lambda pod: sidecar(pod)["volumeMounts"][0].pop("readOnly"),
    "backlog of 80%": lambda pod: sidecar(pod)["args"].remove("--backlog-limit=768MiB"),
    "sizeLimit of 512Mi": lambda pod: pod["volumes"][1]["emptyDir"].update(sizeLimit="512Mi"),
}


@pytest.mark.parametrize("word", SHIPPER_MISTAKES)
def test_a_broken_rule_of_the_shipper_is_found(word: str) -> None:
    found = documents.documents(ROOT / "shipper" / "native-sidecar.yaml")
    (pod,) = documents.pods(found)
    SHIPPER_MISTAKES[word](pod)
    assert any(word in text for text in house.complaints(pod, found))


# And for one that writes what others read.
SYNCER_MISTAKES: dict[str, Callable[[Document], object]] = {
    "admin port 9104": lambda pod: sidecar(pod)["startupProbe"]["httpGet"].update(port=9101),
    "user 65533": lambda pod: pod["securityContext"].update(runAsUser=65532),
    "write to on /tmp": lambda pod: sidecar(pod)["volumeMounts"].pop(1),
    "write to on /git": lambda pod: sidecar(pod)["volumeMounts"][0].update(readOnly=True),
    "reads it": lambda pod: app(pod).pop("volumeMounts"),
    "subPath": lambda pod: app(pod)["volumeMounts"][0].update(subPath="shop"),
    "may write": lambda pod: app(pod)["volumeMounts"][0].pop("readOnly"),
}


@pytest.mark.parametrize("word", SYNCER_MISTAKES)
def test_a_broken_rule_of_the_syncer_is_found(word: str) -> None:
    found = documents.documents(ROOT / "syncer" / "native-sidecar.yaml")
    (pod,) = documents.pods(found)
    SYNCER_MISTAKES[word](pod)
    assert any(word in text for text in house.complaints(pod, found))


# And for what runs before the application.
INIT_MISTAKES: dict[str, Callable[[Document], object]] = {
    "how long": lambda pod: sidecar(pod)["args"].remove("--timeout=5m"),
    "native sidecar": lambda pod: sidecar(pod).update(restartPolicy="Always"),
    "user 65532": lambda pod: pod["securityContext"].update(runAsUser=1000),
    "memory request": lambda pod: sidecar(pod)["resources"]["requests"].update(memory="16Mi"),
    "memory limit": lambda pod: sidecar(pod)["resources"]["limits"].update(memory="40Mi"),
    "write to on /config/shop.json": lambda pod: pod["initContainers"][2]["volumeMounts"].pop(),
}


@pytest.mark.parametrize("word", INIT_MISTAKES)
def test_a_broken_rule_of_pod_init_is_found(word: str) -> None:
    found = documents.documents(ROOT / "init" / "wait-and-migrate.yaml")
    (pod,) = documents.pods(found)
    assert house.complaints(pod, found) == []
    INIT_MISTAKES[word](pod)
    assert any(word in text for text in house.complaints(pod, found))
