"""Kinds of objects by the names people call them, and where the API has them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import msgspec

_VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d+)?")
# GROUP/VERSION: RESOURCE[,SHORT...]..., a + before what is in no namespace.
_TABLE = """
v1: pods,po services,svc +namespaces,ns +nodes,no persistentvolumeclaims,pvc +persistentvolumes,pv configmaps,cm secrets
v1: serviceaccounts,sa endpoints,ep replicationcontrollers,rc resourcequotas,quota limitranges,limits
apps/v1: deployments,deploy statefulsets,sts daemonsets,ds replicasets,rs
batch/v1: jobs cronjobs,cj
autoscaling/v2: horizontalpodautoscalers,hpa
policy/v1: poddisruptionbudgets,pdb
networking.k8s.io/v1: ingresses,ing networkpolicies,netpol +ingressclasses
discovery.k8s.io/v1: endpointslices
coordination.k8s.io/v1: leases
storage.k8s.io/v1: +storageclasses,sc +volumeattachments +csidrivers
scheduling.k8s.io/v1: +priorityclasses,pc
certificates.k8s.io/v1: +certificatesigningrequests,csr
rbac.authorization.k8s.io/v1: roles rolebindings +clusterroles +clusterrolebindings
apiextensions.k8s.io/v1: +customresourcedefinitions,crd,crds
apiregistration.k8s.io/v1: +apiservices
admissionregistration.k8s.io/v1: +validatingwebhookconfigurations +mutatingwebhookconfigurations
"""


class Kind(msgspec.Struct, frozen=True):
    """A resource of the API: jobs, in the group batch, version v1, in namespaces. The group of pods is empty."""

    resource: str
    group: str
    version: str
    namespaced: bool = True

    def path(self, namespace: str) -> str:
        """Where the API has all of them: /apis/batch/v1/namespaces/prod/jobs."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return (
            f"{root}/namespaces/{quote(namespace, safe='')}/{self.resource}"
            if self.namespaced
            else f"{root}/{self.resource}"
        )


class Word(msgspec.Struct, frozen=True):
    """A kind as written: a name, and for what is not built in its group, and perhaps its version."""

    name: str
    group: str | None = None
    version: str | None = None


def read(text: str) -> Word:
    """Part job, jobs.batch, certificates.cert-manager.io or certificates.v1.cert-manager.io, as kubectl does."""
    name, dot, rest = text.lower().partition(".")
    if not dot:
        return Word(name)
    version, _, group = rest.partition(".")
    return Word(name, group, version) if group and _VERSION.fullmatch(version) else Word(name, rest)


def _built_in() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for line in _TABLE.strip().splitlines():
        place, _, names = line.partition(": ")
        group, _, version = place.rpartition("/")
        for entry in names.split():
            resource, *short = entry.removeprefix("+").split(",")
            kind = Kind(resource, group, version, not entry.startswith("+"))
            found.update(dict.fromkeys((resource, singular(resource), *short), kind))
    return found


def singular(resource: str) -> str:
    """Make job of jobs, ingress of ingresses, networkpolicy of networkpolicies; endpoints stay."""
    if resource == "endpoints":
        return resource
    if resource.endswith("ies"):
        return f"{resource[:-3]}y"
    return resource.removesuffix("es") if resource.endswith("sses") else resource.removesuffix("s")


BUILT_IN = _built_in()


def known(word: Word) -> Kind | None:
    """Give what is built in; None for what the API is to be asked for."""
    kind = BUILT_IN.get(word.name)
    if kind and word.group in (None, kind.group) and word.version in (None, kind.version):
        return kind
    return None


def preferred(document: dict[str, Any]) -> str:
    """Read the version that an APIGroup prefers; empty when it is none."""
    version = document.get("preferredVersion")
    found = version.get("version") if isinstance(version, dict) else None
    return found if isinstance(found, str) and _VERSION.fullmatch(found) else ""


def discovered(document: dict[str, Any], word: Word, version: str) -> Kind | None:
    """Find a resource in an APIResourceList by its name, its singular, its kind or a short name."""
    resources = document.get("resources")
    for each in resources if isinstance(resources, list) else ():
        if not isinstance(each, dict) or not isinstance(each.get("name"), str) or "/" in each["name"]:
            continue
        short = each.get("shortNames")
        names = [each["name"], each.get("singularName"), str(each.get("kind")).lower()]
        if word.name in names or (isinstance(short, list) and word.name in short):
            return Kind(each["name"], word.group or "", version, each.get("namespaced") is True)
    return None
