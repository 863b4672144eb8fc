"""Kustomizations built by kubectl, or, on machines without a recent one, by the little of kustomize that ours use."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.manifests.documents import Document, documents


def kubectl() -> str | None:
    """The kubectl of this machine, if it has a kustomize that knows components well (5.0, kubectl 1.27)."""
    program = shutil.which("kubectl")
    if program is None:
        return None
    said = subprocess.run([program, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=60)
    version = json.loads(said.stdout or "{}").get("kustomizeVersion", "v0")
    return program if int(version.lstrip("v").split(".")[0]) >= 5 else None


def build(program: str, folder: Path) -> list[Document]:
    """What `kubectl kustomize` makes of a folder."""
    said = subprocess.run([program, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    return list(yaml.safe_load_all(said.stdout))


def build_here(folder: Path) -> list[Document]:
    """The same without kubectl: resources, then ConfigMaps, components and patches; generated names have no hash."""
    (top,) = documents(folder / "kustomization.yaml")
    return _apply(top, folder, [])


def _apply(kustomization: Document, folder: Path, found: list[Document]) -> list[Document]:
    for name in kustomization.get("resources", []):
        found = found + documents(folder / name)
    for generator in kustomization.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in generator["literals"])
        found = [
            *found,
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data},
        ]
    for name in kustomization.get("components", []):
        (component,) = documents(folder / name / "kustomization.yaml")
        found = _apply(component, folder / name, found)
    for entry in kustomization.get("patches", []):
        patch = yaml.safe_load(entry["patch"] if "patch" in entry else (folder / entry["path"]).read_text())
        found = [_patched(document, patch, entry.get("target")) for document in found]
    return found


def _patched(document: Document, patch: Document, target: Document | None) -> Document:
    same_kind = document["kind"] == (target or patch)["kind"]
    same_name = target is not None or document["metadata"]["name"] == patch["metadata"]["name"]
    if not (same_kind and same_name):
        return document
    name = document["metadata"]["name"]
    merged: Document = merge(document, patch)
    merged["metadata"]["name"] = name
    return merged


def merge(base: Any, patch: Any) -> Any:
    """Kubernetes' strategic merge, of mappings by key and of lists of named things by name, the patch's first."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merge(base.get(key), value) for key, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list) and all("name" in item for item in base + patch):
        by_name = {item["name"]: item for item in base}
        patched = {item["name"]: merge(by_name.get(item["name"]), item) for item in patch}
        return list((patched | {name: item for name, item in by_name.items() if name not in patched}).values())
    return copy.deepcopy(patch)
