"""Pods on this machine: a podman of our own, the form of a manifest it can play, and what had to be left out for it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sidecars import __version__
from tests.manifests.documents import (
    GIT_SERVER,
    PRICES,
    REDIS,
    S3_SERVER,
    Document,
    containers,
    documents,
    pod_spec,
    pods,
)

# fieldRef knows these in podman; a variable of any other field is left out.
FIELDS = {"metadata.name", "metadata.uid", "metadata.labels", "metadata.annotations"}

TAILER, DEBUG, SHIPPER, ADAPTER, SYNCER, AMBASSADOR, INIT, DEMO, S3, REDIS_SERVER, NGINX = (
    f"sidecars/log-tailer:{__version__}",
    f"sidecars/log-tailer:{__version__}-debug",
    f"sidecars/s3-shipper:{__version__}",
    f"sidecars/log-adapter:{__version__}",
    f"sidecars/git-syncer:{__version__}",
    f"sidecars/ambassador:{__version__}",
    f"sidecars/pod-init:{__version__}",
    f"sidecars/demo:{__version__}",
    f"sidecars/s3-server:{__version__}",
    f"sidecars/redis:{__version__}",
    f"sidecars/nginx:{__version__}",
)
IMAGES = {TAILER, DEBUG, SHIPPER, ADAPTER, SYNCER, AMBASSADOR, INIT, DEMO, S3, REDIS_SERVER, NGINX}
# Built here, as a manifest tells its reader to: FROM pod-init, with a model of a few files.
MODEL = "sidecars/test-model:1"

# What stands in for applications of others, which come from a registry: an image of ours and what changes with it.
STAND_INS: dict[str, Document] = {
    "alpine:3.22": {"image": DEBUG},
    "apache/airflow:3.1.0": {"image": DEMO, "args": ["web", "--dir=/git/repo/dags"]},
    "busybox:1.37": {"image": DEBUG},
    "motoserver/moto:5.2.5": {"image": S3},
    "python:3.13-slim": {"image": DEBUG},
    "registry.example.com/doc2vec-model-it:1.0": {"image": MODEL},
    "nginxinc/nginx-unprivileged:1.29": {"image": NGINX},
    # Nobody visits that one: it has to write its log by itself.
    "nginxinc/nginx-unprivileged:1.28": {"image": DEMO, "args": ["app", "--dir=/var/log/nginx"]},
    "redis:8.2": {"image": REDIS_SERVER},
}
# The servers that manifests are tried with, by the sidecar that needs one: their file, and their address there.
SERVERS = {"s3-shipper": (S3_SERVER, "s3:5000"), "git-syncer": (GIT_SERVER, "git:9418")}
# Another, whoever asks it.
PRICES_ADDRESS = "prices:9000"
# Services that pod-init waits for, and where they are in the pod: one server of the demo's stands in for them.
WAITED_FOR = {"http://myservice:80": "http://127.0.0.1:8000", "tcp://mydb:5432": "tcp://127.0.0.1:5432"}
STANDS_IN = ["web", "--dir=/", "--listen=127.0.0.1:5432", "--admin=127.0.0.1:8000"]
# An API of somebody else's, and where the demo's stands in for it: it fails now and then.
API, FAILING = "https://api.example.com", "http://127.0.0.1:8090"
STANDS_IN_FOR_API = ["api", "--listen=127.0.0.1:8090", "--fail=20"]
# Where pod-init fetches a model from, and where its archive is in that image.
MODELS, ARCHIVE = "https://models.example/", "file:///archive/"
# Where there is no server at all to stand in, nobody waits.
NO_SERVER = re.compile(r"postgres://")
# A classic pod's sidecar waits so long for a last line that tests would do little else.
QUIET = "--quiet=3s"


def podman_form(document: Document) -> tuple[Document, list[str]]:
    """Rewrite a resource with a pod, and say what was lost.

    - A native sidecar becomes a second container: podman waits for ever for it to end, as for an init container.
    - A Job becomes its pod, and so does a StatefulSet, with an emptyDir for each claim.
    - A Secret becomes a ConfigMap, since podman mounts no Secret.
    - The S3 server, the git host and the API of prices move into the pod, which has no network: to 127.0.0.1.
    - The redis servers do so too, each at an address of its own.
    - An init container of git-syncer becomes a second container, or it would wait for that host; so does one that
      waits for servers which are in the pod, and one that waits for what nothing stands in for is left out.
    - A long --quiet is shortened.
    - Probes go, since podman runs none by itself; ports too, since the pod has no network; and variables from fields
      that podman does not know.
    """
    text = json.dumps(document)
    for address in (PRICES_ADDRESS, *(address for _, address in SERVERS.values())):
        text = text.replace(f"http://{address}", f"http://127.0.0.1:{address.partition(':')[2]}")
    for number in range(2):
        text = re.sub(rf"redis-st-{number}\.redis-svc(\.default\.svc\.cluster\.local)?", redis_address(number), text)
    for service, address in (WAITED_FOR | {MODELS: ARCHIVE, API: FAILING}).items():
        text = text.replace(service, address)
    document = json.loads(text)
    lost: list[str] = []
    if document["kind"] == "Secret":
        return _config_map(document, lost), lost
    if pod_spec(document):
        if document["kind"] in ("Job", "StatefulSet"):
            document = _only_pod(document, lost)
        _simplify_pod(document["spec"] if document["kind"] == "Pod" else document["spec"]["template"]["spec"], lost)
    return document, lost


def _config_map(secret: Document, lost: list[str]) -> Document:
    name = secret["metadata"]["name"]
    lost.append(f"the Secret {name}; a ConfigMap stands in for it")
    metadata = {"name": _of_secret(name)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": secret["stringData"]}


def _stand_in(secret: Document, lost: list[str]) -> Document:
    """The volume in the place of a Secret's; podman starts no pod whose ConfigMap is missing, even if it may be."""
    name = secret["secretName"]
    there = [one["metadata"]["name"] for one in documents(S3_SERVER) if one["kind"] == "Secret"]
    if name in there or not secret.get("optional"):
        return {"configMap": {"name": _of_secret(name)}}
    lost.append(f"the Secret {name}, which may be missing: an empty volume stands in for it")
    return {"emptyDir": {}}


