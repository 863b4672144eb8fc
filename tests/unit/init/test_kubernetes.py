"""k8s: what is read of a target, how kinds are named, and how an object stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.init.checks import kubernetes
from sidecars.init.kube import kinds
from sidecars.init.kube.kinds import Kind, Word
from sidecars.init.kube.standing import Wish, addresses, judged
from sidecars.init.target import parse

KNOWN = [
    ("job", "/apis/batch/v1/namespaces/prod/jobs"),
    ("jobs.batch", "/apis/batch/v1/namespaces/prod/jobs"),
    ("Jobs.v1.batch", "/apis/batch/v1/namespaces/prod/jobs"),
    ("po", "/api/v1/namespaces/prod/pods"),
    ("ns", "/api/v1/namespaces"),
    ("deploy", "/apis/apps/v1/namespaces/prod/deployments"),
    ("sts", "/apis/apps/v1/namespaces/prod/statefulsets"),
    ("ingress", "/apis/networking.k8s.io/v1/namespaces/prod/ingresses"),
    ("networkpolicy", "/apis/networking.k8s.io/v1/namespaces/prod/networkpolicies"),
    ("storageclass", "/apis/storage.k8s.io/v1/storageclasses"),
    ("endpoints", "/api/v1/namespaces/prod/endpoints"),
    ("crd", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
]


@pytest.mark.parametrize(("text", "path"), KNOWN)
def test_kinds_are_known_by_the_names_people_use(text: str, path: str) -> None:
    kind = kinds.known(kinds.read(text))
    assert kind is not None
    assert kind.path("prod") == path


def test_what_is_not_built_in_is_parted_as_kubectl_does() -> None:
    assert kinds.read("certificates.cert-manager.io") == Word("certificates", "cert-manager.io")
    assert kinds.read("certificates.v1alpha2.cert-manager.io") == Word("certificates", "cert-manager.io", "v1alpha2")
    assert kinds.read("x.v1") == Word("x", "v1")
    assert kinds.known(kinds.read("jobs.example.com")) is None
    assert kinds.known(kinds.read("jobs.v2.batch")) is None


REFUSED = [
    (
        "k8s:jbo/x",
        "names the kind 'jbo', which is not built in; write one of a CRD as jbo.GROUP/NAME; did you mean job?",
    ),
    ("k8s:widget/x", "write one of a CRD as widget.GROUP/NAME"),
    ("k8s:job", "either a name, k8s:KIND/NAME, or k8s:KIND?selector=LABEL=VALUE"),
    ("k8s:job/x?selector=a=b", "either a name"),
    ("k8s:job/a/b", "has the name 'a/b', which no object can have"),
    ("k8s:job/..", "which no object can have"),
    ("k8s:job/x%3Fy", "which no object can have"),
    ("k8s:job/x?namespace=a/b", "namespace of k8s:job/x?namespace=a/b is 'a/b', expected a name"),
    ("k8s:job/x?jsonpath={.a}&condition=Ready", "both a condition and a jsonpath"),
    ("k8s:job/x?value=1", "has a value without the jsonpath"),
    ("k8s:job/x?jsonpath={..a}", "expected a path such as {.status.phase}; '..a' in it cannot be read"),
    ("k8s:job/x?condition==True", "expected a name such as Ready, or Ready=False"),
    ("k8s:job/x?count=0", "expected a whole number of at least 1"),
    ("k8s:job/x?grace=soon", "expected seconds"),
    ("k8s:", "names nothing"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_cannot_be_asked_is_refused_with_advice(text: str, words: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        kubernetes.validate(parse(text))
    assert words in str(refused.value)


def test_what_can_be_asked_is_not_refused() -> None:
    for text in ("k8s:job/x", "k8s://job/x", "k8s:pods?selector=app%3Dx,tier!=db&count=2", "k8s:widget.example.com/x",
                 "not:k8s:pod/x?namespace=prod", "k8s:clusterrole/system:node"):  # fmt: skip
        kubernetes.validate(parse(text))


# How an object stands

PODS, JOBS = Kind("pods", "", "v1"), Kind("jobs", "batch", "v1")
DEPLOYMENTS, STATEFULSETS = Kind("deployments", "apps", "v1"), Kind("statefulsets", "apps", "v1")
DAEMONSETS, REPLICASETS = Kind("daemonsets", "apps", "v1"), Kind("replicasets", "apps", "v1")
CLAIMS, NAMESPACES = Kind("persistentvolumeclaims", "", "v1"), Kind("namespaces", "", "v1", False)
CRDS = Kind("customresourcedefinitions", "apiextensions.k8s.io", "v1", False)
MAPS = Kind("configmaps", "", "v1")


def has(type: str, status: str = "True", **more: Any) -> dict[str, Any]:
    return {"type": type, "status": status, **more}


def generation(number: int, observed: int | None, **more: Any) -> dict[str, Any]:
    status = more.pop("status", {})
    seen = {} if observed is None else {"observedGeneration": observed}
    return {"metadata": {"generation": number}, "status": {**seen, **status}, **more}


def rolled(**status: Any) -> dict[str, Any]:
    same = {"currentRevision": "a", "updateRevision": "a", "readyReplicas": 3, "updatedReplicas": 3}
    return {**same, **status}


ROLLING = {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}
STANDING: list[tuple[Kind, dict[str, Any], str, str]] = [
    (MAPS, {}, "ok", "exists"),
    (PODS, {"status": {"phase": "Pending"}}, "not-ready", "is 'Pending': has no condition Ready yet"),
    (PODS, {"status": {"phase": "Running", "conditions": [has("Ready")]}}, "ok", "its condition Ready is True"),
    (PODS, {"status": {"phase": "Running", "conditions": [has("Ready", "False", reason="ContainersNotReady")]}},
     "not-ready", "is 'Running': its condition Ready is 'False' (ContainersNotReady)"),
    (PODS, {"status": {"phase": "Failed", "reason": "Evicted"}}, "not-ready", "has ended as Failed (Evicted)"),
    (PODS, {"metadata": {"deletionTimestamp": "x"}, "status": {"conditions": [has("Ready")]}}, "not-ready", "deleted"),
    (JOBS, {"status": {}}, "not-ready", "is not complete yet: pods none"),
    (JOBS, {"status": {"conditions": [has("Suspended")]}}, "not-ready", "is suspended"),
    (JOBS, {"status": {"conditions": [has("Failed", "False"), has("Complete")]}}, "ok", "is complete"),
    (JOBS, {"status": {"conditions": [has("Complete", "False"), has("Failed")]}}, "impossible", "has failed"),
    (DEPLOYMENTS, generation(2, 1, status={"conditions": [has("Available")]}), "not-ready", "not seen it yet"),
    (DEPLOYMENTS, generation(1, None), "not-ready", "not seen it yet"),
    (DEPLOYMENTS, generation(2, 2, status={"conditions": [has("Available")]}), "ok", "its condition Available is True"),
    (DEPLOYMENTS, generation(1, 1, status={"conditions": [
        has("Available", "False"), has("Progressing", "False", reason="ProgressDeadlineExceeded")]}),
     "not-ready", "does not progress (ProgressDeadlineExceeded)"),
    (STATEFULSETS, generation(1, 1, spec={"replicas": 3}, status=rolled(readyReplicas=2)), "not-ready", "2 of 3"),
    (STATEFULSETS, generation(1, 1, spec={"replicas": 3}, status=rolled()), "ok", "has 3 of 3 replicas ready"),
    (STATEFULSETS, generation(1, 1, spec=ROLLING, status=rolled(updateRevision="b", updatedReplicas=1)),
     "not-ready", "has 1 of 2 replicas updated"),
    (STATEFULSETS, generation(1, 1, spec=ROLLING, status=rolled(updateRevision="b", updatedReplicas=2)), "ok", "3"),
    (STATEFULSETS, generation(1, None, spec={"replicas": 0}), "not-ready", "not seen it yet"),
    (DAEMONSETS, generation(1, 1, status={"desiredNumberScheduled": 2, "updatedNumberScheduled": 1}),
     "not-ready", "has 1 of 2 pods updated"),
    (DAEMONSETS, generation(1, 1, status={
        "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1}), "not-ready", "1 of 2 pods"),
    (DAEMONSETS, generation(1, 1, status={
        "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}), "ok", "2 of 2"),
    (REPLICASETS, generation(1, 1, spec={"replicas": 1}, status={"readyReplicas": 1}), "ok", "1 of 1"),
    (CLAIMS, {"status": {"phase": "Pending"}}, "not-ready", "is 'Pending'"),
    (CLAIMS, {"status": {"phase": "Bound"}}, "ok", "is Bound"),
    (NAMESPACES, {"status": {"phase": "Terminating"}}, "not-ready", "is 'Terminating'"),
    (CRDS, {"status": {"conditions": [has("NamesAccepted"), has("Established")]}}, "ok", "Established is True"),
    (CRDS, {"status": {"conditions": []}}, "not-ready", "has no condition Established yet"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "found", "state", "words"), STANDING)
def test_each_kind_has_its_own_way_to_be_ready(kind: Kind, found: dict[str, Any], state: str, words: str) -> None:
    result = judged(kind, found, Wish())
    assert (result.state, words in result.text) == (state, True), result


def test_a_condition_is_of_now_and_as_wanted() -> None:
    wish = Wish(condition=("Ready", "False"))
    assert judged(MAPS, {"status": {"conditions": [has("Ready", "False")]}}, wish).state == "ok"
    assert judged(MAPS, {"status": {"conditions": [has("Ready")]}}, wish).state == "not-ready"
    old = generation(3, None, status={"conditions": [has("Ready", "False", observedGeneration=2)]})
    assert judged(MAPS, old, wish).text == "its condition Ready is from before its last change"
    new = generation(3, None, status={"conditions": [has("Ready", "False", observedGeneration=3)]})
    assert judged(MAPS, new, wish).state == "ok"


def test_addresses_are_those_that_are_ready_and_once_each() -> None:
    endpoints = [
        {"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.1", "10.0.0.2"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False}}, {"addresses": ["10.0.0.4"], "conditions": {}},
        {"addresses": None}, None,
    ]  # fmt: skip
    assert addresses({"endpoints": endpoints}) == {"10.0.0.1", "10.0.0.2", "10.0.0.4"}
    assert addresses({"endpoints": None}) == set()


NAMES = st.sampled_from(
    ["metadata", "status", "spec", "conditions", "type", "phase", "replicas", "endpoints", "generation", "addresses"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["Ready", "True", "\x1b[2J"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=4), st.sampled_from(sorted(kinds.BUILT_IN)))
def test_no_object_is_too_strange(found: dict[str, Any], name: str) -> None:
    kind = kinds.BUILT_IN[name]
    for wish in (Wish(), Wish(condition=("Ready", "True"))):
        assert judged(kind, found, wish).text.isprintable()
    addresses(found)
    kinds.preferred(found)
    kinds.discovered(found, Word("x", "y"), "v1")
