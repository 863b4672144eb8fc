"""The kustomize component adds the tailer to a Deployment, and what comes out is as good as what is written by hand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.manifests import documents, house, kustomize
from tests.manifests.documents import ROOT, Document
from tests.manifests.test_house import accept

OVERLAYS = [
    path.parent for path in documents.kustomizations() if documents.documents(path)[0]["kind"] == "Kustomization"
]
WITHOUT_KUBECTL = (
    "no kubectl with kustomize 5 or later on this machine: {} was built without it, by tests/manifests/kustomize.py"
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def built(folder: Path) -> list[Document]:
    program = kustomize.kubectl()
    return kustomize.build(program, folder) if program else kustomize.build_here(folder)


@pytest.mark.parametrize("folder", OVERLAYS, ids=named)
def test_what_comes_out_is_valid_and_keeps_the_house_rules(folder: Path) -> None:
    found = built(folder)
    for document in found:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    tailers = 0
    for pod in documents.pods(found):
        assert house.complaints(pod, found) == []
        for container in filter(lambda one: one.tails, documents.containers(pod)):
            tailers += 1
            assert container.native
            accept(container.spec.get("args", []), documents.environment(container, found))
    assert tailers


def test_the_overlay_has_the_last_word_on_settings() -> None:
    found = built(ROOT / "components" / "example")
    (pod,) = documents.pods(found)
    (tailer,) = [container for container in documents.containers(pod) if container.tails]
    variables = documents.environment(tailer, found)
    assert variables["TAILER_PATHS"] == "/logs/*.log"
    assert variables["TAILER_FORMAT"] == "json"
    assert variables["TAILER_LABEL"] == "none"


def test_every_deployment_of_the_overlay_gets_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "components", tmp_path / "components")
    example = tmp_path / "components" / "example"
    second = (example / "deployment.yaml").read_text().replace("name: shop", "name: till")
    (example / "till.yaml").write_text(second)
    kustomization = (example / "kustomization.yaml").read_text()
    (example / "kustomization.yaml").write_text(kustomization.replace("resources:", "resources:\n  - till.yaml"))
    tailed = [any(one.tails for one in documents.containers(pod)) for pod in documents.pods(built(example))]
    assert tailed == [True, True]


@pytest.mark.parametrize("folder", OVERLAYS, ids=named)
def test_kubectl_and_the_stand_in_agree(folder: Path) -> None:
    program = kustomize.kubectl()
    if program is None:
        pytest.skip(WITHOUT_KUBECTL.format(named(folder)))
    assert normal(kustomize.build(program, folder)) == normal(kustomize.build_here(folder))


def normal(found: list[Document]) -> list[str]:
    """Resources without the hashes in generated names, and in one order."""
    return sorted(
        re.sub(r"(log-tailer(-defaults)?)-[0-9a-z]{10}\b", r"\1", json.dumps(one, sort_keys=True)) for one in found
    )


def test_every_component_is_used_by_an_overlay() -> None:
    components = {path.parent for path in documents.kustomizations()} - set(OVERLAYS)
    used = {
        (folder / name).resolve()
        for folder in OVERLAYS
        for name in documents.documents(folder / "kustomization.yaml")[0].get("components", [])
    }
    assert components <= used
