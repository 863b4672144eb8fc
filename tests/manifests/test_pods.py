"""Every manifest runs as a real pod, and the tailer in it shows the application's lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manifests import documents, kustomize
from tests.manifests.documents import ROOT, Document
from tests.manifests.podman import Podman, podman_form
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

Found = list[Document]


def manifests() -> dict[str, Path]:
    """Every manifest that describes a pod; each needs its line in LINES."""
    overlays = [path.parent for path in documents.kustomizations() if "resources" in documents.documents(path)[0]]
    inputs = {
        folder / name
        for folder in overlays
        for name in documents.documents(folder / "kustomization.yaml")[0]["resources"]
    }
    paths = [
        path for path in documents.plain() if path not in inputs and list(documents.pods(documents.documents(path)))
    ]
    return {str(path.relative_to(ROOT)): path for path in [*paths, *overlays]}


def resources(name: str) -> Found:
    path = manifests()[name]
    return kustomize.build_here(path) if path.is_dir() else documents.documents(path)


def played(name: str, lost: dict[str, list[str]]) -> Found:
    """The podman form of a manifest."""
    forms = [podman_form(document) for document in resources(name)]
    lost[name] = [text for _, texts in forms for text in texts]
    return [form for form, _ in forms]


def tailer(running: dict[str, str], name: str) -> str:
    """The id of the container that tails."""
    (tailing,) = {one.name for pod in documents.pods(resources(name)) for one in documents.containers(pod) if one.tails}
    (container,) = [key for full, key in running.items() if full.endswith(f"-{tailing}")]
    return container


def test_every_manifest_says_what_its_tailer_prints() -> None:
    assert set(manifests()) == set(LINES)


@pytest.mark.parametrize("name", LINES)
def test_its_tailer_shows_the_lines_of_the_application(name: str, podman: Podman, lost: dict[str, list[str]]) -> None:
    with podman.playing(played(name, lost)) as running, follow(podman, tailer(running, name)) as log:
        log.wait_for(LINES[name])


@pytest.mark.parametrize("name", [name for name in LINES if name.startswith("tailer/")])
def test_it_ends_well_within_the_grace_and_loses_no_line(name: str, podman: Podman, lost: dict[str, list[str]]) -> None:
    with podman.playing(played(name, lost)) as running:
        mine = tailer(running, name)
        with follow(podman, mine) as log:
            log.wait_for(LINES[name])
        for together in order_of_the_end(name, running):
            # Not `podman stop`: it sends the tailer a second SIGTERM once the application is gone; Kubernetes does not.
            podman("kill", "--signal", "TERM", *together)
            podman("wait", *together)
        assert dict(exit_codes(podman, running)) == dict.fromkeys(running, 0)
        with follow(podman, mine) as log:
            log.wait_for('"event": "done"', "stderr")
            assert log.end() == 0
        assert '"event": "stopping"' not in log.said["stderr"]
        (application,) = set(running.values()) - {mine}
        lines = log.said["stdout"].splitlines()
        assert sorted(original(line) for line in lines) == written(
            podman, application, wrapped=lines[0].startswith("{")
        )


def order_of_the_end(name: str, running: dict[str, str]) -> list[list[str]]:
    """Which containers get SIGTERM at the same time: a native sidecar only after the application has ended."""
    mine = tailer(running, name)
    (native,) = {
        one.native for pod in documents.pods(resources(name)) for one in documents.containers(pod) if one.tails
    }
    return [[one for one in running.values() if one != mine], [mine]] if native else [[*running.values()]]


def original(line: str) -> str:
    """A line as it was before the tailer marked it with its file or wrapped it; of an object, what was not its own."""
    return str(json.loads(line).get("log", "an object")) if line.startswith("{") else line.split(": ", 1)[1]


def written(podman: Podman, container: str, *, wrapped: bool) -> list[str]:
    """Every line in the application's files, rotated ones too; of what a wrapper extends, only that it is there."""
    mounts = json.loads(podman("inspect", "--format", "{{json .Mounts}}", container))
    (folder,) = [mount["Source"] for mount in mounts if mount["Destination"] == "/logs"]
    lines = [line for path in Path(folder).iterdir() for line in path.read_text().splitlines()]
    return sorted("an object" if wrapped and line.startswith("{") else line for line in lines)


def follow(podman: Podman, container: str) -> Process:
    return Process(*podman.command, "logs", "--follow", container)


def exit_codes(podman: Podman, running: dict[str, str]) -> Iterator[tuple[str, int]]:
    for name, container in running.items():
        (state,) = json.loads(podman("inspect", "--format", "[{{.State.ExitCode}}]", container))
        yield name, state
