"""Rules about names and waits that cannot come true."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecars.pods.lint.role import Target
from sidecars.pods.lint.rule import Complaint, Rule, Service, Subject, at, mapping, selects
from sidecars.pods.lint.words import command_lines
from sidecars.pods.manifests import Found, words

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_CLUSTER = ".svc.cluster.local"


def wrong_names(subject: Subject) -> Iterator[Complaint]:
    """Complain of names of Services in pods that ask the node's DNS."""
    spec = subject.pod.spec
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "Default":
        why, remedy = "dnsPolicy is Default, the node's DNS", "leave dnsPolicy out"
    elif policy == "ClusterFirst" and spec.get("hostNetwork") is True:
        why, remedy = "hostNetwork is true, and so DNS the node's", "set `dnsPolicy: ClusterFirstWithHostNet`"
    else:
        return
    for found in subject.containers:
        if name := _service_name(found, subject):
            node = subject.pod.node.at("dnsPolicy") or subject.pod.node.at("hostNetwork") or found.node
            yield node, f"{why}, where {name} of {found.name} is unknown; {remedy}"


def _service_name(found: Found, subject: Subject) -> str:
    """A name that only the cluster's DNS has, among what a container is told."""
    for target in subject.roles[found.name].waits:
        if target.scheme != "k8s" and _is_of_cluster(target.host, subject):
            return target.host
    container = found.container
    texts = [*container.command, *container.args, *(value for value in container.env.values() if value)]
    for text in texts:
        for word in text.replace("/", " ").replace("@", " ").replace(",", " ").replace("'", " ").split():
            host = word.partition(":")[0].strip('";')
            if host.endswith(_CLUSTER) or _is_of_cluster(host, subject):
                return host
    return ""


def _is_of_cluster(host: str, subject: Subject) -> bool:
    return host.endswith((".svc", _CLUSTER)) or any(
        "." in host and service.answers_to(host, subject.document.namespace) for service in subject.services
    )


def deadlock(subject: Subject) -> Iterator[Complaint]:
    """Complain of init containers that wait for what starts after them."""
    for place, found in enumerate(subject.containers):
        if not found.container.init:
            continue
        for target in subject.roles[found.name].waits:
            early = any(each.sidecar for each in subject.containers[:place])
            if target.host in _LOOPBACK and not early:
                yield (
                    found.node,
                    f"{found.name} waits for {target.host}, where nothing listens before init containers are done; "
                    "wait in the application, or make what it waits for a native sidecar before it",
                )
            elif service := _own_service(target, subject):
                yield (
                    found.node,
                    f"{found.name} waits for Service {service.name}, which is this very pod's: it never has an "
                    "endpoint before this init container is done; remove the wait",
                )


def _own_service(target: Target, subject: Subject) -> Service | None:
    """The Service that is waited for, if nothing but this pod can answer for it."""
    for service in subject.services:
        named = service.answers_to(target.host, subject.document.namespace)
        # The name of a Service that has an address of its own is there without any pod.
        if not named or not subject.is_served_by(service) or (target.scheme == "dns" and not service.headless):
            continue
        if not any(selects(service, document, pod) for document, pod in subject.pods if pod is not subject.pod):
            return service
    return None


def circular(subject: Subject) -> Iterator[Complaint]:
    """Complain of probes that ask the pod's own Service whether the pod may join it."""
    for found in subject.containers:
        for kind in ("startupProbe", "readinessProbe"):
            probe = mapping(found.raw.get(kind))
            for host in _hosts(probe):
                service = _own_service(Target("tcp", host), subject)
                if service:
                    yield (
                        at(found, kind),
                        f"the {kind} of {found.name} asks Service {service.name}, which has no endpoint before this "
                        "probe has passed; ask 127.0.0.1",
                    )


def _hosts(probe: dict[str, object]) -> Iterator[str]:
    """The hosts that a probe may ask."""
    for kind in ("httpGet", "tcpSocket"):
        host = mapping(probe.get(kind)).get("host")
        if isinstance(host, str):
            yield host
    for line in command_lines(words(mapping(probe.get("exec")).get("command"))):
        for word in line[1:]:
            try:
                yield urlsplit(word if "://" in word else f"//{word}").hostname or ""
            except ValueError:
                continue


RULES = (
    Rule(
        id="cluster-name-without-cluster-dns",
        level="error",
        title="the name of a Service in a pod with `dnsPolicy: Default`, or with hostNetwork alone",
        why="""\
`Default` is not the default: it gives the pod the node's resolv.conf, in which no Service has a name. With
hostNetwork: true the real default, ClusterFirst, means the same; ClusterFirstWithHostNet is what one wants there.""",
        check=wrong_names,
    ),
    Rule(
        id="waits-for-itself",
        level="error",
        title="an init container waits for a Service of its own pod, or for localhost",
        why="""\
Application containers start when all init containers are done. A Service has endpoints when a pod of it is ready. So
an init container that waits for its own pod's Service waits for ever, at the latest after all pods were gone once.
The Services are those in the files that are linted together. A wait for the mere name of a Service with a cluster IP
is not meant: that is there at once.""",
        check=deadlock,
    ),
    Rule(
        id="probe-asks-own-service",
        level="error",
        title="a startup or readiness probe asks the Service that the pod joins by passing it",
        why="""\
While no pod is ready the Service has no endpoint, so the probe of the first pod cannot pass; and later the probe of a
broken pod passes because another one answers. Ask the container itself: without `host`, or 127.0.0.1 in a command.""",
        check=circular,
    ),
)
