"""Every manifest is what the API servers of the oldest and the newest supported Kubernetes take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.manifests import documents
from tests.manifests.documents import ROOT, Document

# 1.29 is the first to have native sidecars by default.
VERSIONS = ("1.29", "1.31", kubernetes_validate.latest_version())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", documents.plain(), ids=named)
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    for document in documents.documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_every_file_is_known_for_what_it_is() -> None:
    assert all(path.suffix == ".yaml" for path in documents.files())
    assert documents.patches() <= set(documents.files())
    for path in documents.plain():
        kinds = {document["kind"] for document in documents.documents(path)}
        assert kinds and not kinds & set(documents.KUSTOMIZE), path


def misspell_a_native_sidecar(pod: Document) -> None:
    pod["initContainers"][0]["restartPolcy"] = pod["initContainers"][0].pop("restartPolicy")


def misplace_the_volumes(pod: Document) -> None:
    pod["containers"][0]["volumes"] = pod.pop("volumes")


def give_a_number_as_text(pod: Document) -> None:
    pod["terminationGracePeriodSeconds"] = "30"


@pytest.mark.parametrize("mistake", [misspell_a_native_sidecar, misplace_the_volumes, give_a_number_as_text])
def test_a_mistake_is_found(mistake: Callable[[Document], None]) -> None:
    (document,) = documents.documents(ROOT / "tailer" / "native-sidecar.yaml")
    mistake(document["spec"]["template"]["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
