"""Every manifest is what the API servers of each supported Kubernetes take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.manifests import documents
from tests.manifests.documents import ROOT, Document

# 1.29 is the first to have native sidecars by default; up to the newest whose schema is here.
FIRST = (1, 29)
VERSIONS = sorted(
    {
        version
        for version in map(kubernetes_validate.utils.major_minor, kubernetes_validate.utils.all_versions())
        if tuple(map(int, version.split("."))) >= FIRST
    }
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_versions_are_those_with_native_sidecars_without_a_gap() -> None:
    minors = [int(version.removeprefix("1.")) for version in VERSIONS]
    assert minors == list(range(FIRST[1], minors[-1] + 1))
    assert minors[-1] >= 35


@pytest.mark.parametrize("path", documents.plain(), ids=named)
def test_a_manifest_is_valid(path: Path) -> None:
    for document in documents.documents(path):
        for version in VERSIONS:
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
