"""The manifests of this repository, found by walking the folder, so that none is forgotten."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

ROOT = Path(__file__).parents[2] / "manifests"
KUSTOMIZE = ("Kustomization", "Component")


@dataclass(frozen=True)
class Container:
    """A container with the pod it is in."""

    spec: Document
    pod: Document
    native: bool

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def tails(self) -> bool:
        """It is one of our log sidecars."""
        return "/log-tailer:" in str(self.spec["image"])

    def effective(self, key: str) -> Any:
        """A setting of its security context, which the pod's stands in for."""
        own, pod = self.spec.get("securityContext", {}), self.pod.get("securityContext", {})
        return own.get(key, pod.get(key))


def files() -> list[Path]:
    """Every file below manifests/, texts for people excepted."""
    return sorted(path for path in ROOT.rglob("*") if path.is_file() and path.suffix != ".md")


def documents(path: Path) -> list[Document]:
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kustomizations() -> list[Path]:
    """The files that only kustomize reads."""
    return [path for path in files() if path.name == "kustomization.yaml"]


def patches() -> set[Path]:
    """The files that kustomizations name as patches: parts of resources, which are valid only once they are applied."""
    return {
        (path.parent / patch["path"]).resolve()
        for path in kustomizations()
        for document in documents(path)
        for patch in document.get("patches", [])
        if "path" in patch
    }


def plain() -> list[Path]:
    """Every other file: whole resources."""
    return sorted(set(files()) - set(kustomizations()) - patches())


def pod_spec(document: Document) -> Document | None:
    """The pod that a resource describes."""
    if document["kind"] == "Pod":
        return dict(document["spec"])
    template = document.get("spec", {}).get("template")
    return dict(template["spec"]) if template else None


def pods(found: list[Document]) -> Iterator[Document]:
    """The pods that resources describe; copies, for a test to break."""
    for document in found:
        if spec := pod_spec(document):
            yield copy.deepcopy(spec)


def containers(pod: Document) -> list[Container]:
    """All containers of a pod."""
    init = [
        Container(spec, pod, native=spec.get("restartPolicy") == "Always") for spec in pod.get("initContainers", [])
    ]
    return init + [Container(spec, pod, native=False) for spec in pod["containers"]]


def environment(container: Container, resources: list[Document]) -> dict[str, str]:
    """The variables that a container gets, with a word in the place of what only a cluster knows."""
    maps = {found["metadata"]["name"]: found["data"] for found in resources if found["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container.spec.get("envFrom", []):
        reference = source["configMapRef"]
        if reference["name"] in maps or not reference.get("optional"):
            variables |= maps[reference["name"]]
    for variable in container.spec.get("env", []):
        variables[variable["name"]] = variable.get("value", "known-in-the-cluster")
    return variables
