"""k8s: targets of pod-init wait, with a strict stand-in for the API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecars.init.checks import Result
from sidecars.init.watching import turned
from tests.servers.kube_api import TOKEN, USER, Api
from tests.servers.test_init_wait import Start, init, wait  # noqa: F401  (fixtures)
from tests.unit.init.answering import Answering, for_ever, look, refused, silent


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with Api(tmp_path / "account") as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        monkeypatch.delenv("POD_NAMESPACE", raising=False)
        yield server


def found(api: Api, target: str, patience: float = 20.0) -> Result:
    """What one look finds, with this server's account."""
    result = look(f"{target}{'&' if '?' in target else '?'}account={api.folder}", patience)
    assert TOKEN not in result.text
    assert result.text.isprintable()
    return turned(result) if target.startswith("not:") else result


def is_(result: Result, state: str, words: str) -> None:
    assert (result.state, words in result.text) == (state, True), result


def conditions(*given: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conditions": [{"type": type, "status": status, **more} for type, status in given]}


# By kind


def test_a_job_is_waited_for_until_it_is_complete_and_not_when_it_has_failed(api: Api) -> None:
    is_(found(api, "k8s:job/load"), "not-ready", "does not exist in the namespace prod")
    api.put("batch/v1", "jobs", "load", status={"active": 1, "failed": 2})
    is_(found(api, "k8s:job/load"), "not-ready", "is not complete yet: pods 1 active, 2 failed")
    api.put("batch/v1", "jobs", "load", status=conditions(("Complete", "True")))
    is_(found(api, "k8s:jobs.batch/load"), "ok", "is complete")
    why = {"reason": "BackoffLimitExceeded", "message": "Job has reached the limit"}
    api.put("batch/v1", "jobs", "load", status=conditions(("Failed", "True"), **why))
    is_(found(api, "k8s:job/load"), "impossible", "has failed (BackoffLimitExceeded: Job has reached the limit)")
    is_(found(api, "k8s:job/load?condition=Complete"), "impossible", "has failed")
    is_(found(api, "k8s:job/load?condition=Failed"), "ok", "its condition Failed is True")
    is_(found(api, "not:k8s:job/load?condition=Complete"), "ok", "is not so: has failed")


def test_a_service_is_ready_when_an_address_behind_it_is(api: Api) -> None:
    is_(found(api, "k8s:svc/web"), "no-endpoints", "has no EndpointSlice in the namespace prod")
    labels = {"metadata": {"labels": {"kubernetes.io/service-name": "web"}}}
    unready = {"addresses": ["10.0.0.3"], "conditions": {"ready": False}}
    api.put("discovery.k8s.io/v1", "endpointslices", "web-1", **labels, endpoints=[unready])
    is_(found(api, "k8s:service/web"), "no-endpoints", "has 0 of 1 ready addresses")
    ready = [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}, {"addresses": ["10.0.0.2"]}]
    api.put("discovery.k8s.io/v1", "endpointslices", "web-2", **labels, endpoints=ready)
    is_(found(api, "k8s:service/web?count=2"), "ok", "has 2 ready addresses")
    is_(found(api, "k8s:service/web?count=3"), "no-endpoints", "has 2 of 3 ready addresses")


def test_not_waits_until_it_is_gone(api: Api) -> None:
    api.put("v1", "pods", "old", status={"phase": "Failed"})
    is_(found(api, "not:k8s:pod/old"), "not-ready", "is still so: exists")
    api.delete("v1", "pods", "old")
    is_(found(api, "not:k8s:pod/old"), "ok", "is not so: does not exist")
    api.put("v1", "services", "old")
    is_(found(api, "not:k8s:svc/old"), "not-ready", "exists")


def test_a_custom_resource_is_found_by_discovery_once_its_crd_is_there(api: Api) -> None:
    target = "k8s:certificates.cert-manager.io/web?condition=Ready"
    is_(found(api, target), "not-ready", "the API has no group cert-manager.io; is its CRD installed?")
    api.served["cert-manager.io/v1"] = [("certificates", "Certificate", True), ("issuers", "Issuer", True)]
    is_(found(api, target), "not-ready", "does not exist in the namespace prod")
    api.put("cert-manager.io/v1", "certificates", "web", status=conditions(("Ready", "False"), reason="Pending"))
    is_(found(api, target), "not-ready", "its condition Ready is 'False' (Pending)")
    api.put("cert-manager.io/v1", "certificates", "web", status=conditions(("Ready", "True")))
    for word in ("certificate.cert-manager.io", "cert.cert-manager.io", "Certificates.v1.cert-manager.io"):
        is_(found(api, f"k8s:{word}/web?condition=ready"), "ok", "its condition ready is True")
    is_(found(api, "k8s:certificates.cert-manager.io/web"), "ok", "exists")
    is_(found(api, "k8s:orders.cert-manager.io/web"), "not-ready", "cert-manager.io/v1 has no orders")
    is_(found(api, "k8s:certificates.v2.cert-manager.io/web"), "not-ready", "cert-manager.io/v2 has no certificates")