def _of_secret(name: str) -> str:
    """The name of the ConfigMap that stands for a Secret, beside one of the same name."""
    return f"secret-{name}"


def _only_pod(document: Document, lost: list[str]) -> Document:
    lost.append(f"the {document['kind']}: only its pod runs")
    pod = document["spec"]["template"]["spec"]
    for claim in document["spec"].get("volumeClaimTemplates", []):
        name = claim["metadata"]["name"]
        lost.append(f"the claim {name}; an emptyDir stands in for it")
        pod.setdefault("volumes", []).append({"name": name, "emptyDir": {}})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": pod}


def _simplify_pod(pod: Document, lost: list[str]) -> None:
    if pod.get("restartPolicy", "Always") != "Never":
        lost.append("restarts: a container that fails must be seen")
        pod["restartPolicy"] = "Never"
    _add_servers(pod, lost)
    if any(address in json.dumps(pod) for address in WAITED_FOR.values()):
        lost.append(f"the Services {', '.join(WAITED_FOR)}: a server in the pod itself stands in for them")
        pod["containers"].append({"name": "services", "image": DEMO, "args": STANDS_IN})
    _unsidecar(pod, lost)
    for volume in pod.get("volumes", []):
        if secret := volume.pop("secret", None):
            volume.update(_stand_in(secret, lost))
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        _simplify(container, lost)


def _add_servers(pod: Document, lost: list[str]) -> None:
    sidecars = {one.sidecar for one in containers(pod)}
    for name in [name for name in SERVERS if name in sidecars]:
        _add_server(pod, *SERVERS[name], lost)
    if f"http://127.0.0.1:{PRICES_ADDRESS.partition(':')[2]}" in json.dumps(pod):
        _add_server(pod, PRICES, PRICES_ADDRESS, lost)
    if FAILING in json.dumps(pod):
        lost.append(f"{API}: an API in the pod itself stands in for it, without TLS")
        pod["containers"].append({"name": "api", "image": DEMO, "args": STANDS_IN_FOR_API})
    elif "ambassador" in sidecars:
        _add_redis(pod, lost)


def _add_server(pod: Document, file: Path, address: str, lost: list[str]) -> None:
    lost.append(f"the Service {address.partition(':')[0]}: its server runs in the pod itself")
    (server,) = pods(documents(file))
    pod["containers"] += server["containers"]
    pod["volumes"] = pod.get("volumes", []) + server.get("volumes", [])


def redis_address(number: int) -> str:
    """Where the redis server of a number is, in a pod."""
    return f"127.0.0.{number + 2}"


def _add_redis(pod: Document, lost: list[str]) -> None:
    lost.append("the Service redis-svc: its servers run in the pod itself")
    (server,) = pods(documents(REDIS))
    for number in range(2):
        container = copy.deepcopy(server["containers"][0])
        container["name"] = f"redis-{number}"
        container["command"][container["command"].index("0.0.0.0")] = redis_address(number)
        pod["containers"].append(container)


def _unsidecar(pod: Document, lost: list[str]) -> None:
    init = pod.pop("initContainers", [])
    native = [container for container in init if container.get("restartPolicy") == "Always"]
    for container in native:
        del container["restartPolicy"]
        lost.append(f"{container['name']}: the native sidecar's order; it runs as a second container")
    once = [one for one in init if one not in native and one["name"] in ("git-syncer", "wait")]
    for container in once:
        if NO_SERVER.search(json.dumps(container)):
            lost.append(f"{container['name']}: the init container; nothing stands in for what it waits for")
        else:
            lost.append(f"{container['name']}: the init container's order; it runs as a second container")
            native.append(container)
    if rest := [container for container in init if container not in native + once]:
        pod["initContainers"] = rest
    pod["containers"] += native


