"""What this project asks of its manifests beyond their schema: rules that each give their complaints about a pod."""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import sidecars.adapter.settings
import sidecars.ambassador.settings
import sidecars.shipper.settings
import sidecars.syncer.settings
import sidecars.tailer.settings
from sidecars import __version__
from sidecars.core.settings import load
from sidecars.init.command import PREFIX, SUBCOMMANDS
from sidecars.shipper.__main__ import program_words
from sidecars.syncer import words
from tests.manifests.documents import INIT, Container, Document, containers, environment, placed

# Pod Security "restricted" lets a pod have these kinds of volume.
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


@dataclass(frozen=True)
class Sidecar:
    """What the rules have to know of a sidecar; the memory is what it was measured to need, idle and at most."""

    settings: Any
    module: str
    prefix: str
    port: int
    resident: int
    most: int
    user: int = 65532
    image: tuple[tuple[str, str], ...] = ()  # the variables that its image sets


SIDECARS = {
    "log-tailer": Sidecar(sidecars.tailer.settings.Settings, "sidecars.tailer", "TAILER_", 9101, 32 << 20, 48 << 20),
    "s3-shipper": Sidecar(
        sidecars.shipper.settings.Settings, "sidecars.shipper", "SHIPPER_", 9103, 76 << 20, 115 << 20
    ),
    "log-adapter": Sidecar(
        sidecars.adapter.settings.Settings, "sidecars.adapter", "ADAPTER_", 9102, 50 << 20, 85 << 20
    ),
    "git-syncer": Sidecar(
        sidecars.syncer.settings.Settings,
        "sidecars.syncer",
        "GITSYNC_",
        9104,
        42 << 20,
        128 << 20,
        user=65533,
        image=(("GITSYNC_ROOT", "/git"),),
    ),
    "ambassador": Sidecar(
        sidecars.ambassador.settings.Settings, "sidecars.ambassador", "AMBASSADOR_", 9105, 36 << 20, 120 << 20
    ),
    # It has no door; its settings are those of its subcommand.
    INIT: Sidecar(None, "sidecars.init", PREFIX, 0, 32 << 20, 64 << 20),
}


def complaints(pod: Document, resources: list[Document]) -> list[str]:
    """Everything that is wrong with a pod; `resources` are the others of its manifest."""
    found = [*pod_rules(pod)]
    for container in containers(pod):
        found += [f"{container.name}: {text}" for text in container_rules(container)]
        if container.sidecar:
            found += [f"{container.name}: {text}" for text in sidecar_rules(container, resources)]
    return found