def test_a_value_at_a_path(api: Api) -> None:
    api.put("v1", "pods", "web", status={"phase": "Pending"}, metadata={"annotations": {"a.b/c": "yes"}})
    is_(found(api, "k8s:pod/web?jsonpath={.status.phase}&value=Running"), "not-ready", "is 'Pending', not 'Running'")
    is_(found(api, "k8s:pod/web?jsonpath={.status.phase}&value=Pending"), "ok", ".status.phase is 'Pending'")
    is_(found(api, "k8s:pod/web?jsonpath={.status.podIP}"), "not-ready", "has no .status.podIP yet")
    is_(found(api, r"k8s:pod/web?jsonpath=.metadata.annotations.a\.b/c"), "ok", "is 'yes'")


def test_the_namespace_is_the_pods_or_the_one_that_is_named(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.put("v1", "configmaps", "here")
    api.put("v1", "configmaps", "there", namespace="other")
    is_(found(api, "k8s:cm/here"), "ok", "exists")
    is_(found(api, "k8s:cm/there?namespace=other"), "ok", "exists")
    (api.folder / "namespace").unlink()
    monkeypatch.setenv("POD_NAMESPACE", "other")
    is_(found(api, "k8s:cm/there"), "ok", "exists")


# By selector


def test_a_selector_wants_all_or_so_many(api: Api) -> None:
    is_(found(api, "k8s:pods?selector=app=web"), "not-ready", "no pods in the namespace prod match the selector")
    for number, ready in enumerate(("True", "True", "False")):
        labels = {"labels": {"app": "web"}}
        api.put("v1", "pods", f"web-{number}", metadata=labels, status=conditions(("Ready", ready)))
    is_(found(api, "k8s:pods?selector=app=web"), "not-ready", "2 of 3 pods as wanted, web-2 its condition Ready is")
    is_(found(api, "k8s:pods?selector=app=web&count=2"), "ok", "2 of 2 pods as wanted")
    is_(found(api, "k8s:pods?selector=app=web&count=4"), "not-ready", "2 of 4 pods as wanted, web-2")
    is_(found(api, "not:k8s:pods?selector=app=web"), "not-ready", "is still so")
    is_(found(api, "not:k8s:pods?selector=app=api"), "ok", "is not so: no pods in the namespace prod match")


def test_one_failed_job_of_all_is_enough_to_give_up_but_not_of_so_many(api: Api) -> None:
    labels = {"labels": {"step": "load"}}
    api.put("batch/v1", "jobs", "one", metadata=labels, status=conditions(("Complete", "True")))
    api.put("batch/v1", "jobs", "two", metadata=labels, status=conditions(("Failed", "True")))
    is_(found(api, "k8s:jobs?selector=step=load"), "impossible", "1 of 2 jobs as wanted, two has failed")
    is_(found(api, "k8s:jobs?selector=step=load&count=1"), "ok", "1 of 1 jobs as wanted")
    is_(found(api, "k8s:jobs?selector=step=load&count=2"), "not-ready", "two has failed")


def test_a_long_list_comes_in_pages(api: Api) -> None:
    for number in range(205):
        api.put("v1", "configmaps", f"c{number}", metadata={"labels": {"a": "b"}})
    is_(found(api, "k8s:cm?selector=a=b&count=205"), "ok", "205 of 205 configmaps as wanted")
    assert [each.partition("limit=")[0].partition("continue=")[2] for each in api.asked] == ["", "100&", "200&"]


# Rights


def test_a_right_that_is_missing_for_longer_than_the_grace_can_never_be(api: Api, wait: Start) -> None:  # noqa: F811
    api.allowed = set()
    target = f"k8s:job/load?account={api.folder}&grace=200ms"
    waiting = wait(target)
    reason = waiting.failed(125)
    denied = f'denies {USER} the verb get for jobs of the group "batch" in the namespace prod (403)'
    assert reason.startswith(f"{target}: the API server: {denied}, for 0.2 s, ")
    assert 'bind a Role with apiGroups: ["batch"], resources: [jobs], verbs: [get]' in reason
    assert waiting.states() == ["auth"]


def test_a_right_that_comes_within_the_grace_is_enough(api: Api, wait: Start) -> None:  # noqa: F811
    api.allowed = {("get", "", "pods")}
    api.put("discovery.k8s.io/v1", "endpointslices", "web", metadata={"labels": {"kubernetes.io/service-name": "web"}})
    waiting = wait(f"k8s:service/web?account={api.folder}")
    said = waiting.wait_for("not yet")
    assert (said["state"], "verb list for endpointslices of the group" in said["reason"]) == ("auth", True)
    labels = {"labels": {"kubernetes.io/service-name": "web"}}
    api.put("discovery.k8s.io/v1", "endpointslices", "web", metadata=labels, endpoints=[{"addresses": ["10.0.0.1"]}])
    api.allowed = None
    waiting.succeeded()


def test_a_token_is_read_anew_when_it_rotates(api: Api) -> None:
    api.put("v1", "namespaces", "prod", status={"phase": "Active"})
    is_(found(api, "k8s:ns/prod"), "ok", "is Active")
    api.token = "another"
    is_(found(api, "k8s:ns/prod"), "auth", "does not accept the token (401)")
    api.renew("another")
    is_(found(api, "k8s:ns/prod"), "ok", "is Active")


def test_no_token_can_never_be(api: Api) -> None:
    (api.folder / "token").unlink()
    is_(found(api, "k8s:job/load"), "impossible", "set automountServiceAccountToken: true")
    (api.folder / "token").write_text("two words")
    is_(found(api, "k8s:job/load"), "error", "is no token")


# What proves nothing


def test_what_failed_in_asking_does_not_prove_that_it_is_gone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.allowed = set()
    is_(found(api, "k8s:pod/old"), "auth", "(403)")
    is_(found(api, "not:k8s:pod/old"), "error", "(403)")
    api.failing = (503, {"Retry_After": "7"})
    result = found(api, "k8s:pod/old")
    is_(result, "not-ready", "answers 503: 'try again'")
    assert result.again == 7
    is_(found(api, "not:k8s:pod/old"), "error", "answers 503")
    (api.folder / "ca.crt").write_bytes((Path(__file__).parent / "kube_api.py").read_bytes())
    is_(found(api, "not:k8s:pod/old"), "error", "ca.crt is of no use")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(refused()))
    is_(found(api, "k8s:pod/old"), "error", "ca.crt is of no use")