def _simplify(container: Document, lost: list[str]) -> None:
    name = container["name"]
    for key in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
        if container.pop(key, None):
            lost.append(f"{name}: {key}")
    for place, argument in enumerate(container.get("args", [])):
        if re.fullmatch(r"--quiet=\d\ds", argument):
            container["args"][place] = QUIET
            lost.append(f"{name}: {argument}; {QUIET} stands in for it")
    _simplify_variables(container, lost)
    if ARCHIVE in json.dumps(container.get("args", [])):
        lost.append(f"{name}: {MODELS}; {ARCHIVE} in an image made FROM {INIT} stands in for it")
        container["image"] = MODEL
    if stand_in := STAND_INS.get(container["image"]):
        lost.append(f"{name}: {container['image']}; {stand_in['image']} stands in for it")
        container.update(stand_in)
    # The image was loaded, not pulled: without a host before the name, podman asks a registry for it.
    container["image"] = f"localhost/{container['image']}"
    container["imagePullPolicy"] = "Never"


def _simplify_variables(container: Document, lost: list[str]) -> None:
    variables = container.get("env", [])
    for variable in [one for one in variables if _field(one) not in FIELDS | {None}]:
        variables.remove(variable)
        lost.append(f"{container['name']}: the variable {variable['name']} from {_field(variable)}")
    for variable in variables:
        if secret := variable.get("valueFrom", {}).pop("secretKeyRef", None):
            variable["valueFrom"]["configMapKeyRef"] = secret | {"name": _of_secret(secret["name"])}


def _field(variable: Document) -> Any:
    return variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")


def docker() -> str:
    """Debian's client, where there is one: it speaks as old an API as Debian's daemon does."""
    return "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"


class Podman:
    """The machine's podman, with storage of its own, so that it neither sees nor touches anybody's pods."""

    def __init__(self, folder: str, settings: dict[str, str]) -> None:
        self._folder = folder
        self._environment = os.environ | settings
        self.command = ("podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp")

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        """Run a podman command; what it prints."""
        said = subprocess.run(
            [*self.command, *words], env=self._environment, input=stdin, capture_output=True, text=True, timeout=120
        )
        assert said.returncode == 0, f"podman {' '.join(words)}: {said.stderr}"
        return said.stdout

    def load(self, images: set[str]) -> None:
        """Take images over from docker."""
        archive = f"{self._folder}/images.tar"
        said = subprocess.run(
            [docker(), "save", "--output", archive, *sorted(images)],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0, f"{said.stderr}; run make images"
        self("load", "--input", archive)
        os.unlink(archive)

    def build_model(self) -> None:
        """Build the image of a model, as its manifest says; it has the archive of another, too."""
        payload = Path(self._folder) / "context" / "payload"
        (payload / "vectors").mkdir(parents=True)
        for name in ("doc2vec.model", ".version", "vectors/part-0.npy"):
            (payload / name).write_text(name)
        archive = payload.parent / "archive" / "resnet-1.0.tar"
        archive.parent.mkdir()
        # The manifest has its digest: each run makes the same.
        with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name in ("resnet-1.0/weights.bin", "resnet-1.0/labels/en.txt"):
                member = tarfile.TarInfo(name)
                member.size = len(name)
                tar.addfile(member, io.BytesIO(name.encode()))
        (payload.parent / "Dockerfile").write_text(
            f"FROM localhost/{INIT}\nCOPY payload /payload\nCOPY archive /archive\n"
        )
        self("build", "--network", "none", "--tag", f"localhost/{MODEL}", str(payload.parent))

    @contextlib.contextmanager
    def playing(self, documents: list[Document]) -> Iterator[dict[str, str]]:
        """Run the pods of these documents; the ids of their containers by name."""
        for pod in pods(documents):
            self._make_volumes(pod)
        text = yaml.safe_dump_all(documents)
        try:
            # Without a network podman needs neither plugins nor a bridge, and a pod of ours none either.
            self("kube", "play", "--network", "none", "-", stdin=text)
            listed = json.loads(self("ps", "--all", "--format", "json"))
            yield {one["Names"][0]: one["Id"] for one in listed if not one["IsInfra"]}
        finally:
            self("pod", "kill", "--all")
            self("kube", "down", "-", stdin=text)
            self("volume", "rm", "--all", "--force")

    def _make_volumes(self, pod: Document) -> None:
        """Make a pod's emptyDir volumes as the kubelet does: everybody's, and of the group that fsGroup names.

        Left to itself podman gives a volume to the user of the first container that mounts it. It does so only once, to
        this container that does nothing.
        """
        names = [volume["name"] for volume in pod.get("volumes", []) if "emptyDir" in volume]
        mounts = [f"--volume={name}:/volumes/{name}" for name in names]
        self("run", "--rm", "--network", "none", *mounts, f"localhost/{TAILER}", "--version")
        for name in names:
            folder = self("volume", "inspect", "--format", "{{.Mountpoint}}", name).strip()
            os.chown(folder, 0, pod.get("securityContext", {}).get("fsGroup", 0))
            os.chmod(folder, 0o2777)

    def remove(self) -> None:
        """Remove the storage."""
        self("rmi", "--all", "--force")
        shutil.rmtree(self._folder)
