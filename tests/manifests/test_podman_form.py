"""The rewriter changes what podman cannot run, says so, and leaves the rest alone."""

from __future__ import annotations

import copy

from tests.manifests import documents
from tests.manifests.documents import ROOT, S3_SERVER
from tests.manifests.podman import podman_form


def test_a_native_sidecar_becomes_a_second_container_and_loses_its_probes() -> None:
    (document,) = documents.documents(ROOT / "tailer" / "native-sidecar.yaml")
    before = copy.deepcopy(document)
    form, lost = podman_form(document)
    assert document == before
    pod = form["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    assert [container["name"] for container in pod["containers"]] == ["shop", "log-tailer"]
    tailer = pod["containers"][1]
    original = before["spec"]["template"]["spec"]["initContainers"][0]
    kept = ("args", "resources", "securityContext", "volumeMounts")
    assert [tailer[key] for key in kept] == [original[key] for key in kept]
    assert [variable["name"] for variable in tailer["env"]] == ["POD_NAME"]
    assert lost == [
        "restarts: a container that fails must be seen",
        "log-tailer: the native sidecar's order; it runs as a second container",
        "log-tailer: startupProbe",
        "log-tailer: livenessProbe",
        "log-tailer: ports",
        "log-tailer: the variable POD_NAMESPACE from metadata.namespace",
        "log-tailer: the variable NODE_NAME from spec.nodeName",
    ]


def test_an_ordinary_init_container_stays_one() -> None:
    (document,) = documents.documents(ROOT / "tailer" / "native-sidecar.yaml")
    pod = document["spec"]["template"]["spec"]
    pod["initContainers"].insert(0, {"name": "first", "image": "sidecars/demo:0.1.0"})
    form, _ = podman_form(document)
    assert [one["name"] for one in form["spec"]["template"]["spec"]["initContainers"]] == ["first"]


def test_a_job_becomes_its_pod() -> None:
    (document,) = documents.documents(ROOT / "tailer" / "job.yaml")
    form, lost = podman_form(document)
    assert (form["kind"], form["metadata"]["name"], form["spec"]["restartPolicy"]) == ("Pod", "nightly", "Never")
    assert lost[0] == "the Job: only its pod runs"


def test_a_stateful_set_becomes_its_pod_with_other_volumes() -> None:
    (document,) = documents.documents(ROOT / "shipper" / "statefulset.yaml")
    form, lost = podman_form(document)
    assert (form["kind"], form["metadata"]["name"]) == ("Pod", "payments")
    assert {volume["name"] for volume in form["spec"]["volumes"] if "emptyDir" in volume} >= {"logs", "shipper-state"}
    assert "the claim shipper-state; an emptyDir stands in for it" in lost


def test_a_secret_becomes_a_config_map_wherever_it_is_used() -> None:
    secret = documents.documents(S3_SERVER)[0]
    form, lost = podman_form(secret)
    assert (form["kind"], form["data"]) == ("ConfigMap", secret["stringData"])
    assert lost == ["the Secret s3-shipper; a ConfigMap stands in for it"]
    name = form["metadata"]["name"]
    (native,) = documents.documents(ROOT / "shipper" / "native-sidecar.yaml")
    pod = podman_form(native)[0]["spec"]["template"]["spec"]
    assert {"name": "s3-keys", "configMap": {"name": name}} in pod["volumes"]
    fluentd, _ = documents.documents(ROOT / "gallery" / "7-fluentd-s3.yaml")
    containers = {one["name"]: one for one in podman_form(fluentd)[0]["spec"]["containers"]}
    variables = containers["logging-agent"]["env"]
    assert variables[1]["valueFrom"] == {"configMapKeyRef": {"name": name, "key": "access-key-id"}}


def test_the_s3_server_is_in_the_pod_of_a_shipper() -> None:
    (document,) = documents.documents(ROOT / "shipper" / "pod.yaml")
    form, lost = podman_form(document)
    assert [one["name"] for one in form["spec"]["containers"]] == ["shop", "s3-shipper", "s3"]
    variables = {one["name"]: one.get("value") for one in form["spec"]["containers"][1]["env"]}
    assert variables["SHIPPER_ENDPOINT"] == "http://127.0.0.1:5000"
    assert "the Service s3: its server runs in the pod itself" in lost
    assert "s3-shipper: --quiet=20s; --quiet=3s stands in for it" in lost


def test_the_git_host_is_in_the_pod_of_a_syncer_that_is_no_init_container_there() -> None:
    (document,) = documents.documents(ROOT / "syncer" / "init-container.yaml")
    form, lost = podman_form(document)
    pod = form["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    assert [one["name"] for one in pod["containers"]] == ["web", "git", "git-syncer"]
    assert "--repo=http://127.0.0.1:9418/shop.git" in pod["containers"][2]["args"]
    assert "git-syncer: the init container's order; it runs as a second container" in lost


def test_a_config_map_stays_as_it_is() -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"A": "1"}}
    assert podman_form(settings) == (settings, [])


def test_an_image_of_others_has_a_stand_in_that_is_named() -> None:
    (document,) = documents.documents(ROOT / "gallery" / "5-log-cat-loop.yaml")
    form, lost = podman_form(document)
    assert form["spec"]["containers"][0]["image"] == "localhost/sidecars/demo:0.1.0"
    assert any("nginxinc/nginx-unprivileged:1.28; sidecars/demo:0.1.0 stands in" in text for text in lost)