def test_an_api_server_that_is_silent_or_away_proves_nothing_either(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(refused()))
    is_(found(api, "k8s:pod/old"), "refused", "the API server: refused by 127.0.0.1")
    is_(found(api, "not:k8s:pod/old"), "error", "the API server: refused by 127.0.0.1")
    with Answering(silent) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        is_(found(api, "k8s:pod/old", patience=0.3), "error", "does not answer within 0.3 s")
        is_(found(api, "not:k8s:pod/old", patience=0.3), "error", "does not answer within 0.3 s")


@pytest.mark.parametrize(
    ("head", "more", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000, "answers with more than 16 MiB"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 100_000, "does not answer in HTTP"),
        (b"SSH-2.0-x\r\n\r\n", b"", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"", "not with an object"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", b"", "does not exist: the API has no pods"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"status":[[[[[7]]]', b"", "not with an object"),
    ],
)
def test_hostile_answers_of_an_api_server_are_bounded(
    api: Api, monkeypatch: pytest.MonkeyPatch, head: bytes, more: bytes, words: str
) -> None:
    with Answering(for_ever(head, more), api.tls) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        result = found(api, "k8s:pod/web")
    assert (result.state in ("not-ready", "error"), words in result.text) == (True, True), result


def test_the_command_waits_for_a_job(api: Api, wait: Start) -> None:  # noqa: F811
    api.put("batch/v1", "jobs", "load", status={"active": 1})
    waiting = wait(f"k8s:job/load?account={api.folder}")
    waiting.wait_for("not yet")
    api.put("batch/v1", "jobs", "load", status=conditions(("Complete", "True")))
    waiting.succeeded()