def pod_rules(pod: Document) -> Iterator[str]:
    """Rules for the pod as a whole."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "mounts a service account's token that nothing in it uses"
    for shared in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if pod.get(shared):
            yield f"has {shared}"
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is a {kinds}, which restricted forbids"
        if "emptyDir" in kinds and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"volume {volume['name']} has no sizeLimit"


def container_rules(container: Container) -> Iterator[str]:
    """Rules for every container, ours or not."""
    yield from _restricted(container)
    own = container.spec.get("securityContext", {})
    if own.get("readOnlyRootFilesystem") is not True:
        yield "its root file system is writable"
    if not re.search(r":[^:/]+$", container.spec["image"]) or container.spec["image"].endswith(":latest"):
        yield f"its image {container.spec['image']} has no version"
    name, _, version = container.spec["image"].partition(":")
    if name.startswith("sidecars/") and version != __version__:
        yield f"its image {name} is of version {version}, and this is {__version__}"
    resources = container.spec.get("resources", {})
    for group, amount in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if amount not in resources.get(group, {}):
            yield f"has no resources.{group}.{amount}"


def _restricted(container: Container) -> Iterator[str]:
    own = container.spec.get("securityContext", {})
    if container.effective("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    user = container.effective("runAsUser")
    if not isinstance(user, int) or user == 0:
        yield f"runAsUser is {user!r}, not the number of a user other than root"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "allowPrivilegeEscalation is not false"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "does not drop ALL capabilities"
    if (container.effective("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if any("hostPort" in port for port in container.spec.get("ports", [])):
        yield "has a hostPort"


def sidecar_rules(container: Container, resources: list[Document]) -> Iterator[str]:
    """Rules for a program of ours."""
    sidecar = SIDECARS[container.sidecar or ""]
    settings = settings_of(container, resources)
    if container.effective("runAsUser") != sidecar.user:
        yield f"does not run as user {sidecar.user}"
    amounts = container.spec.get("resources", {})
    if quantity(amounts.get("requests", {}).get("memory", "0")) < sidecar.resident:
        yield "its memory request is below what it was measured to need"
    if quantity(amounts.get("limits", {}).get("memory", "0")) < sidecar.most:
        yield "its memory limit is below what it was measured to need at most"
    if container.sidecar == INIT:
        yield from _before(container, settings, environment(container, resources))
    else:
        yield from _beside(container, settings)


def _before(container: Container, settings: Any, variables: dict[str, str]) -> Iterator[str]:
    """Rules for what prepares the pod and ends."""
    if container.native:
        yield "is a native sidecar, which would be started again each time it has done its work"
    said = "INIT_TIMEOUT" in variables or any(one.startswith("--timeout") for one in container.arguments)
    if container.arguments[0] == "wait" and not said:
        yield "does not say how long it waits"
    writable = [one["mountPath"] for one in container.spec.get("volumeMounts", []) if not one.get("readOnly")]
    for path in written_to(container.arguments[0], settings):
        if not any(f"{path}/".startswith(f"{place}/") for place in writable):
            yield f"has no volume to write to on {path}"


def written_to(subcommand: str, settings: Any) -> list[str]:
    """The paths that a subcommand of pod-init writes to."""
    if subcommand == "render":
        return [text.partition(":")[2] for text in settings.templates]
    if subcommand in ("copy", "fetch"):
        return [settings.dest]
    return list(settings.paths) if subcommand in ("mkdir", "write") else []


def _beside(container: Container, settings: Any) -> Iterator[str]:
    """Rules for a sidecar beside an application."""
    if not _once(settings):
        yield from _probes(container, SIDECARS[container.sidecar or ""])
    if settings.grace > container.pod.get("terminationGracePeriodSeconds", 30) - 2:
        yield f"its grace of {settings.grace:g} s leaves no time within the pod's"
    if container.sidecar != "ambassador":
        yield from (
            _published(container, settings) if container.sidecar == "git-syncer" else _followed(container, settings)
        )


def _once(settings: Any) -> bool:
    """It is an init container, which ends before anything could ask how it does."""
    return bool(getattr(settings, "one_time", False))


def _probes(container: Container, sidecar: Sidecar) -> Iterator[str]:
    if "readinessProbe" in container.spec:
        yield "has a readinessProbe, which would take the application out of its Service"
    for probe, path in (("startupProbe", "/startupz"), ("livenessProbe", "/livez")):
        get = container.spec.get(probe, {}).get("httpGet", {})
        if get.get("path") != path or _number(container, get.get("port")) != sidecar.port:
            yield f"its {probe} does not get {path} on the admin port {sidecar.port}"


def _followed(container: Container, settings: Any) -> Iterator[str]:
    """Rules for a sidecar that follows what the application writes."""
    yield from _mounts(container, settings)
    yield from _times(container, settings)
    if container.sidecar == "s3-shipper":
        yield from _backlog(container, settings)


def _published(container: Container, settings: Any) -> Iterator[str]:
    """Rules for a sidecar that writes what the application reads."""
    mounts = {mount["mountPath"]: mount for mount in container.spec.get("volumeMounts", [])}
    for path in (settings.root, "/tmp"):
        if path not in mounts or mounts[path].get("readOnly"):
            yield f"has no volume to write to on {path}"
    volume = mounts.get(settings.root, {}).get("name")
    others = [other for other in containers(container.pod) if other.name != container.name]
    readers = [mount for other in others for mount in other.spec.get("volumeMounts", []) if mount["name"] == volume]
    if not readers:
        yield "shares no volume with a container that reads it"
    for mount in readers:
        if "subPath" in mount:
            yield "what it publishes is mounted by a subPath, which stays the revision that it was first"
        if not mount.get("readOnly"):
            yield "another container may write to what it publishes"


def settings_of(container: Container, resources: list[Document]) -> Any:
    """The settings that the sidecar has in this pod."""
    sidecar = SIDECARS[container.sidecar or ""]
    with tempfile.TemporaryDirectory() as folder:
        arguments, variables = placed(container, resources, folder)
        if container.sidecar == "git-syncer":
            return words.load(arguments, dict(sidecar.image) | variables).repositories[0]
        if container.sidecar == INIT:
            return init_settings(arguments, variables)
        argv = program_words(arguments, variables.pop("FLUENTD_ARGS", ""))
        with process_environment(variables):
            return load(
                sidecar.settings, prog=container.sidecar or "", prefix=sidecar.prefix, argv=argv, environ=variables
            )


@functools.cache
def init_kinds() -> dict[str, Any]:
    """The settings of each subcommand of pod-init."""
    return {name: import_module(f"sidecars.init.{one.module}").Settings for name, one in SUBCOMMANDS.items()}


def init_settings(arguments: list[str], variables: dict[str, str]) -> Any:
    """The settings of the subcommand of pod-init that is asked for; raises WrongSettings."""
    name, *words = arguments
    argv = words[: words.index("--")] if "--" in words else words
    return load(init_kinds()[name], prog=f"{INIT} {name}", prefix=PREFIX, argv=argv, environ=variables)


@contextmanager
def process_environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of this process: fluentd's configuration may name any."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _mounts(container: Container, settings: Any) -> Iterator[str]:
    mounts = {mount["name"]: mount for mount in container.spec.get("volumeMounts", [])}
    writers = [other for other in containers(container.pod) if not other.sidecar]
    written = {
        mount["name"] for other in writers for mount in other.spec.get("volumeMounts", []) if not mount.get("readOnly")
    }
    if not written & set(mounts):
        yield "shares no volume with a container that writes to it"
    if container.sidecar == "s3-shipper" and not _state(container, settings):
        yield "has no volume for its state, without which it does not start"
    for mount in mounts.values():
        if mount != _state(container, settings) and not mount.get("readOnly") and not _only_files(container, mount):
            yield f"mounts {mount['name']} to write to it, and only reads"


def _state(container: Container, settings: Any) -> Document | None:
    """The mount that a sidecar's state is in."""
    directory = settings.state_dir or "/state"
    found = [
        one for one in container.spec.get("volumeMounts", []) if f"{directory}/".startswith(f"{one['mountPath']}/")
    ]
    return found[0] if found else None


