"""The kustomize components add a sidecar to a Deployment, and what comes out is as good as what is written by hand."""

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
from tests.manifests.test_schema import VERSIONS

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
def test_what_comes_out_is_valid_and_keeps_the_house_rules(folder: Path, tmp_path: Path) -> None:
    found = built(folder)
    for version in VERSIONS:
        for document in found:
            kubernetes_validate.validate(document, version, strict=True)
    for pod in documents.pods(found):
        assert house.complaints(pod, found) == []
    added = documents.sidecars(found)
    assert added
    for container in added:
        assert container.native == (container.sidecar != documents.INIT)
        accept(str(container.sidecar), *documents.placed(container, found, str(tmp_path)))


def test_the_overlay_has_the_last_word_on_settings() -> None:
    found = built(ROOT / "components" / "example")
    (tailer,) = documents.sidecars(found, "log-tailer")
    variables = documents.environment(tailer, found)
    assert variables["TAILER_PATHS"] == "/logs/*.log"
    assert variables["TAILER_FORMAT"] == "json"
    assert variables["TAILER_LABEL"] == "none"
    (adapter,) = documents.sidecars(found, "log-adapter")
    variables = documents.environment(adapter, found)
    assert variables["ADAPTER_PATHS"] == "/logs/*.log"
    assert variables["ADAPTER_OUTPUT"] == "off"
    (shipper,) = documents.sidecars(found, "s3-shipper")
    variables = documents.environment(shipper, found)
    assert variables["SHIPPER_PATHS"] == "/logs/*.log"
    assert variables["SHIPPER_BUCKET"] == "logs"
    (syncer,) = documents.sidecars(found, "git-syncer")
    variables = documents.environment(syncer, found)
    assert (variables["GITSYNC_LINK"], variables["GITSYNC_REF"]) == ("current", "main")


def test_without_the_configmap_that_names_the_bucket_no_pod_starts() -> None:
    """A shipper that ends at once, again and again, would be found later than a container that is not made."""
    found = built(ROOT / "components" / "example")
    (shipper,) = documents.sidecars(found, "s3-shipper")
    without = [one for one in found if "SHIPPER_BUCKET" not in one.get("data", {})]
    with pytest.raises(AssertionError, match="there is no ConfigMap"):
        documents.environment(shipper, without)


def test_every_deployment_of_the_overlay_gets_them(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "components", tmp_path / "components")
    example = tmp_path / "components" / "example"
    second = (example / "deployment.yaml").read_text().replace("name: shop", "name: till")
    (example / "till.yaml").write_text(second)
    kustomization = (example / "kustomization.yaml").read_text()
    (example / "kustomization.yaml").write_text(kustomization.replace("resources:", "resources:\n  - till.yaml"))
    got = [{one.sidecar for one in documents.containers(pod)} for pod in documents.pods(built(example))]
    assert got == [{*documents.SIDECARS, documents.INIT, None}] * 2


def test_what_waits_comes_last_and_so_may_wait_through_the_sidecars() -> None:
    (pod,) = documents.pods(built(ROOT / "components" / "example"))
    assert [one.sidecar for one in documents.containers(pod)][-2:] == [documents.INIT, None]


@pytest.mark.parametrize("folder", OVERLAYS, ids=named)
def test_kubectl_and_the_stand_in_agree(folder: Path) -> None:
    program = kustomize.kubectl()
    if program is None:
        pytest.skip(WITHOUT_KUBECTL.format(named(folder)))
    assert normal(kustomize.build(program, folder)) == normal(kustomize.build_here(folder))


def normal(found: list[Document]) -> list[str]:
    """Resources without the hashes in generated names, and in one order."""
    names = "|".join((*documents.SIDECARS, documents.INIT))
    generated = re.compile(rf"(({names})(-defaults)?)-[0-9a-z]{{10}}\b")
    return sorted(generated.sub(r"\1", json.dumps(one, sort_keys=True)) for one in found)


def test_every_component_is_used_by_an_overlay() -> None:
    components = {path.parent for path in documents.kustomizations()} - set(OVERLAYS)
    used = {
        (folder / name).resolve()
        for folder in OVERLAYS
        for name in documents.documents(folder / "kustomization.yaml")[0].get("components", [])
    }
    assert components <= used
