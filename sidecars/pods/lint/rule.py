"""What a rule is, and what it looks at: one pod, with what stands beside it in the files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from sidecars.pods.lint.role import Role, role
from sidecars.pods.manifests import Document, Found, PodSpec
from sidecars.pods.nodes import Node

Level: TypeAlias = Literal["error", "warning"]
Complaint: TypeAlias = "tuple[Node, str]"
Version: TypeAlias = "tuple[int, int]"

NATIVE_SIDECARS: Version = (1, 29)
"""Since when `restartPolicy: Always` of an init container is on by default."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that may be wrong.

    level  error: it does not work, or will not for long; warning: it works until something happens
    title  what it finds, as a line of a table
    why    what happens then, and what to do; `--explain` prints it
    check  gives a complaint for each place: the node to point at, and one line that says what, where, and what to do
    """

    id: str
    level: Level
    title: str
    why: str
    check: Callable[[Subject], Iterator[Complaint]]


class Service(msgspec.Struct, frozen=True):
    """A Service, as far as it says which pods it is for."""

    name: str
    namespace: str | None
    selector: Mapping[str, Any]
    headless: bool

    @classmethod
    def of(cls, document: Document) -> Service | None:
        """Read a document; None when it is no Service with a selector."""
        spec = document.data.get("spec")
        selector = spec.get("selector") if document.kind == "Service" and isinstance(spec, dict) else None
        if not isinstance(selector, dict) or not selector:
            return None
        return cls(document.name, document.namespace, selector, spec.get("clusterIP") == "None")

    def answers_to(self, host: str, namespace: str | None) -> bool:
        """Say whether a host's name, looked up in a namespace, is this Service's: web, web.shop, web.shop.svc..."""
        name, _, rest = host.rstrip(".").partition(".")
        if name != self.name:
            return False
        space, _, domain = rest.partition(".")
        ours = self.namespace or "default"
        return (space or namespace or "default") == ours and (not domain or domain.split(".")[0] == "svc")


class Subject:
    """One pod, as rules see it.

    services  all that stand in the files that are read
    pods      likewise, each with the document it is in
    target    the Kubernetes version that the files are for
    """

    def __init__(
        self,
        document: Document,
        pod: PodSpec,
        services: Sequence[Service],
        pods: Sequence[tuple[Document, PodSpec]],
        target: Version,
    ) -> None:
        self.document = document
        self.pod = pod
        self.services = services
        self.pods = pods
        self.target = target

    @property
    def containers(self) -> tuple[Found, ...]:
        """All of them, init containers first."""
        return self.pod.containers

    @property
    def applications(self) -> list[Found]:
        """Those that run at the same time and are no native sidecars."""
        return [each for each in self.containers if not each.init]

    @functools.cached_property
    def roles(self) -> dict[str, Role]:
        """What is known of each container, by its name."""
        return {each.name: role(each.container) for each in self.containers}

    @property
    def ends(self) -> bool:
        """Whether the pod is meant to be done some day: a Job's, or one that is not started again."""
        return self.pod.kind in {"Job", "CronJob"} or self.pod.restart_policy in {"Never", "OnFailure"}

    @property
    def grace(self) -> float:
        """How many seconds it has to end."""
        return number(self.pod.spec.get("terminationGracePeriodSeconds"), 30)

    def volume(self, name: str) -> dict[str, Any] | None:
        """Give a volume by its name; an empty one for a claim of a StatefulSet's, None when there is none."""
        for each in self.pod.volumes:
            if each.get("name") == name:
                return each
        spec = self.document.data.get("spec")
        claims = spec.get("volumeClaimTemplates") if isinstance(spec, dict) else None
        for claim in maps(claims):
            if mapping(claim.get("metadata")).get("name") == name:
                return {}
        return None

    def is_served_by(self, service: Service) -> bool:
        """Say whether a Service's selector takes this pod."""
        return selects(service, self.document, self.pod)


def selects(service: Service, document: Document, pod: PodSpec) -> bool:
    """Say whether a Service is for a pod: same namespace, and each label of its selector."""
    template = document.node.at(*pod.path[:-1])
    data = mapping(template.data if template else None)
    labels = mapping(mapping(data.get("metadata")).get("labels"))
    return (document.namespace or "default") == (service.namespace or "default") and all(
        labels.get(key) == value for key, value in service.selector.items()
    )


def mapping(value: Any) -> dict[str, Any]:
    """Take a value as the mapping that it should be; an empty one when it is something else."""
    return value if isinstance(value, dict) else {}


def maps(value: Any) -> list[dict[str, Any]]:
    """Take a value as the list of mappings that it should be, without what is something else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def number(value: Any, default: float) -> float:
    """Take a value as the number that it should be."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def at(found: Found, *path: str | int) -> Node:
    """Give the node below a container's, or the container's own when there is none."""
    return found.node.at(*path) or found.node
