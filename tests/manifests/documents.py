"""The manifests of this repository, found by walking the folder, so that none is forgotten."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import yaml

Document = dict[str, Any]

ROOT = Path(__file__).parents[2] / "manifests"
KUSTOMIZE = ("Kustomization", "Component")
SIDECARS = ("log-tailer", "s3-shipper", "log-adapter", "git-syncer", "ambassador")
# Before the application, and gone when it starts.
INIT = "pod-init"
# Images that a manifest tells its reader to build FROM pod-init, with a /payload: what they do by themselves.
BUILT_FROM_INIT = {"registry.example.com/doc2vec-model-it:1.0": ["copy", "/payload", "/models"]}
# What the manifests with s3-shipper are applied together with: a server, and the Secret with its keys.
S3_SERVER = ROOT / "shipper" / "s3-server.yaml"
# And those with git-syncer: a git host.
GIT_SERVER = ROOT / "syncer" / "git-server.yaml"
# And those with the ambassador: two redis servers.
REDIS = ROOT / "ambassador" / "redis.yaml"
# And the one with all of them: an API, too.
PRICES = ROOT / "all-in-one" / "api.yaml"


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
    def sidecar(self) -> str | None:
        """Which of our programs it is."""
        if self.spec["image"] in BUILT_FROM_INIT:
            return INIT
        name = str(self.spec["image"]).rpartition("/")[2].partition(":")[0].removesuffix("-full")
        return name if name in (*SIDECARS, INIT) else None

    @property
    def arguments(self) -> list[str]:
        """What its program is called with."""
        return self.spec.get("args") or BUILT_FROM_INIT.get(self.spec["image"], [])

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


def sidecars(found: list[Document], name: str | None = None) -> list[Container]:
    """Our sidecars in the pods of resources, or those of one name."""
    everything = [container for pod in pods(found) for container in containers(pod)]
    return [one for one in everything if one.sidecar and name in (None, one.sidecar)]


def environment(container: Container, resources: list[Document]) -> dict[str, str]:
    """The variables that a container gets, with a word in the place of what only a cluster knows."""
    variables: dict[str, str] = {}
    for source in container.spec.get("envFrom", []):
        reference = source["configMapRef"]
        variables |= _contents("ConfigMap", reference, resources)
    for variable in container.spec.get("env", []):
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        known = _contents("Secret", reference, resources)[reference["key"]] if reference else "known-in-the-cluster"
        variables[variable["name"]] = variable.get("value", known)
    return variables


def _contents(kind: str, reference: Document, resources: list[Document]) -> dict[str, str]:
    """What is in a ConfigMap or Secret of the manifest, or of those it is applied with."""
    for found in [*resources, *documents(S3_SERVER)]:
        if (found["kind"], found["metadata"]["name"]) == (kind, reference.get("name", reference.get("secretName"))):
            return dict(found.get("data", {}) | found.get("stringData", {}))
    if make := MADE_BY_HAND.get(reference.get("secretName", "")):
        return make()
    assert reference.get("optional"), f"there is no {kind} {reference}"
    return {}


@functools.cache
def certificates() -> dict[str, str]:
    """What such a Secret holds."""
    authority = trustme.CA()
    client = authority.issue_cert("orders")
    pems = {"ca.crt": authority.cert_pem, "tls.crt": client.cert_chain_pems[0], "tls.key": client.private_key_pem}
    return {name: pem.bytes().decode() for name, pem in pems.items()}


# Secrets that a manifest tells its reader to make.
MADE_BY_HAND = {
    "orders-db-tls": certificates,
    "shop-db": lambda: {"password": 'correct "horse" $battery'},
    "prices-api": lambda: {"key": "k-123"},
}


def secrets_made_by_hand(found: list[Document]) -> list[Document]:
    """Those of them that pods mount, as resources."""
    volumes = [volume for pod in pods(found) for volume in pod.get("volumes", [])]
    names = {volume.get("secret", {}).get("secretName") for volume in volumes} & set(MADE_BY_HAND)
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": MADE_BY_HAND[name]()}
        for name in sorted(names)
    ]


def placed(container: Container, resources: list[Document], folder: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and variables of a container, with the files that ConfigMaps and Secrets give it below a folder."""
    volumes = {volume["name"]: volume for volume in container.pod.get("volumes", [])}
    here: list[tuple[str, str]] = []
    files: dict[str, str] = {}
    for mount in container.spec.get("volumeMounts", []):
        for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
            if reference := volumes.get(mount["name"], {}).get(field):
                place = f"{folder}{mount['mountPath']}"
                os.makedirs(place)
                contents = _contents(kind, reference, resources)
                files |= {os.path.join(place, name): text for name, text in contents.items()}
                here.append((mount["mountPath"] + "/", place + "/"))

    def moved(text: str) -> str:
        for there, now in here:
            text = text.replace(there, now)
        return text

    # A file may name others that are mounted.
    for path, text in files.items():
        Path(path).write_text(moved(text))
    variables = environment(container, resources)
    return [*map(moved, container.arguments)], {name: moved(text) for name, text in variables.items()}