def _only_files(container: Container, mount: Document) -> bool:
    """It is a volume that nobody can write to."""
    volumes = {volume["name"]: volume for volume in container.pod.get("volumes", [])}
    return bool({"configMap", "secret"} & set(volumes.get(mount["name"], {})))


def _times(container: Container, settings: Any) -> Iterator[str]:
    end = container.pod.get("terminationGracePeriodSeconds", 30)
    if not container.native and not end / 2 <= settings.quiet <= settings.grace - 5:
        yield f"its quiet of {settings.quiet:g} s does not fit a second container with a grace of {settings.grace:g} s"
    if container.native and settings.quiet > 2:
        yield f"its quiet of {settings.quiet:g} s only delays the end: the application has ended before"


def _backlog(container: Container, settings: Any) -> Iterator[str]:
    """A share is one of the node's whole disk where the state is in an emptyDir: the pod is evicted long before."""
    mount = _state(container, settings)
    volumes = {volume["name"]: volume for volume in container.pod.get("volumes", [])}
    limit = volumes.get((mount or {}).get("name", ""), {}).get("emptyDir", {}).get("sizeLimit")
    if limit is None or settings.fluentd_config:
        return
    if settings.backlog_limit.endswith("%") or settings.backlog_limit.of(0) > quantity(limit) * 0.8:
        yield f"its backlog of {settings.backlog_limit} may outgrow the volume's sizeLimit of {limit}"


def quantity(text: str) -> int:
    """The bytes of a Kubernetes quantity, such as 32Mi."""
    number, unit = re.fullmatch(r"(\d+)(\w*)", str(text)).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def _number(container: Container, port: Any) -> Any:
    named = {known.get("name"): known["containerPort"] for known in container.spec.get("ports", [])}
    return named.get(port, port)
