"""The rewriter changes what podman cannot run, says so, and leaves the rest alone."""

from __future__ import annotations

import copy

from tests.manifests import documents
from tests.manifests.documents import ROOT
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


def test_a_config_map_stays_as_it_is() -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"A": "1"}}
    assert podman_form(settings) == (settings, [])


def test_an_image_of_others_has_a_stand_in_that_is_named() -> None:
    (document,) = documents.documents(ROOT / "gallery" / "5-log-cat-loop.yaml")
    form, lost = podman_form(document)
    assert form["spec"]["containers"][0]["image"] == "localhost/sidecars/demo:0.1.0"
    assert any("nginxinc/nginx-unprivileged:1.28; sidecars/demo:0.1.0 stands in" in text for text in lost)
