"""Manifests and the pods in them: what is written, where, and each container as the recognisers want it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from sidecars.pods.nodes import Node, WrongManifest, compose, walk
from sidecars.pods.verdict import Container

__all__ = ["Document", "Found", "Manifest", "PodSpec", "WrongManifest", "read"]

NEWEST = (1, 37)

Path = tuple[str | int, ...]

_TEMPLATED: dict[str, Path] = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"),
        ("spec", "template", "spec"),
    ),
}
"""Where a kind has its pod."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a pod, with its place in the text.

    container  as the recognisers take it
    raw        its plain value: dict of what is written
    place      the key of the pod spec that it stands under: initContainers, containers; of Argo's container, sidecars
    path       from the document's node to its own, as ("spec", "containers", 0)
    """

    container: Container
    name: str
    raw: dict[str, Any]
    node: Node
    path: Path
    place: str

    @property
    def init(self) -> bool:
        """Whether it stands among the init containers, native sidecars included."""
        return self.place == "initContainers"

    @property
    def sidecar(self) -> bool:
        """Whether it is a native sidecar: an init container with restartPolicy: Always."""
        return self.init and self.raw.get("restartPolicy") == "Always"

    @property
    def line(self) -> int:
        """The line of its first key, from 1."""
        return self.node.line

    @property
    def position(self) -> tuple[int, int]:
        """Offsets in the text: of its first character, and behind its last."""
        return self.node.start, self.node.end


class PodSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One pod, or the template of one.

    spec            its plain value
    kind            what owns it: Pod, Deployment, Job, ..., or another kind whose object holds containers
    path            from the document's node to its own
    restart_policy  as written, else what the kind has for it
    containers      init containers first
    """

    spec: dict[str, Any]
    node: Node
    path: Path
    kind: str
    restart_policy: str
    containers: tuple[Found, ...]

    @property
    def volumes(self) -> list[dict[str, Any]]:
        """The volumes as they are written."""
        return maps(self.spec.get("volumes"))


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One object: a document of the file, or an item of a List.

    path  from the document's root to this object: () unless it is an item
    root  the number of the YAML document in the file, from 0
    """

    kind: str
    name: str
    namespace: str | None
    node: Node
    path: Path
    root: int
    pods: tuple[PodSpec, ...]

    @property
    def data(self) -> Any:
        """Its plain value."""
        return self.node.data

    @property
    def line(self) -> int:
        """The line of its first key, from 1."""
        return self.node.line


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read.

    roots      the nodes of its YAML documents, empty ones left out
    documents  the objects in them; of a compose file none
    """

    name: str
    text: str
    roots: tuple[Node, ...]
    documents: tuple[Document, ...]


def read(text: str, name: str, target: tuple[int, int] = NEWEST) -> Manifest:
    """Read the manifests of one file; the name is the file's, for messages.

    target is the Kubernetes version that they are for. Raises WrongManifest, with line and remedy, when it is no YAML.
    """
    roots = list(compose(text, name))
    documents = [each for number, root in enumerate(roots) for each in _documents(root, number, (), target)]
    return Manifest(name=name, text=text, roots=tuple(roots), documents=tuple(documents))


def _documents(node: Node, root: int, path: Path, target: tuple[int, int]) -> Iterator[Document]:
    if not isinstance(node.data, dict) or not isinstance(node.data.get("kind"), str):
        return
    kind: str = node.data["kind"]
    items = node.at("items")
    if kind.endswith("List") and items is not None and items.kind == "seq":
        for number, item in enumerate(items.items):
            yield from _documents(item, root, (*path, "items", number), target)
        return
    metadata = node.data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    yield Document(
        kind=kind,
        name=str(metadata.get("name") or metadata.get("generateName") or ""),
        namespace=metadata.get("namespace"),
        node=node,
        path=path,
        root=root,
        pods=tuple(_pods(node, kind, target)),
    )


def _pods(node: Node, kind: str, target: tuple[int, int]) -> Iterator[PodSpec]:
    if kind in _TEMPLATED:
        spec = node.at(*_TEMPLATED[kind])
        if spec is not None and spec.kind == "map":
            yield _pod(spec, _TEMPLATED[kind], kind, target)
        return
    if kind in {"ConfigMap", "Secret", "CustomResourceDefinition"}:
        return
    for path, each in walk(node):
        if _holds_containers(each):
            yield _pod(each, path, kind, target)


def _holds_containers(node: Node) -> bool:
    """Whether a map of a kind that is not built in is a pod spec, or a template of an Argo workflow."""
    containers = node.at("containers")
    if containers is not None:
        return any(isinstance(each.data, dict) and "image" in each.data for each in containers.items)
    container = node.at("container")
    return container is not None and container.kind == "map" and "image" in container.values and "name" in node.values


def _pod(node: Node, path: Path, kind: str, target: tuple[int, int]) -> PodSpec:
    places = [(place, at, each) for place in ("initContainers", "containers", "container", "sidecars")
              for at, each in _standing(node, place)]  # fmt: skip
    images = [str(each.data.get("image") or "") for _, _, each in places]
    applications = sum(place in {"containers", "container", "sidecars"} for place, _, _ in places)
    return PodSpec(
        spec=node.data,
        node=node,
        path=path,
        kind=kind,
        restart_policy=str(node.data.get("restartPolicy") or "Always"),
        containers=tuple(
            Found(
                container=_container(
                    each.data, place, images[:number] + images[number + 1 :], applications == 1, target
                ),
                name=str(each.data.get("name") or ""),
                raw=each.data,
                node=each,
                path=(*path, place, *at),
                place=place,
            )
            for number, (place, at, each) in enumerate(places)
        ),
    )


def _standing(node: Node, place: str) -> Iterator[tuple[Path, Node]]:
    here = node.at(place)
    if here is None:
        return
    if here.kind == "map":
        yield (), here
    for number, each in enumerate(here.items):
        if each.kind == "map":
            yield (number,), each


def _container(
    raw: dict[str, Any], place: str, others: Sequence[str], alone: bool, target: tuple[int, int]
) -> Container:
    init = place == "initContainers"
    return Container(
        image=str(raw.get("image") or ""),
        command=words(raw.get("command")),
        args=words(raw.get("args")),
        init=init and raw.get("restartPolicy") != "Always",
        env=_variables(raw.get("env")),
        env_from=bool(raw.get("envFrom")),
        mounts=tuple(
            (str(each.get("name")), str(each.get("mountPath")), each.get("readOnly") is True)
            for each in maps(raw.get("volumeMounts"))
        ),
        working_dir=raw.get("workingDir") if isinstance(raw.get("workingDir"), str) else None,
        others=tuple(others),
        only=alone and not init,
        target=target,
    )


def words(value: Any) -> tuple[str, ...]:
    """The words of a command or args; one that is no list is none, as for the API server."""
    return tuple("" if each is None else str(each) for each in value) if isinstance(value, list) else ()


def _variables(value: Any) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for each in maps(value):
        given = each.get("value", "")
        found[str(each.get("name"))] = None if "valueFrom" in each else "" if given is None else str(given)
    return found


def maps(value: Any) -> list[dict[str, Any]]:
    """The maps of a list; of what is no list, none."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
